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
from adit_engine.nodes.base import Grade, NodeFinding, setting
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


def check_transport(given: TransportSettings) -> None:
    """Check the TLS settings. Raises InvalidInput.

    Certificates are checked for transport tls only.
    """
    if given.transport not in TRANSPORTS:
        raise InvalidInput("Transport: plain or tls.")
    if given.least_tls not in LEAST_TLS:
        raise InvalidInput("Oldest version of TLS: 1.2 or 1.3.")
    for label, text in (
        ("CA certificate", given.ca_certificate),
        ("Client certificate", given.client_certificate),
    ):
        # Of these fields only the client key is stored encrypted.
        if "PRIVATE KEY-----" in text:
            raise InvalidInput(f"{label}: it holds a private key. Put that into Client key.")
    tls = make_client_tls(given)
    if tls is not None:
        tls.check()


def make_client_tls(given: TransportSettings) -> "ClientTls | None":
    """Return the TLS configuration, or None for an unencrypted connection."""
    if given.transport == "plain":
        return None
    from adit_engine.dicom_ul.tls import (  # loads ssl, which most nodes do not need
        ClientTls,
        Pem,
        TlsCredentials,
    )

    credentials = TlsCredentials(
        Pem("Client certificate", given.client_certificate),
        Pem("Client key", given.client_key),
        Pem("CA certificate", given.ca_certificate),
    )
    return ClientTls(credentials, given.certificate_name.strip() or given.host, given.least_tls)


def check_encryption(seal: "TlsSession | None") -> Iterator[NodeFinding]:
    """Report the encryption of an open association; nothing for an unencrypted one."""
    if seal is None:
        return
    what = f"The connection is encrypted ({seal.version})."
    if seal.ends_at is None:
        yield NodeFinding(Grade.GOOD, what)
        return
    day = f"{seal.ends_at:%Y-%m-%d}"
    if (seal.ends_at - datetime.now(UTC)).days >= WARN_DAYS:
        yield NodeFinding(Grade.GOOD, f"{what} Its certificate is valid until {day}.")
    else:
        yield NodeFinding(
            Grade.WARNING,
            f"{what} Its certificate ends on {day}.",
            "Ask its administrator to renew it before that day; nothing is transferred afterwards.",
        )


_TIMES = ("connect_s", "association_s", "first_byte_s", "no_progress_s")
_RETRIEVE_METHODS = ("auto", "get", "move")
_ROOTS = ("study", "patient")
_PROOFS = ("find", "commitment", "none")
MAX_STORE_ASSOCIATIONS = 2


def _host(name: str) -> str:
    return name.strip().lower()


def _pem(text: str) -> str:
    return "".join(text.split())


@dataclass(frozen=True)
class DimseSettings:
    called_ae_title: str = setting(
        "", "Called AE title", help="The PACS's own AE title, as its administrator names it."
    )
    host: str = setting("", "Host", help="Name or IP address.", recipient=_host)
    port: int = setting(104, "Port", help="Often 104, 4242 or 11112; with TLS 2762.", recipient=str)
    calling_ae_title: str = setting(
        "ADIT", "Our AE title", help="Has to be registered at the PACS by its administrator."
    )
    transport: str = setting(
        "plain",
        "Transport",
        help="plain: anybody in between can read along; tls: encrypted, and sure who is there. "
        "The certificates are among the rarely needed settings.",
        choices=TRANSPORTS,
        recipient=str,
    )
    ca_certificate: str = setting(
        "",
        "CA certificate",
        help="For tls: of whoever issued the PACS's certificate, or that certificate itself, in "
        "PEM format. Empty: the authorities that this machine trusts.",
        advanced=True,
        pem=True,
        recipient=_pem,
    )
    certificate_name: str = setting(
        "",
        "Name in its certificate",
        help="For tls: only where the PACS's certificate carries another name than the host.",
        advanced=True,
        recipient=_host,
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
        help="Whose images are taken after a C-MOVE, and whose reports of what is kept, such as "
        "PACS1@10.0.0.0/24, PACS2. "
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
    store_associations: int = setting(
        1,
        "Connections for sending",
        help="1 or 2. By two, the next image travels while the PACS files the one before; each "
        "counts against the limit that was agreed on.",
        advanced=True,
    )
    proof: str = setting(
        "find",
        "Proof that images are kept",
        help="Of what we send. find: we search for it; commitment: the PACS reports it itself "
        "(Storage Commitment) and a search agrees, or stands in for it; none: nobody asks.",
        choices=_PROOFS,
        advanced=True,
    )
    commitment_s: float = setting(
        60.0,
        "Seconds for its report",
        help="Of Storage Commitment; after that we search.",
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
            except InvalidInput as error:
                raise InvalidInput(f"{label}: {error}") from None
        object.__setattr__(self, "host", self.host.strip())
        if not self.host or any(character.isspace() for character in self.host):
            raise InvalidInput("Host: give a host name or an IP address.")
        self._check_numbers()
        self._check_words()
        check_transport(self)

    def _check_numbers(self) -> None:
        if not 1 <= self.port <= 65535:
            raise InvalidInput("Port: give a number from 1 to 65535.")
        if not 4096 <= self.max_pdu <= 16 * 1024 * 1024:
            raise InvalidInput("Largest PDU: give 4096 to 16777216 bytes.")
        if not 1 <= self.store_associations <= MAX_STORE_ASSOCIATIONS:
            raise InvalidInput("Connections for sending: 1 or 2.")
        if self.result_cap is not None and self.result_cap < 1:
            raise InvalidInput("Result cap: give 1 or more, or leave it empty.")
        if any(getattr(self, name) <= 0 for name in (*_TIMES, "drain_s", "commitment_s")):
            raise InvalidInput("Time limits are more than 0 seconds.")
        if self.total_s is not None and self.total_s <= 0:
            raise InvalidInput("Seconds for one retrieval: more than 0, or leave it empty.")

    def _check_words(self) -> None:
        if self.query_root not in _ROOTS:
            raise InvalidInput("Query root: study or patient.")
        if self.retrieve not in _RETRIEVE_METHODS:
            raise InvalidInput("Retrieve by: auto, get or move.")
        if self.proof not in _PROOFS:
            raise InvalidInput("Proof that images are kept: find, commitment or none.")
        try:
            parse_senders(self.senders)
        except InvalidInput as error:
            raise InvalidInput(f"Senders: {error}") from None
        if self.character_set_fallback and not identifier.is_character_set(
            self.character_set_fallback
        ):
            raise InvalidInput("Character set: give a DICOM term such as ISO_IR 100.")

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
            patience=Timeouts(**times),
            tls=make_client_tls(self),
        )
