"""Access checks and audit of page views, used by the views of jobs, orders and results.

The middleware handles sign-in and cache headers.
"""

from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any, cast

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.translation import gettext as _

from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted, has_right, order_right
from adit.audit import trail
from adit.audit.models import AuditEvent
from adit.jobs import visibility
from adit.jobs.disclosure import Disclosure, shows_pseudonyms
from adit.jobs.models import Job, Task, TaskType

View = Callable[..., HttpResponse]
VIEW_INTERVAL = timedelta(hours=1)


def current_user(request: HttpRequest) -> User:
    """Return the signed-in user; the middleware rejects anonymous requests."""
    return cast(User, request.user)


def order_permission_required(kind: str) -> Callable[[View], View]:
    """Restrict a view to users who may order this kind of job."""

    def decorated(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if not has_right(current_user(request), order_right(kind)):
                raise PermissionDenied(
                    _("You do not have the permission to order this kind of job.")
                )
            return view(request, *args, **kwargs)

        return guarded

    return decorated


def require_may_act(user: User, job: Job) -> None:
    """Raise PermissionDenied, with the reason, unless the user may act on the job."""
    if not visibility.may_act_on(user, job):
        reason = NotPermitted("job.not-yours")
        raise PermissionDenied(str(reason)) from reason


def get_visible_job(user: User, pk: int) -> Job:
    """Return a job. Raises Http404 if it does not exist or the user may not see it."""
    jobs = visibility.visible_jobs(user).select_related(
        "owner", "project", "destination", "approved_by"
    )
    job = jobs.filter(pk=pk).first()
    if job is None:
        raise Http404
    return job


def get_visible_task(user: User, pk: int, position: int) -> Task:
    """Return a task of a visible job. Raises Http404 as get_visible_job() does."""
    job = get_visible_job(user, pk)
    task = (
        Task.objects.filter(job=job, position=position)
        .exclude(type=TaskType.START)
        .select_related("source", "group", "job__project", "job__destination", "job__owner")
        .first()
    )
    if task is None:
        raise Http404
    return task


def record_view(user: User, job: Job, disclosure: Disclosure) -> None:
    """Record that a user saw patients or studies of a job, once in VIEW_INTERVAL.

    Also whether the pseudonyms were shown with them. Costs one query if it is already recorded.
    """
    details = {"pseudonyms": shows_pseudonyms(job, disclosure)}
    record_once("job.seen", user, f"job:{job.pk}", details)


def record_once(action: str, user: User, about: str, details: dict[str, Any]) -> None:
    """Record a view of a page that reloads, once in VIEW_INTERVAL for the same details."""
    since = timezone.now() - VIEW_INTERVAL
    events = AuditEvent.objects.filter(about=about, action=action, user=user, at__gt=since)
    if trail.with_token(details) not in events.values_list("details", flat=True):
        trail.record(action, user=user, about=about, details=details)
