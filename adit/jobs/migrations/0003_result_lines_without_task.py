import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('jobs', '0002_archived_jobs'),
    ]

    operations = [
        migrations.AlterField(
            model_name='resultline',
            name='task',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='lines', to='jobs.task'),
        ),
    ]
