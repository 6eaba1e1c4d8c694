"""Search a PACS by C-FIND (PS3.4 C.4.1). Used by the DIMSE node and its retrievals."""

from collections.abc import Iterator

from adit_engine.dicom_ul import identifier, statuses
from adit_engine.dicom_ul.association import ClientAssociation
from adit_engine.dicom_ul.command_set import Operation, make_request
from adit_engine.dicom_ul.pdu import PresentationContext
from adit_engine.elements import Buffer
from adit_engine.errors import Malformed, NodeRefused, TimedOut
from adit_engine.messages import Message
from adit_engine.nodes.base import FindResults
from adit_engine.nodes.loop_detection import LoopDetector
from adit_engine.values.instance import EXPLICIT_LE, IMPLICIT_LE
from adit_engine.values.query import Query
from adit_engine.values.record import Record
from adit_engine.values.references import QueryLevel

STUDY_ROOT = "1.2.840.10008.5.1.4.1.2.2.1"
PATIENT_ROOT = "1.2.840.10008.5.1.4.1.2.1.1"

MAX_REMEMBERED_SERIES = 4096


class CFind:
    """C-FIND over associations that the caller opens. `fallback` is the node's character set."""

    def __init__(self, node: str, root: str, fallback: str) -> None:
        self._node = node
        self._root = root
        self._fallback = fallback
        self._contents: dict[str, KnownContents] = {}
        self._classes: dict[str, tuple[str, ...]] = {}
        self._seen_classes: dict[str, set[str]] = {}
        self._counts: dict[str, int] = {}

    def context(self, level: QueryLevel = QueryLevel.STUDY) -> PresentationContext:
        """Return the context to propose. Only the patient root has the level PATIENT."""
        root = PATIENT_ROOT if level is QueryLevel.PATIENT else self._root
        return PresentationContext(root, (EXPLICIT_LE, IMPLICIT_LE))

    def search(self, association: ClientAssociation, query: Query) -> Iterator[Record]:
        """Run one C-FIND. Lazy. Ends normally only after a final status of success."""
        context_id = association.negotiated.context_of(self.context(query.level).class_uid)
        if context_id is None:
            raise statuses.not_offered_error(self._node, "C-FIND")
        find_class, syntax = association.negotiated.contexts[context_id]
        explicit = syntax == EXPLICIT_LE
        number = association.next_message_id()
        command = make_request(Operation.FIND, number, find_class, data=True)
        asked = identifier.encode_identifier(query.to_identifier(), explicit)
        association.send(context_id, command, [asked])
        listing = KnownContents()
        within_s = association.peer.timeouts.no_progress_s
        repeats = LoopDetector(within_s)
        while True:
            message = association.receive(within_s, "clause.await-query")
            status = message.command.status
            if not message.command.is_response_to(Operation.FIND, number) or status is None:
                raise association.protocol_error(
                    "association.wrong-response", request=Message("clause.request-query")
                )
            if status == statuses.SUCCESS:
                self._remember(query, listing)
                return
            if status not in statuses.PENDING:
                raise statuses.status_error(self._node, "clause.request-query", status)
            if repeats.is_endless(bytes(message.data)):
                raise self._endless_error()
            record = self._record(query, message.data, explicit)
            listing.add(record)
            self._remember_record(record)
            yield record

    def _endless_error(self) -> TimedOut:
        return TimedOut(self._node, "c-find.endless")

    def known_contents(self, series_uid: str) -> "KnownContents | None":
        """Return the result of an earlier complete list of a series, if any."""
        return self._contents.get(series_uid)

    def known_classes(self, study_uid: str) -> tuple[str, ...]:
        """Return the SOP classes of a study if an earlier search returned them."""
        return self._classes.get(study_uid, ())

    def is_list_complete(self, series_uid: str) -> bool:
        """Whether the list of a series names as many images as the node counts in it."""
        listing, count = self._contents.get(series_uid), self._counts.get(series_uid)
        return listing is not None and count is not None and len(listing.uids) >= count

    def seen_classes(self, study_uid: str) -> frozenset[str]:
        """Return the SOP classes of a study that searches have returned so far, perhaps not all."""
        seen = self._seen_classes.get(study_uid, ())
        return frozenset((*seen, *self.known_classes(study_uid)))

    def clear(self) -> None:
        self._contents.clear()
        self._classes.clear()
        self._seen_classes.clear()
        self._counts.clear()

    def _record(self, query: Query, data: Buffer, explicit: bool) -> Record:
        """Decode a record and add missing UIDs from the query.

        Some archives omit those of higher levels.
        """
        try:
            found = identifier.decode_record(query.level, data, explicit, self._fallback)
        except Malformed as error:
            found = self._decode_other_encoding(query, data, not explicit, error)
        values = dict(found.values)
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):
            asked = query.keys.get(keyword, "")
            if asked and isinstance(asked, str) and not values.get(keyword):
                values[keyword] = asked
        return Record(query.level, values)

    def _decode_other_encoding(
        self, query: Query, data: Buffer, explicit: bool, error: Malformed
    ) -> Record:
        """Decode in the other encoding: some archives negotiate one and answer in the other."""
        try:
            found = identifier.decode_record(query.level, data, explicit, self._fallback)
        except Malformed:
            found = Record(query.level, {})
        if not found.values:
            raise NodeRefused(self._node, "c-find.invalid-data", error=error.message) from error
        return found

    def _remember_record(self, record: Record) -> None:
        if record.level is QueryLevel.SERIES and record.instance_count is not None:
            self._counts[record.series_uid] = record.instance_count
            if len(self._counts) > MAX_REMEMBERED_SERIES:
                del self._counts[next(iter(self._counts))]
        if record.level is QueryLevel.STUDY and (classes := record.texts("SOPClassesInStudy")):
            self._classes[record.study_uid] = classes
            if len(self._classes) > MAX_REMEMBERED_SERIES:
                del self._classes[next(iter(self._classes))]

    def _remember(self, query: Query, listing: "KnownContents") -> None:
        """Keep what a complete list of a series returned, so that fetch need not search again."""
        series_uid = query.keys.get("SeriesInstanceUID", "")
        if (
            query.level is not QueryLevel.IMAGE
            or not isinstance(series_uid, str)
            or not listing.count
        ):
            return
        if "SOPInstanceUID" in query.keys or query.only is not None:
            return
        study_uid = query.keys.get("StudyInstanceUID", "")
        if isinstance(study_uid, str):
            self._seen_classes.setdefault(study_uid, set()).update(listing.classes)
            if len(self._seen_classes) > MAX_REMEMBERED_SERIES:
                del self._seen_classes[next(iter(self._seen_classes))]
        self._contents.pop(series_uid, None)
        self._contents[series_uid] = listing
        if len(self._contents) > MAX_REMEMBERED_SERIES:
            del self._contents[next(iter(self._contents))]


class KnownContents:
    """What the node returned for a series or study: its SOP classes and the number of images."""

    def __init__(self) -> None:
        self.classes: set[str] = set()
        self.count = 0
        self.uids: set[str] = set()
        """Instance UIDs, where single images were listed."""

    def add(self, record: Record) -> None:
        self.count += 1
        if record.instance_uid:
            self.uids.add(record.instance_uid)
        if record.sop_class_uid:
            self.classes.add(record.sop_class_uid)


class CFindResults(FindResults):
    """The results of one C-FIND without mismatches and duplicates; stops at the cap.

    `count` is the number of answers from the node. Some archives store images without a hierarchy
    and answer once per image at every level. Two patients may share a study UID, so records are
    compared by all their values.
    """

    def __init__(self, records: Iterator[Record], query: Query, cap: int | None) -> None:
        super().__init__(records, cap)
        self._query = query
        self._seen: set[int] = set()

    def __next__(self) -> Record:
        for record in self._records:
            if self.is_capped:
                break
            self.count += 1
            mark = hash(frozenset(record.values.items()))
            if mark not in self._seen and self._query.matches(record):
                self._seen.add(mark)
                return record
        self.close()
        raise StopIteration
