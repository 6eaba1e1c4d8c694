"""Replace the permission to re-identify in all projects by two permissions in each project."""

from typing import Any

from django.db import migrations, models


def give_both_permissions(apps: Any, schema_editor: Any) -> None:
    """Give both permissions, in each existing project, to the groups that had the old one.

    As before, only people who may see a project can use them. People who had the old permission
    without a group get a group of their own.
    """
    permission = (
        apps.get_model("auth", "Permission")
        .objects.filter(content_type__app_label="accounts", codename="reidentify")
        .first()
    )
    if permission is None:
        return
    Group = apps.get_model("auth", "Group")
    groups = list(Group.objects.filter(permissions=permission))
    people = list(apps.get_model("accounts", "User").objects.filter(user_permissions=permission))
    if people:
        group, _is_new = Group.objects.get_or_create(name="Re-identify patients")
        group.user_set.add(*people)
        groups.append(group)
    for project in apps.get_model("projects", "Project").objects.all():
        project.list_holders.add(*groups)
        project.reidentifiers.add(*groups)
    permission.delete()


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0001_initial"),
        ("projects", "0001_initial"),
    ]

    operations = [
        migrations.AddField(
            model_name="project",
            name="list_holders",
            field=models.ManyToManyField(blank=True, related_name="+", to="auth.group"),
        ),
        migrations.AddField(
            model_name="project",
            name="reidentifiers",
            field=models.ManyToManyField(blank=True, related_name="+", to="auth.group"),
        ),
        migrations.RunPython(give_both_permissions, migrations.RunPython.noop),
    ]
