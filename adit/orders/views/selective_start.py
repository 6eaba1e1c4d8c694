"""Views of the summary of a selective transfer: from the order form to the jobs."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib import messages
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods

from adit.accounts.models import User
from adit.accounts.permissions import Right, may
from adit.jobs.estimates import describe_start
from adit.jobs.kinds import selective
from adit.jobs.kinds.base import OrderedChange, Pseudonymize, SendAsIs
from adit.jobs.models import Job
from adit.jobs.views.access import current_user, order_permission_required
from adit.nodes.models import Node
from adit.orders import actions, basket, drafts, service
from adit.orders import drafts as orders_drafts
from adit.orders.archive_passwords import DraftPassword
from adit.orders.basket import Basket, PickedPatient, PickedStudy
from adit.orders.forms import AS_IS, ORDER_DRAFT_KEY, SelectiveOrderForm, pseudonym_field_name
from adit.orders.summary import OrderSummary, format_estimated_size, summarize_order
from adit.orders.tables import PatientTable
from adit.projects import pseudonyms as projects_pseudonyms
from adit.projects import risks, services
from adit.projects.models import Project
from adit.results import archives, storage_quota
from adit_engine.errors import AditError, InvalidInput
from adit_engine.pseudonymize.profile import ConfidentialityProfile

if TYPE_CHECKING:
    from adit.orders.views.selective import SelectiveSession


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
    urgent: bool
    title: str
    summary: OrderSummary
    found: str
    """The key of the search, to return to the order page."""
    password: DraftPassword

    def to_json(self) -> dict[str, Any]:
        names = ("destinations", "project", "reason", "urgent", "title", "found")
        plain = {name: getattr(self, name) for name in names}
        return {
            **plain,
            "destinations": list(self.destinations),
            "pseudonyms": orders_drafts.seal_pseudonyms(self.project, self.pseudonyms),
            "basket": self.basket.to_json(),
            "summary": self.summary.to_json(),
            "password": self.password.to_json(),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "PreparedOrder":
        return cls(
            **{
                **data,
                "destinations": tuple(data["destinations"]),
                "pseudonyms": orders_drafts.open_pseudonyms(data["project"], data["pseudonyms"]),
                "basket": Basket.from_json(data["basket"]),
                "summary": OrderSummary.from_json(data["summary"]),
                "password": DraftPassword.from_json(data["password"]),
            }
        )

    @property
    def nodes(self) -> list[int]:
        """The primary keys of sources and destinations."""
        return list(dict.fromkeys([pick.node_id for pick in self.basket] + [*self.destinations]))

    def orders(self) -> list[selective.SelectiveOrder]:
        """Return one order per destination. Raises InvalidInput."""
        change: OrderedChange = SendAsIs(self.reason) if self.reason else Pseudonymize()
        picks = tuple(self._pick(pick) for pick in self.basket)
        return [
            selective.SelectiveOrder(picks, node, self.project, change, self.summary.announced)
            for node in self.destinations
        ]

    def _pick(self, pick: PickedStudy) -> selective.OrderedStudy:
        study = pick.study
        return selective.OrderedStudy(
            source=pick.node_id,
            study_uid=study.study_uid,
            patient_id=study.patient_id,
            series_uids=pick.series_uids,
            pseudonym=self.pseudonyms.get(pick.patient.token, ""),
            labels=selective.StudyLabels(
                patient_name=study.patient_name,
                birth_date=study.text("PatientBirthDate"),
                study_date=study.text("StudyDate"),
                study_description=study.study_description,
                modalities=", ".join(study.modalities),
                accession_number=study.accession_number,
            ),
        )


def show_summary(bench: "SelectiveSession", what: str) -> HttpResponse:
    """Validate the order, query the sources for the summary, and show it."""
    if not len(bench.basket):
        return bench.page(notice=_("The basket is empty: search, tick, and add to it first."))
    form = bench.order_form(bound=True)
    if form.is_valid() and not form.is_as_is:
        _check_registry(bench.user, bench.basket, form)
    if not form.is_valid():
        return bench.page(order_form=form)
    prepared = _prepare(bench, form)
    try:
        for order in prepared.orders():
            service.validate_order(
                bench.user, "selective", order, title=prepared.title, urgent=prepared.urgent
            )
    except AditError as error:
        form.add_error(None, str(error))
        return bench.page(order_form=form)
    bench.found.keep(bench.user)
    key = drafts.new_key()
    drafts.save_draft(bench.user, key, prepared.to_json())
    bench.replace_summary(key)
    return bench.elsewhere(reverse("job_summary", args=[key]))


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


def _storage_problems(prepared: PreparedOrder) -> list[str]:
    """Why the order does not fit on its destinations, as far as sizes are known."""
    nodes = Node.objects.filter(pk__in=prepared.destinations)
    size = prepared.summary.size_bytes
    return [why for why in (storage_quota.explain_no_space(node, size) for node in nodes) if why]


def _makes_archive(prepared: PreparedOrder) -> bool:
    return any(map(archives.is_archive, Node.objects.filter(pk__in=prepared.destinations)))


def _render_summary(
    request: HttpRequest, user: User, key: str, prepared: PreparedOrder, trouble: str = ""
) -> HttpResponse:
    project = _get_project(prepared)
    nodes = Node.objects.in_bulk(prepared.nodes)
    nodes_used = [nodes[pk] for pk in prepared.nodes if pk in nodes]
    context = {
        "key": key,
        "prepared": prepared,
        "summary": prepared.summary,
        "project": project,
        "destinations": [nodes[pk] for pk in prepared.destinations if pk in nodes],
        "patients": PatientTable(
            [
                (patient, _known_pseudonym(user, prepared, patient))
                for patient in prepared.basket.patients
            ],
            request,
            sees_identified=may(user, Right.SEE_IDENTIFIED),
            is_identified=bool(prepared.reason),
        ),
        "sources": sorted({pick.node for pick in prepared.basket}),
        "size": format_estimated_size(prepared.summary.size_bytes),
        "sees_identified": may(user, Right.SEE_IDENTIFIED),
        "when": describe_start(
            nodes_used,
            is_urgent=prepared.urgent,
            owner=user.pk,
            studies=len(prepared.basket) * len(prepared.destinations),
        ),
        "needs_approval": service.needs_approval(user, len(prepared.basket), project=project),
        "trouble": trouble,
        "may_be_mailed": settings.MAIL and bool(user.email),
        "no_room": _storage_problems(prepared),
        "makes_archive": _makes_archive(prepared),
        "password": prepared.password,
    }
    return render(request, "orders/summary.html", context, status=422 if trouble else 200)


def _place_orders(
    request: HttpRequest, user: User, key: str, prepared: PreparedOrder
) -> HttpResponse:
    try:
        for why in _storage_problems(prepared):
            raise InvalidInput(why)
        password = prepared.password.checked(request.POST) if _makes_archive(prepared) else ""
        with transaction.atomic():
            jobs = [
                actions.create_job(
                    user,
                    "selective",
                    order,
                    key=_idempotency_key(key, number),
                    title=prepared.title,
                    urgent=prepared.urgent,
                    mail="mail" in request.POST,
                    archive_password=password,
                )
                for number, order in enumerate(prepared.orders())
            ]
            drafts.delete_draft(user, key)
            drafts.delete_draft(user, ORDER_DRAFT_KEY)
            basket.remove(user, [pick.token for pick in prepared.basket])
    except AditError as error:
        return _render_summary(request, user, key, prepared, str(error))
    messages.success(
        request,
        ngettext("The job is ordered.", "%(n)d jobs are ordered.", len(jobs)) % {"n": len(jobs)},
    )
    return _redirect_to_jobs(jobs)


def _show_placed_jobs(request: HttpRequest, user: User, key: str) -> HttpResponse:
    """Show the existing jobs after a second Start, or Back. Nothing starts twice."""
    jobs = Job.objects.filter(owner=user, idempotency_key__startswith=f"{key}.")
    if not drafts.is_key(key):
        raise Http404
    if jobs:
        return _redirect_to_jobs(list(jobs))
    messages.info(request, _("This summary is no longer kept: please order again."))
    return HttpResponseRedirect(reverse("job_new_selective"))


def _redirect_to_jobs(jobs: list[Job]) -> HttpResponse:
    if len(jobs) == 1:
        return HttpResponseRedirect(reverse("job", args=[jobs[0].pk]))
    return HttpResponseRedirect(reverse("jobs"))


def _idempotency_key(key: str, number: int) -> str:
    return f"{key}.{number}"


def _prepare(bench: "SelectiveSession", form: SelectiveOrderForm) -> PreparedOrder:
    values = form.cleaned_data
    project = values["project"] or services.default_project()
    as_is = values.get("change") == AS_IS
    profile = None if as_is else ConfidentialityProfile.parse(project.profile.text)
    return PreparedOrder(
        basket=bench.basket,
        destinations=tuple(node.pk for node in values["destinations"]),
        project=values["project"].pk if values["project"] else None,
        reason=values["reason"] if as_is else "",
        pseudonyms=form.pseudonyms(),
        urgent=values.get("urgent", False),
        title=values["title"],
        summary=summarize_order(
            bench.user, bench.basket, bench.sources, profile, risks.decisions(project)
        ),
        found=bench.found.key,
        password=bench.password,
    )


def _check_registry(user: User, picked: Basket, form: SelectiveOrderForm) -> None:
    """Check pseudonyms with the registry of the project as Start does, then roll back."""
    project = form.cleaned_data["project"] or services.default_project()
    names = form.pseudonyms()
    with transaction.atomic():
        for patient in picked.patients:
            name = names.get(patient.token, "")
            try:
                with transaction.atomic():
                    projects_pseudonyms.get_or_create_pseudonym(
                        project, patient.domain, patient.patient_id, given=name, user=user
                    )
            except (projects_pseudonyms.PseudonymConflict, InvalidInput) as error:
                field = pseudonym_field_name(patient)
                form.add_error(field if field in form.fields else None, str(error))
        transaction.set_rollback(True)


def _get_project(prepared: PreparedOrder) -> Project | None:
    return None if prepared.project is None else Project.objects.filter(pk=prepared.project).first()


def _known_pseudonym(user: User, prepared: PreparedOrder, patient: PickedPatient) -> str:
    """The given pseudonym, or that of the project for a user who may link it; else empty."""
    name = prepared.pseudonyms.get(patient.token, "")
    project = _get_project(prepared) or services.default_project()
    if name or not services.may_link(user, project):
        return name
    return projects_pseudonyms.find_pseudonym(project, patient.domain, patient.patient_id)
