"""Sign the head of the chain. A head that does not match the last event stays unsigned."""

from django.db import migrations, models

from adit.vault.master_key import master_cipher

GENESIS_HASH = "0" * 64


def sign_head(apps, schema_editor):
    events = apps.get_model("audit", "AuditEvent").objects.order_by("id")
    heads = apps.get_model("audit", "ChainHead").objects
    count, last = events.count(), events.values_list("hash", flat=True).last() or GENESIS_HASH
    head = heads.filter(pk=1).first()
    if head is None and not count:
        head = heads.create(pk=1)
    if head is not None and (head.count, head.hash) == (count, last):
        head.signature = master_cipher().index(f"{count} {last}", "trail head")
        head.save()


class Migration(migrations.Migration):

    dependencies = [
        ('audit', '0001_initial'),
    ]

    operations = [
        migrations.AddField(
            model_name='chainhead',
            name='signature',
            field=models.CharField(blank=True, default='', max_length=64),
            preserve_default=False,
        ),
        migrations.RunPython(sign_head, migrations.RunPython.noop),
    ]
