"""Give each node its name in the addresses of the DICOMweb API."""

import re

import django.core.validators
from django.db import migrations, models



def fill_titles(apps, schema_editor):
    Node = apps.get_model("nodes", "Node")
    taken = set()
    for node in Node.objects.only("pk", "name", "settings").order_by("pk"):
        wanted = str(node.settings.get("called_ae_title") or node.name)
        base = re.sub(r"[^A-Za-z0-9_.-]+", "_", wanted).strip("_.-")[:16] or "NODE"
        title, number = base, 1
        while title in taken:
            number += 1
            title = f"{base[: 15 - len(str(number))]}_{number}"
        taken.add(title)
        Node.objects.filter(pk=node.pk).update(api_ae_title=title)


def _title_field(**options):
    validator = django.core.validators.RegexValidator(
        "^[A-Za-z0-9_.-]+$", "Only letters, digits, dots, hyphens and underscores are allowed."
    )
    return models.CharField(
        blank=True,
        max_length=16,
        unique=True,
        validators=[validator],
        verbose_name="AE title in the API",
        **options,
    )


class Migration(migrations.Migration):
    dependencies = [("nodes", "0002_remember_useful_connections")]

    operations = [
        migrations.AddField("node", "api_ae_title", _title_field(null=True)),
        migrations.RunPython(fill_titles, migrations.RunPython.noop),
        migrations.AlterField("node", "api_ae_title", _title_field()),
    ]
