"""The one way in for orders: validate, preview, and make one job per destination.

Used by the order pages, the demo, the REST API and the command line. Whatever is announced as
withheld is computed here, in `describe_order`: what the summary shows is what the job records.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction

from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted, Right, order_right, require
from adit.audit import trail
from adit.blocklist import blocking
from adit.jobs import encrypted_payload, notifications, task_groups
from adit.jobs.kinds import get_capabilities, get_kind
from adit.jobs.kinds.base import (
    MAX_DESTINATIONS,
    Kind,
    OrderRequest,
    SendAsIs,
    SheetRow,
    TaskPlan,
)
from adit.jobs.kinds.picked_study import PickedStudy, get_modalities
from adit.jobs.models import AS_IS, Job, JobState, Task, TaskType
from adit.jobs.wakeup import wake_workers_on_commit
from adit.nodes import access
from adit.nodes.models import Lane, Node
from adit.orders import drafts
from adit.orders.summary import OrderSummary, summarize_order
from adit.projects import pseudonyms, risks, services
from adit.projects.models import Project
from adit.results import archives, sheet_rows, storage_quota
from adit.spreadsheets.row_verdicts import format_line_numbers
from adit_engine.errors import InvalidInput
from adit_engine.messages import Message, join_messages
from adit_engine.pseudonymize.profile import ConfidentialityProfile

ORDER_VERSION = 1
PSEUDONYMIZED = "pseudonymized"
MAX_STUDIES_NAMED = 5
"""Studies with refused pseudonyms that a message names."""


class RefusedPseudonyms(InvalidInput):
    """Pseudonyms that the project does not allow: the reason, by the position of the study."""

    def __init__(self, by_position: Mapping[int, Message]) -> None:
        self.by_position = dict(by_position)
        studies = [
            Message("order.pseudonym-of-study", study=position, reason=reason)
            for position, reason in self.by_position.items()
        ]
        super().__init__(
            "order.pseudonyms-refused", studies=join_messages(studies[:MAX_STUDIES_NAMED])
        )


class PatientsBlocked(InvalidInput):
    """Studies of patients who must not be transferred.

    The message gives the first reason, and the positions in the order to which it applies.
    """

    def __init__(self, by_position: Mapping[int, Message]) -> None:
        reason = next(iter(by_position.values()))
        positions = [position for position, why in by_position.items() if why == reason]
        super().__init__(
            "order.patients-blocked",
            reason=reason,
            studies=format_line_numbers(positions),
            count=len(positions),
        )


@dataclass(frozen=True, slots=True)
class OrderPreview:
    """What an order will do, before it is placed."""

    summary: OrderSummary
    """Empty for a sheet: its studies are not known before the check."""
    needs_approval: bool
    no_space: tuple[Message, ...]
    """Why the order does not fit on its destinations, as far as sizes are known."""
    makes_archive: bool


def place_order(user: User, request: OrderRequest[Any]) -> list[Job]:
    """Make one job per destination: all of them, or none.

    A request with the key of an earlier one returns the jobs of that one. Queries the sources to
    find out what will be withheld, unless `preview_order` did so before; do not call it within a
    transaction. Raises NotPermitted, InvalidInput.
    """
    if there := find_jobs(user, request.key):
        return there
    order = _validate(user, request)
    preview = describe_order(user, request)
    for why in preview.no_space:
        raise InvalidInput(why.code, **why.values)
    password = ""
    if preview.makes_archive:
        password = archives.validate_archive_password(request.archive_password)
    try:
        with transaction.atomic():
            names = _register_pseudonyms(order)
            jobs = [
                _insert_job(order, number, node, names, preview, password)
                for number, node in enumerate(order.destinations)
            ]
            forget_preview(user, request.key)
            return jobs
    except IntegrityError:
        if there := find_jobs(user, request.key):
            return there
        raise


def preview_order(user: User, request: OrderRequest[Any]) -> OrderPreview:
    """Validate an order as `place_order` does, and say what it will do; no job is made.

    The summary is kept for a day: an order placed with this key records what it announces. Raises
    NotPermitted, InvalidInput.
    """
    order = _validate(user, request)
    with transaction.atomic():
        _register_pseudonyms(order)
        transaction.set_rollback(True)
    preview = describe_order(user, request)
    content = {"of": _fingerprint(request), "summary": preview.summary.to_json()}
    drafts.save_draft(user, _preview_key(request.key), content)
    destinations = sorted(node.name for node in order.destinations if node is not None)
    details = {
        "kind": request.kind,
        "studies": preview.summary.studies,
        "destinations": destinations,
        "project": order.project.protocol_id,
    }
    trail.record("job.previewed", user=user, details=details)
    return preview


def describe_order(user: User, request: OrderRequest[Any]) -> OrderPreview:
    """Return the kept preview of an order, or compute it. Validates nothing."""
    kept = drafts.load_draft(user, _preview_key(request.key))
    if kept is not None and kept["of"] == _fingerprint(request):
        summary = OrderSummary.from_json(kept["summary"])
    else:
        summary = _summarize(user, request)
    project = _find_project(request.project) or services.default_project()
    nodes = list(Node.objects.filter(pk__in=request.destinations))
    plans = get_kind(request.kind).plan(request)
    no_space = [storage_quota.explain_no_space(node, summary.size_bytes) for node in nodes]
    return OrderPreview(
        summary=summary,
        needs_approval=needs_approval(
            user, _count_size(request.kind, plans), request.kind, project
        ),
        no_space=tuple(why for why in no_space if why) if summary.studies else (),
        makes_archive=any(map(archives.is_archive, nodes)),
    )


def has_preview(user: User, key: str) -> bool:
    """Return whether a preview with this key is kept."""
    return drafts.load_draft(user, _preview_key(key)) is not None


def forget_preview(user: User, key: str) -> None:
    """Delete the kept preview of an order that was changed or placed."""
    drafts.delete_draft(user, _preview_key(key))


def find_jobs(user: User, key: str) -> list[Job]:
    """Return the jobs that the user has ordered with this key."""
    keys = [_job_key(key, number) for number in range(MAX_DESTINATIONS)]
    return list(Job.objects.filter(owner=user, idempotency_key__in=keys).order_by("pk"))


def needs_approval(
    user: User, size: int, kind: str = "selective", project: Project | None = None
) -> bool:
    """Return whether an order of this size needs approval.

    See explain_approval().
    """
    return explain_approval(user, size, kind, project) is not None


def explain_approval(
    user: User, size: int, kind: str = "selective", project: Project | None = None
) -> Message | None:
    """Return why an order of this size needs approval; None if it needs none.

    The size is the number of studies, or of rows of a sheet. A project may require approval for
    all sizes and users. A query sends nothing.
    """
    capabilities = get_capabilities(kind)
    if project is not None and project.second_person and size and capabilities.sends_images:
        return Message("approval.second-person", project=str(project))
    most: int = getattr(settings, capabilities.limit_setting)
    if user.is_staff or size <= most:
        return None
    if capabilities.sends_images:
        return Message("approval.many-studies", count=size, limit=most)
    return Message("approval.many-rows", count=size, limit=most)


@dataclass(frozen=True, slots=True)
class _ValidOrder:
    """A validated order. Nothing is written yet."""

    user: User
    request: OrderRequest[Any]
    kind: Kind
    project: Project
    plans: list[TaskPlan]
    sources: dict[int, Node]
    destinations: list[Node | None]
    """`None` alone if the order sends nothing."""


def _validate(user: User, request: OrderRequest[Any]) -> _ValidOrder:
    kind = get_kind(request.kind)
    require(user, order_right(kind.code))
    if not request.title.strip().isprintable():
        raise InvalidInput("order.title-characters")
    if request.urgent:
        require(user, Right.BE_URGENT)
    if request.is_as_is:
        require(user, Right.TRANSFER_IDENTIFIED)
    plans = kind.plan(request)
    asked = dict.fromkeys([*(plan.source for plan in plans), *request.sources])
    nodes = Node.objects.in_bulk({*asked, *request.destinations})
    sources = {pk: _require_readable(user, nodes.get(pk)) for pk in asked}
    destinations: list[Node | None] = []
    for pk in request.destinations:
        destination = _require_writable(user, nodes.get(pk))
        if archives.is_archive(destination):
            require(user, Right.USE_ARCHIVES)
        destinations.append(destination)
    project = _get_project(user, request.project)
    sends_images = get_capabilities(kind.code).sends_images
    if project.is_default and services.needs_project(sends_images, request.is_as_is):
        raise NotPermitted("order.project-required")
    destinations = destinations or [None]
    for source in sources.values():
        for place in destinations:
            pseudonyms.require_project(user, project, source, place)
    _require_not_blocked(user, project, plans, sources)
    return _ValidOrder(user, request, kind, project, plans, sources, destinations)


def _require_not_blocked(
    user: User, project: Project, plans: list[TaskPlan], sources: Mapping[int, Node]
) -> None:
    """Raise PatientsBlocked, and record it.

    Rows of a sheet are looked at when their studies are known.
    """
    blocked: dict[int, Message] = {}
    for position, plan in enumerate(plans, start=1):
        if plan.searches:
            continue
        domain = access.get_domain(sources[plan.source])
        modalities = get_modalities(plan.payload)
        why = blocking.explain_refusal(project, domain, plan.patient_id, modalities)
        if why is not None:
            blocked[position] = why
    if blocked:
        codes = sorted({why.code for why in blocked.values()})
        details = {"studies": len(blocked), "reasons": codes}
        about = services.audit_subject(project)
        trail.record("order.patients_refused", user=user, about=about, details=details)
        raise PatientsBlocked(blocked)


_Patient = tuple[int, str, str]
"""Source, patient ID at the source, and given pseudonym."""


def _patient_of(plan: TaskPlan) -> _Patient:
    return plan.source, plan.patient_id, plan.pseudonym


def _register_pseudonyms(order: _ValidOrder) -> dict[_Patient, str]:
    """Register the pseudonym of each patient. Raises NotPermitted, RefusedPseudonyms."""
    names: dict[_Patient, str] = {}
    refused: dict[int, Message] = {}
    for position, plan in enumerate(order.plans, start=1):
        if order.request.is_as_is or plan.searches or _patient_of(plan) in names:
            continue
        try:
            names[_patient_of(plan)] = pseudonyms.make_change(
                order.user,
                order.project,
                order.sources[plan.source],
                None,
                plan.patient_id,
                pseudonym=plan.pseudonym,
            ).pseudonym
        except (InvalidInput, pseudonyms.PseudonymConflict) as error:
            refused[position] = error.message
    if refused:
        raise RefusedPseudonyms(refused)
    return names


def _insert_job(
    order: _ValidOrder,
    number: int,
    destination: Node | None,
    names: Mapping[_Patient, str],
    preview: OrderPreview,
    password: str,
) -> Job:
    request = order.request
    change = request.change
    reason = change.reason if isinstance(change, SendAsIs) else ""
    job = Job.objects.create(
        kind=order.kind.code,
        owner=order.user,
        destination=destination,
        project=order.project,
        order={
            "version": ORDER_VERSION,
            "change": AS_IS if request.is_as_is else PSEUDONYMIZED,
            "reason": reason,
            "announced": list(preview.summary.announced),
            **_totals(preview.summary),
            **order.kind.facts(request),
        },
        state=JobState.WAITING_FOR_APPROVAL if preview.needs_approval else JobState.PENDING,
        stage=order.kind.stage,
        urgent=request.urgent,
        title=request.title.strip()[:100],
        idempotency_key=_job_key(request.key, number),
        mail_at_end=request.mail,
        archive_password=password if destination and archives.is_archive(destination) else "",
    )
    Task.objects.bulk_create(_tasks(order, job, names))
    archives.insert_packing_task(job)
    task_groups.assign_groups(job)
    sheet_rows.insert_rows(encrypted_payload.get_cipher(order.project), job, _rows(order))
    trail.record(
        "job.created",
        user=order.user,
        about=f"job:{job.pk}",
        details={
            "kind": job.kind,
            "tasks": len(order.plans),
            "sources": sorted({source.name for source in order.sources.values()}),
            "destination": destination.name if destination else "",
            "project": order.project.protocol_id,
            "change": job.order["change"],
            "reason": reason,
            "state": job.state,
        },
    )
    if job.state == JobState.PENDING:
        wake_workers_on_commit()
    else:
        notifications.request_approval(job)
    return job


def _totals(summary: OrderSummary) -> dict[str, Any]:
    """The size of the order, for its approver. Nothing for a sheet that is not checked yet."""
    if not summary.studies:
        return {}
    totals = {
        "patients": summary.patients,
        "studies": summary.studies,
        "images": summary.images,
        "bytes": summary.size_bytes,
    }
    return {"totals": totals}


def _tasks(order: _ValidOrder, job: Job, names: Mapping[_Patient, str]) -> Iterator[Task]:
    box = encrypted_payload.get_cipher(order.project)
    for position, plan in enumerate(order.plans, start=1):
        name = names.get(_patient_of(plan), "")
        yield Task(
            job_id=job.pk,
            position=position,
            source_id=plan.source,
            lane=Lane.SEARCH if plan.searches else Lane.RETRIEVE,
            payload=encrypted_payload.seal_task(
                order.project, job, position, plan, name, cipher=box
            ),
        )


def _rows(order: _ValidOrder) -> Iterator[tuple[int | None, SheetRow]]:
    """The rows of the sheet, each with the position of the task that processes it, if any."""
    for position, plan in enumerate(order.plans, start=1):
        for row in plan.rows:
            yield position, row
    for row in order.request.unprocessed_rows:
        yield None, row


def _summarize(user: User, request: OrderRequest[Any]) -> OrderSummary:
    picks = [item for item in request.items if isinstance(item, PickedStudy)]
    project = _find_project(request.project) or services.default_project()
    profile = None if request.is_as_is else ConfidentialityProfile.from_toml(project.profile.text)
    nodes = Node.objects.filter(pk__in={pick.source for pick in picks})
    return summarize_order(user, picks, nodes, profile, risks.decisions(project))


def _fingerprint(request: OrderRequest[Any]) -> str:
    """A digest of everything in the request that determines its summary."""
    picks = [item for item in request.items if isinstance(item, PickedStudy)]
    studies = [(pick.source, pick.study.study_uid, pick.series_uids) for pick in picks]
    values = [request.kind, studies, request.project, request.is_as_is]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _preview_key(key: str) -> str:
    return f"{key}.preview"


def _job_key(key: str, number: int) -> str:
    return f"{key}.{number}"


def _count_size(kind: str, plans: list[TaskPlan]) -> int:
    """The number of studies, or of rows of a query. A check needs no approval: it sends nothing."""
    if not get_capabilities(kind).sends_images:
        return len({row.line for plan in plans for row in plan.rows})
    return sum(not plan.searches for plan in plans)


def get_order_size(job: Job) -> int:
    """Return the size of a job, as it was counted when the job was ordered."""
    if not job.capabilities.sends_images:
        return job.lines.exclude(task=None).values("line").distinct().count()
    return job.tasks.exclude(lane=Lane.SEARCH).filter(type=TaskType.ORDERED).count()


def _require_readable(user: User, node: Node | None) -> Node:
    if node is None or not access.may_read(user, node):
        raise NotPermitted("order.source-not-permitted")
    return node


def _require_writable(user: User, node: Node | None) -> Node:
    if node is None or not access.may_write(user, node):
        raise NotPermitted("order.destination-not-permitted")
    return node


def _get_project(user: User, pk: int | None) -> Project:
    """Return the project, or the default project if `pk` is None. Raises NotPermitted."""
    if pk is None:
        return services.default_project()
    project = _find_project(pk)
    if project is None:
        raise NotPermitted("order.project-missing")
    services.require_use(user, project)
    return project


def _find_project(pk: int | None) -> Project | None:
    return None if pk is None else Project.objects.filter(pk=pk).first()
