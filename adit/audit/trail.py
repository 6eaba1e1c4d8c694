"""Record events in the audit trail and verify its hash chain. Used by all apps above audit."""

import json
import logging
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db import transaction
from django.db.models import Q, Subquery
from django.utils import timezone

from adit.audit import segments
from adit.audit.kept_head import KeptHeadUnreadable, read_kept_head, write_kept_head
from adit.audit.models import GENESIS_HASH, AuditEvent, ChainHead
from adit.audit.segments import SegmentUnreadable
from adit.vault.cipher import DecryptionError, ValueCipher
from adit.vault.master_key import master_cipher
from adit_engine.messages import Message

PatientKey = tuple[str, str]
"""Patient ID domain and patient ID."""


HEAD_INTERVAL = timedelta(hours=23)
"""Less than a day, so that the head is sent at about the same hour each day."""
_CONTEXT = "trail patient"
_api_token: ContextVar[str] = ContextVar("api_token", default="")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SealedPatient:
    """A patient encrypted under another key than that of the trail.

    When that key is destroyed, the patient can neither be read nor be found.
    """

    index: str
    sealed: str


def seal_patient(cipher: ValueCipher, patient: PatientKey) -> SealedPatient:
    sealed = b64encode(cipher.seal(list(patient), _CONTEXT)).decode()
    return SealedPatient(keyed_patient_index(cipher, *patient), sealed)


def keyed_patient_index(cipher: ValueCipher, domain: str, patient_id: str) -> str:
    """Return the index of the events of one patient that are encrypted under this key."""
    return cipher.index(f"{domain}\0{_strip_padding(patient_id)}", _CONTEXT)


def open_patient(cipher: ValueCipher, event: AuditEvent) -> PatientKey:
    """Decrypt the patient of an event. Raise DecryptionError if the key is another one."""
    sealed = event.patient_sealed
    domain, patient_id = cipher.open(b64decode(sealed if isinstance(sealed, str) else ""), _CONTEXT)
    return domain, patient_id


@dataclass(frozen=True, slots=True)
class ChainBreak:
    """The first break in the chain. `row` is the event's ID; None after the last event."""

    row: int | None
    reason: Message


@contextmanager
def token_scope() -> Iterator[None]:
    """Let `set_token` apply until the end of the block."""
    before = _api_token.set("")
    try:
        yield
    finally:
        _api_token.reset(before)


def set_token(name: str) -> None:
    """Add the name of this API token to all further events."""
    _api_token.set(name)


def with_token(details: Mapping[str, Any]) -> dict[str, Any]:
    """Return the details with the name of the API token, if a program acts by one."""
    name = _api_token.get()
    return {**details, "token": name} if name else dict(details)


def record(
    action: str,
    *,
    user: AbstractBaseUser | AnonymousUser | None = None,
    about: str = "",
    details: Mapping[str, Any] | None = None,
    patient: PatientKey | SealedPatient | None = None,
) -> AuditEvent:
    """Append one event, in the caller's transaction if there is one.

    `action` is noun.verb. `details` never hold identifying values; a patient goes into `patient`.
    Pass a SealedPatient if the event links the patient to something whose key may be destroyed.
    Other writers wait until the transaction ends: call it late, after any lock on other rows.
    """
    index, sealed = _index_and_seal(patient)
    with transaction.atomic():
        head = lock_head()
        event = AuditEvent(
            at=timezone.now(),
            user_id=user.pk if user is not None else None,
            action=action,
            about=about,
            details=json.loads(json.dumps(with_token(details or {}))),
            patient_index=index,
            patient_sealed=sealed,
            previous_hash=head.hash,
        )
        event.hash = _compute_hash(event)
        event.save()
        count = head.count + 1
        signature = sign_head(count, event.hash) if _is_signed(head) else ""
        ChainHead.objects.filter(pk=1).update(hash=event.hash, count=count, signature=signature)
    return event


def sign_head(count: int, last: str) -> str:
    """Return the keyed hash without which nobody can write another end of the chain."""
    return master_cipher().index(f"{count} {last}", "trail head")


def _is_signed(head: ChainHead) -> bool:
    return head.signature == sign_head(head.count, head.hash)


def lock_head() -> ChainHead:
    """Lock the head. One that was removed is made again, without a signature."""
    locked = ChainHead.objects.select_for_update(no_key=True)
    head = locked.filter(pk=1).first()
    if head is None:
        last = AuditEvent.objects.values_list("hash", flat=True).order_by("-id").first()
        end = {"hash": last or GENESIS_HASH, "count": _count_events()}
        ChainHead.objects.get_or_create(pk=1, defaults=end)
        head = locked.get(pk=1)
    return head


def _count_events() -> int:
    return segments.count_sealed() + AuditEvent.objects.count()


def patient_index(domain: str, patient_id: str) -> str:
    """Return the index of the events of one patient, under the master key."""
    return keyed_patient_index(master_cipher(), domain, patient_id)


def _index_and_seal(
    patient: PatientKey | SealedPatient | None,
) -> tuple[str, list[str] | str | None]:
    if patient is None:
        return "", None
    if isinstance(patient, SealedPatient):
        return patient.index, patient.sealed
    return patient_index(*patient), list(patient)


def _strip_padding(patient_id: str) -> str:
    return patient_id.strip(" \0")


def verify_chain() -> ChainBreak | None:
    """Return the first break in the whole chain, or None if it is intact.

    Finds events that were changed, removed, added or reordered. Events may be recorded meanwhile.
    """
    head = ChainHead.objects.filter(pk=1).first()
    sealed = segments.count_sealed()
    broken = _verify_events({head.count: head.hash} if head else {})
    if broken is not None and segments.count_sealed() != sealed:
        return verify_chain()  # events went from the table to a file meanwhile
    return broken or _check_head(head)


def _verify_events(expected: Mapping[int, str]) -> ChainBreak | None:
    """Verify all events, and that the chain has these hashes after so many events."""
    previous, count = GENESIS_HASH, 0
    found = {0: GENESIS_HASH}
    try:
        for event in _read_events():
            if event.previous_hash != previous:
                return ChainBreak(event.pk, Message("audit-trail.order-changed"))
            if not _is_intact(event):
                return ChainBreak(event.pk, Message("audit-trail.event-changed"))
            previous, count = event.hash, count + 1
            if count in expected:
                found[count] = previous
    except SegmentUnreadable as error:
        return ChainBreak(None, Message("audit-trail.segment-changed", file=str(error)))
    except DecryptionError:
        return ChainBreak(_find_first_unreadable(), Message("audit-trail.patient-changed"))
    if any(found.get(number) != last for number, last in expected.items()):
        return ChainBreak(None, Message("audit-trail.end-missing"))
    return None


def _read_events() -> Iterator[AuditEvent]:
    """Yield all events in order: those in files, then those in the table."""
    yield from segments.read_all()
    yield from AuditEvent.objects.order_by("id").iterator(chunk_size=1000)


def check_end() -> ChainBreak | None:
    """Compare the end of the chain with its head and with the file in the data folder.

    Fast, unlike `verify_chain`: reads no other events.
    """
    newest = AuditEvent.objects.order_by("-id").values("hash")[:1]
    # One statement, since events may be recorded meanwhile.
    head = ChainHead.objects.filter(pk=1).annotate(last=Subquery(newest)).first()
    if head is not None and head.hash != (head.last or GENESIS_HASH):
        return ChainBreak(None, Message("audit-trail.end-missing"))
    return _check_head(head)


def _check_head(head: ChainHead | None) -> ChainBreak | None:
    if head is None or not _is_signed(head):
        return ChainBreak(None, Message("audit-trail.head-changed"))
    try:
        kept = read_kept_head()
    except KeptHeadUnreadable:
        return ChainBreak(None, Message("audit-trail.kept-head-unreadable"))
    if kept is not None and not contains_head(kept.count, kept.hash):
        return ChainBreak(
            None, Message("audit-trail.kept-head-missing", count=kept.count, day=str(kept.day))
        )
    return None


def check_and_keep_head() -> ChainBreak | None:
    """Check the end of the chain. Log a break; otherwise keep the head in the data folder."""
    broken = check_end()
    if broken is not None:
        log.error("The audit trail is not intact: %s", broken.reason)
        return broken
    count, last = get_head()
    try:
        if count:
            write_kept_head(count, last)
    except OSError as error:
        log.error("The head of the audit trail cannot be written: %s", error)
    return None


class NothingToAccept(Exception):
    """The end of the chain needs no acceptance."""


def accept_end(reason: str) -> ChainBreak | None:
    """Accept the current end of the chain after a restore, and record what was expected.

    Returns the break, and accepts nothing, if the events themselves are not intact. Raises
    NothingToAccept.
    """
    with transaction.atomic():
        head = lock_head()
        broken = _verify_events({})
        if broken is not None:
            return broken
        end = check_end()
        if end is None:
            raise NothingToAccept
        details: dict[str, Any] = {"reason": reason, "why": end.reason.to_json()}
        try:
            kept = read_kept_head()
        except KeptHeadUnreadable:
            kept = None
        if kept is not None:
            details["expected"] = {"events": kept.count, "hash": kept.hash}
        head.hash = AuditEvent.objects.values_list("hash", flat=True).last() or GENESIS_HASH
        head.count = _count_events()
        head.signature = sign_head(head.count, head.hash)
        head.save()
        record("trail.end_accepted", details={**details, "events": head.count})
    write_kept_head(*get_head())
    return None


def get_head() -> tuple[int, str]:
    """Return the number of events and the hash of the last one. It is sent elsewhere daily."""
    end = ChainHead.objects.filter(pk=1).first() or ChainHead()
    return end.count, end.hash


def claim_due_head() -> tuple[int, str] | None:
    """Return the head if it is due to be sent now, and mark it as sent.

    None if it was sent less than `HEAD_INTERVAL` ago or if there are no events.
    """
    now = timezone.now()
    due = ChainHead.objects.filter(
        Q(sent_at=None) | Q(sent_at__lte=now - HEAD_INTERVAL), pk=1, count__gt=0
    )
    return get_head() if due.update(sent_at=now) else None


def contains_head(count: int, last: str) -> bool:
    """Return whether a head that was sent earlier still matches the trail at that position.

    Stronger than `verify_chain`, which cannot detect a chain that was rewritten by someone who
    has both the database and the key.
    """
    try:
        sealed = segments.count_sealed()
        if 0 < count <= sealed:
            return segments.get_hash(count) == last
    except SegmentUnreadable:
        return False
    number = count - sealed
    found = AuditEvent.objects.order_by("id").values_list("hash", flat=True)[number - 1 : number]
    return count > 0 and list(found) == [last]


def _is_intact(event: AuditEvent) -> bool:
    sealed = event.patient_sealed
    if isinstance(sealed, str):  # encrypted under another key: protected by the hash alone
        return event.hash == _compute_hash(event) and bool(event.patient_index)
    index = patient_index(*sealed) if sealed else ""
    return event.hash == _compute_hash(event) and event.patient_index == index


def _compute_hash(event: AuditEvent) -> str:
    # Keyed: with the database alone nobody can rewrite the chain or guess values.
    fields = {
        "at": event.at.isoformat(timespec="microseconds"),
        "user": event.user_id,
        "action": event.action,
        "about": event.about,
        "details": event.details,
        "patient": event.patient_index,
        "previous": event.previous_hash,
    }
    if isinstance(event.patient_sealed, str):
        fields["veiled"] = event.patient_sealed
    return master_cipher().index(json.dumps(fields, sort_keys=True, separators=(",", ":")), "trail")


def _find_first_unreadable() -> int | None:
    for pk in AuditEvent.objects.order_by("id").values_list("pk", flat=True):
        try:
            AuditEvent.objects.get(pk=pk)
        except DecryptionError:
            return pk
    return None
