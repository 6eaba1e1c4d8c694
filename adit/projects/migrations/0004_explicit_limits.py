"""Write out which nodes and modalities each project allows: nothing selected now means none."""

from typing import Any

from django.db import migrations, models

ARCHIVE = "archive"


def write_out_limits(apps: Any, schema_editor: Any) -> None:
    """Select what an empty selection allowed until now.

    A project that is only proposed allows nothing yet: who accepts it selects its nodes.
    """
    Project = apps.get_model("projects", "Project")
    nodes = apps.get_model("nodes", "Node").objects.all()
    Project.objects.filter(modalities="").update(all_modalities=True)
    for project in Project.objects.filter(is_default=False, is_accepted=True):
        if not project.sources.exists():
            project.sources.set(nodes.exclude(kind=ARCHIVE))
        if not project.destinations.exists():
            project.destinations.set(nodes.filter(takes_images=True))


class Migration(migrations.Migration):
    dependencies = [
        ("nodes", "0001_initial"),
        ("projects", "0003_approval_documents"),
    ]

    operations = [
        migrations.AddField(
            model_name="project",
            name="all_modalities",
            field=models.BooleanField(default=False, verbose_name="all modalities"),
        ),
        migrations.RunPython(write_out_limits, migrations.RunPython.noop),
    ]
