import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('jobs', '0016_showing'),
    ]

    operations = [
        migrations.RemoveIndex(model_name='task', name='jobs_task_road_id_f99407_idx'),
        migrations.RemoveConstraint(model_name='road', name='one_road_per_nodes'),
        migrations.RenameModel(old_name='Road', new_name='TaskGroup'),
        migrations.RenameField(model_name='taskgroup', old_name='waits_for', new_name='wait_reason'),
        migrations.AlterField(
            model_name='taskgroup',
            name='job',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='task_groups', to='jobs.job'),
        ),
        migrations.AddConstraint(
            model_name='taskgroup',
            constraint=models.UniqueConstraint(fields=('job', 'source', 'lane'), name='one_task_group_per_source_and_lane'),
        ),
        migrations.RenameField(model_name='task', old_name='road', new_name='group'),
        migrations.AlterField(
            model_name='task',
            name='group',
            field=models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='tasks', to='jobs.taskgroup'),
        ),
        migrations.RenameModel(old_name='Turn', new_name='LastClaim'),
        migrations.RenameField(model_name='lastclaim', old_name='last_at', new_name='at'),
        migrations.AlterField(
            model_name='lastclaim',
            name='owner',
            field=models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='last_claim', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddIndex(
            model_name='task',
            index=models.Index(fields=['group', 'state', 'id', 'not_before'], name='due_tasks_of_group'),
        ),
    ]
