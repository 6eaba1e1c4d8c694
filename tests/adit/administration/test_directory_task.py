"""The scheduler asks the directory regularly, if there is one."""

from typing import Any

from adit.administration import directory_check
from adit.config.celery import app


def test_every_scheduled_task_exists() -> None:
    app.loader.import_default_modules()

    scheduled = {entry["task"] for entry in app.conf.beat_schedule.values()}

    assert "adit.administration.check_directory" in scheduled
    assert scheduled <= set(app.tasks)


def test_without_a_directory_nothing_is_asked(settings: Any) -> None:
    settings.LDAP = None

    directory_check.end_access_of_missing_users()
