"""Where the images of a patient went: from the ledgers of all jobs, also deleted ones, and the trail.

Used by the pages of the audit trail and of the block list, and by recalls.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from django.db.models import Q
from django.utils.translation import gettext as _

from adit.accounts.models import User
from adit.accounts.permissions import Right, require
from adit.audit.models import AuditEvent
from adit.audit.trail import keyed_patient_index, record
from adit.blocklist import blocking
from adit.blocklist.models import BlockedPatient
from adit.dates import format_datetime
from adit.jobs import block_check, encrypted_payload
from adit.jobs.models import ArchiveFile, Job, SeriesResult, Task, TaskState, TaskType
from adit.nodes.access import get_domain
from adit.nodes.models import Node
from adit.projects import pseudonyms, services
from adit.projects.models import Project
from adit.projects.validators import validate_reason
from adit.recall import api_retrievals
from adit.recall.api_retrievals import ApiRetrieval
from adit.results.deliveries import get_uid_mapper
from adit.retention import ledgers
from adit.retention.ledgers import SealedDelivery
from adit.retention.models import LedgerPart
from adit.table_files import Cell
from adit.vault.cipher import DecryptionError, ValueCipher
from adit_engine.values.outcome import InstanceState, LedgerEntry
from adit_engine.values.references import InstanceRef

DELIVERY_COLUMNS = (
    *("at", "job", "person", "project", "destination", "images"),
    *("deidentified", "pseudonym", "recalled"),
)
IMAGE_COLUMNS = (
    *("destination", "kind", "job", "ordered_by", "delivered_at", "project", "pseudonym"),
    *("archive_files", "path", "study_uid", "series_uid", "image_uid", "confirmed", "sha256"),
    "recalled",
)
_AT_DESTINATION = frozenset({InstanceState.STORED, InstanceState.DELIVERED})
"""Images that the destination accepted without a confirmation may be there as well."""


@dataclass(frozen=True, slots=True)
class PatientQuestion:
    """The patient who is asked about. No project means all; an empty domain means every domain."""

    domain: str
    patient_id: str = field(repr=False)
    project: Project | None = None

    @classmethod
    def of_entry(cls, entry: BlockedPatient) -> "PatientQuestion":
        return cls(entry.domain, entry.patient_id, entry.project)

    @property
    def key(self) -> tuple[str, str]:
        return self.domain, self.patient_id

    def find_domains(self) -> list[str]:
        """Return the domains that are meant, and that of entries for every domain."""
        named = {self.domain}
        if self.domain == blocking.EVERY_DOMAIN:
            named |= {get_domain(node) for node in Node.objects.all()}
        return sorted(named | {blocking.EVERY_DOMAIN})


@dataclass(frozen=True, slots=True)
class Delivery:
    """The images of the patient that one study of a job delivered."""

    at: datetime | None
    """None while the study is transferred."""
    job: int | None
    """None if the images were given out through the API."""
    person: str
    project: str
    destination: str
    images: int
    deidentified: bool | None
    """None if the job was deleted and left no ledger."""
    pseudonym: str
    """Empty if the user may not see it."""
    recalled_at: datetime | None = None

    @property
    def cells(self) -> tuple[Cell, ...]:
        how = {True: "yes", False: "no", None: ""}[self.deidentified]
        at = self.at.isoformat(timespec="seconds") if self.at else ""
        recalled = self.recalled_at.isoformat(timespec="seconds") if self.recalled_at else ""
        return (
            *(at, self.job or "", self.person, self.project, self.destination, self.images),
            *(how, self.pseudonym, recalled),
        )


@dataclass(slots=True)
class PatientDeliveries:
    """What was delivered of a patient, newest first."""

    deliveries: list[Delivery] = field(default_factory=list)
    projects: list[Project] = field(default_factory=list)
    """The research projects of the deliveries."""
    given_out: list[ApiRetrieval] = field(default_factory=list)
    """Retrievals through the API whose images the user may see."""
    unreadable: int = 0
    """Studies that cannot be checked, because the key of their project is destroyed."""


@dataclass(frozen=True, slots=True)
class DeliveredImage:
    """An image that is, or may be, at a destination, under the UIDs that it has there."""

    ref: InstanceRef
    path: str = field(repr=False)
    sha256: str
    is_confirmed: bool


class PatientTasks:
    """The tasks of a patient that delivered images or may do so now, newest first. Lazy."""

    def __init__(self, question: PatientQuestion) -> None:
        self._question = question
        self.unreadable = 0

    def __iter__(self) -> Iterator[Task]:
        """Decrypt every task with a delivery: expect a minute for a hundred thousand tasks.

        For a question about one project only those of the project.
        """
        self.unreadable = 0
        question = self._question
        matcher = _PatientMatcher(question)
        delivered = SeriesResult.objects.filter(Q(delivered__gt=0) | Q(stored__gt=0))
        is_wanted = Q(pk__in=delivered.values("task")) | Q(state=TaskState.IN_PROGRESS)
        tasks = Task.objects.filter(
            is_wanted, type=TaskType.ORDERED, source__isnull=False, job__destination__isnull=False
        )
        if question.project is not None:
            tasks = tasks.filter(job__project=question.project)
        related = tasks.select_related("source", "job__project", "job__destination", "job__owner")
        for task in related.order_by("-pk").iterator(chunk_size=500):
            assert task.source is not None
            try:
                content = encrypted_payload.open_task(task)
                is_match = matcher.matches(
                    task.job.project,
                    get_domain(task.source),
                    block_check.get_patient_ids(content),
                )
            except DecryptionError:
                self.unreadable += 1
                continue
            if is_match:
                yield task


class PatientLedgers:
    """The deliveries of a patient by deleted jobs, newest first. Lazy."""

    def __init__(self, question: PatientQuestion) -> None:
        self._question = question
        self.unreadable = 0

    def __iter__(self) -> Iterator[tuple[LedgerPart, SealedDelivery]]:
        """Decrypt every ledger (of the project of the question, if it names one)."""
        self.unreadable = 0
        matcher = _PatientMatcher(self._question)
        for part in ledgers.sealed_parts(self._question.project).iterator(chunk_size=16):
            try:
                delivery = ledgers.open_part(part)
                is_match = matcher.matches(
                    part.ledger.project, delivery.domain, delivery.patient_ids
                )
            except DecryptionError:
                self.unreadable += 1
                continue
            if is_match:
                yield part, delivery


class _PatientMatcher:
    """Tells whether patients are the one of a question. Merged patient IDs count."""

    def __init__(self, question: PatientQuestion) -> None:
        self._index = blocking.compute_index(*question.key)
        self._known: dict[tuple[Project | None, str, str], bool] = {}

    def matches(self, project: Project | None, domain: str, patient_ids: set[str]) -> bool:
        """Raise DecryptionError if the key of the project is destroyed."""
        return any(self._is_patient(project, domain, one) for one in patient_ids)

    def _is_patient(self, project: Project | None, domain: str, patient_id: str) -> bool:
        who = (project, domain, patient_id)
        if who not in self._known:
            self._known[who] = blocking.is_patient(self._index, *who)
        return self._known[who]


def find_deliveries(user: User, question: PatientQuestion) -> PatientDeliveries:
    """Return what was delivered of a patient, also by jobs that were deleted since.

    The caller checks the permission to ask. Pseudonyms are shown by the permissions of the project.
    """
    tasks, deleted, found = PatientTasks(question), PatientLedgers(question), PatientDeliveries()
    projects: dict[Project | None, None] = {}
    for task in tasks:
        if images := count_images(task):
            found.deliveries.append(_make_delivery(user, task, images))
            projects[task.job.project] = None
    sealed = set()
    for part, delivery in deleted:
        found.deliveries.append(_describe_sealed(user, part, delivery))
        projects[part.ledger.project] = None
        sealed.add(part.ledger.job)
    found.unreadable = tasks.unreadable + deleted.unreadable
    given_out = find_given_out(question)
    found.deliveries += map(_describe_given_out, given_out)
    projects |= dict.fromkeys(one.project for one in given_out)
    # New UIDs link the patient to the pseudonym.
    found.given_out = [
        one for one in given_out if one.is_identified or _may_see_pseudonym(user, one.project)
    ]
    found.projects = [one for one in projects if one is not None and not one.is_default]
    found.deliveries += _find_in_trail(question, sealed)
    return found


def count_images(task: Task) -> int:
    """Return the number of images of a task that are, or may be, at the destination."""
    counts = task.items.values_list("delivered", "stored")
    return sum(delivered + stored for delivered, stored in counts)


def iter_images(task: Task) -> Iterator[DeliveredImage]:
    """Yield the images of a task that are, or may be, at the destination.

    One series is decrypted at a time. Raises DecryptionError.
    """
    uid_of = get_uid_mapper(task)
    for item in SeriesResult.objects.filter(task=task).iterator(chunk_size=16):
        ledger = encrypted_payload.open_series(item).manifest
        for uid, image in _present(ledger.entries):
            ref = InstanceRef(
                uid_of(ledger.ref.study_uid), uid_of(ledger.ref.series_uid), uid_of(uid)
            )
            is_confirmed = image.state is InstanceState.DELIVERED
            yield DeliveredImage(ref, image.path, image.sha256, is_confirmed)


def iter_sealed_images(delivery: SealedDelivery) -> Iterator[DeliveredImage]:
    """Yield the images that a task of a deleted job delivered."""
    for one in delivery.images:
        ref = InstanceRef(one.study_uid, one.series_uid, one.image_uid)
        yield DeliveredImage(ref, one.path, one.sha256, one.is_confirmed)


def export_images(user: User, entry: BlockedPatient, reason: str) -> list[tuple[Cell, ...]]:
    """Return one row per image that is, or may be, at a destination, under its delivered UIDs.

    The rows show where the images of the patient are, so they link the patient to the pseudonym.
    Recorded in the audit trail. Raises NotPermitted, InvalidInput.
    """
    require(user, Right.MANAGE_BLOCK_LIST)
    reason = validate_reason(reason)
    question = PatientQuestion.of_entry(entry)
    rows = [row for task in PatientTasks(question) for row in image_rows(user, task)]
    for part, delivery in PatientLedgers(question):
        rows += sealed_image_rows(user, part, delivery)
    rows += [row for one in find_given_out(question) for row in given_out_rows(one)]
    record(
        "blocklist.deliveries_exported",
        user=user,
        details={"entry": entry.pk, "reason": reason, "images": len(rows)},
        patient=question.key,
    )
    return rows


def image_rows(user: User, task: Task) -> Iterator[tuple[Cell, ...]]:
    """Yield one row per image of a task, in the order of IMAGE_COLUMNS. Raises DecryptionError."""
    job = task.job
    destination = job.destination
    assert destination is not None
    files = ArchiveFile.objects.filter(job=job)
    names = [one.name if one.removed_at is None else _("(deleted)") for one in files]
    for image in iter_images(task):
        yield (
            destination.name,
            destination.kind,
            job.pk,
            job.owner.username,
            format_datetime(task.ended_at) if task.ended_at else "",
            _project_name(job.project),
            _visible_pseudonym(user, task),
            ", ".join(names),
            image.path,
            image.ref.study_uid,
            image.ref.series_uid,
            image.ref.instance_uid,
            "yes" if image.is_confirmed else "no",
            image.sha256,
            format_datetime(task.recalled_at) if task.recalled_at else "",
        )


def sealed_image_rows(
    user: User, part: LedgerPart, delivery: SealedDelivery
) -> Iterator[tuple[Cell, ...]]:
    """Yield one row per image of a task of a deleted job, in the order of IMAGE_COLUMNS."""
    ledger = part.ledger
    at = datetime.fromisoformat(delivery.delivered_at) if delivery.delivered_at else None
    for image in delivery.images:
        yield (
            ledger.destination,
            ledger.destination_kind,
            ledger.job,
            ledger.ordered_by.username,
            format_datetime(at) if at else "",
            _project_name(ledger.project),
            delivery.pseudonym if _may_see_pseudonym(user, ledger.project) else "",
            ", ".join(delivery.archive_files),
            image.path,
            image.study_uid,
            image.series_uid,
            image.image_uid,
            "yes" if image.is_confirmed else "no",
            image.sha256,
            "",
        )


def _describe_sealed(user: User, part: LedgerPart, delivery: SealedDelivery) -> Delivery:
    ledger = part.ledger
    return Delivery(
        datetime.fromisoformat(delivery.delivered_at) if delivery.delivered_at else ledger.ended_at,
        ledger.job,
        ledger.ordered_by.username,
        _project_name(ledger.project),
        ledger.destination,
        len(delivery.images),
        delivery.is_deidentified,
        delivery.pseudonym if _may_see_pseudonym(user, ledger.project) else "",
    )


def _make_delivery(user: User, task: Task, images: int) -> Delivery:
    job = task.job
    return Delivery(
        task.ended_at,
        job.pk,
        job.owner.username,
        _project_name(job.project),
        job.destination.name if job.destination else "",
        images,
        not job.is_as_is,
        _visible_pseudonym(user, task),
        task.recalled_at,
    )


def _project_name(project: Project | None) -> str:
    return project.protocol_id if project is not None and not project.is_default else ""


def _visible_pseudonym(user: User, task: Task) -> str:
    if task.job.is_as_is or not _may_see_pseudonym(user, task.job.project):
        return ""
    return encrypted_payload.open_task(task).pseudonym


def _may_see_pseudonym(user: User, project: Project | None) -> bool:
    return services.may_reidentify(user, project or services.default_project())


def find_given_out(question: PatientQuestion) -> list[ApiRetrieval]:
    """Return what was given out through the API, also by retrievals that still run, newest first."""
    indexes = {api_retrievals.compute_index(*one) for one in _find_patient_ids(question)}
    found = api_retrievals.find_retrievals(indexes)
    return [one for one in found if one.images]


def given_out_rows(retrieval: ApiRetrieval) -> Iterator[tuple[Cell, ...]]:
    """Yield one row per image that was given out through the API, in the order of IMAGE_COLUMNS."""
    for image in retrieval.images:
        yield (
            _describe_receiver(retrieval),
            "api",
            "",
            retrieval.username,
            format_datetime(retrieval.at),
            _project_name(retrieval.project),
            *("", "", ""),
            image.ref.study_uid,
            image.ref.series_uid,
            image.ref.instance_uid,
            "no",
            image.sha256,
            "",
        )


def _describe_given_out(retrieval: ApiRetrieval) -> Delivery:
    return Delivery(
        retrieval.at,
        None,
        retrieval.username,
        _project_name(retrieval.project),
        _describe_receiver(retrieval),
        len(retrieval.images),
        not retrieval.is_identified,
        "",
    )


def _describe_receiver(retrieval: ApiRetrieval) -> str:
    return _("Given out through the API, ask the receiver: %s") % retrieval.receiver


def _find_in_trail(question: PatientQuestion, sealed: set[int]) -> Iterator[Delivery]:
    """Yield the deliveries of deleted jobs that left no ledger; their destination is not known.

    `sealed` are the jobs with ledgers.
    """
    found = [
        (event, int(event.about.removeprefix("job:")))
        for event in _find_events(question, "task.ended")
    ]
    there = sealed | set(
        Job.objects.filter(pk__in={pk for _event, pk in found}).values_list("pk", flat=True)
    )
    for event, pk in found:
        if pk not in there:
            person = event.user.username if event.user is not None else ""
            images = int(event.details["delivered"])
            yield Delivery(event.at, pk, person, "", "", images, None, "")


def _find_events(question: PatientQuestion, action: str) -> list[AuditEvent]:
    """Return the events of the patient with delivered images, newest first."""
    indexes = [keyed_patient_index(*one) for one in _find_patient_ids(question)]
    events = AuditEvent.objects.filter(patient_index__in=indexes, action=action)
    related = events.select_related("user").defer("patient_sealed").order_by("-id")
    return [event for event in related if event.details.get("delivered")]


def _find_patient_ids(question: PatientQuestion) -> Iterator[tuple[ValueCipher, str, str]]:
    """Yield the cipher of each project with a domain and patient ID that mean the patient in it."""
    projects = [question.project] if question.project is not None else Project.objects.all()
    for project in projects:
        with suppress(DecryptionError):
            cipher = services.get_project_cipher(project)
            for domain in question.find_domains():
                key = (domain, question.patient_id)
                for one in {key, *pseudonyms.find_patient_ids(project, *key)}:
                    yield cipher, *one


def _present(entries: dict[str, LedgerEntry]) -> list[tuple[str, LedgerEntry]]:
    return [(uid, image) for uid, image in entries.items() if image.state in _AT_DESTINATION]
