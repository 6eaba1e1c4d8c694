"""Secrets are bound to the address for which they were given: the one in the settings of then."""

from typing import Any

from django.db import migrations

from adit_engine.nodes import recipient_of


def bind(apps: Any, schema_editor: Any) -> None:
    nodes = apps.get_model("nodes", "Node").objects
    for node in nodes.exclude(secrets=None):
        recipient = recipient_of(node.kind, node.settings)
        bound = {"for": recipient, "values": node.secrets} if node.secrets else None
        nodes.filter(pk=node.pk).update(secrets=bound)


def release(apps: Any, schema_editor: Any) -> None:
    nodes = apps.get_model("nodes", "Node").objects
    for node in nodes.exclude(secrets=None):
        nodes.filter(pk=node.pk).update(secrets=node.secrets["values"])


class Migration(migrations.Migration):
    dependencies = [
        ("nodes", "0013_head_letters"),
    ]

    operations = [
        migrations.RunPython(bind, release),
    ]
