"""A DICOMweb service, searched, read and written over HTTP; its settings and the node itself.

Opened through `adit_engine.nodes.open_node`.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from adit_engine.dicom_ul.peer import Timeouts
from adit_engine.dicom_ul.tls import check_trusted_certificates
from adit_engine.errors import InvalidInput, NodeError
from adit_engine.messages import Message
from adit_engine.nodes.base import (
    NOT_OBSERVED,
    FindResults,
    Grade,
    NodeCapabilities,
    NodeFinding,
    StoreResult,
    TrafficObserver,
    check_factors,
    observe_received,
    observe_sent,
    setting_field,
)
from adit_engine.nodes.diagnostics import image_probe
from adit_engine.nodes.diagnostics.image_probe import FetchLimit, attempt_fetch
from adit_engine.nodes.diagnostics.query_probe import QueryProbe
from adit_engine.nodes.dicomweb import web_probe
from adit_engine.nodes.dicomweb.http import (
    DicomwebClient,
    DicomwebServer,
    basic_authorization,
    parse_root_url,
)
from adit_engine.nodes.dicomweb.qido import Qido, find_confirmed
from adit_engine.nodes.dicomweb.stow import Stow
from adit_engine.nodes.dicomweb.wado import Wado
from adit_engine.values.instance import Instance
from adit_engine.values.query import Query
from adit_engine.values.references import InstanceRef, Ref

_TIMES = ("connect_s", "first_byte_s", "no_progress_s")
MAX_PAGE_SIZE = 100_000
_SIGN_INS = ("none", "basic", "bearer")
_PREFIXES = ("qido_prefix", "wado_prefix", "stow_prefix")


def _origin(url: str) -> str:
    """Return scheme, host and port in a normalized form."""
    root = parse_root_url(url.strip())
    return f"{root.scheme}://{root.netloc.decode()}"


def _pem(text: str) -> str | None:
    """Return the text without line ends; None for none, so that older secrets stay valid."""
    return "".join(text.split()) or None


@dataclass(frozen=True)
class DicomwebSettings:
    url: str = setting_field(
        "",
        "Root URL",
        help="Such as https://pacs1.example/dicom-web.",
        recipient=_origin,
        example="https://pacs1.example/dicom-web",
    )
    sign_in: str = setting_field(
        "none", "Sign-in", help="none, basic (user and password) or bearer (token)."
    )
    user: str = setting_field("", "User", help="For basic.")
    password: str = setting_field(
        "", "Password", help="For basic.", secret=True, belongs_to="sign_in=basic"
    )
    token: str = setting_field(
        "", "Token", help="For bearer.", secret=True, belongs_to="sign_in=bearer"
    )
    ca_certificate: str = setting_field(
        "",
        "CA certificate",
        help="Certificate of the issuer, in PEM format. Empty: the authorities that this machine "
        "trusts.",
        advanced=True,
        pem=True,
        recipient=_pem,
    )
    ca_file: str = setting_field(
        "",
        "CA file",
        help="Path on this machine. Enter the CA certificate instead; the path is then removed.",
        advanced=True,
        replaced_by="ca_certificate",
        recipient=str.strip,
    )
    client_certificate: str = setting_field(
        "",
        "Client certificate file",
        help="If the server requires one (mutual TLS).",
        advanced=True,
    )
    client_key: str = setting_field(
        "", "Client key file", help="Empty: the key is in the certificate file.", advanced=True
    )
    qido_prefix: str = setting_field(
        "", "Path for searches", help="Below the root URL, if different.", advanced=True
    )
    wado_prefix: str = setting_field("", "Path for retrieval", advanced=True)
    stow_prefix: str = setting_field("", "Path for uploads", advanced=True)
    result_cap: int | None = setting_field(
        None,
        "Result limit",
        help="Maximum number of results that the server returns. Empty: no limit.",
        advanced=True,
    )
    page_size: int = setting_field(1000, "Results per request", advanced=True)
    connect_s: float = setting_field(5.0, "Seconds to connect", advanced=True)
    first_byte_s: float = setting_field(
        600.0,
        "Seconds until the first image",
        help="Long for tape and cloud archives.",
        advanced=True,
    )
    no_progress_s: float = setting_field(60.0, "Seconds without progress", advanced=True)
    total_s: float | None = setting_field(
        None, "Seconds for one request", help="Total waiting time. Empty: one day.", advanced=True
    )
    slow_factor: float = setting_field(
        2.0,
        "Slow from (times the usual time)",
        help="While its answers take so many times longer than usual, one study at a time is "
        "transferred. 0: never.",
        advanced=True,
    )
    pause_factor: float = setting_field(
        4.0,
        "Pause from (times the usual time)",
        help="While its answers take so many times longer than usual, jobs wait. 0: never. Has no "
        "effect at the command line.",
        advanced=True,
    )
    allow_local: bool = setting_field(
        False,
        "Allow this machine",
        help="Allow loopback addresses, such as 127.0.0.1. Link-local addresses and those of "
        "cloud metadata services are always refused.",
        advanced=True,
    )
    domain: str = setting_field(
        "",
        "Patient ID domain",
        help="Nodes that share patient IDs have the same domain.",
        advanced=True,
    )
    contact: str = setting_field(
        "", "Contact", help="Name, phone or mail address of its administrator."
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", self.url.strip())
        parse_root_url(self.url)
        self._check_sign_in()
        self._check_paths()
        self._check_numbers()

    def _check_sign_in(self) -> None:
        if self.sign_in not in _SIGN_INS:
            raise InvalidInput("setting.choice", setting="Sign-in", choices=_SIGN_INS)
        if self.sign_in == "basic" and (not self.user or ":" in self.user):
            raise InvalidInput("setting.user", setting="User")
        if self.sign_in == "basic" and not self.password:
            raise InvalidInput("setting.required", setting="Password")
        object.__setattr__(self, "token", self.token.strip())
        if self.sign_in == "bearer" and not self.token:
            raise InvalidInput("setting.required", setting="Token")
        if any(not 0x20 < ord(character) < 0x7F for character in self.token):
            raise InvalidInput("setting.ascii", setting="Token")

    def _check_paths(self) -> None:
        for name in _PREFIXES:
            path = getattr(self, name).strip().strip("/")
            if path:
                parse_root_url(f"http://host/{path}")
            object.__setattr__(self, name, f"/{path}" if path else "")
        check_trusted_certificates("CA certificate", self.ca_certificate)
        if self.client_key and not self.client_certificate:
            raise InvalidInput("tls.key-without-certificate", setting="Client key file")

    def _check_numbers(self) -> None:
        if self.result_cap is not None and self.result_cap < 1:
            raise InvalidInput("setting.positive-or-empty", setting="Result limit")
        if not 1 <= self.page_size <= MAX_PAGE_SIZE:
            raise InvalidInput(
                "setting.range", setting="Results per request", minimum=1, maximum=MAX_PAGE_SIZE
            )
        check_factors(self.slow_factor, self.pause_factor)
        if any(getattr(self, name) <= 0 for name in _TIMES):
            raise InvalidInput("setting.time-limits")
        if self.total_s is not None and self.total_s <= 0:
            raise InvalidInput("setting.positive-or-empty", setting="Seconds for one request")

    @property
    def timeouts(self) -> Timeouts:
        return Timeouts(**{name: getattr(self, name) for name in _TIMES})

    def server(self, name: str) -> DicomwebServer:
        authorization = {
            "none": "",
            "basic": basic_authorization(self.user, self.password),
            "bearer": f"Bearer {self.token}",
        }[self.sign_in]
        return DicomwebServer(
            name,
            parse_root_url(self.url),
            self.timeouts,
            authorization,
            self.ca_certificate,
            self.ca_file,
            self.client_certificate,
            self.client_key,
            self.allow_local,
        )


class DicomwebNode(NodeCapabilities):
    """A DICOMweb node. It keeps connections open and uses one per running iterator."""

    Settings = DicomwebSettings
    is_remote = True
    answers_echo = True

    def __init__(
        self, name: str, settings: DicomwebSettings, *, observer: TrafficObserver = NOT_OBSERVED
    ) -> None:
        self.name = name
        self._observer = observer
        self.settings = settings
        patience = settings.timeouts
        total_s = patience.total_s if settings.total_s is None else settings.total_s
        server = settings.server(name)
        self.rate_limiter = server.timeouts.rate_limiter
        self._client = DicomwebClient(server, total_s)
        within_s = patience.no_progress_s
        self._qido = Qido(self._client, settings.qido_prefix, settings.page_size, within_s)
        self._wado = Wado(self._client, settings.wado_prefix, patience, observer.retrieval_answered)

    def close(self) -> None:
        """End whatever an unfinished iterator still holds open."""
        self._client.close()

    def abort(self) -> None:
        self._client.abort()

    def check(self) -> Iterator[NodeFinding]:
        """Check by some small searches, and by requests that transfer no image."""
        yield from self._check_secrecy()
        given = self.settings
        probe = web_probe.DicomwebProbe(
            self._client, self._qido, (given.wado_prefix, given.stow_prefix)
        )
        try:
            yield from probe.findings()
            yield from QueryProbe(self._qido.find_unfiltered, given.result_cap).findings()
        except (NodeError, InvalidInput) as error:
            yield NodeFinding(Grade.BAD, error.message, Message("step.fix-pacs"))

    def measure_echo(self) -> float:
        """Return the seconds of a search for a study that cannot exist, connecting included.

        DICOMweb has no echo. Raises NodeError.
        """
        self._client.allow_requests()
        began = time.monotonic()
        keys = [("StudyInstanceUID", web_probe.NO_STUDY), ("limit", "1")]
        with self._qido.request("studies", keys) as answer:
            if not answer.is_missing:
                list(self._qido.read_objects(answer))
        return time.monotonic() - began

    def try_fetching(
        self, image: InstanceRef, *, within_s: float, patient_id: str = ""
    ) -> Iterator[NodeFinding]:
        """Fetch by WADO-RS."""
        limit = FetchLimit(within_s, self.cancel_fetches)
        yield attempt_fetch("WADO-RS", image, lambda: self.fetch([image]), limit).finding()

    def try_writing(self) -> Iterator[NodeFinding]:
        """Store a made-up image by STOW-RS, which stays there."""
        return image_probe.send_test_image(
            self, image_probe.make_test_image(parse_root_url(self.settings.url).host)
        )

    def _check_secrecy(self) -> Iterator[NodeFinding]:
        if parse_root_url(self.settings.url).scheme == "https":
            return
        is_anonymous = self.settings.sign_in == "none"
        code = "test.unencrypted" if is_anonymous else "test.unencrypted-sign-in"
        yield NodeFinding(Grade.WARNING, Message(code), Message("step.use-https"))

    def find(self, query: Query) -> FindResults:
        """Search by QIDO-RS, page by page."""
        self._client.allow_requests()
        return self._qido.find(query, self.settings.result_cap)

    def fetch(self, refs: Sequence[Ref], *, patient_id: str = "") -> Iterator[Instance]:
        """Fetch by WADO-RS, in the stored transfer syntax. `patient_id` is not sent."""
        self._client.allow_requests()
        return observe_received(self._wado.images(refs), self._observer)

    def cancel_fetches(self) -> None:
        self._client.cancel_requests()

    def store(self, instances: Iterable[Instance]) -> Iterator[StoreResult]:
        """Store by STOW-RS, some instances per request.

        The results come when a request has ended.
        """
        within_s = self.settings.no_progress_s
        stow = Stow(self._client, self.settings.stow_prefix, self._qido, within_s)
        return stow.store(observe_sent(instances, self._observer))

    def confirm(self, stored: Sequence[StoreResult]) -> Iterator[str]:
        """Confirm by QIDO-RS at instance level for each series; the rest by UID."""
        kept = [(one.ref.series, one.ref.instance_uid) for one in stored if one.is_stored]
        return find_confirmed(self._qido, kept)
