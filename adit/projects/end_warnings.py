"""Notify users of projects that end soon. Used by the scheduler."""

from django.db.models import Q
from django.urls import reverse
from django.utils import timezone

from adit.accounts.models import User
from adit.accounts.permissions import Right, has_right
from adit.notifications.models import NotificationKind
from adit.notifications.services import notify
from adit.projects.models import Project
from adit_engine.messages import Message

WARNING_DAYS = (7, 30)
"""Days before the end at which users are notified, the nearest first."""


def warn_of_project_ends() -> None:
    """Notify the members, the managers of projects and the proposer, once per warning day."""
    today = timezone.localdate()
    for project in Project.objects.filter(
        is_revoked=False, is_accepted=True, expires_on__gt=today
    ).order_by("pk"):
        assert project.expires_on is not None
        left = (project.expires_on - today).days
        day = next((day for day in WARNING_DAYS if left <= day), None)
        if day is None:
            continue
        notify(
            _users_of(project),
            NotificationKind.PROJECT_ENDS,
            Message("notification.project-ends", project=project.protocol_id, count=left),
            reverse("project", args=[project.pk]),
            event=f"project:{project.pk}:{project.expires_on}:{day}",
            with_mail=True,
        )


def _users_of(project: Project) -> list[User]:
    active = User.objects.filter(is_active=True)
    members = (
        Q(groups__in=project.members.all())
        | Q(pk__in=project.member_users.all())
        | Q(pk=project.proposed_by_id)
    )
    managers = [user for user in active if has_right(user, Right.MANAGE_PROJECTS)]
    return [*active.filter(members).distinct(), *managers]
