"""DIMSE node: a PACS or any other DICOM application, spoken to over the network."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from adit_engine.elements import Buffer
from adit_engine.errors import CannotDo, Malformed, NodeError, NodeRefused, NotFound, WrongInput
from adit_engine.instance import EXPLICIT_LE, IMPLICIT_LE, Instance
from adit_engine.nodes import identifier, statuses
from adit_engine.nodes.association import Association, Associations, Patience, Peer
from adit_engine.nodes.base import Answers, Finding, Grade, Stored, setting
from adit_engine.nodes.command import Operation, request
from adit_engine.nodes.negotiation import Context
from adit_engine.nodes.retrieval import (
    PATIENT_ROOT_GET,
    STUDY_ROOT_GET,
    Retrieval,
    Wish,
    loads_of,
    lots,
    wishes_of,
)
from adit_engine.nodes.storage import Storage
from adit_engine.query import Query
from adit_engine.record import Record
from adit_engine.reference import AETitle, Level, Ref, SeriesRef, StudyRef

VERIFICATION = "1.2.840.10008.1.1"
PATIENT_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.1.1"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"

COMMON_CLASSES = frozenset(
    "1.2.840.10008.5.1.4.1.1." + end
    for end in ("2", "2.1", "4", "4.1", "1", "1.1", "128", "6.1", "7", "12.1", "88.67")
)
"""What is asked for when a node does not say which SOP classes a study holds."""

KNOWN_SERIES = 4096
_PLAIN = (EXPLICIT_LE, IMPLICIT_LE)
_TIMES = ("connect_s", "association_s", "first_byte_s", "no_progress_s")


@dataclass(frozen=True)
class DimseSettings:
    called_ae_title: str = setting(
        "", "Called AE title", help="The node's own AE title, as its administrator names it."
    )
    host: str = setting("", "Host", help="Name or IP address.")
    port: int = setting(104, "Port", help="Often 104, 4242 or 11112.")
    calling_ae_title: str = setting(
        "ADIT", "Our AE title", help="Has to be registered at the node by its administrator."
    )
    query_root: str = setting(
        "study",
        "Query root",
        help="study or patient; patient only for nodes that know nothing else.",
        advanced=True,
    )
    retrieve: str = setting("get", "Retrieve by", help="get: C-GET.", advanced=True)
    result_cap: int | None = setting(
        None,
        "Result cap",
        help="The most answers the node gives to a search; empty where it has no such limit.",
        advanced=True,
    )
    character_set_fallback: str = setting(
        "",
        "Character set where none is given",
        help="Such as ISO_IR 100; empty: UTF-8, then Latin-1.",
        advanced=True,
    )
    max_pdu: int = setting(131072, "Largest PDU we take (bytes)", advanced=True)
    connect_s: float = setting(5.0, "Seconds to connect", advanced=True)
    association_s: float = setting(15.0, "Seconds to open an association", advanced=True)
    first_byte_s: float = setting(
        600.0,
        "Seconds until the first image",
        help="Long for tape and cloud archives.",
        advanced=True,
    )
    no_progress_s: float = setting(60.0, "Seconds without progress", advanced=True)
    total_s: float | None = setting(
        None,
        "Seconds for one retrieval",
        help="Empty: grows with the number of images.",
        advanced=True,
    )
    domain: str = setting(
        "", "Patient-ID domain", help="Nodes that share patient ids name the same.", advanced=True
    )
    contact: str = setting("", "Contact", help="Name, phone or mail of who looks after it.")

    def __post_init__(self) -> None:
        for name, label in (
            ("called_ae_title", "Called AE title"),
            ("calling_ae_title", "Our AE title"),
        ):
            try:
                object.__setattr__(self, name, str(AETitle(getattr(self, name))))
            except WrongInput as error:
                raise WrongInput(f"{label}: {error}") from None
        object.__setattr__(self, "host", self.host.strip())
        if not self.host or any(character.isspace() for character in self.host):
            raise WrongInput("Host: give a host name or an IP address.")
        self._check_numbers()
        self._check_words()

    def _check_numbers(self) -> None:
        if not 1 <= self.port <= 65535:
            raise WrongInput("Port: give a number from 1 to 65535.")
        if not 4096 <= self.max_pdu <= 16 * 1024 * 1024:
            raise WrongInput("Largest PDU: give 4096 to 16777216 bytes.")
        if self.result_cap is not None and self.result_cap < 1:
            raise WrongInput("Result cap: give 1 or more, or leave it empty.")
        if any(getattr(self, name) <= 0 for name in _TIMES):
            raise WrongInput("Time limits are more than 0 seconds.")
        if self.total_s is not None and self.total_s <= 0:
            raise WrongInput("Seconds for one retrieval: more than 0, or leave it empty.")

    def _check_words(self) -> None:
        if self.query_root not in ("study", "patient"):
            raise WrongInput("Query root: study or patient.")
        if self.retrieve not in ("get", "move"):
            raise WrongInput("Retrieve by: get or move.")
        if self.character_set_fallback and not identifier.is_character_set(
            self.character_set_fallback
        ):
            raise WrongInput("Character set: give a DICOM term such as ISO_IR 100.")

    def peer(self, name: str) -> Peer:
        times = {name: getattr(self, name) for name in _TIMES}
        if self.total_s is not None:
            times["total_s"] = self.total_s
        return Peer(
            name,
            self.host,
            self.port,
            called=self.called_ae_title,
            calling=self.calling_ae_title,
            max_pdu=self.max_pdu,
            patience=Patience(**times),
        )


class DimseNode:
    """Opens an association for each call, and holds at most one per running iterator."""

    Settings = DimseSettings

    def __init__(self, name: str, settings: DimseSettings) -> None:
        self.name = name
        self.settings = settings
        self._associations = Associations(settings.peer(name))
        patient_root = settings.query_root == "patient"
        self._find_class = PATIENT_ROOT_FIND if patient_root else STUDY_ROOT_FIND
        self._get_class = PATIENT_ROOT_GET if patient_root else STUDY_ROOT_GET
        self._listings: dict[str, _Listing] = {}

    def close(self) -> None:
        """Ends what an iterator that nobody finished still holds open."""
        self._associations.abort()
        self._listings.clear()

    def abort(self) -> None:
        self._associations.abort()

    # Echo --------------------------------------------------------------------------------------

    def check(self) -> Iterator[Finding]:
        services = (VERIFICATION, self._find_class, self._get_class, CT_IMAGE)
        started = time.monotonic()
        try:
            with self._associations.open([Context(uid, _PLAIN) for uid in services]) as association:
                self._echo(association)
                took_ms = (time.monotonic() - started) * 1000
                yield Finding(Grade.GOOD, f"{self.name} answers (C-ECHO, {took_ms:.0f} ms).")
                yield from self._services(association)
        except NodeError as error:
            yield Finding(Grade.BAD, str(error), "Mend this before the node is used.")

    def _echo(self, association: Association) -> None:
        context_id = association.agreement.context_of(VERIFICATION)
        if context_id is None:
            raise statuses.not_offered(self.name, "C-ECHO")
        number = association.next_message_id()
        association.send(context_id, request(Operation.ECHO, number, VERIFICATION, data=False))
        answer = association.receive(self.settings.association_s, "answer the C-ECHO").command
        if not answer.is_answer(Operation.ECHO, number) or answer.status is None:
            raise association.fault("did not answer the C-ECHO in order")
        if answer.status != statuses.SUCCESS:
            raise statuses.failure(self.name, "the C-ECHO", answer.status)

    def _services(self, association: Association) -> Iterator[Finding]:
        for class_uid, can, cannot in (
            (self._find_class, "It can be searched (C-FIND).", "It does not let us search."),
            (self._get_class, "Images can be fetched (C-GET).", "It does not let us fetch."),
            (CT_IMAGE, "It takes images (C-STORE).", "It does not take images from us."),
        ):
            if association.agreement.context_of(class_uid) is not None:
                yield Finding(Grade.GOOD, can)
            else:
                yield Finding(
                    Grade.WARNING,
                    cannot,
                    "If it should, ask its administrator to allow it for the AE title "
                    f"{self.settings.calling_ae_title}.",
                )

    # Search ------------------------------------------------------------------------------------

    def find(self, query: Query) -> Answers:
        """Answers that do not match by our own reading are left out, and count for the cap."""
        return _Found(self._records(query), query, self.settings.result_cap)

    def _records(self, query: Query) -> Iterator[Record]:
        find_class = PATIENT_ROOT_FIND if query.level is Level.PATIENT else self._find_class
        with self._associations.open([Context(find_class, _PLAIN)]) as association:
            yield from self._ask(association, query)

    def _ask(self, association: Association, query: Query) -> Iterator[Record]:
        """One C-FIND. Ends normally only after a final status that says success."""
        held = association.agreement.contexts
        if not held:
            raise statuses.not_offered(self.name, "search (C-FIND)")
        context_id, (find_class, syntax) = next(iter(held.items()))
        explicit = syntax == EXPLICIT_LE
        number = association.next_message_id()
        command = request(Operation.FIND, number, find_class, data=True)
        association.send(context_id, command, [identifier.encode(query.to_identifier(), explicit)])
        listing = _Listing()
        while True:
            message = association.receive(self.settings.no_progress_s, "answer the search")
            status = message.command.status
            if not message.command.is_answer(Operation.FIND, number) or status is None:
                raise association.fault("did not answer the search in order")
            if status in statuses.PENDING:
                record = self._record(query, message.data, explicit)
                listing.add(record)
                yield record
            elif status == statuses.SUCCESS:
                self._remember(query, listing)
                return
            else:
                raise statuses.failure(self.name, "the search", status)

    def _record(self, query: Query, data: Buffer, explicit: bool) -> Record:
        """Fills in the UIDs that were asked for: some archives leave out those of higher levels."""
        fallback = self.settings.character_set_fallback
        try:
            found = identifier.record(query.level, data, explicit, fallback)
        except Malformed as error:
            text = f"answered the search with broken data. {error}"
            raise NodeRefused(self.name, text) from error
        values = dict(found.values)
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):
            asked = query.keys.get(keyword, "")
            if asked and isinstance(asked, str) and not values.get(keyword):
                values[keyword] = asked
        return Record(query.level, values)

    def _remember(self, query: Query, listing: "_Listing") -> None:
        """Keeps the classes of a series that was listed whole, so that fetch need not ask again."""
        series_uid = query.keys.get("SeriesInstanceUID", "")
        if query.level is Level.IMAGE and isinstance(series_uid, str) and listing.count:
            if "SOPInstanceUID" not in query.keys:
                self._listings.pop(series_uid, None)
                self._listings[series_uid] = listing
            while len(self._listings) > KNOWN_SERIES:
                del self._listings[next(iter(self._listings))]

    # Retrieval ---------------------------------------------------------------------------------

    def fetch(self, refs: Sequence[Ref], *, patient_id: str = "") -> Iterator[Instance]:
        """By C-GET. Asks first for the SOP classes that will come, unless a find has told them."""
        if self.settings.retrieve != "get":
            raise CannotDo(self.name, "can be fetched from by C-GET only: set Retrieve by to get.")
        if self._get_class == PATIENT_ROOT_GET and not patient_id:
            raise WrongInput(f"{self.name} has a patient root: say the patient's id with the UIDs.")
        return self._images(wishes_of(refs, patient_id))

    def _images(self, wishes: Sequence[Wish]) -> Iterator[Instance]:
        told = self._listings_of(wishes)
        pairs = ((wish, frozenset(told[wish].classes or COMMON_CLASSES)) for wish in wishes)
        retrieval = Retrieval(self._associations, self._get_class)
        for load in loads_of(pairs):
            count = sum(len(wish.instance_uids) or told[wish].count for wish in load.wishes)
            yield from retrieval.images(load, count or None)

    def _listings_of(self, wishes: Sequence[Wish]) -> dict["Wish", "_Listing"]:
        """What is known of each wish; asks the node where nothing is, and releases that first."""
        told = {w: self._listings[w.series_uid] for w in wishes if w.series_uid in self._listings}
        unknown = [wish for wish in wishes if wish not in told]
        if unknown:
            with self._associations.open([Context(self._find_class, _PLAIN)]) as association:
                for wish in unknown:
                    told[wish] = self._look(association, wish)
        return told

    def _look(self, association: Association, wish: Wish) -> "_Listing":
        """Raises NotFound."""
        listing = _Listing()
        if wish.level is not Level.STUDY:
            series = [SeriesRef(wish.study_uid, wish.series_uid)]
        else:
            study = StudyRef(wish.study_uid)
            for record in self._ask(association, Query.study(study, wish.patient_id)):
                listing.classes.update(record.texts("SOPClassesInStudy"))
                listing.count += record.instance_count or 0
            if listing.classes:
                return listing
            listing.count = 0
            answers = self._ask(association, Query.series_of(study, wish.patient_id))
            series = [SeriesRef(wish.study_uid, record.series_uid) for record in answers]
        for ref in series:
            for record in self._ask(association, Query.instances_of(ref, wish.patient_id)):
                listing.add(record)
        if not listing.count:
            level = "study" if wish.level is Level.STUDY else "series"
            raise NotFound(f"{self.name} does not have this {level} any more: search for it again.")
        return listing

    # Storage -----------------------------------------------------------------------------------

    def store(self, instances: Iterable[Instance]) -> Iterator[Stored]:
        """By C-STORE. What the node takes in no syntax of its own choice is an error of its own."""
        return Storage(self._associations).answers(instances)

    def confirm(self, stored: Sequence[Stored]) -> Iterator[str]:
        """By a C-FIND at IMAGE level for each series; what stays open is asked for by UID."""
        series: dict[SeriesRef, set[str]] = {}
        for one in stored:
            if one.kept:
                series.setdefault(one.ref.series, set()).add(one.ref.instance_uid)
        with self._associations.open([Context(self._find_class, _PLAIN)]) as association:
            for ref, unproven in series.items():
                yield from self._proven(association, Query.instances_of(ref), unproven)
                for lot in lots(sorted(unproven)):
                    query = Query.instances_of(ref)
                    by_uid = Query(Level.IMAGE, {**query.keys, "SOPInstanceUID": lot})
                    yield from self._proven(association, by_uid, unproven)

    def _proven(self, association: Association, query: Query, unproven: set[str]) -> Iterator[str]:
        for record in self._ask(association, query):
            if record.instance_uid in unproven and query.matches(record):
                unproven.discard(record.instance_uid)
                yield record.instance_uid


class _Listing:
    """What the node told of a series or study: which SOP classes, and how many images."""

    def __init__(self) -> None:
        self.classes: set[str] = set()
        self.count = 0

    def add(self, record: Record) -> None:
        self.count += 1
        if record.sop_class_uid:
            self.classes.add(record.sop_class_uid)


class _Found(Answers):
    """Leaves out what does not match, and stops at the cap; `count` is what the node answered."""

    def __init__(self, records: Iterator[Record], query: Query, cap: int | None) -> None:
        super().__init__(records, cap)
        self._query = query

    def __next__(self) -> Record:
        for record in self._records:
            if self.capped:
                break
            self.count += 1
            if self._query.matches(record):
                return record
        self.close()
        raise StopIteration
