"""Write, seal, verify and read the ledgers that outlive deleted jobs.

A ledger is readable as long as the key of its project exists. Its hash is also in the audit trail.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from itertools import chain
from typing import Any

from django.db.models import F, QuerySet, Sum
from django.utils import timezone

from adit.audit import segments
from adit.audit.models import AuditEvent
from adit.audit.segments import SegmentUnreadable
from adit.jobs import encrypted_payload
from adit.jobs.models import ArchiveFile, Job, SeriesResult, Task, TaskType
from adit.nodes.access import get_domain
from adit.projects.models import Project
from adit.results.deliveries import get_uid_mapper
from adit.retention.models import JobLedger, LedgerPart
from adit.vault.cipher import DecryptionError, ValueCipher
from adit.vault.master_key import master_cipher
from adit_engine.messages import Message
from adit_engine.values.outcome import InstanceState

EXPIRED_EVENT = "job.expired"
_AT_DESTINATION = frozenset({InstanceState.STORED, InstanceState.DELIVERED})


@dataclass(frozen=True, slots=True)
class SealedImage:
    """One image that is, or may be, at the destination, under its delivered UIDs."""

    study_uid: str
    series_uid: str
    image_uid: str
    path: str
    sha256: str
    is_confirmed: bool


@dataclass(frozen=True, slots=True)
class SealedDelivery:
    """What one task of a deleted job delivered of one patient."""

    source: str
    domain: str
    patient_id: str = field(repr=False)
    is_deidentified: bool
    pseudonym: str
    delivered_at: str
    """ISO 8601; empty if unknown."""
    archive_files: list[str]
    images: list[SealedImage] = field(repr=False)
    destination: int | None = None
    """The primary key of the node, which may be renamed; None in old ledgers."""
    renamed: str = field(default="", repr=False)
    """The patient ID that a user confirmed besides that of the order, if any."""

    @property
    def patient_ids(self) -> set[str]:
        return {self.patient_id, self.renamed} - {""}


@dataclass(frozen=True, slots=True)
class LedgerFault:
    """A ledger that is not as it was sealed."""

    job: int | None
    """None: the ledgers cannot be verified."""
    reason: Message


def write_ledger(job: Job) -> JobLedger | None:
    """Write the ledger of an ended job anew, one task per transaction; None: nothing to list.

    It is not valid before `seal_ledger`. With a destroyed key only the counts remain.
    """
    JobLedger.objects.filter(job=job.pk, sealed_at=None).delete()
    sums = job.series_results().aggregate(images=Sum(F("delivered") + F("stored")))
    if not sums["images"] or job.ended_at is None:
        return None
    ledger = JobLedger.objects.create(
        job=job.pk,
        kind=job.kind,
        project=job.project,
        destination=job.destination.name if job.destination else "",
        destination_kind=job.destination.kind if job.destination else "",
        ordered_by=job.owner,
        ordered_at=job.created_at,
        ended_at=job.ended_at,
        images=sums["images"],
    )
    delivered = SeriesResult.objects.filter(task__job=job).exclude(delivered=0, stored=0)
    tasks = Task.objects.filter(type=TaskType.ORDERED, pk__in=delivered.values("task"))
    files = list(ArchiveFile.objects.filter(job=job).values_list("name", flat=True))
    try:
        cipher = encrypted_payload.get_cipher(job.project)
        for task in tasks.select_related("source").order_by("position"):
            task.job = job
            delivery = _collect_delivery(task, files, cipher)
            sealed = cipher.seal(asdict(delivery), _context(job.pk, task.position))
            LedgerPart.objects.create(ledger=ledger, position=task.position, sealed=sealed)
    except DecryptionError:
        ledger.parts.all().delete()
    return ledger


def _collect_delivery(task: Task, files: list[str], cipher: ValueCipher) -> SealedDelivery:
    content, uid_of = encrypted_payload.open_task(task, cipher), get_uid_mapper(task)
    images = []
    for item in SeriesResult.objects.filter(task=task).iterator(chunk_size=16):
        manifest = encrypted_payload.open_series(item, cipher).manifest
        study, series = uid_of(manifest.ref.study_uid), uid_of(manifest.ref.series_uid)
        images += [
            SealedImage(
                study,
                series,
                uid_of(uid),
                entry.path,
                entry.sha256,
                entry.state is InstanceState.DELIVERED,
            )
            for uid, entry in manifest.entries.items()
            if entry.state in _AT_DESTINATION
        ]
    return SealedDelivery(
        source=task.source.name if task.source else "",
        domain=get_domain(task.source) if task.source else "",
        patient_id=content.patient_id,
        is_deidentified=not task.job.is_as_is,
        pseudonym=content.pseudonym,
        delivered_at=task.ended_at.isoformat() if task.ended_at else "",
        archive_files=files,
        images=images,
        destination=task.job.destination_id,
        renamed=content.payload.get("renamed", ""),
    )


def seal_ledger(ledger: JobLedger) -> str:
    """Sign a complete ledger and return its hash, which the caller records in the audit trail."""
    ledger.hash = _compute_hash(ledger)
    ledger.signature = _sign(ledger.hash)
    ledger.sealed_at = timezone.now()
    ledger.save(update_fields=["hash", "signature", "sealed_at"])
    return ledger.hash


def sealed_parts(project: Project | None = None) -> QuerySet[LedgerPart]:
    """Return the parts of all sealed ledgers, newest job first; only those of a project if given.

    Each is one task of a deleted job. Decrypt them with `open_part`.
    """
    parts = LedgerPart.objects.exclude(ledger__sealed_at=None)
    if project is not None:
        parts = parts.filter(ledger__project=project)
    related = parts.select_related("ledger__project", "ledger__ordered_by")
    return related.order_by("-ledger__job", "position")


def find_part(job: int, position: int) -> LedgerPart | None:
    """Return what a deleted job delivered of one task, if it left a ledger."""
    return sealed_parts().filter(ledger__job=job, position=position).first()


def open_part(part: LedgerPart, cipher: ValueCipher | None = None) -> SealedDelivery:
    """Decrypt a part. Raises DecryptionError, also after the key of the project is destroyed."""
    cipher = cipher or encrypted_payload.get_cipher(part.ledger.project)
    content = cipher.open(part.sealed, _context(part.ledger.job, part.position))
    images = [SealedImage(**image) for image in content.pop("images")]
    return SealedDelivery(**content, images=images)


def verify_ledgers() -> Iterator[LedgerFault]:
    """Yield the ledgers that were changed, removed or added. Needs no key of a project."""
    try:
        recorded = dict(_recorded_hashes())
    except SegmentUnreadable as error:
        yield LedgerFault(None, Message("audit-trail.segment-changed", file=str(error)))
        return
    known = set()
    for ledger in JobLedger.objects.exclude(sealed_at=None).order_by("job").iterator():
        known.add(ledger.job)
        is_signed = ledger.signature == _sign(ledger.hash)
        is_recorded = recorded.get(ledger.job) == ledger.hash
        if not (is_signed and is_recorded and _compute_hash(ledger) == ledger.hash):
            yield LedgerFault(ledger.job, Message("ledger.changed", job=ledger.job))
    for job in sorted(set(recorded) - known):
        yield LedgerFault(job, Message("ledger.missing", job=job))


def _recorded_hashes() -> Iterator[tuple[int, str]]:
    in_table = AuditEvent.objects.filter(action=EXPIRED_EVENT).order_by("pk").iterator()
    for event in chain(segments.read_all(), in_table):
        if event.action == EXPIRED_EVENT and event.details.get("ledger"):
            yield int(event.about.partition(":")[2]), event.details["ledger"]


def _compute_hash(ledger: JobLedger) -> str:
    header: list[Any] = [
        ledger.job,
        ledger.kind,
        ledger.project_id,
        ledger.destination,
        ledger.destination_kind,
        ledger.ordered_by_id,
        ledger.ordered_at.isoformat(),
        ledger.ended_at.isoformat(),
        ledger.images,
    ]
    digest = sha256(json.dumps(header).encode())
    for part in ledger.parts.order_by("position").iterator(chunk_size=16):
        digest.update(f"\n{part.position} {sha256(bytes(part.sealed)).hexdigest()}".encode())
    return digest.hexdigest()


def _sign(text: str) -> str:
    return master_cipher().index(text, "job ledger")


def _context(job: int, position: int) -> str:
    return f"job {job} ledger {position}"
