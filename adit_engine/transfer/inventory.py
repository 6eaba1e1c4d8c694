"""List the images of one series at the source, before the first image and after the last.

Used by `transfer.series` and `transfer.iocm`.
"""

from contextlib import suppress
from dataclasses import dataclass, field

from adit_engine.bounded_stream import Stop
from adit_engine.dicom_ul.statuses import is_find_unsupported
from adit_engine.errors import AditError, NodeRefused, NotSupported
from adit_engine.messages import Message
from adit_engine.nodes.base import Searchable
from adit_engine.transfer.retry import RetryPolicy
from adit_engine.values.outcome import SourceListing
from adit_engine.values.query import Query
from adit_engine.values.record import Record
from adit_engine.values.references import SeriesRef

_OFFLINE_VALUES = ("OFFLINE", "UNAVAILABLE")


@dataclass(frozen=True, slots=True)
class ListedInstances:
    """One answer of the source: the SOP class of each image by its instance UID."""

    classes: dict[str, str]
    shortfall: Message | None = None
    """Why the list is incomplete, if the source says so itself."""
    names_images: bool = True
    """False if the source does not list single images."""


@dataclass(frozen=True, slots=True)
class InventoryDifference:
    """What has changed at the source since the first list."""

    new: frozenset[str] = frozenset()
    vanished: frozenset[str] = frozenset()


@dataclass
class SeriesInventory:
    """The images of one series as the source lists them.

    `record` is the match of the source at series level.
    """

    ref: SeriesRef
    record: Record
    source: Searchable
    stop: Stop
    patient_id: str = field(default="", repr=False)
    classes: dict[str, str] = field(default_factory=dict)
    """SOP class by instance UID, of all that was ever listed; "" if the source did not say."""
    offline: set[str] = field(default_factory=set)
    """Instances that must be brought online before they can be fetched (PS3.4 C.4.1.1.3)."""
    _prefetched: ListedInstances | None = field(default=None, init=False, repr=False)
    _is_trusted: bool = field(default=False, init=False)

    def list_first(self) -> SourceListing:
        """Return the list that is the expectation. Raise NodeError, Stopped."""
        answer = self._query(Query.instances_of(self.ref, self.patient_id))
        why = self._why_not_proven(answer)
        self._is_trusted = why is None
        expected = frozenset(answer.classes) if why is None else None
        return SourceListing.from_record(self.ref, self.record, expected, why)

    def list_again(self, expected: frozenset[str]) -> InventoryDifference:
        """Compare the current list with the expected UIDs.

        A list that was cut short does not prove that an instance vanished.
        """
        answer, self._prefetched = self._prefetched or self._query(self._uids), None
        if not answer.names_images:
            return InventoryDifference()
        now = frozenset(answer.classes)
        if now - expected:
            self._query(Query.instances_of(self.ref, self.patient_id))
        return InventoryDifference(
            now - expected, expected - now if answer.shortfall is None else frozenset()
        )

    def list_ahead(self) -> None:
        """Request the list for `again` in advance.

        Called in the thread that fetched the last image: the source answers while the destination
        still stores or confirms. If the request fails here, `again` repeats it. Nothing is
        requested if the first list was not trusted.
        """
        if not self._is_trusted:
            return
        with suppress(AditError):
            self._prefetched = self._query(self._uids)

    @property
    def _uids(self) -> Query:
        """The smallest query that shows whether the list has changed."""
        return Query.uids_of(self.ref, self.patient_id)

    def _query(self, query: Query) -> ListedInstances:
        def ask() -> ListedInstances:
            answers = self.source.find(query)
            matching = [record for record in answers if query.matches(record)]
            found = {record.instance_uid: record.sop_class_uid for record in matching}
            gone = {one.instance_uid for one in matching if one.availability in _OFFLINE_VALUES}
            self.offline.update(gone)
            found.pop("", None)
            if not answers.is_capped:
                return ListedInstances(found)
            shortfall = Message("source-list.incomplete", shortfall=answers.shortfall)
            return ListedInstances(found, shortfall)

        try:
            answer = RetryPolicy().call(ask, self.stop)
        except NotSupported:
            return ListedInstances({}, names_images=False)
        except NodeRefused as refusal:
            # The status refers to this search, not to us as a caller.
            if not is_find_unsupported(refusal.status):
                raise
            return ListedInstances({}, names_images=False)
        for uid, kind in answer.classes.items():
            self.classes[uid] = kind or self.classes.get(uid, "")
        return answer

    def _why_not_proven(self, answer: ListedInstances) -> Message | None:
        """Return why the list does not prove completeness; None if it does."""
        count, listed = self.record.instance_count, len(answer.classes)
        if not answer.names_images:
            return Message("source-list.no-single-images")
        if answer.shortfall is not None:
            return answer.shortfall
        if not listed:
            return Message("source-list.empty")
        if count is not None and listed < count:
            return Message("source-list.contradictory", listed=listed, counted=count)
        return None
