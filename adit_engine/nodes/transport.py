"""Transport: whether a PACS is spoken to in the clear or by TLS, read from its settings."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from adit_engine.errors import WrongInput
from adit_engine.nodes.base import Finding, Grade

if TYPE_CHECKING:
    from adit_engine.nodes.tls import ClientTls, Seal

TRANSPORTS = ("plain", "tls")
LEAST_TLS = ("1.2", "1.3")
WARN_DAYS = 30


class Given(Protocol):
    """The settings that matter here; certificates and key as PEM text."""

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


def check(given: Given) -> None:
    """Raises WrongInput; certificates are looked at for tls only."""
    if given.transport not in TRANSPORTS:
        raise WrongInput("Transport: plain or tls.")
    if given.least_tls not in LEAST_TLS:
        raise WrongInput("Oldest version of TLS: 1.2 or 1.3.")
    for label, text in (
        ("CA certificate", given.ca_certificate),
        ("Client certificate", given.client_certificate),
    ):
        # Only the key is kept sealed.
        if "PRIVATE KEY-----" in text:
            raise WrongInput(f"{label}: it holds a private key. Put that into Client key.")
    tls = tls_for(given)
    if tls is not None:
        tls.check()


def tls_for(given: Given) -> "ClientTls | None":
    """None in the clear."""
    if given.transport == "plain":
        return None
    from adit_engine.nodes.tls import ClientTls, Papers, Pem  # ssl: only for who needs it

    papers = Papers(
        Pem("Client certificate", given.client_certificate),
        Pem("Client key", given.client_key),
        Pem("CA certificate", given.ca_certificate),
    )
    return ClientTls(papers, given.certificate_name.strip() or given.host, given.least_tls)


def findings(seal: "Seal | None") -> Iterator[Finding]:
    """What an open association shows of its encryption; nothing in the clear."""
    if seal is None:
        return
    what = f"The connection is encrypted ({seal.version})."
    if seal.ends_at is None:
        yield Finding(Grade.GOOD, what)
        return
    day = f"{seal.ends_at:%Y-%m-%d}"
    if (seal.ends_at - datetime.now(UTC)).days >= WARN_DAYS:
        yield Finding(Grade.GOOD, f"{what} Its certificate is valid until {day}.")
    else:
        yield Finding(
            Grade.WARNING,
            f"{what} Its certificate ends on {day}.",
            "Ask its administrator to renew it before that day; nothing is transferred afterwards.",
        )
