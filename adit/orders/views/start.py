"""Start: from the filled-in page to a summary, and from the summary to jobs."""

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
from adit.jobs.estimates import when
from adit.jobs.kinds import selective
from adit.jobs.kinds.base import OrderedChange, Pseudonymize, SendAsIs
from adit.jobs.models import Job
from adit.jobs.views.access import orders, person
from adit.nodes.models import Node
from adit.orders import actions, basket, drafts, service
from adit.orders import drafts as orders_drafts
from adit.orders.archive_passwords import DraftPassword
from adit.orders.basket import Basket, Pick, PickedPatient
from adit.orders.forms import AS_IS, ORDER_KEY, OrderForm, pseudonym_field
from adit.orders.summary import Summary, size_in_words, summary_of
from adit.projects import pseudonyms as projects_pseudonyms
from adit.projects import risks, services
from adit.projects.models import Project
from adit.results import archives, storage_quota
from adit_engine.errors import AditError, InvalidInput
from adit_engine.pseudonymize.profile import ConfidentialityProfile

if TYPE_CHECKING:
    from adit.orders.views.selective import Bench


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the summary shows and Start does: nothing that changed meanwhile slips in."""

    basket: Basket
    destinations: tuple[int, ...]
    project: int | None
    reason: str
    """Why as it is; empty when pseudonymized."""
    pseudonyms: dict[str, str]
    """Given ones, by the patient's token."""
    urgent: bool
    title: str
    summary: Summary
    found: str
    """The key of the bench, to go back to."""
    password: DraftPassword

    def to_json(self) -> dict[str, Any]:
        names = ("destinations", "project", "reason", "urgent", "title", "found")
        plain = {name: getattr(self, name) for name in names}
        return {
            **plain,
            "destinations": list(self.destinations),
            "pseudonyms": orders_drafts.hidden(self.project, self.pseudonyms),
            "basket": self.basket.to_json(),
            "summary": self.summary.to_json(),
            "password": self.password.to_json(),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Prepared":
        return cls(
            **{
                **data,
                "destinations": tuple(data["destinations"]),
                "pseudonyms": orders_drafts.shown(data["project"], data["pseudonyms"]),
                "basket": Basket.from_json(data["basket"]),
                "summary": Summary.from_json(data["summary"]),
                "password": DraftPassword.from_json(data["password"]),
            }
        )

    @property
    def nodes(self) -> list[int]:
        """Sources and destinations."""
        return list(dict.fromkeys([pick.node_id for pick in self.basket] + [*self.destinations]))

    def orders(self) -> list[selective.Order]:
        """One for each destination. Raises WrongInput."""
        change: OrderedChange = SendAsIs(self.reason) if self.reason else Pseudonymize()
        picks = tuple(self._pick(pick) for pick in self.basket)
        return [
            selective.Order(picks, node, self.project, change, self.summary.announced)
            for node in self.destinations
        ]

    def _pick(self, pick: Pick) -> selective.Pick:
        study = pick.study
        return selective.Pick(
            source=pick.node_id,
            study_uid=study.study_uid,
            patient_id=study.patient_id,
            series_uids=pick.series_uids,
            pseudonym=self.pseudonyms.get(pick.patient.token, ""),
            labels=selective.Labels(
                patient_name=study.patient_name,
                birth_date=study.text("PatientBirthDate"),
                study_date=study.text("StudyDate"),
                study_description=study.study_description,
                modalities=", ".join(study.modalities),
                accession_number=study.accession_number,
            ),
        )


def to_summary(bench: "Bench", what: str) -> HttpResponse:
    """Judges all that was typed; then asks the sources what will leave, and shows it."""
    if not len(bench.basket):
        return bench.page(notice=_("The basket is empty: search, tick, and add to it first."))
    form = bench.order_form(bound=True)
    if form.is_valid() and not form.is_as_is:
        _check_registry(bench.user, bench.basket, form)
    if not form.is_valid():
        return bench.page(order_form=form)
    prepared = _prepared(bench, form)
    try:
        for order in prepared.orders():
            service.prepared(
                bench.user, "selective", order, title=prepared.title, urgent=prepared.urgent
            )
    except AditError as error:
        form.add_error(None, str(error))
        return bench.page(order_form=form)
    bench.found.keep(bench.user)
    key = drafts.new_key()
    drafts.keep(bench.user, key, prepared.to_json())
    bench.replace_summary(key)
    return bench.elsewhere(reverse("job_summary", args=[key]))


@orders("selective")
@require_http_methods(["GET", "HEAD", "POST"])
def summary(request: HttpRequest, key: str) -> HttpResponse:
    """What will leave, before Start; the address tells nothing."""
    user = person(request)
    data = drafts.load(user, key) if drafts.is_key(key) else None
    if data is None or "password" not in data:
        return _started_before(request, user, key)
    prepared = Prepared.from_json(data)
    if request.method == "POST":
        password = prepared.password.with_entries(request.POST)
        prepared = replace(prepared, password=password)
        drafts.keep(user, key, prepared.to_json())
        if request.POST.get("do") == "change":
            back = f"{reverse('job_new_selective')}?found={prepared.found}#order"
            return HttpResponseRedirect(back)
        return _start(request, user, key, prepared)
    return _shown(request, user, key, prepared)


def _no_room(prepared: Prepared) -> list[str]:
    """Why what is ordered does not fit where it shall go, as far as sizes can be told."""
    nodes = Node.objects.filter(pk__in=prepared.destinations)
    size = prepared.summary.size_bytes
    return [why for why in (storage_quota.why_no_room(node, size) for node in nodes) if why]


def _makes_archive(prepared: Prepared) -> bool:
    return any(map(archives.is_archive, Node.objects.filter(pk__in=prepared.destinations)))


def _shown(
    request: HttpRequest, user: User, key: str, prepared: Prepared, trouble: str = ""
) -> HttpResponse:
    project = _project(prepared)
    nodes = Node.objects.in_bulk(prepared.nodes)
    nodes_used = [nodes[pk] for pk in prepared.nodes if pk in nodes]
    context = {
        "key": key,
        "prepared": prepared,
        "summary": prepared.summary,
        "project": project,
        "destinations": [nodes[pk] for pk in prepared.destinations if pk in nodes],
        "patients": [
            (patient, _known(user, prepared, patient)) for patient in prepared.basket.patients
        ],
        "sources": sorted({pick.node for pick in prepared.basket}),
        "size": size_in_words(prepared.summary.size_bytes),
        "sees_identified": may(user, Right.SEE_IDENTIFIED),
        "when": when(
            nodes_used,
            is_urgent=prepared.urgent,
            owner=user.pk,
            studies=len(prepared.basket) * len(prepared.destinations),
        ),
        "needs_approval": service.needs_approval(user, len(prepared.basket), project=project),
        "trouble": trouble,
        "may_be_mailed": settings.MAIL and bool(user.email),
        "no_room": _no_room(prepared),
        "makes_archive": _makes_archive(prepared),
        "password": prepared.password,
    }
    return render(request, "orders/summary.html", context, status=422 if trouble else 200)


def _start(request: HttpRequest, user: User, key: str, prepared: Prepared) -> HttpResponse:
    try:
        for why in _no_room(prepared):
            raise InvalidInput(why)
        password = prepared.password.checked(request.POST) if _makes_archive(prepared) else ""
        with transaction.atomic():
            jobs = [
                actions.create(
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
            drafts.drop(user, key)
            drafts.drop(user, ORDER_KEY)
            basket.remove(user, [pick.token for pick in prepared.basket])
    except AditError as error:
        return _shown(request, user, key, prepared, str(error))
    messages.success(
        request,
        ngettext("The job is ordered.", "%(n)d jobs are ordered.", len(jobs)) % {"n": len(jobs)},
    )
    return _to_jobs(jobs)


def _started_before(request: HttpRequest, user: User, key: str) -> HttpResponse:
    """A second Start, or Back after it: shows the jobs that there are. Nothing starts twice."""
    jobs = Job.objects.filter(owner=user, idempotency_key__startswith=f"{key}.")
    if not drafts.is_key(key):
        raise Http404
    if jobs:
        return _to_jobs(list(jobs))
    messages.info(request, _("This summary is no longer kept: please order again."))
    return HttpResponseRedirect(reverse("job_new_selective"))


def _to_jobs(jobs: list[Job]) -> HttpResponse:
    if len(jobs) == 1:
        return HttpResponseRedirect(reverse("job", args=[jobs[0].pk]))
    return HttpResponseRedirect(reverse("jobs"))


def _idempotency_key(key: str, number: int) -> str:
    return f"{key}.{number}"


def _prepared(bench: "Bench", form: OrderForm) -> Prepared:
    values = form.cleaned_data
    project = values["project"] or services.default_project()
    as_is = values.get("change") == AS_IS
    profile = None if as_is else ConfidentialityProfile.parse(project.profile.text)
    return Prepared(
        basket=bench.basket,
        destinations=tuple(node.pk for node in values["destinations"]),
        project=values["project"].pk if values["project"] else None,
        reason=values["reason"] if as_is else "",
        pseudonyms=form.pseudonyms(),
        urgent=values.get("urgent", False),
        title=values["title"],
        summary=summary_of(
            bench.user, bench.basket, bench.sources, profile, risks.decisions(project)
        ),
        found=bench.found.key,
        password=bench.password,
    )


def _check_registry(user: User, picked: Basket, form: OrderForm) -> None:
    """Asks the project's registry as Start will; what it would write is taken back."""
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
                field = pseudonym_field(patient)
                form.add_error(field if field in form.fields else None, str(error))
        transaction.set_rollback(True)


def _project(prepared: Prepared) -> Project | None:
    return None if prepared.project is None else Project.objects.filter(pk=prepared.project).first()


def _known(user: User, prepared: Prepared, patient: PickedPatient) -> str:
    """The pseudonym as given, or as the project has it for a user who may link both; else empty."""
    name = prepared.pseudonyms.get(patient.token, "")
    project = _project(prepared) or services.default_project()
    if name or not services.may_link(user, project):
        return name
    return projects_pseudonyms.find_pseudonym(project, patient.domain, patient.patient_id)
