import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models
from django.utils import timezone


def search_quarantine(apps, _schema_editor):
    """Search the quarantine also for the open recalls of jobs."""
    recalls = apps.get_model("recall", "Recall").objects.filter(ended_at=None)
    recalls.filter(quarantine_due_at=None).update(quarantine_due_at=timezone.now())


class Migration(migrations.Migration):

    dependencies = [
        ('nodes', '0004_measure_response_times'),
        ('projects', '0005_members_by_person'),
        ('recall', '0003_quarantine'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RunPython(search_quarantine, migrations.RunPython.noop),
        migrations.AddField(
            model_name='recipientconfirmation',
            name='receiver',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AlterField(
            model_name='recipientconfirmation',
            name='destination',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='nodes.node'),
        ),
        migrations.AddConstraint(
            model_name='recipientconfirmation',
            constraint=models.UniqueConstraint(fields=('recall', 'receiver', 'project'), name='one_confirmation_per_receiver'),
        ),
        migrations.AddConstraint(
            model_name='recipientconfirmation',
            constraint=models.CheckConstraint(condition=models.Q(('destination', None), ('receiver', None), _connector='XOR'), name='confirmed_by_a_destination_or_a_receiver'),
        ),
    ]
