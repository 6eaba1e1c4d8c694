"""Tasks that only search: the lane in which a task waits for its nodes."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("jobs", "0001_initial")]

    operations = [
        migrations.AddField(
            "task",
            "lane",
            models.CharField(
                choices=[
                    ("retrieve", "Retrieve"),
                    ("search", "Search"),
                    ("urgent", "Urgent"),
                ],
                default="retrieve",
                max_length=16,
            ),
        ),
    ]
