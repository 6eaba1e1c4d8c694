"""Confirm that a PACS stores what it accepted, by Storage Commitment and search, or search alone.

Used by the DIMSE node.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace as but
from functools import partial

from adit_engine.dicom_ul.association import OpenAssociations
from adit_engine.errors import NodeBusy, NodeError, NodeRefused, NotSupported
from adit_engine.messages import Message
from adit_engine.nodes.base import (
    ConfirmationRemark,
    NotConfirmed,
    StorageConfirmation,
    StoreResult,
)
from adit_engine.nodes.dimse.c_find import CFind
from adit_engine.nodes.dimse.c_get import split_uids
from adit_engine.nodes.dimse.storage_commitment import StorageCommitment
from adit_engine.values.commitment_report import MAX_REFERENCES, CommitmentReport
from adit_engine.values.query import Query
from adit_engine.values.references import SeriesRef


class StorageProof:
    """Confirms stored images. `by` is the setting: find, commitment or none."""

    def __init__(
        self,
        method: str,
        associations: OpenAssociations,
        search: CFind,
        committing: StorageCommitment,
    ) -> None:
        self._method = method
        self._associations = associations
        self._search = search
        self._committing = committing
        self._silence: Message | None = None
        """Why no more commitment reports are requested."""
        self._takes_lists = True
        """Whether the node answers a search by several UIDs."""
        self._needs_release = False
        """Whether the node lists what it received only after that association has ended."""
        self._proven: dict[SeriesRef, int] = {}
        """How many images of a series it was found to store, at least."""

    def confirmations(self, stored: Iterable[StoreResult]) -> Iterator[StorageConfirmation]:
        """Yield the confirmations. Lazy. Raises NodeError.

        Raises NotSupported if only a search is configured and the node offers none.
        """
        kept = [one for one in stored if one.is_stored]
        if self._method == "none":
            yield ConfirmationRemark(Message("proof.disabled"))
            yield from (one.ref.instance_uid for one in kept)
        elif self._method == "commitment":
            for begin in range(0, len(kept), MAX_REFERENCES):
                yield from self._confirm_by_report(kept[begin : begin + MAX_REFERENCES])
        else:
            yield from self.confirm_by_query(kept)

    # By report ---------------------------------------------------------------------------------

    def _confirm_by_report(self, stored: Sequence[StoreResult]) -> Iterator[StorageConfirmation]:
        report = self._request_report(stored)
        if report is None:
            if self._silence is not None:
                yield ConfirmationRemark(self._silence)
            yield from self._confirm_by_search(stored)
            return
        claimed = []
        for one in stored:
            image = one.class_uid, one.ref.instance_uid
            if report.confirms(image):
                claimed.append(one)
            else:
                yield NotConfirmed(one.ref.instance_uid, report.failure_reason(image))
        yield from self._compare_with_query(claimed)

    def _compare_with_query(self, claimed: Sequence[StoreResult]) -> Iterator[StorageConfirmation]:
        """Confirm reported images by a search as well.

        Some nodes report at once, whatever happened to the images. The report alone counts where a
        search is permanently unavailable. Raises NodeError.
        """
        if not claimed:
            return
        try:
            found = set(self.confirm_by_query(claimed))
        except NodeError as error:
            if error.is_transient:
                raise
            found = {one.ref.instance_uid for one in claimed}
        yield from found
        for one in claimed:
            if one.ref.instance_uid not in found:
                yield NotConfirmed(one.ref.instance_uid, Message("not-kept.not-found"))

    def _request_report(self, stored: Sequence[StoreResult]) -> CommitmentReport | None:
        """Return the report, or None.

        After a None a search is used, so that only one wait is lost.
        """
        if self._silence is not None:
            return None
        try:
            return self._committing.report([(s.class_uid, s.ref.instance_uid) for s in stored])
        except NodeError as error:
            self._silence = Message("proof.by-query", error=error.message)
            return None

    def _confirm_by_search(self, stored: Sequence[StoreResult]) -> Iterator[StorageConfirmation]:
        try:
            yield from self.confirm_by_query(stored)
        except NotSupported:
            reason = Message("not-kept.no-report-no-query")
            yield from (NotConfirmed(one.ref.instance_uid, reason) for one in stored)

    # By search ---------------------------------------------------------------------------------

    def confirm_by_query(self, stored: Iterable[StoreResult]) -> Iterator[str]:
        """Yield instance UIDs found by a C-FIND at IMAGE level per series, then by UID.

        What is not found over the association of the images is searched over a new one.
        Few images of a series that is known to hold many are searched by UID first.
        """
        series: dict[SeriesRef, set[str]] = {}
        for one in stored:
            series.setdefault(one.ref.series, set()).add(one.ref.instance_uid)
        kept = self._associations.kept
        if self._needs_release:
            kept.release()
        is_kept = kept.has_idle
        with kept.keep():
            for ref, unproven in series.items():
                count = len(unproven)
                try:
                    yield from self._find_series(ref, unproven)
                except (NodeBusy, NodeRefused):
                    if not is_kept:
                        raise
                if unproven and is_kept:
                    is_kept = False
                    kept.release()
                    before = len(unproven)
                    yield from self._find_series(ref, unproven)
                    self._needs_release = len(unproven) < before
                self._proven[ref] = self._proven.get(ref, 0) + count - len(unproven)

    def _find_series(self, ref: SeriesRef, unproven: set[str]) -> Iterator[str]:
        whole = Query.uids_of(ref)
        is_little = self._takes_lists and len(unproven) <= self._proven.get(ref, 0)
        if not is_little:
            yield from self._find_listed(whole, unproven)
        yield from self._find_by_uid(whole, unproven)
        if is_little and unproven:
            yield from self._find_listed(whole, unproven)

    def _find_by_uid(self, query: Query, unproven: set[str]) -> Iterator[str]:
        """Search by UID as long as that proves anything: a node may truncate these answers too."""
        before = len(unproven) + 1
        while self._takes_lists and 0 < len(unproven) < before:
            before = len(unproven)
            for lot in split_uids(sorted(unproven)):
                by_uid = but(query, keys={**query.keys, "SOPInstanceUID": lot})
                try:
                    yield from self._find_listed(by_uid, unproven)
                except NodeRefused:
                    # The list of the whole series decides.
                    self._takes_lists = False
                    break

    def _find_listed(self, query: Query, unproven: set[str]) -> Iterator[str]:
        ask = partial(self._search.search, query=query)
        for record in self._associations.request([self._search.context()], ask):
            if record.instance_uid in unproven and query.matches(record):
                unproven.discard(record.instance_uid)
                yield record.instance_uid
