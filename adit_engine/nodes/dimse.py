"""DIMSE node: a PACS or any other DICOM application, spoken to over the network."""

import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

from adit_engine.errors import (
    CannotDo,
    NodeError,
    WrongInput,
)
from adit_engine.expectation import Reception, Sender, senders
from adit_engine.instance import Instance
from adit_engine.nodes import dummy, identifier, letters, search, transport
from adit_engine.nodes.association import Association, Associations, Patience, Peer
from adit_engine.nodes.attempt import Limit, attempted
from adit_engine.nodes.base import Answers, Finding, Grade, Proposal, Stored, setting
from adit_engine.nodes.detour import Detour
from adit_engine.nodes.fetching import Fetching, Route
from adit_engine.nodes.manners import Manners
from adit_engine.nodes.moving import PATIENT_ROOT_MOVE, STUDY_ROOT_MOVE
from adit_engine.nodes.offers import Chosen, Offers
from adit_engine.nodes.retrieval import (
    PATIENT_ROOT_GET,
    STUDY_ROOT_GET,
    Wish,
    lots,
    wishes_of,
)
from adit_engine.nodes.search import Found, Search
from adit_engine.nodes.storage import Storage
from adit_engine.nodes.transport import LEAST_TLS, TRANSPORTS
from adit_engine.query import Query
from adit_engine.record import Record
from adit_engine.reference import AETitle, InstanceRef, Level, Ref, SeriesRef

_TIMES = ("connect_s", "association_s", "first_byte_s", "no_progress_s")
_ROUTES = ("auto", "get", "move")
_WAYS = {"get": "C-GET", "move": "C-MOVE"}
_FIND_CLASSES = {"study": search.STUDY_ROOT, "patient": search.PATIENT_ROOT}


@dataclass(frozen=True)
class DimseSettings:
    called_ae_title: str = setting(
        "", "Called AE title", help="The PACS's own AE title, as its administrator names it."
    )
    host: str = setting("", "Host", help="Name or IP address.")
    port: int = setting(104, "Port", help="Often 104, 4242 or 11112; with TLS 2762.")
    calling_ae_title: str = setting(
        "ADIT", "Our AE title", help="Has to be registered at the PACS by its administrator."
    )
    transport: str = setting(
        "plain",
        "Transport",
        help="plain: anybody in between can read along; tls: encrypted, and sure who is there. "
        "The certificates are among the rarely needed settings.",
        choices=TRANSPORTS,
    )
    ca_certificate: str = setting(
        "",
        "CA certificate",
        help="For tls: of whoever issued the PACS's certificate, or that certificate itself, in "
        "PEM format. Empty: the authorities that this machine trusts.",
        advanced=True,
        pem=True,
    )
    certificate_name: str = setting(
        "",
        "Name in its certificate",
        help="For tls: only where the PACS's certificate carries another name than the host.",
        advanced=True,
    )
    client_certificate: str = setting(
        "",
        "Client certificate",
        help="For tls: ours, where the PACS wants to see one, in PEM format.",
        advanced=True,
        pem=True,
    )
    client_key: str = setting(
        "",
        "Client key",
        help="For tls: of the client certificate, in PEM format, without a password.",
        secret=True,
        advanced=True,
        pem=True,
        belongs_to="client_certificate",
    )
    least_tls: str = setting("1.2", "Oldest version of TLS", choices=LEAST_TLS, advanced=True)
    query_root: str = setting(
        "study",
        "Query root",
        help="study or patient; patient only for a PACS that knows nothing else.",
        advanced=True,
    )
    retrieve: str = setting(
        "auto",
        "Retrieve by",
        help="get: C-GET; move: C-MOVE, for which the PACS has to know our address and port; "
        "auto: C-GET, and C-MOVE where that fails.",
        advanced=True,
    )
    senders: str = setting(
        "",
        "Senders",
        help="Whose images are taken after a C-MOVE, such as PACS1@10.0.0.0/24, PACS2. "
        "Empty: the called AE title, from the host's address.",
        advanced=True,
    )
    result_cap: int | None = setting(
        None,
        "Result cap",
        help="The most answers the PACS gives to a search; empty where it has no such limit.",
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
    drain_s: float = setting(
        10.0, "Seconds for late images", help="After the end of a C-MOVE.", advanced=True
    )
    total_s: float | None = setting(
        None,
        "Seconds for one retrieval",
        help="Empty: grows with the number of images.",
        advanced=True,
    )
    domain: str = setting(
        "", "Patient-ID domain", help="Places that share patient ids name the same.", advanced=True
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
        transport.check(self)

    def _check_numbers(self) -> None:
        if not 1 <= self.port <= 65535:
            raise WrongInput("Port: give a number from 1 to 65535.")
        if not 4096 <= self.max_pdu <= 16 * 1024 * 1024:
            raise WrongInput("Largest PDU: give 4096 to 16777216 bytes.")
        if self.result_cap is not None and self.result_cap < 1:
            raise WrongInput("Result cap: give 1 or more, or leave it empty.")
        if any(getattr(self, name) <= 0 for name in (*_TIMES, "drain_s")):
            raise WrongInput("Time limits are more than 0 seconds.")
        if self.total_s is not None and self.total_s <= 0:
            raise WrongInput("Seconds for one retrieval: more than 0, or leave it empty.")

    def _check_words(self) -> None:
        if self.query_root not in ("study", "patient"):
            raise WrongInput("Query root: study or patient.")
        if self.retrieve not in _ROUTES:
            raise WrongInput("Retrieve by: auto, get or move.")
        try:
            senders(self.senders)
        except WrongInput as error:
            raise WrongInput(f"Senders: {error}") from None
        if self.character_set_fallback and not identifier.is_character_set(
            self.character_set_fallback
        ):
            raise WrongInput("Character set: give a DICOM term such as ISO_IR 100.")

    def whose_images(self) -> tuple[Sender, ...]:
        """From whom images may come; asks the name service where only the host is known."""
        if self.senders:
            return senders(self.senders)
        with suppress(OSError, UnicodeError):
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
            addresses = dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found)
            return (Sender(self.called_ae_title, tuple(addresses)),)
        return ()

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
            tls=transport.tls_for(self),
        )


class DimseNode:
    """Opens an association for each call, and holds at most one per running iterator."""

    Settings = DimseSettings
    receives = True
    """Its images may come by way of a reception."""

    def __init__(
        self, name: str, settings: DimseSettings, reception: Reception | None = None
    ) -> None:
        self.name = name
        self.settings = settings
        self._associations = Associations(settings.peer(name))
        patient_root = settings.query_root == "patient"
        self._find_class = _FIND_CLASSES[settings.query_root]
        self._get_class = PATIENT_ROOT_GET if patient_root else STUDY_ROOT_GET
        self._move_class = PATIENT_ROOT_MOVE if patient_root else STUDY_ROOT_MOVE
        self._reception = reception
        self._aborted = False
        self._fetches: set[Fetching] = set()
        self._route = Route(
            settings.retrieve,
            self._get_class,
            self._move_class,
            settings.drain_s,
            settings.whose_images,
        )
        self._search = Search(name, self._find_class, settings.character_set_fallback)

    def close(self) -> None:
        """Ends what an iterator that nobody finished still holds open."""
        self._aborted = True
        self._associations.abort()
        for fetching in tuple(self._fetches):
            fetching.close()
        self._search.forget()

    def abort(self) -> None:
        """Ends every wait at once; a C-MOVE is cancelled first, which may take some seconds."""
        self._aborted = True
        self._associations.abort()
        self.break_off()

    # Checks ------------------------------------------------------------------------------------

    def check(self) -> Iterator[Finding]:
        """By one association that asks for everything, and some ten small searches."""
        given = self.settings
        chosen = Chosen(given.query_root, given.retrieve, given.calling_ae_title, given.max_pdu)
        offers = Offers(self._associations, chosen)
        try:
            yield from offers.findings()
            if offers.root:
                yield from self._manners(offers.root)
        except NodeError as error:
            yield Finding(Grade.BAD, str(error), "Mend this before the PACS is used.")

    def _manners(self, root: str) -> Iterator[Finding]:
        """Without the settings that it may propose to change."""
        plainly = Search(self.name, _FIND_CLASSES[root], letters.READ_AS)

        def ask(query: Query) -> Answers:
            return Answers(self._records(query, plainly))

        manners = Manners(ask, self.settings.result_cap, by_patient=root == "patient")
        yield from manners.findings()
        if manners.studies:
            yield from letters.findings(manners.studies, self.settings.character_set_fallback)

    def try_fetching(
        self, image: InstanceRef, *, within_s: float, patient_id: str = ""
    ) -> Iterator[Finding]:
        """By C-GET and, where a receiver runs, by C-MOVE; proposes the way that works."""
        came = []
        for by, way in _WAYS.items():
            if by == "move" and self._reception is None:
                yield Finding(Grade.WARNING, "C-MOVE was not tried: no receiver runs here.")
                continue
            began = datetime.now(UTC)
            fetch = partial(self._fetch, replace(self._route, by=by), [image], patient_id)
            attempt = attempted(way, image, fetch, Limit(within_s, self.break_off))
            if attempt.came:
                came.append(by)
            if attempt.came or by == "get" or self._reception is None:
                yield attempt.finding()
                continue
            text, known = self.settings.senders, self.settings.whose_images()
            yield from Detour(self.name, text, known, self._reception).findings(attempt, began)
        yield from self._preferred(came)

    def _preferred(self, came: Sequence[str]) -> Iterator[Finding]:
        """What the attempts say of the setting Retrieve by."""
        chosen = self.settings.retrieve
        if not came or chosen in came or (chosen == "auto" and "get" in came):
            return
        why = f"By {_WAYS[came[0]]} the image came."
        step = f"Choose {came[0]} for Retrieve by."
        what = f"Images of {self.name} come by {_WAYS[came[0]]}, and its settings name another way."
        yield Finding(Grade.WARNING, what, step, (Proposal("retrieve", came[0], why),))

    def try_writing(self) -> Iterator[Finding]:
        """By C-STORE of a made-up image, which stays there."""
        return dummy.sent(self, dummy.dummy(self.settings.calling_ae_title))

    # Search ------------------------------------------------------------------------------------

    def find(self, query: Query) -> Answers:
        """Answers that do not match by our own reading are left out, and count for the cap."""
        return Found(self._records(query), query, self.settings.result_cap)

    def _records(self, query: Query, search: Search | None = None) -> Iterator[Record]:
        asking = search or self._search
        with self._associations.open([asking.context(query.level)]) as association:
            yield from asking.ask(association, query)

    # Retrieval ---------------------------------------------------------------------------------

    def fetch(self, refs: Sequence[Ref], *, patient_id: str = "") -> Iterator[Instance]:
        """By C-GET or C-MOVE. Asks first what will come, unless a find has told it."""
        if self.settings.retrieve == "move" and self._reception is None:
            text = "is set to C-MOVE, and no receiver runs here that could take its images."
            raise CannotDo(self.name, f"{text} Set Retrieve by to get, or run a receiver.")
        return self._fetch(self._route, refs, patient_id)

    def _fetch(self, route: Route, refs: Sequence[Ref], patient_id: str) -> Iterator[Instance]:
        if self._get_class == PATIENT_ROOT_GET and not patient_id:
            raise WrongInput(f"{self.name} has a patient root: say the patient's id with the UIDs.")
        # With a study root the patient's id is no key of a retrieval (PS3.4 C.6.2.2).
        patient_root = self._get_class == PATIENT_ROOT_GET
        fetching = Fetching(self._associations.peer, route, self._search, self._reception)
        self._fetches.add(fetching)
        if self._aborted:
            fetching.stop()
        return self._fetched(fetching, wishes_of(refs, patient_id if patient_root else ""))

    def _fetched(self, fetching: Fetching, wishes: Sequence[Wish]) -> Iterator[Instance]:
        try:
            yield from fetching.images(wishes)
        finally:
            self._fetches.discard(fetching)

    def break_off(self) -> None:
        """Ends the fetches under way at once, from any thread; the node may be asked again."""
        for fetching in tuple(self._fetches):
            fetching.stop()

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
        with self._associations.open([self._search.context()]) as association:
            for ref, unproven in series.items():
                query, before = Query.instances_of(ref), len(unproven) + 1
                yield from self._proven(association, query, unproven)
                # A node may cut the answers by UID short, too.
                while 0 < len(unproven) < before:
                    before = len(unproven)
                    for lot in lots(sorted(unproven)):
                        by_uid = Query(Level.IMAGE, {**query.keys, "SOPInstanceUID": lot})
                        yield from self._proven(association, by_uid, unproven)

    def _proven(self, association: Association, query: Query, unproven: set[str]) -> Iterator[str]:
        for record in self._search.ask(association, query):
            if record.instance_uid in unproven and query.matches(record):
                unproven.discard(record.instance_uid)
                yield record.instance_uid
