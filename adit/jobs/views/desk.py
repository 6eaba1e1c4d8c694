"""Desk: where sheets of one kind are taken in, and what differs between the kinds."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext as _

from adit.accounts.models import User
from adit.jobs.models import Job
from adit.jobs.preparing import drafts, uploads
from adit.jobs.preparing.uploads import Upload
from adit.jobs.sheet import Judged, SheetKind
from adit.jobs.views.door import person


@dataclass(frozen=True, slots=True)
class Desk:
    """What differs between the kinds of sheets; `word` stands in addresses and names of routes."""

    kind: str
    word: str
    sheet: SheetKind
    title: Any
    lead: Any
    help: str
    order_template: str
    """Included below the rows, within the form; it gets `form`, `judged` and `upload`."""
    judge: Callable[[User, Upload], Judged[Any]]
    form: Callable[..., forms.Form]
    """form(data, user=…, upload=…, judged=…, initial=…)."""
    start: Callable[[User, Upload, Judged[Any], Any], Job]
    """Makes the job out of a valid form. Raises AditError."""

    def address(self, page: str, *args: Any) -> str:
        return reverse(f"job_{self.word}_{page}", args=args)


def upload_at(user: User, desk: Desk, key: str) -> Upload | None:
    """What this person has uploaded there, as long as it is kept."""
    return uploads.load(user, key, desk.sheet)


def gone(request: HttpRequest, desk: Desk, key: str) -> HttpResponse:
    """After the start, Back and a second Start lead to the job that there is."""
    if not drafts.is_key(key):
        raise Http404
    job = Job.objects.filter(owner=person(request), idempotency_key=key).first()
    if job is not None:
        return HttpResponseRedirect(reverse("job", args=[job.pk]))
    messages.info(request, _("This sheet is no longer kept: please upload it again."))
    return HttpResponseRedirect(reverse(f"job_new_{desk.word}"))
