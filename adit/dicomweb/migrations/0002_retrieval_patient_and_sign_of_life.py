import django.utils.timezone
from django.db import migrations, models

from adit.audit.trail import keyed_patient_index
from adit.projects.services import get_project_cipher


def index_patients(apps, _schema_editor):
    """Index the patients of earlier retrievals, as far as the keys of the projects exist."""
    retrievals = apps.get_model("dicomweb", "Retrieval").objects
    for project in apps.get_model("projects", "Project").objects.exclude(key=None):
        cipher = get_project_cipher(project)
        for retrieval in retrievals.filter(project=project).exclude(sealed=None):
            content = cipher.open(retrieval.sealed, f"retrieval {retrieval.key}")
            retrieval.patient_index = keyed_patient_index(cipher, *content["patient"])
            retrieval.save(update_fields=["patient_index"])


class Migration(migrations.Migration):

    dependencies = [
        ('dicomweb', '0001_retrieval'),
        ('projects', '0005_members_by_person'),
    ]

    operations = [
        migrations.AddField(
            model_name='retrieval',
            name='seen_at',
            field=models.DateTimeField(default=django.utils.timezone.now),
        ),
        migrations.AddField(
            model_name='retrieval',
            name='patient_index',
            field=models.CharField(blank=True, db_index=True, max_length=64),
        ),
        migrations.RunPython(index_patients, migrations.RunPython.noop),
    ]
