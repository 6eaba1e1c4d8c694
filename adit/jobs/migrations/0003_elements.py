from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("jobs", "0002_task_lane")]

    operations = [
        migrations.AddField("item", "elements", models.JSONField(default=list)),
    ]
