"""TLS: certificates, trust, error messages, and reading certificates for display.

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
from adit_engine.messages import Message

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}

MAX_PEM_CHARACTERS = 512 * 1024
"""The certificates of all authorities of an operating system have about 220 KB."""

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
    def from_file(cls, label: str, path: str) -> "Pem":
        """Read a file. Empty without a path. Raises InvalidInput."""
        try:
            return cls(label, Path(path).read_text() if path else "")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or Message("clause.not-text")
            raise InvalidInput(
                "tls.file-unreadable", setting=label, path=path, reason=reason
            ) from None


@dataclass(frozen=True, slots=True)
class TlsCredentials:
    """Our certificate and key, and the certificates that we trust; any of them may be empty."""

    certificate: Pem
    key: Pem
    trusted_certificates: Pem

    @classmethod
    def from_files(
        cls, certificate: LabelledPath, key: LabelledPath, trusted_certificates: LabelledPath
    ) -> "TlsCredentials":
        """Read the files, each given with its label. Raises InvalidInput.

        Without a key file, the key is in the certificate file.
        """
        shown = Pem.from_file(*certificate)
        own = Pem.from_file(*key) if key[1] else Pem(certificate[0], shown.text)
        return cls(shown, own, Pem.from_file(*trusted_certificates))


@dataclass(frozen=True, slots=True)
class TlsSession:
    """The negotiated session.

    `ends_at` is when the peer's certificate expires, if it has one.
    """

    version: str
    ends_at: datetime | None


class TlsSettings(Protocol):
    """What a connection needs for TLS."""

    credentials: TlsCredentials
    is_server: bool
    name: str
    """The name that the peer's certificate has to carry; empty: any."""

    def wrap(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        """Return a TLS object whose handshake has not begun. Raises InvalidInput."""
        ...


class ClientTls:
    """TLS as a client. Without `trusted`, the authorities that this machine trusts are used."""

    is_server = False

    def __init__(self, credentials: TlsCredentials, name: str, minimum: str = "1.2") -> None:
        self.credentials = credentials
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
            raise InvalidInput("tls.name-invalid", setting="Name in the certificate") from None

    @cached_property
    def context(self) -> ssl.SSLContext:
        """The SSL context. Raises InvalidInput when the certificates cannot be used."""
        context = self._own_context()
        if not self.credentials.trusted_certificates.text:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        return context

    def _own_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _configure_context(context, self.credentials, self._minimum)
        return context


class ServerTls:
    """TLS as a server. With `trusted`, every caller must present a certificate issued by it."""

    is_server = True
    name = ""

    def __init__(self, credentials: TlsCredentials) -> None:
        """Raise InvalidInput when the certificates cannot be used."""
        if not credentials.certificate.text:
            raise InvalidInput("tls.certificate-missing", setting=credentials.certificate.label)
        self.credentials = credentials
        self._context = context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        _configure_context(context, credentials, "1.2")
        # No client returns within the hour to resume a session, so tickets are of no use.
        context.num_tickets = 0
        context.options |= ssl.OP_NO_TICKET
        if credentials.trusted_certificates.text:
            context.verify_mode = ssl.CERT_REQUIRED

    def wrap(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        return self._context.wrap_bio(incoming, outgoing, server_side=True)


def _configure_context(context: ssl.SSLContext, credentials: TlsCredentials, minimum: str) -> None:
    context.minimum_version = VERSIONS[minimum]
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.verify_flags |= _PARTIAL_CHAIN
    if credentials.trusted_certificates.text:
        _load_trusted(context, credentials.trusted_certificates)
    if credentials.certificate.text:
        _load_own_certificate(context, credentials)
    elif credentials.key.text:
        raise InvalidInput("tls.key-without-certificate", setting=credentials.key.label)


def _load_trusted(context: ssl.SSLContext, pem: Pem) -> None:
    try:
        # Certificate bundles may hold comments in any characters; certificates themselves are
        # ASCII.
        context.load_verify_locations(cadata=pem.text.encode("ascii", "ignore").decode())
    except (ssl.SSLError, ValueError, TypeError):
        raise InvalidInput("tls.certificate-text-invalid", setting=pem.label) from None


def _load_own_certificate(context: ssl.SSLContext, credentials: TlsCredentials) -> None:
    certificate, key = credentials.certificate, credentials.key
    _load_trusted(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), certificate)
    if "PRIVATE KEY-----" not in key.text:
        raise InvalidInput("tls.key-missing", setting=key.label)

    def ask() -> NoReturn:
        raise InvalidInput("tls.key-password", setting=key.label)

    try:
        with _as_temp_file(f"{certificate.text}\n{key.text}\n") as path:
            context.load_cert_chain(path, password=ask)
    except ssl.SSLError as error:
        if error.reason in _MISMATCHES:
            raise InvalidInput(
                "tls.key-mismatch", setting=key.label, certificate_setting=certificate.label
            ) from None
        if error.reason and error.reason.endswith("_TOO_SMALL"):
            raise InvalidInput("tls.key-too-short", setting=certificate.label) from None
        raise InvalidInput("tls.key-invalid", setting=key.label) from None


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
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "tls.own-certificate-expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "tls.own-certificate-revoked",
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


def describe_tls_hint(tls: TlsSettings) -> Message:
    """Return what to check when an association fails without a reason."""
    if tls.is_server:
        return Message("clause.hint-tls-caller")
    if tls.credentials.certificate.text:
        return Message("clause.hint-tls")
    return Message("clause.hint-tls-without-certificate")


def not_tls_error(node: str, tls: TlsSettings) -> Untrusted:
    return Untrusted(node, "tls.plain-caller" if tls.is_server else "tls.not-offered")


def to_untrusted(node: str, tls: TlsSettings, error: ssl.SSLError) -> Untrusted | None:
    """Return the error for a failed handshake, or None if a retry may succeed.

    None stands for possible damage in transit or a temporary problem.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return _verification_error(node, tls, error)
    return _alert_error(node, tls, error.reason or "")


def format_ssl_error(error: ssl.SSLError) -> str | Message:
    """Return OpenSSL's own message, without the position in its source code."""
    text = _OPENSSL_DECORATION.sub("", str(error.args[-1] if error.args else ""))
    return text or Message("clause.no-reason-given")


def _verification_error(
    node: str, tls: TlsSettings, error: ssl.SSLCertVerificationError
) -> Untrusted:
    """Return why we reject the peer's certificate."""
    code = error.verify_code
    kind = Message("clause.client-certificate" if tls.is_server else "clause.certificate")
    if code in _NAME_ERRORS:
        return Untrusted(node, "tls.certificate-name", certificate=kind, name=tls.name)
    if code == _EXPIRED:
        return Untrusted(node, "tls.certificate-expired", certificate=kind)
    if code == _NOT_YET:
        return Untrusted(node, "tls.certificate-not-yet-valid", certificate=kind)
    if code == _REVOKED:
        return Untrusted(node, "tls.certificate-revoked", certificate=kind)
    if code == _PURPOSE and tls.is_server:
        return Untrusted(node, "tls.certificate-not-for-clients")
    if code == _PURPOSE:
        return Untrusted(node, "tls.certificate-not-for-servers")
    if code in _WEAK_KEY_ERRORS:
        return Untrusted(node, "tls.certificate-weak", certificate=kind)
    if code in _ISSUER_ERRORS:
        setting = tls.credentials.trusted_certificates.label
        return Untrusted(node, "tls.certificate-untrusted", certificate=kind, setting=setting)
    reason = error.verify_message
    return Untrusted(node, "tls.certificate-rejected", certificate=kind, reason=reason)


def _alert_error(node: str, tls: TlsSettings, reason: str) -> Untrusted | None:
    """Return what the peer rejects, if it gives a known reason."""
    ours = tls.credentials.certificate
    if reason in _CERTIFICATE_REQUIRED_ALERTS or (
        reason == "SSLV3_ALERT_BAD_CERTIFICATE" and not ours.text
    ):
        return Untrusted(node, "tls.client-certificate-required")
    if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return Untrusted(node, "tls.no-client-certificate")
    if reason in _DISTRUST_ALERTS:
        return Untrusted(node, "tls.own-certificate-untrusted", setting=ours.label)
    if reason in _CERTIFICATE_ALERTS:
        return Untrusted(node, _CERTIFICATE_ALERTS[reason], setting=ours.label)
    if reason in _VERSION_ALERTS:
        return Untrusted(node, "tls.version")
    if reason in _CIPHER_ALERTS:
        return Untrusted(node, "tls.ciphers")
    if reason == "TLSV1_UNRECOGNIZED_NAME":
        return Untrusted(node, "tls.unknown-name", name=tls.name)
    if reason in _HANDSHAKE_ALERTS and not (tls.is_server or ours.text):
        return Untrusted(node, "tls.handshake-refused-without-certificate")
    if reason in _HANDSHAKE_ALERTS:
        return Untrusted(node, "tls.handshake-refused")
    return None


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


def check_trusted_certificates(setting: str, text: str) -> None:
    """Raise InvalidInput unless the text is empty or consists of certificates in PEM format."""
    if len(text) > MAX_PEM_CHARACTERS:
        raise InvalidInput("setting.too-long", setting=setting, maximum=MAX_PEM_CHARACTERS)
    if "PRIVATE KEY-----" in text:
        raise InvalidInput("setting.private-key-in-certificate", setting=setting)
    try:
        if text.strip():
            read_certificates(text)
    except InvalidInput:
        raise InvalidInput("tls.certificate-text-invalid", setting=setting) from None


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
        raise InvalidInput("tls.certificate-invalid") from error


def _certificate_names(one: x509.Certificate) -> Iterator[str]:
    try:
        others = one.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        yield from others.get_values_for_type(x509.DNSName)
        yield from map(str, others.get_values_for_type(x509.IPAddress))
    except x509.ExtensionNotFound:
        pass
    for named in one.subject.get_attributes_for_oid(NameOID.COMMON_NAME):
        yield str(named.value)
