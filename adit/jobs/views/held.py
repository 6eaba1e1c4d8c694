"""Held: the page's part on a study whose patient has another ID by now: both IDs, and the decision."""

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from adit.accounts.models import User
from adit.accounts.rights import Right, may
from adit.jobs import held
from adit.jobs.models import Task, TaskState
from adit.jobs.views.door import person, visible_task
from adit.vault.box import SealBroken
from adit_engine.errors import AditError


def held_context(user: User, task: Task) -> dict[str, Any]:
    """Empty for a study that waits for nobody's word. IDs are for those who may see them."""
    if task.state != TaskState.HELD:
        return {}
    ids = None
    if may(user, Right.SEE_IDENTIFIED):
        try:
            ids = held.ids_of(task)
        except SealBroken:
            ids = None
    return {"held": {"ids": ids, "may_decide": ids is not None and held.may_decide(user)}}


@require_POST
def task_decide(request: HttpRequest, pk: int, position: int) -> HttpResponse:
    user = person(request)
    task = visible_task(user, pk, position)
    if not held.may_decide(user):
        raise PermissionDenied(_("You may not confirm that a patient ID was changed."))
    confirms = request.POST.get("do") == "confirm"
    try:
        (held.confirm if confirms else held.refuse)(user, task, request.POST.get("reason", ""))
    except AditError as error:
        messages.error(request, str(error))
    else:
        done = _("Confirmed: the study goes on.") if confirms else _("Refused: nothing is sent.")
        messages.success(request, done)
    return HttpResponseRedirect(reverse("job_task", args=[pk, position]))
