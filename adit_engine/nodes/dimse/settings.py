"""Settings of a PACS: address, AE titles, TLS and timeouts. Used by the DIMSE node."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from adit_engine.dicom_ul import identifier
from adit_engine.dicom_ul.peer import Peer, Timeouts
from adit_engine.errors import InvalidInput
from adit_engine.messages import Message
from adit_engine.nodes.base import Grade, NodeFinding, check_factors, setting_field
from adit_engine.storage_scp.pending_moves import AllowedSender, parse_senders
from adit_engine.values.references import AETitle

if TYPE_CHECKING:
    from adit_engine.dicom_ul.tls import ClientTls, TlsSession

TRANSPORTS = ("plain", "tls")
LEAST_TLS = ("1.2", "1.3")
WARN_DAYS = 30


class TransportSettings(Protocol):
    """The settings that concern TLS. Certificates and key are PEM text."""

    @property
    def transport(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def ca_certificate(self) -> str: ...
    @property
    def certificate_name(self) -> str: ...
    @property
    def client_certificate(self) -> str: ...
    @property
    def client_key(self) -> str: ...
    @property
    def least_tls(self) -> str: ...


def check_transport(settings: TransportSettings) -> None:
    """Check the TLS settings. Raises InvalidInput.

    Certificates are checked for transport tls only.
    """
    if settings.transport not in TRANSPORTS:
        raise InvalidInput("setting.choice", setting="Transport", choices=TRANSPORTS)
    if settings.least_tls not in LEAST_TLS:
        raise InvalidInput("setting.choice", setting="Minimum TLS version", choices=LEAST_TLS)
    for label, text in (
        ("CA certificate", settings.ca_certificate),
        ("Client certificate", settings.client_certificate),
    ):
        # Of these fields only the client key is stored encrypted.
        if "PRIVATE KEY-----" in text:
            raise InvalidInput("setting.private-key-in-certificate", setting=label)
    tls = make_client_tls(settings)
    if tls is not None:
        tls.check()


def make_client_tls(settings: TransportSettings) -> "ClientTls | None":
    """Return the TLS configuration, or None for an unencrypted connection."""
    if settings.transport == "plain":
        return None
    from adit_engine.dicom_ul.tls import (  # loads ssl, which most nodes do not need
        ClientTls,
        Pem,
        TlsCredentials,
    )

    credentials = TlsCredentials(
        Pem("Client certificate", settings.client_certificate),
        Pem("Client key", settings.client_key),
        Pem("CA certificate", settings.ca_certificate),
    )
    return ClientTls(
        credentials, settings.certificate_name.strip() or settings.host, settings.least_tls
    )


def check_encryption(session: "TlsSession | None") -> Iterator[NodeFinding]:
    """Report the encryption of an open association; nothing for an unencrypted one."""
    if session is None:
        return
    if session.ends_at is None:
        yield NodeFinding(Grade.GOOD, Message("test.encrypted", version=session.version))
        return
    values = {"version": session.version, "day": f"{session.ends_at:%Y-%m-%d}"}
    if (session.ends_at - datetime.now(UTC)).days >= WARN_DAYS:
        yield NodeFinding(Grade.GOOD, Message("test.encrypted-until", **values))
    else:
        yield NodeFinding(
            Grade.WARNING,
            Message("test.certificate-expires", **values),
            Message("step.renew-certificate"),
        )


_TIMES = ("connect_s", "association_s", "first_byte_s", "no_progress_s")
_RETRIEVE_METHODS = ("auto", "get", "move")
_ROOTS = ("study", "patient")
_PROOFS = ("find", "commitment", "none")
MAX_ASSOCIATIONS = 8
MIN_PDU_BYTES, MAX_PDU_BYTES = 4096, 16 * 1024 * 1024


def _host(name: str) -> str:
    return name.strip().lower()


def _pem(text: str) -> str:
    return "".join(text.split())


@dataclass(frozen=True)
class DimseSettings:
    called_ae_title: str = setting_field(
        "",
        "Called AE title",
        help="AE title of the PACS, as given by its administrator.",
        example="PACS",
    )
    host: str = setting_field(
        "", "Host", help="Name or IP address.", recipient=_host, example="pacs.example"
    )
    port: int = setting_field(
        104, "Port", help="Often 104, 4242 or 11112, with TLS 2762.", recipient=str
    )
    calling_ae_title: str = setting_field(
        "ADIT", "Our AE title", help="The administrator of the PACS must register it there."
    )
    transport: str = setting_field(
        "plain",
        "Transport",
        help="plain: unencrypted and without authentication; tls: encrypted and authenticated. "
        "The certificates are among the advanced settings.",
        choices=TRANSPORTS,
        recipient=str,
    )
    ca_certificate: str = setting_field(
        "",
        "CA certificate",
        help="For tls: the certificate of the issuer of the PACS certificate, or the PACS "
        "certificate itself, in PEM format. Empty: the authorities that this machine trusts.",
        advanced=True,
        pem=True,
        recipient=_pem,
    )
    certificate_name: str = setting_field(
        "",
        "Name in the certificate",
        help="For tls: only if the PACS certificate is issued for another name than the host.",
        advanced=True,
        recipient=_host,
    )
    client_certificate: str = setting_field(
        "",
        "Client certificate",
        help="For tls: our certificate in PEM format, if the PACS requires one.",
        advanced=True,
        pem=True,
    )
    client_key: str = setting_field(
        "",
        "Client key",
        help="For tls: the key of the client certificate, in PEM format, without a password.",
        secret=True,
        advanced=True,
        pem=True,
        belongs_to="client_certificate",
    )
    least_tls: str = setting_field("1.2", "Minimum TLS version", choices=LEAST_TLS, advanced=True)
    query_root: str = setting_field(
        "study",
        "Query root",
        help="study or patient. Use patient only if the PACS does not support study.",
        advanced=True,
    )
    retrieve: str = setting_field(
        "auto",
        "Retrieve by",
        help="get: C-GET; move: C-MOVE, for which our address and port must be registered at the "
        "PACS; auto: C-GET, and C-MOVE if that fails.",
        advanced=True,
    )
    senders: str = setting_field(
        "",
        "Senders",
        help="Who may send us images after a C-MOVE, and Storage Commitment reports, such as "
        "PACS1@10.0.0.0/24, PACS2. Empty: the called AE title, from the address of the host.",
        advanced=True,
    )
    result_cap: int | None = setting_field(
        None,
        "Result limit",
        help="Maximum number of results that the PACS returns. Empty: no limit.",
        advanced=True,
    )
    character_set_fallback: str = setting_field(
        "",
        "Default character set",
        help="Used if the PACS declares none, such as ISO_IR 100. Empty: UTF-8, then Latin-1.",
        advanced=True,
    )
    retrieve_associations: int = setting_field(
        1,
        "Connections for fetching",
        help="1 to 8. The images of a series are fetched over this many connections at once. Faster "
        "over a network with delays. Each counts towards the connection limit.",
        advanced=True,
    )
    store_associations: int = setting_field(
        1,
        "Connections for sending",
        help="1 to 8. With 2, the next image is sent while the PACS stores the previous one. More "
        "are faster over a network with delays. Each counts towards the connection limit.",
        advanced=True,
    )
    slow_factor: float = setting_field(
        2.0,
        "Slow from (times the usual time)",
        help="While its answers take so many times longer than usual, only one connection fetches "
        "and one sends. 0: never.",
        advanced=True,
    )
    pause_factor: float = setting_field(
        4.0,
        "Pause from (times the usual time)",
        help="While its answers take so many times longer than usual, jobs wait. 0: never. Has no "
        "effect at the command line.",
        advanced=True,
    )
    proof: str = setting_field(
        "find",
        "Verification of storage",
        help="For images that we send. find: by a query; commitment: by a Storage Commitment "
        "report of the PACS and a query; none: no verification.",
        choices=_PROOFS,
        advanced=True,
    )
    commitment_s: float = setting_field(
        60.0,
        "Seconds for the Storage Commitment report",
        help="After that, storage is verified by a query.",
        advanced=True,
    )
    max_pdu: int = setting_field(131072, "Maximum PDU size (bytes)", advanced=True)
    connect_s: float = setting_field(5.0, "Seconds to connect", advanced=True)
    association_s: float = setting_field(15.0, "Seconds to open an association", advanced=True)
    first_byte_s: float = setting_field(
        600.0,
        "Seconds until the first image",
        help="Long for tape and cloud archives.",
        advanced=True,
    )
    no_progress_s: float = setting_field(60.0, "Seconds without progress", advanced=True)
    drain_s: float = setting_field(
        10.0, "Seconds for late images", help="After the end of a C-MOVE.", advanced=True
    )
    total_s: float | None = setting_field(
        None,
        "Seconds for one retrieval",
        help="Empty: depends on the number of images.",
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
        for name, label in (
            ("called_ae_title", "Called AE title"),
            ("calling_ae_title", "Our AE title"),
        ):
            try:
                object.__setattr__(self, name, str(AETitle(getattr(self, name))))
            except InvalidInput as error:
                raise InvalidInput("setting.invalid", setting=label, error=error.message) from None
        object.__setattr__(self, "host", self.host.strip())
        if not self.host or any(character.isspace() for character in self.host):
            raise InvalidInput("setting.host")
        self._check_numbers()
        self._check_words()
        check_transport(self)

    def _check_numbers(self) -> None:
        if not 1 <= self.port <= 65535:
            raise InvalidInput("setting.range", setting="Port", minimum=1, maximum=65535)
        if not MIN_PDU_BYTES <= self.max_pdu <= MAX_PDU_BYTES:
            raise InvalidInput(
                "setting.range",
                setting="Maximum PDU size (bytes)",
                minimum=MIN_PDU_BYTES,
                maximum=MAX_PDU_BYTES,
            )
        for count, label in (
            (self.retrieve_associations, "Connections for fetching"),
            (self.store_associations, "Connections for sending"),
        ):
            if not 1 <= count <= MAX_ASSOCIATIONS:
                raise InvalidInput(
                    "setting.range", setting=label, minimum=1, maximum=MAX_ASSOCIATIONS
                )
        check_factors(self.slow_factor, self.pause_factor)
        if self.result_cap is not None and self.result_cap < 1:
            raise InvalidInput("setting.positive-or-empty", setting="Result limit")
        if any(getattr(self, name) <= 0 for name in (*_TIMES, "drain_s", "commitment_s")):
            raise InvalidInput("setting.time-limits")
        if self.total_s is not None and self.total_s <= 0:
            raise InvalidInput("setting.positive-or-empty", setting="Seconds for one retrieval")

    def _check_words(self) -> None:
        if self.query_root not in _ROOTS:
            raise InvalidInput("setting.choice", setting="Query root", choices=_ROOTS)
        if self.retrieve not in _RETRIEVE_METHODS:
            raise InvalidInput("setting.choice", setting="Retrieve by", choices=_RETRIEVE_METHODS)
        if self.proof not in _PROOFS:
            raise InvalidInput("setting.choice", setting="Verification of storage", choices=_PROOFS)
        try:
            parse_senders(self.senders)
        except InvalidInput as error:
            raise InvalidInput("setting.invalid", setting="Senders", error=error.message) from None
        if self.character_set_fallback and not identifier.is_character_set(
            self.character_set_fallback
        ):
            raise InvalidInput("setting.character-set", setting="Default character set")

    def resolve_senders(self) -> tuple[AllowedSender, ...]:
        """Return the senders allowed to send images.

        Resolves the host name if none are configured.
        """
        if self.senders:
            return parse_senders(self.senders)
        with suppress(OSError, UnicodeError):
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
            addresses = dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found)
            return (AllowedSender(self.called_ae_title, tuple(addresses)),)
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
            timeouts=Timeouts(**times),
            tls=make_client_tls(self),
        )
