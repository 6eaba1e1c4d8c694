"""Mails before the end of a research project, each sent once. Used by Celery tasks.

They go to the members who ordered jobs for the project, and to the responsible person if the
project gives a mail address.
"""

import re
from datetime import timedelta

from django.conf import settings
from django.db.models import F, Q
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from adit.accounts.models import User
from adit.dates import format_date
from adit.notifications.outbox import Outbox
from adit.projects import services
from adit.projects.models import Project, ProjectEndMail

DAYS_BEFORE = (7, 30)
"""In ascending order. A project that is first seen in its last week is reported once."""
_ADDRESS = re.compile(r"[^\s<>,;()]+@[^\s<>,;()]+")


def create_end_mails() -> None:
    """Create the mails that are due, and delete unsent ones that are not true any more."""
    _delete_outdated()
    if not settings.MAIL:
        return
    today = timezone.localdate()
    last = today + timedelta(days=DAYS_BEFORE[-1])
    active = Project.objects.exclude(services.ended_filter())
    for project in active.filter(is_default=False, expires_on__lte=last):
        assert project.expires_on is not None
        left = (project.expires_on - today).days
        days = next(days for days in DAYS_BEFORE if left <= days)
        ProjectEndMail.objects.bulk_create(
            [
                ProjectEndMail(
                    project=project, expires_on=project.expires_on, days=days, address=address
                )
                for address in sorted(_addresses(project))
            ],
            ignore_conflicts=True,
        )


def _delete_outdated() -> None:
    """The project was extended or has ended since."""
    moved = ~Q(expires_on=F("project__expires_on")) | Q(project__expires_on=None)
    ended = Q(project__in=Project.objects.filter(services.ended_filter()))
    ProjectEndMail.objects.filter(moved | ended, sent_at=None).delete()


def _addresses(project: Project) -> set[str]:
    owners = User.objects.filter(jobs__project=project, is_active=True).distinct()
    found = {user.email.strip() for user in owners if services.is_member(user, project)}
    return (found | set(_ADDRESS.findall(project.responsible))) - {""}


def _compose(mail: ProjectEndMail) -> tuple[str, str]:
    left = (mail.expires_on - timezone.localdate()).days
    words = {"id": mail.project.protocol_id, "day": format_date(mail.expires_on), "days": left}
    subject = ngettext(
        "research project %(id)s ends in %(days)d day",
        "research project %(id)s ends in %(days)d days",
        left,
    )
    lines = [
        _("The research project %(id)s ends on %(day)s.") % words,
        _("After this day nothing is sent for it, and tasks that still wait fail."),
        _("If it has to go on, ask a manager of research projects to extend it on its page:"),
        settings.SITE_URL + reverse("project", args=[mail.project_id]),
    ]
    return subject % words, "\n\n".join(lines) + "\n"


PROJECT_END_OUTBOX = Outbox(ProjectEndMail, _compose, lambda mail: f"project-end.{mail.pk}")
