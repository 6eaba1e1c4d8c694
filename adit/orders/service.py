"""Validate an order and insert its tasks: permissions, plan, pseudonyms, encrypted payloads.

Used by the actions, the order pages and the start of a batch transfer.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _

from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted, Right, order_right, require
from adit.jobs import encrypted_payload
from adit.jobs.kinds import get_capabilities, get_kind
from adit.jobs.kinds.base import JobOrder, SendAsIs, SheetRow, TaskPlan
from adit.jobs.models import AS_IS, Job, JobState, Task, TaskType
from adit.nodes import access
from adit.nodes.models import Lane, Node
from adit.projects import pseudonyms, services
from adit.projects.models import Project
from adit.results import archives
from adit_engine.errors import InvalidInput

ORDER_VERSION = 1
PSEUDONYMIZED = "pseudonymized"


@dataclass(frozen=True, slots=True)
class PlannedTask:
    """A task to be created, with its source."""

    plan: TaskPlan
    source: Node


@dataclass(frozen=True, slots=True)
class ValidatedOrder:
    """A validated order, ready to be stored. Nothing is written yet."""

    job: Job
    user: User
    project: Project
    is_as_is: bool
    planned: list[PlannedTask] = field(repr=False)
    sources: tuple[str, ...] = ()
    """The names of the source nodes."""

    @property
    def size(self) -> int:
        return len(self.planned)

    @property
    def facts(self) -> dict[str, Any]:
        """Values for the audit trail: names of nodes, never of patients."""
        destination = self.job.destination
        return {
            "sources": list(self.sources),
            "destination": destination.name if destination else "",
            "project": self.project.protocol_id,
            "change": self.job.order["change"],
            "reason": self.job.order["reason"],
            "state": self.job.state,
        }

    @property
    def rows(self) -> Iterator[tuple[int, SheetRow]]:
        """The rows of the sheet, each with the position of the task that processes it."""
        for position, planned in enumerate(self.planned, start=1):
            for row in planned.plan.rows:
                yield position, row

    def insert_tasks(self, job: Job) -> None:
        """Insert the tasks of a saved job; register the pseudonym of each patient.

        Raises NotPermitted, and InvalidInput if a pseudonym belongs to another patient. The error
        names the row.
        """
        Task.objects.bulk_create(self._tasks(job))

    def _tasks(self, job: Job) -> Iterator[Task]:
        box = encrypted_payload.get_box(self.project)
        for position, planned in enumerate(self.planned, start=1):
            plan = planned.plan
            is_plain = self.is_as_is or plan.searches
            pseudonym = "" if is_plain else self._pseudonym(position, planned)
            lane = Lane.SEARCH if plan.searches else Lane.RETRIEVE
            payload = encrypted_payload.seal_task(
                self.project, job, position, plan, pseudonym, box=box
            )
            yield Task(
                job_id=job.pk,
                position=position,
                source_id=planned.source.pk,
                lane=lane,
                payload=payload,
            )

    def _pseudonym(self, position: int, planned: PlannedTask) -> str:
        plan = planned.plan
        try:
            return pseudonyms.make_change(
                self.user,
                self.project,
                planned.source,
                self.job.destination,
                plan.patient_id,
                pseudonym=plan.pseudonym,
            ).pseudonym
        except (InvalidInput, pseudonyms.PseudonymConflict) as error:
            words = {"row": position, "why": error}
            raise InvalidInput(_("Study %(row)d: %(why)s") % words) from None


def validate_order(
    user: User, kind_word: str, order: JobOrder, *, title: str = "", urgent: bool = False
) -> ValidatedOrder:
    """Validate an order; write nothing. Raises NotPermitted, InvalidInput."""
    kind = get_kind(kind_word)
    require(user, order_right(kind.word))
    if urgent:
        require(user, Right.BE_URGENT)
    is_as_is = isinstance(order.change, SendAsIs)
    if is_as_is:
        require(user, Right.TRANSFER_IDENTIFIED)
    plans = kind.plan(order)
    asked = dict.fromkeys([*(plan.source for plan in plans), *getattr(order, "further", ())])
    nodes = Node.objects.in_bulk({*asked, order.destination})
    sources = {pk: _require_readable(user, nodes.get(pk)) for pk in asked}
    planned = [PlannedTask(plan, sources[plan.source]) for plan in plans]
    destination = None
    if order.destination is not None:
        destination = _require_writable(user, nodes.get(order.destination))
        if archives.is_archive(destination):
            require(user, Right.USE_ARCHIVES)
    project = _get_project(user, order.project)
    for source in sources.values():
        pseudonyms.require_project(user, project, source, destination)
    job = Job(
        kind=kind.word,
        owner=user,
        destination=destination,
        project=project,
        order=_order_facts(order),
        state=_initial_state(user, kind.word, plans, project),
        stage=kind.stage,
        urgent=urgent,
        title=title.strip()[:100],
    )
    names = tuple(sorted({source.name for source in sources.values()}))
    return ValidatedOrder(job, user, project, is_as_is, planned, names)


def needs_approval(
    user: User, size: int, kind: str = "selective", project: Project | None = None
) -> bool:
    """Return whether an order of this size needs approval.

    The size is the number of studies, or of rows of a sheet. A project may require approval for
    all sizes and users. A query sends nothing.
    """
    if (
        project is not None
        and project.second_person
        and size
        and get_capabilities(kind).sends_images
    ):
        return True
    most: int = getattr(settings, get_capabilities(kind).limit_setting)
    return not user.is_staff and size > most


def _initial_state(user: User, kind: str, plans: list[TaskPlan], project: Project) -> JobState:
    if needs_approval(user, _count_size(kind, plans), kind, project):
        return JobState.WAITING_FOR_APPROVAL
    return JobState.PENDING


def _count_size(kind: str, plans: list[TaskPlan]) -> int:
    """The number of studies, or of rows of a query. A check needs no approval: it sends nothing."""
    if not get_capabilities(kind).sends_images:
        return len({row.line for plan in plans for row in plan.rows})
    return sum(not plan.searches for plan in plans)


def get_order_size(job: Job) -> int:
    """Return the size of a job, as it was counted when the job was ordered."""
    if not job.capabilities.sends_images:
        return job.lines.values("line").distinct().count()
    return job.tasks.exclude(lane=Lane.SEARCH).filter(work=TaskType.KIND).count()


def _order_facts(order: JobOrder) -> dict[str, Any]:
    """The part of the order without identifying values; the rest is in the encrypted payloads."""
    change = order.change
    return {
        "version": ORDER_VERSION,
        "change": AS_IS if isinstance(change, SendAsIs) else PSEUDONYMIZED,
        "reason": change.reason if isinstance(change, SendAsIs) else "",
        "announced": sorted(order.announced),
        **getattr(order, "facts", {}),
    }


def _require_readable(user: User, node: Node | None) -> Node:
    if node is None or not access.may_read(user, node):
        raise NotPermitted(
            _("You may not fetch from this PACS or folder any more: choose another.")
        )
    return node


def _require_writable(user: User, node: Node | None) -> Node:
    if node is None or not access.may_write(user, node):
        raise NotPermitted(_("You may not send to this PACS or folder any more: choose another."))
    return node


def _get_project(user: User, pk: int | None) -> Project:
    """Return the project, or the default project if `pk` is None. Raises NotPermitted."""
    if pk is None:
        return services.default_project()
    project = Project.objects.filter(pk=pk).first()
    if project is None:
        raise NotPermitted(_("This research project is gone: choose another."))
    services.require_use(user, project)
    return project
