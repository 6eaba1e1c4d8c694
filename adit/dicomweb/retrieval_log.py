"""Write down what a retrieval delivered: its row with the encrypted ledgers, and the audit trail.

Retrievals of a process that was killed are ended by the scheduler.
"""

import secrets
import time
from collections import Counter
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from adit.accounts.models import User
from adit.audit.trail import SealedPatient, record, seal_patient
from adit.dicomweb.authentication import Caller, describe_caller
from adit.dicomweb.models import Retrieval
from adit.nodes.access import get_domain
from adit.nodes.models import Node
from adit.projects.models import Project
from adit.projects.pseudonyms import seal_patient_of_node
from adit.projects.services import get_project_cipher
from adit.recall.api_retrievals import compute_index
from adit.vault.cipher import DecryptionError
from adit_engine.messages import Message
from adit_engine.pseudonymize.parameters import AsIs, Change, Pseudonymization
from adit_engine.pseudonymize.profile import RETAIN_UIDS
from adit_engine.values.outcome import (
    InstanceEvent,
    InstanceState,
    SeriesLedger,
    SeriesOutcome,
    SourceListing,
)

WRITE_EVERY_S = 5.0
TOUCH_EVERY_S = 20.0
INTERRUPTED_AFTER_LEASES = 3
"""A retrieval whose process gave no sign for so many leases of a task is over."""

SENT = (InstanceState.STORED, InstanceState.DELIVERED)


class RetrievalLog:
    """The ledgers of one retrieval, written every few seconds and at the end."""

    def __init__(
        self,
        caller: Caller,
        node: Node,
        project: Project,
        patient_id: str,
        change: Change,
        *,
        only_headers: bool,
    ) -> None:
        self._caller = caller
        self._node = node
        self._patient_id = patient_id
        self._change = change
        self._series: dict[str, SeriesLedger] = {}
        self._skipped: Counter[Message] = Counter()
        self._written_at = time.monotonic()
        self.retrieval = Retrieval.objects.create(
            key=secrets.token_hex(16),
            user=caller.user,
            token_name=caller.token.name if caller.token is not None else "",
            node=node,
            project=project,
            is_identified=isinstance(change, AsIs),
            only_headers=only_headers,
            patient_index=compute_index(get_project_cipher(project), get_domain(node), patient_id),
        )
        # A retrieval of a process that is killed at once still names its patient.
        self.write()

    def touch(self) -> None:
        """Record that the request is still being answered, however slow node and client are."""
        Retrieval.objects.filter(pk=self.retrieval.pk).update(seen_at=timezone.now())

    def add(self, output: SourceListing | InstanceEvent | SeriesOutcome) -> None:
        """Add an event; write if the last time is long ago."""
        if isinstance(output, SourceListing):
            self._series[output.ref.series_uid] = SeriesLedger(output.ref, output.expected)
        elif isinstance(output, InstanceEvent):
            series = output.ref.series
            self._series.setdefault(series.series_uid, SeriesLedger(series)).add(output)
        elif output.skip_reason is not None and output.skip_reason.code != "left-out.not-selected":
            self._skipped[output.skip_reason] += 1
        if time.monotonic() - self._written_at > WRITE_EVERY_S:
            self.write()

    @property
    def counts(self) -> Counter[InstanceState]:
        entries = (entry for one in self._series.values() for entry in one.entries.values())
        return Counter(entry.state for entry in entries)

    @property
    def delivered(self) -> int:
        counts = self.counts
        return sum(counts[state] for state in SENT)

    @property
    def expected(self) -> int | None:
        known = [one.expected for one in self._series.values()]
        return None if None in known else sum(len(uids or ()) for uids in known)

    @property
    def reasons(self) -> list[tuple[Message, int]]:
        """Why images were not delivered, and why whole series were left out."""
        entries = (entry for one in self._series.values() for entry in one.entries.values())
        held = Counter(
            entry.reason
            for entry in entries
            if entry.reason is not None and entry.state not in SENT
        )
        return (held + self._skipped).most_common()

    def write(self) -> None:
        counts, retrieval = self.counts, self.retrieval
        entries = [entry for one in self._series.values() for entry in one.entries.values()]
        retrieval.expected = self.expected
        retrieval.delivered = sum(counts[state] for state in SENT)
        retrieval.withheld = counts[InstanceState.WITHHELD]
        retrieval.failed = counts[InstanceState.FAILED]
        retrieval.size_bytes = sum(entry.size_bytes for entry in entries if entry.state in SENT)
        retrieval.reasons = self.reasons
        content: dict[str, Any] = {
            "patient": [get_domain(self._node), self._patient_id],
            "series": [ledger.to_json() for ledger in self._series.values()],
        }
        if isinstance(self._change, Pseudonymization):
            content["generation"] = self._change.key.generation
            content["keeps_uids"] = RETAIN_UIDS in self._change.profile.options
        retrieval.sealed = get_project_cipher(retrieval.project).seal(
            content, seal_context(retrieval)
        )
        retrieval.seen_at = timezone.now()
        retrieval.save()
        self._written_at = time.monotonic()

    def end(self, error: Message | None) -> None:
        """Write the end, and record it in the audit trail. `error`: why it is incomplete."""
        retrieval = self.retrieval
        retrieval.ended_at = timezone.now()
        retrieval.error = error
        retrieval.state = Retrieval.State.INCOMPLETE if error else Retrieval.State.COMPLETE
        self.write()
        # Under the key of the project, since it links the patient to the project.
        patient = seal_patient_of_node(retrieval.project, self._node, self._patient_id)
        _record_end(retrieval, self._node, self._caller.user, self._caller.label, patient)


def end_interrupted() -> int:
    """End the retrievals whose process was killed; return their number.

    What the last seconds before it sent is in no ledger.
    """
    silent = timezone.now() - timedelta(seconds=INTERRUPTED_AFTER_LEASES * settings.LEASE_S)
    running = Retrieval.objects.filter(state=Retrieval.State.RUNNING, seen_at__lt=silent)
    return sum(_end_interrupted(one.pk, silent) for one in running)


def _end_interrupted(pk: int, silent: datetime) -> bool:
    with transaction.atomic():
        rows = Retrieval.objects.select_for_update(no_key=True, of=("self",))
        mine = rows.filter(pk=pk, state=Retrieval.State.RUNNING, seen_at__lt=silent)
        retrieval = mine.select_related("project", "node", "user").first()
        if retrieval is None:
            return False
        retrieval.state = Retrieval.State.INCOMPLETE
        retrieval.ended_at = retrieval.seen_at
        retrieval.error = Message("dicomweb.interrupted")
        retrieval.save(update_fields=["state", "ended_at", "error"])
        patient = None
        with suppress(DecryptionError):
            cipher = get_project_cipher(retrieval.project)
            if retrieval.sealed is not None:
                domain, patient_id = cipher.open(retrieval.sealed, seal_context(retrieval))[
                    "patient"
                ]
                patient = seal_patient(cipher, (domain, patient_id))
        label = describe_caller(retrieval.token_name)
        _record_end(retrieval, retrieval.node, retrieval.user, label, patient)
    return True


def _record_end(
    retrieval: Retrieval, node: Node | None, user: User, label: str, patient: SealedPatient | None
) -> None:
    details: dict[str, Any] = {
        "node": node.name if node is not None else "",
        "caller": label,
        "project": retrieval.project.protocol_id,
        "identified": retrieval.is_identified,
        "headers": retrieval.only_headers,
        "state": retrieval.state,
        "delivered": retrieval.delivered,
        "withheld": retrieval.withheld,
        "failed": retrieval.failed,
        "bytes": retrieval.size_bytes,
    }
    record(
        "dicomweb.retrieved",
        user=user,
        about=f"node:{node.pk}" if node is not None else "",
        details=details,
        patient=patient,
    )


def seal_context(retrieval: Retrieval) -> str:
    return f"retrieval {retrieval.key}"
