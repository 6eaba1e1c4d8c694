from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("monitoring", "0001_create_process_signs_and_disk_usage")]

    operations = [
        migrations.AlterField(
            model_name="processsign",
            name="role",
            field=models.CharField(
                choices=[
                    ("web", "Web pages"),
                    ("worker", "Worker"),
                    ("scheduler", "Scheduler"),
                    ("receiver", "Receiver"),
                    ("dicomweb", "DICOMweb"),
                ],
                max_length=16,
            ),
        )
    ]
