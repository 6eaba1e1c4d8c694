from typing import Any

from django.db import migrations, models


def name_packing(apps: Any, schema_editor: Any) -> None:
    apps.get_model("jobs", "Task").objects.filter(is_packing=True).update(work="pack")


def mark_packing(apps: Any, schema_editor: Any) -> None:
    apps.get_model("jobs", "Task").objects.filter(work="pack").update(is_packing=True)


class Migration(migrations.Migration):

    dependencies = [
        ('jobs', '0012_remarks'),
    ]

    operations = [
        migrations.AddField(
            model_name='task',
            name='work',
            field=models.CharField(blank=True, choices=[('', 'what was ordered'), ('start', 'the start'), ('pack', 'the 7-Zip file')], default='', max_length=8),
        ),
        migrations.RunPython(name_packing, mark_packing),
        migrations.RemoveField(
            model_name='task',
            name='is_packing',
        ),
    ]
