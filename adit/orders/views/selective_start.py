"""The summary of a selective transfer, and its start: from the prepared order to the jobs."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods

from adit.accounts.models import User
from adit.accounts.permissions import Right, has_right
from adit.jobs.estimates import describe_start
from adit.jobs.kinds.base import OrderRequest, Pseudonymize, SendAsIs
from adit.jobs.kinds.picked_study import PickedPatient, PickedStudy
from adit.jobs.kinds.selective import Selective
from adit.jobs.models import Job
from adit.jobs.views.access import current_user, order_permission_required, record_once
from adit.nodes.models import Node
from adit.orders import basket, drafts, service
from adit.orders.archive_passwords import DraftPassword
from adit.orders.basket import Basket
from adit.orders.forms import ORDER_DRAFT_KEY
from adit.orders.summary import format_estimated_size
from adit.orders.tables import PatientTable
from adit.projects import pseudonyms as projects_pseudonyms
from adit.projects import services
from adit.projects.models import Project
from adit_engine.errors import AditError
from adit_engine.messages import Message
from adit_engine.pseudonymize.visit import TrialVisit, explain_visit_risk


@dataclass(frozen=True, slots=True)
class PreparedOrder:
    """The order that the summary shows and Start executes.

    Later changes of the basket or the form do not affect it.
    """

    basket: Basket
    destinations: tuple[int, ...]
    project: int | None
    reason: str
    """The reason for sending identified data; empty if pseudonymized."""
    pseudonyms: dict[str, str]
    """Given pseudonyms by patient token."""
    visits: dict[str, TrialVisit]
    """Visits by study token."""
    urgent: bool
    title: str
    found: str
    """The key of the search, to return to the order page."""
    password: DraftPassword

    def to_json(self) -> dict[str, Any]:
        names = ("destinations", "project", "reason", "urgent", "title", "found")
        plain = {name: getattr(self, name) for name in names}
        return {
            **plain,
            "destinations": list(self.destinations),
            "pseudonyms": drafts.seal_pseudonyms(self.project, self.pseudonyms),
            "visits": {token: asdict(visit) for token, visit in self.visits.items()},
            "basket": self.basket.to_json(),
            "password": self.password.to_json(),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "PreparedOrder":
        return cls(
            **{
                **data,
                "destinations": tuple(data["destinations"]),
                "pseudonyms": drafts.open_pseudonyms(data["project"], data["pseudonyms"]),
                "visits": {
                    token: TrialVisit(**values) for token, values in data.get("visits", {}).items()
                },
                "basket": Basket.from_json(data["basket"]),
                "password": DraftPassword.from_json(data["password"]),
            }
        )

    @property
    def nodes(self) -> list[int]:
        """The primary keys of sources and destinations."""
        return list(dict.fromkeys([pick.source for pick in self.basket] + [*self.destinations]))

    def request(
        self, key: str, *, mail: bool = False, password: str = ""
    ) -> OrderRequest[PickedStudy]:
        return OrderRequest(
            kind=Selective.code,
            items=tuple(
                replace(
                    pick,
                    pseudonym=self.pseudonyms.get(pick.patient.token, ""),
                    visit=self.visits.get(pick.token),
                )
                for pick in self.basket
            ),
            key=key,
            destinations=self.destinations,
            project=self.project,
            change=SendAsIs(self.reason) if self.reason else Pseudonymize(),
            title=self.title,
            urgent=self.urgent,
            mail=mail,
            archive_password=password,
        )


@order_permission_required("selective")
@require_http_methods(["GET", "HEAD", "POST"])
def order_summary(request: HttpRequest, key: str) -> HttpResponse:
    """Show the summary of an order, and start it. The URL contains no patient data."""
    user = current_user(request)
    data = drafts.load_draft(user, key) if drafts.is_key(key) else None
    if data is None or "password" not in data:
        return _show_placed_jobs(request, user, key)
    prepared = PreparedOrder.from_json(data)
    if request.method == "POST":
        password = prepared.password.with_entries(request.POST)
        prepared = replace(prepared, password=password)
        drafts.save_draft(user, key, prepared.to_json())
        if request.POST.get("do") == "change":
            back = f"{reverse('job_new_selective')}?found={prepared.found}#order"
            return HttpResponseRedirect(back)
        return _place_orders(request, user, key, prepared)
    return _render_summary(request, user, key, prepared)


def _render_summary(
    request: HttpRequest, user: User, key: str, prepared: PreparedOrder, problem: str = ""
) -> HttpResponse:
    project = _get_project(prepared)
    nodes = Node.objects.in_bulk(prepared.nodes)
    preview = service.describe_order(user, prepared.request(key))
    nodes_used = [nodes[pk] for pk in prepared.nodes if pk in nodes]
    known = {
        patient.token: _known_pseudonym(user, prepared, patient)
        for patient in prepared.basket.patients
    }
    if any(known[token] != prepared.pseudonyms.get(token, "") for token in known):
        about = services.audit_subject(project or services.default_project())
        record_once("pseudonyms.seen", user, about, {"page": "summary"})
    context = {
        "key": key,
        "prepared": prepared,
        "summary": preview.summary,
        "project": project,
        "destinations": [nodes[pk] for pk in prepared.destinations if pk in nodes],
        "patients": PatientTable(
            [
                (patient, known[patient.token], _describe_visits(prepared, patient))
                for patient in prepared.basket.patients
            ],
            request,
            sees_identified=has_right(user, Right.SEE_IDENTIFIED),
            is_identified=bool(prepared.reason),
            exclude=() if prepared.visits else ("visits",),
        ),
        "visit_risks": _visit_risks(prepared),
        "sources": sorted({pick.node for pick in prepared.basket}),
        "size": format_estimated_size(preview.summary.size_bytes),
        "sees_identified": has_right(user, Right.SEE_IDENTIFIED),
        "when": describe_start(
            nodes_used,
            is_urgent=prepared.urgent,
            owner=user.pk,
            studies=len(prepared.basket) * len(prepared.destinations),
        ),
        "needs_approval": preview.needs_approval,
        "trouble": problem,
        "may_be_mailed": settings.MAIL and bool(user.email),
        "no_room": preview.no_space,
        "makes_archive": preview.makes_archive,
        "password": prepared.password,
    }
    return render(request, "orders/summary.html", context, status=422 if problem else 200)


def _place_orders(
    request: HttpRequest, user: User, key: str, prepared: PreparedOrder
) -> HttpResponse:
    try:
        makes_archive = service.describe_order(user, prepared.request(key)).makes_archive
        password = prepared.password.validate(request.POST) if makes_archive else ""
        wishes = prepared.request(key, mail="mail" in request.POST, password=password)
        jobs = service.place_order(user, wishes)
    except AditError as error:
        return _render_summary(request, user, key, prepared, str(error))
    drafts.delete_draft(user, key)
    drafts.delete_draft(user, ORDER_DRAFT_KEY)
    basket.remove(user, [pick.token for pick in prepared.basket])
    messages.success(
        request,
        ngettext("The job was created.", "%(n)d jobs were created.", len(jobs)) % {"n": len(jobs)},
    )
    return _redirect_to_jobs(jobs)


def _show_placed_jobs(request: HttpRequest, user: User, key: str) -> HttpResponse:
    """Show the existing jobs after a second Start, or Back. Nothing starts twice."""
    if not drafts.is_key(key):
        raise Http404
    if jobs := service.find_jobs(user, key):
        return _redirect_to_jobs(jobs)
    messages.info(request, _("This summary has expired. Please prepare the order again."))
    return HttpResponseRedirect(reverse("job_new_selective"))


def _redirect_to_jobs(jobs: list[Job]) -> HttpResponse:
    if len(jobs) == 1:
        return HttpResponseRedirect(reverse("job", args=[jobs[0].pk]))
    return HttpResponseRedirect(reverse("jobs"))


def _get_project(prepared: PreparedOrder) -> Project | None:
    return None if prepared.project is None else Project.objects.filter(pk=prepared.project).first()


def _describe_visits(prepared: PreparedOrder, patient: PickedPatient) -> str:
    """Return the visits of a patient's studies, in the order of the basket."""
    studies = [pick for pick in prepared.basket if pick.patient == patient]
    visits = [prepared.visits.get(pick.token) for pick in studies]
    return ", ".join(visit.id if visit else _("none") for visit in visits)


def _visit_risks(prepared: PreparedOrder) -> list[Message]:
    """Return why visits may identify their patients, each reason once."""
    risks = (
        explain_visit_risk(prepared.visits[pick.token], pick.study.patient_id)
        for pick in prepared.basket
        if pick.token in prepared.visits
    )
    return list(dict.fromkeys(risk for risk in risks if risk is not None))


def _known_pseudonym(user: User, prepared: PreparedOrder, patient: PickedPatient) -> str:
    """The given pseudonym, or that of the project for a user who holds the list; else empty."""
    name = prepared.pseudonyms.get(patient.token, "")
    project = _get_project(prepared) or services.default_project()
    if name or not services.may_hold_list(user, project):
        return name
    return projects_pseudonyms.find_pseudonym(project, patient.domain, patient.patient_id)
