from django.db import migrations, models
from django.utils import timezone


def search_quarantine(apps, _schema_editor):
    """Search the quarantine also for the open recalls of patients."""
    recalls = apps.get_model("recall", "Recall").objects.filter(ended_at=None)
    recalls.exclude(entry=None).update(quarantine_due_at=timezone.now())


class Migration(migrations.Migration):

    dependencies = [
        ('recall', '0002_keep_deliveries_of_deleted_destinations'),
    ]

    operations = [
        migrations.AddField(
            model_name='recall',
            name='quarantine_deleted',
            field=models.PositiveIntegerField(default=0),
        ),
        migrations.AddField(
            model_name='recall',
            name='quarantine_checked_at',
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name='recall',
            name='quarantine_due_at',
            field=models.DateTimeField(db_index=True, null=True),
        ),
        migrations.RunPython(search_quarantine, migrations.RunPython.noop),
    ]
