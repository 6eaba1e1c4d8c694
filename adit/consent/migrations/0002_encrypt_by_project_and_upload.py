import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

from adit.projects.services import get_project_cipher


def encrypt_by_project(apps, _schema_editor):
    """Encrypt patients and reasons under the key of their project.

    What belongs to a destroyed key is emptied, so that nobody can read it any more.
    """
    for project in apps.get_model("projects", "Project").objects.all():
        cipher = None if project.key is None else get_project_cipher(project)
        for version in apps.get_model("consent", "ConsentVersion").objects.filter(project=project):
            if cipher is not None:
                context = f"consent version {version.number}"
                version.sealed_reason = cipher.seal(version.reason, context)
                version.save(update_fields=["sealed_reason"])
        for entry in apps.get_model("consent", "ConsentEntry").objects.filter(project=project):
            if cipher is None:
                entry.index = f"destroyed {entry.pk}"
            else:
                domain, patient_id = entry.patient
                entry.index = cipher.index(f"{domain}\0{patient_id}", "consent")
                entry.sealed = cipher.seal([domain, patient_id], f"consent {entry.index}")
            entry.save(update_fields=["index", "sealed"])


class Migration(migrations.Migration):

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
        ('projects', '0005_members_by_person'),
        ('consent', '0001_initial'),
    ]

    operations = [
        migrations.AddField(
            model_name='consententry',
            name='sealed',
            field=models.BinaryField(default=b''),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name='consentversion',
            name='sealed_reason',
            field=models.BinaryField(default=b''),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name='consentversion',
            name='upload_index',
            field=models.CharField(blank=True, max_length=64),
        ),
        migrations.RunPython(encrypt_by_project, migrations.RunPython.noop),
        migrations.RemoveField(model_name='consententry', name='patient'),
        migrations.RemoveField(model_name='consentversion', name='reason'),
        migrations.CreateModel(
            name='ConsentUpload',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('created_at', models.DateTimeField(auto_now_add=True, db_index=True)),
                ('sealed', models.BinaryField()),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='projects.project')),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ['pk'],
                'constraints': [models.UniqueConstraint(fields=('project', 'user'), name='one_consent_upload_per_user')],
            },
        ),
    ]
