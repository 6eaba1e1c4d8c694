from django.db import migrations, models


def distrust_missing_files(apps, _schema_editor):
    """Until now files that were missing counted as deleted."""
    deliveries = apps.get_model("recall", "RecalledDelivery").objects
    deliveries.exclude(state__in=["deleted", "gone"]).update(deleted=0)


def expect_confirmations(apps, _schema_editor):
    """An open recall also waits for recipients whose destination is not known any more."""
    deliveries = apps.get_model("recall", "RecalledDelivery").objects
    ledgers = apps.get_model("retention", "JobLedger").objects
    confirmations = apps.get_model("recall", "RecipientConfirmation").objects
    for one in deliveries.filter(destination=None, recall__ended_at=None):
        ledger = ledgers.filter(job=one.job_number).first()
        confirmations.get_or_create(
            recall_id=one.recall_id,
            destination=None,
            receiver=None,
            former_destination=ledger.destination if ledger else "",
            project_id=ledger.project_id if ledger else None,
        )


class Migration(migrations.Migration):

    dependencies = [
        ('recall', '0004_confirmations_of_receivers'),
        ('retention', '0001_create_retention'),
    ]

    operations = [
        migrations.AddField(
            model_name='recalleddelivery',
            name='found',
            field=models.PositiveIntegerField(default=0),
        ),
        migrations.AddField(
            model_name='recipientconfirmation',
            name='former_destination',
            field=models.CharField(blank=True, max_length=64),
        ),
        migrations.RemoveConstraint(
            model_name='recipientconfirmation',
            name='confirmed_by_a_destination_or_a_receiver',
        ),
        migrations.AddConstraint(
            model_name='recipientconfirmation',
            constraint=models.CheckConstraint(condition=models.Q(('destination', None), ('receiver', None), _connector='OR'), name='not_confirmed_by_a_destination_and_a_receiver'),
        ),
        migrations.RunPython(distrust_missing_files, migrations.RunPython.noop),
        migrations.RunPython(expect_confirmations, migrations.RunPython.noop),
    ]
