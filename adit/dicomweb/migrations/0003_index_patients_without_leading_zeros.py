from django.db import migrations

from adit.projects.services import get_project_cipher
from adit.recall.api_retrievals import compute_index


def index_patients(apps, _schema_editor):
    """Index the patients of earlier retrievals again, as far as the keys of the projects exist."""
    retrievals = apps.get_model("dicomweb", "Retrieval").objects
    for project in apps.get_model("projects", "Project").objects.exclude(key=None):
        cipher = get_project_cipher(project)
        for retrieval in retrievals.filter(project=project).exclude(sealed=None):
            content = cipher.open(retrieval.sealed, f"retrieval {retrieval.key}")
            retrieval.patient_index = compute_index(cipher, *content["patient"])
            retrieval.save(update_fields=["patient_index"])


class Migration(migrations.Migration):

    dependencies = [
        ('dicomweb', '0002_retrieval_patient_and_sign_of_life'),
    ]

    operations = [
        migrations.RunPython(index_patients, migrations.RunPython.noop),
    ]
