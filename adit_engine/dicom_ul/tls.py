"""TLS: certificates, trust, error texts, and reading certificates for display.

TLS 1.2 or newer, forward secrecy and authenticated ciphers only: the BCP 195 RFC 8996 profile of
PS3.15 B.12, without its older ciphers. Used by the DIMSE and DICOMweb nodes, our Storage SCP, and
the pages that show certificates.
"""

import os
import re
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import NoReturn, Protocol

from cryptography import x509
from cryptography.x509.oid import NameOID

from adit_engine.errors import InvalidInput, Untrusted

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}

LabelledPath = tuple[str, str]
"""The display name of a file and its path; an empty path means that there is none."""

_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM"
_MISMATCHES = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")
# The archive's own certificate may be trusted in place of its issuer's.
_PARTIAL_CHAIN = ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN


@dataclass(frozen=True, slots=True)
class Pem:
    """One text in PEM format, with its display name for errors."""

    label: str
    text: str = field(default="", repr=False)

    @classmethod
    def of_file(cls, label: str, path: str) -> "Pem":
        """Read a file. Empty without a path. Raises InvalidInput."""
        try:
            return cls(label, Path(path).read_text() if path else "")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise InvalidInput(f"{label}: {path} cannot be read: {reason}.") from None


@dataclass(frozen=True, slots=True)
class TlsCredentials:
    """Our certificate and key, and the certificates that we trust; any of them may be empty."""

    certificate: Pem
    key: Pem
    trusted: Pem

    @classmethod
    def of_files(
        cls, certificate: LabelledPath, key: LabelledPath, trusted: LabelledPath
    ) -> "TlsCredentials":
        """Read the files, each given with its label. Raises InvalidInput.

        Without a key file, the key is in the certificate file.
        """
        shown = Pem.of_file(*certificate)
        own = Pem.of_file(*key) if key[1] else Pem(certificate[0], shown.text)
        return cls(shown, own, Pem.of_file(*trusted))


@dataclass(frozen=True, slots=True)
class TlsSession:
    """The negotiated session.

    `ends_at` is when the peer's certificate expires, if it has one.
    """

    version: str
    ends_at: datetime | None


class TlsSettings(Protocol):
    """What a connection needs for TLS."""

    papers: TlsCredentials
    is_server: bool
    name: str
    """The name that the peer's certificate has to carry; empty: any."""

    def wrap(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        """Return a TLS object whose handshake has not begun. Raises InvalidInput."""
        ...


class ClientTls:
    """TLS as a client. Without `trusted`, the authorities that this machine trusts are used."""

    is_server = False

    def __init__(self, papers: TlsCredentials, name: str, minimum: str = "1.2") -> None:
        self.papers = papers
        self.name = name
        self._minimum = minimum

    def wrap(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        return self.context.wrap_bio(incoming, outgoing, server_hostname=self.name)

    def check(self) -> None:
        """Raise InvalidInput when the certificates cannot be used; opens no connection."""
        self._own_context()
        try:
            self.name.encode("idna")
        except UnicodeError:
            raise InvalidInput("Name in its certificate: this cannot be a name.") from None

    @cached_property
    def context(self) -> ssl.SSLContext:
        """The SSL context. Raises InvalidInput when the certificates cannot be used."""
        context = self._own_context()
        if not self.papers.trusted.text:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        return context

    def _own_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _configure_context(context, self.papers, self._minimum)
        return context


class ServerTls:
    """TLS as a server. With `trusted`, every caller must present a certificate issued by it."""

    is_server = True
    name = ""

    def __init__(self, papers: TlsCredentials) -> None:
        """Raise InvalidInput when the certificates cannot be used."""
        if not papers.certificate.text:
            raise InvalidInput(f"{papers.certificate.label}: it is needed for TLS.")
        self.papers = papers
        self._context = context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        _configure_context(context, papers, "1.2")
        # No client returns within the hour to resume a session, so tickets are of no use.
        context.num_tickets = 0
        context.options |= ssl.OP_NO_TICKET
        if papers.trusted.text:
            context.verify_mode = ssl.CERT_REQUIRED

    def wrap(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        return self._context.wrap_bio(incoming, outgoing, server_side=True)


def _configure_context(context: ssl.SSLContext, papers: TlsCredentials, minimum: str) -> None:
    context.minimum_version = VERSIONS[minimum]
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.verify_flags |= _PARTIAL_CHAIN
    if papers.trusted.text:
        _load_trusted(context, papers.trusted)
    if papers.certificate.text:
        _load_own_certificate(context, papers)
    elif papers.key.text:
        raise InvalidInput(f"{papers.key.label}: it needs the certificate that belongs to it.")


def _load_trusted(context: ssl.SSLContext, pem: Pem) -> None:
    try:
        # Certificate bundles may hold comments in any characters; certificates themselves are
        # ASCII.
        context.load_verify_locations(cadata=pem.text.encode("ascii", "ignore").decode())
    except (ssl.SSLError, ValueError, TypeError):
        raise InvalidInput(
            f"{pem.label}: this is no certificate in PEM format. Give the text from "
            "-----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----."
        ) from None


def _load_own_certificate(context: ssl.SSLContext, papers: TlsCredentials) -> None:
    certificate, key = papers.certificate, papers.key
    _load_trusted(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), certificate)
    if "PRIVATE KEY-----" not in key.text:
        raise InvalidInput(f"{key.label}: give the private key of the certificate, in PEM format.")

    def ask() -> NoReturn:
        raise InvalidInput(
            f"{key.label}: it has a password. Give it without one; it is kept sealed."
        )

    try:
        with _as_temp_file(f"{certificate.text}\n{key.text}\n") as path:
            context.load_cert_chain(path, password=ask)
    except ssl.SSLError as error:
        if error.reason in _MISMATCHES:
            text = f"it does not belong to the {certificate.label[0].lower()}"
            raise InvalidInput(f"{key.label}: {text}{certificate.label[1:]}.") from None
        if error.reason and error.reason.endswith("_TOO_SMALL"):
            text = "its key is too short to be safe. Have a new one made"
            raise InvalidInput(f"{certificate.label}: {text}.") from None
        raise InvalidInput(
            f"{key.label}: it cannot be read as a private key in PEM format."
        ) from None


@contextmanager
def _as_temp_file(text: str) -> Iterator[str]:
    """Yield a path from which OpenSSL can read the text; in memory where the system supports it.

    Elsewhere it is a temporary file that exists for a moment.
    """
    data = text.encode()
    if hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd"):
        descriptor, path = os.memfd_create("papers"), ""
    else:
        descriptor, path = tempfile.mkstemp()
    try:
        while data:
            data = data[os.write(descriptor, data) :]
        yield path or f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
        if path:
            with suppress(OSError):
                os.unlink(path)


_NOT_YET, _EXPIRED, _REVOKED, _PURPOSE = 9, 10, 23, 26
_ISSUER_ERRORS = frozenset({2, 7, 18, 19, 20, 21, 24, 27, 28, 79})
_NAME_ERRORS = frozenset({62, 63, 64})
"""Results of OpenSSL's verification (X509_V_ERR_...)."""

_CERTIFICATE_REQUIRED_ALERTS = frozenset(
    {"TLSV13_ALERT_CERTIFICATE_REQUIRED", "SSLV3_ALERT_NO_CERTIFICATE"}
)
_DISTRUST_ALERTS = frozenset(
    {
        "TLSV1_ALERT_UNKNOWN_CA",
        "SSLV3_ALERT_BAD_CERTIFICATE",
        "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
        "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
        "TLSV1_ALERT_ACCESS_DENIED",
    }
)
_CERTIFICATE_ALERTS = {
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "has expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "was revoked",
}
_VERSION_ALERTS = frozenset(
    {
        "TLSV1_ALERT_PROTOCOL_VERSION",
        "UNSUPPORTED_PROTOCOL",
        "WRONG_SSL_VERSION",
        "VERSION_TOO_LOW",
    }
)
_CIPHER_ALERTS = frozenset(
    {
        "NO_SHARED_CIPHER",
        "TLSV1_ALERT_INSUFFICIENT_SECURITY",
        "NO_SUITABLE_SIGNATURE_ALGORITHM",
        "NO_SHARED_SIGNATURE_ALGORITHMS",
        "NO_SHARED_GROUP",
        "DH_KEY_TOO_SMALL",
    }
)
_HANDSHAKE_ALERTS = frozenset(
    {
        "HTTP_REQUEST",
        "SSLV3_ALERT_HANDSHAKE_FAILURE",
        "UNSAFE_LEGACY_RENEGOTIATION_DISABLED",
        "WRONG_VERSION_NUMBER",
    }
)
_WEAK_KEY_ERRORS = frozenset({66, 67, 68})
_OPENSSL_DECORATION = re.compile(r"^\[[^]]*\] | \(_ssl\.c:\d+\)$")


def describe_tls_hint(tls: TlsSettings) -> str:
    """Return what to check when an association fails without a reason."""
    if tls.is_server:
        return "Ask its administrator whether it speaks TLS, and trusts our certificate."
    wants = "" if tls.papers.certificate.text else ", that it wants no client certificate"
    return (
        f"Check that this port speaks TLS{wants}, and that the PACS knows our address and AE title."
    )


def not_tls_error(node: str, tls: TlsSettings) -> Untrusted:
    if tls.is_server:
        text = (
            "speaks plain DICOM to a port that wants TLS. Ask its administrator to switch TLS on."
        )
    else:
        text = "does not speak TLS on this port. Ask its administrator for the port that does."
    return Untrusted(node, text)


def to_untrusted(node: str, tls: TlsSettings, error: ssl.SSLError) -> Untrusted | None:
    """Return the error for a failed handshake, or None if a retry may succeed.

    None stands for possible damage in transit or a temporary problem.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        text = _describe_verification_error(tls, error)
    else:
        text = _describe_alert(tls, error.reason or "")
    return Untrusted(node, text) if text else None


def format_ssl_error(error: ssl.SSLError) -> str:
    """Return OpenSSL's own message, without the position in its source code."""
    return (
        _OPENSSL_DECORATION.sub("", str(error.args[-1] if error.args else "")) or "no reason given"
    )


def _describe_verification_error(tls: TlsSettings, error: ssl.SSLCertVerificationError) -> str:
    """Return why we reject the peer's certificate."""
    code = error.verify_code
    whose = "its client certificate" if tls.is_server else "its certificate"
    if code in _NAME_ERRORS:
        return (
            f"{whose} carries another name than {tls.name}. Check the host, or write the name "
            "that it carries into Name in its certificate."
        )
    if code == _EXPIRED:
        return f"{whose} has expired, or that of its issuer. Ask its administrator to renew it."
    if code == _NOT_YET:
        return f"{whose} is not valid yet. Check the clocks of both machines."
    if code == _REVOKED:
        return f"{whose} was revoked. Ask its administrator for a new one."
    if code == _PURPOSE:
        use = "clients" if tls.is_server else "servers"
        return f"{whose} is not made for {use}. Ask its administrator for one that is."
    if code in _WEAK_KEY_ERRORS:
        return f"{whose} uses a key or digest that is no longer safe. Ask for a new one."
    if code in _ISSUER_ERRORS:
        where = tls.papers.trusted.label
        return (
            f"{whose} comes from nobody whom we trust. Put the certificate of its issuer, or "
            f"itself, into {where}; first make sure with its administrator that it is the right one."
        )
    return f"{whose} is not accepted ({error.verify_message}). Ask its administrator for another."


def _describe_alert(tls: TlsSettings, reason: str) -> str:
    """Return what the peer rejects, if it gives a known reason."""
    ours = tls.papers.certificate
    if reason in _CERTIFICATE_REQUIRED_ALERTS or (
        reason == "SSLV3_ALERT_BAD_CERTIFICATE" and not ours.text
    ):
        return "wants a client certificate. Give one that its administrator accepts, with its key."
    if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return "shows no client certificate. Ask its administrator to set one up for our receiver."
    if reason in _DISTRUST_ALERTS:
        return (
            f"does not accept our certificate ({ours.label}). Give its administrator the "
            "certificate of whoever issued ours."
        )
    if reason in _CERTIFICATE_ALERTS:
        return f"says that our certificate {_CERTIFICATE_ALERTS[reason]} ({ours.label}). Renew it."
    if reason in _VERSION_ALERTS:
        return (
            "offers no version of TLS that we allow (1.2 or newer). Ask its administrator to "
            "switch one on."
        )
    if reason in _CIPHER_ALERTS:
        return (
            "has no cipher in common with us. Ask its administrator to allow those of BCP 195: "
            "ECDHE with AES-GCM."
        )
    if reason == "TLSV1_UNRECOGNIZED_NAME":
        return f"does not know the name {tls.name}. Check the host and Name in its certificate."
    if reason in _HANDSHAKE_ALERTS and not (tls.is_server or ours.text):
        return "refused the TLS handshake. It may want a client certificate: ask its administrator."
    if reason in _HANDSHAKE_ALERTS:
        return "refused the TLS handshake. Ask its administrator to look into its log."
    return ""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate for display.

    `names` are those that a caller may check, the display name first.
    """

    names: tuple[str, ...]
    ends_at: datetime

    @property
    def days_left(self) -> int:
        """Whole days until it expires; negative when it has expired."""
        return (self.ends_at - datetime.now(UTC)).days

    def __str__(self) -> str:
        return f"{self.names[0] if self.names else '?'}, until {self.ends_at:%Y-%m-%d}"


def read_certificates(text: str) -> tuple[Certificate, ...]:
    """Return the certificates in the order of the text. Raises InvalidInput.

    In a chain, the one that is presented comes first.
    """
    try:
        found = x509.load_pem_x509_certificates(text.encode())
        return tuple(
            Certificate(tuple(_certificate_names(one)), one.not_valid_after_utc) for one in found
        )
    except (ValueError, TypeError) as error:
        raise InvalidInput("This is no certificate in PEM format.") from error


def _certificate_names(one: x509.Certificate) -> Iterator[str]:
    try:
        others = one.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        yield from others.get_values_for_type(x509.DNSName)
        yield from map(str, others.get_values_for_type(x509.IPAddress))
    except x509.ExtensionNotFound:
        pass
    for named in one.subject.get_attributes_for_oid(NameOID.COMMON_NAME):
        yield str(named.value)
