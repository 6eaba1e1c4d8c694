from django.db import migrations, models


def mark_jobs_with_attempts(apps, schema_editor):
    """Earlier versions did not record this: any attempt to transfer may have stored images."""
    jobs = apps.get_model("jobs", "Job")
    attempted = jobs.objects.filter(tasks__attempt__gt=0).exclude(kind="batch_query")
    jobs.objects.filter(pk__in=attempted.values("pk")).update(may_have_stored=True)


class Migration(migrations.Migration):
    dependencies = [("jobs", "0001_initial")]

    operations = [
        migrations.AddField("job", "archived_at", models.DateTimeField(null=True)),
        migrations.AddField("job", "may_have_stored", models.BooleanField(default=False)),
        migrations.RunPython(mark_jobs_with_attempts, migrations.RunPython.noop),
    ]
