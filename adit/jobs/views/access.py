"""Door: who may enter the pages of jobs. Signing in and caches are the middleware's matter."""

from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any, cast

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.translation import gettext as _

from adit.accounts.models import User
from adit.accounts.permissions import may, order_right
from adit.audit import trail
from adit.audit.models import AuditEvent
from adit.jobs import visibility
from adit.jobs.models import Job, Task, TaskType

View = Callable[..., HttpResponse]
VIEW_INTERVAL = timedelta(minutes=10)


def current_user(request: HttpRequest) -> User:
    """Who stands at the door: the middleware lets nobody in who is not signed in."""
    return cast(User, request.user)


def order_permission_required(kind: str) -> Callable[[View], View]:
    """Only for those who may order this kind of job."""

    def decorated(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if not may(current_user(request), order_right(kind)):
                raise PermissionDenied(_("You may not order this kind of job."))
            return view(request, *args, **kwargs)

        return guarded

    return decorated


def get_visible_job(user: User, pk: int) -> Job:
    """Raises Http404 for what is not there and for what is none of this person's business."""
    jobs = visibility.visible_jobs(user).select_related(
        "owner", "project", "destination", "approved_by"
    )
    job = jobs.filter(pk=pk).first()
    if job is None:
        raise Http404
    return job


def get_visible_task(user: User, pk: int, position: int) -> Task:
    """Raises Http404 as `visible_job` does."""
    job = get_visible_job(user, pk)
    task = (
        Task.objects.filter(job=job, position=position)
        .exclude(work=TaskType.START)
        .select_related("source", "group", "job__project", "job__destination", "job__owner")
        .first()
    )
    if task is None:
        raise Http404
    return task


def record_view(user: User, job: Job, details: dict[str, Any]) -> None:
    """Once in a while is enough: a page that is loaded anew each few seconds is one look."""
    about = f"job:{job.pk}"
    looks = AuditEvent.objects.filter(
        about=about, action="job.seen", user=user, at__gt=timezone.now() - VIEW_INTERVAL
    )
    if not any(event.details == details for event in looks.defer("patient_sealed")):
        trail.record("job.seen", user=user, about=about, details=details)
