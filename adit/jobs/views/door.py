"""Door: who may enter the pages of jobs; what they show stays in no cache."""

from collections.abc import Callable
from functools import wraps
from typing import Any, cast

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.cache import add_never_cache_headers
from django.utils.translation import gettext as _

from adit.accounts.models import User
from adit.accounts.rights import may, order_right
from adit.jobs import lists
from adit.jobs.models import Job

View = Callable[..., HttpResponse]


def person(request: HttpRequest) -> User:
    """Who stands at the door; only behind `private`."""
    return cast(User, request.user)


def private(view: View) -> View:
    """Signed in, and neither browser nor proxy keeps the answer."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        response = view(request, *args, **kwargs)
        add_never_cache_headers(response)
        return response

    return login_required(guarded)


def orders(kind: str) -> Callable[[View], View]:
    """Only for those who may order this kind of job."""

    def decorated(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if not may(person(request), order_right(kind)):
                raise PermissionDenied(_("You may not order this kind of job."))
            return view(request, *args, **kwargs)

        return private(guarded)

    return decorated


def visible_job(user: User, pk: int) -> Job:
    """Raises Http404 for what is not there and for what is none of this person's business."""
    job = lists.visible_jobs(user).filter(pk=pk).first()
    if job is None:
        raise Http404
    return job
