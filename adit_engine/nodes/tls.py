"""TLS: with which certificates a line is secured, and whom it trusts.

TLS 1.2 or newer, forward secrecy and authenticated ciphers only: the BCP 195 RFC 8996 profile of
PS3.15 B.12, without its older ciphers.
"""

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import NoReturn, Protocol

from adit_engine.errors import WrongInput

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}

LabelledPath = tuple[str, str]
"""What people call a file, and its path; empty: there is none."""

_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM"
_MISMATCHES = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")
# An archive's own certificate may stand in place of its issuer's.
_PINNED = ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN


@dataclass(frozen=True, slots=True)
class Pem:
    """One text in PEM format, and what people call it, for errors."""

    label: str
    text: str = field(default="", repr=False)

    @classmethod
    def of_file(cls, label: str, path: str) -> "Pem":
        """Empty without a path. Raises WrongInput."""
        try:
            return cls(label, Path(path).read_text() if path else "")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise WrongInput(f"{label}: {path} cannot be read: {reason}.") from None


@dataclass(frozen=True, slots=True)
class Papers:
    """By what we are known, and whom we trust; any of them may be empty."""

    certificate: Pem
    key: Pem
    trusted: Pem

    @classmethod
    def of_files(
        cls, certificate: LabelledPath, key: LabelledPath, trusted: LabelledPath
    ) -> "Papers":
        """Each with its label. Without a key file the key is in the certificate's. Raises WrongInput."""
        shown = Pem.of_file(*certificate)
        own = Pem.of_file(*key) if key[1] else Pem(certificate[0], shown.text)
        return cls(shown, own, Pem.of_file(*trusted))


@dataclass(frozen=True, slots=True)
class Seal:
    """What was agreed on with the other side. `ends_at` is its certificate's end, where it has one."""

    version: str
    ends_at: datetime | None


class Tls(Protocol):
    """What a line has to know."""

    papers: Papers
    is_server: bool
    name: str
    """Which name the other side's certificate has to carry; empty: any."""

    def wrapped(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        """A TLS conversation that has not begun yet. Raises WrongInput."""
        ...


class ClientTls:
    """For calling a node. Without `trusted` the authorities that this machine trusts."""

    is_server = False

    def __init__(self, papers: Papers, name: str, minimum: str = "1.2") -> None:
        self.papers = papers
        self.name = name
        self._minimum = minimum

    def wrapped(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        return self.context.wrap_bio(incoming, outgoing, server_hostname=self.name)

    def check(self) -> None:
        """Raises WrongInput when the papers cannot be used; calls nobody."""
        self._own_context()
        try:
            self.name.encode("idna")
        except UnicodeError:
            raise WrongInput("Name in its certificate: this cannot be a name.") from None

    @cached_property
    def context(self) -> ssl.SSLContext:
        """Raise WrongInput when the papers cannot be used."""
        context = self._own_context()
        if not self.papers.trusted.text:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        return context

    def _own_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _prepare(context, self.papers, self._minimum)
        return context


class ServerTls:
    """For being called. With `trusted` every caller has to show a certificate from there."""

    is_server = True
    name = ""

    def __init__(self, papers: Papers) -> None:
        """Raises WrongInput when the papers cannot be used."""
        if not papers.certificate.text:
            raise WrongInput(f"{papers.certificate.label}: it is needed for TLS.")
        self.papers = papers
        self._context = context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        _prepare(context, papers, "1.2")
        # Nobody comes back within the hour to take up a conversation where it ended.
        context.num_tickets = 0
        context.options |= ssl.OP_NO_TICKET
        if papers.trusted.text:
            context.verify_mode = ssl.CERT_REQUIRED

    def wrapped(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        return self._context.wrap_bio(incoming, outgoing, server_side=True)


def _prepare(context: ssl.SSLContext, papers: Papers, minimum: str) -> None:
    context.minimum_version = VERSIONS[minimum]
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.verify_flags |= _PINNED
    if papers.trusted.text:
        _trust(context, papers.trusted)
    if papers.certificate.text:
        _show(context, papers)
    elif papers.key.text:
        raise WrongInput(f"{papers.key.label}: it needs the certificate that belongs to it.")


def _trust(context: ssl.SSLContext, pem: Pem) -> None:
    try:
        # Bundles of certificates hold comments in any letters; certificates themselves are ASCII.
        context.load_verify_locations(cadata=pem.text.encode("ascii", "ignore").decode())
    except (ssl.SSLError, ValueError, TypeError):
        raise WrongInput(
            f"{pem.label}: this is no certificate in PEM format. Give the text from "
            "-----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----."
        ) from None


def _show(context: ssl.SSLContext, papers: Papers) -> None:
    certificate, key = papers.certificate, papers.key
    _trust(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), certificate)
    if "PRIVATE KEY-----" not in key.text:
        raise WrongInput(f"{key.label}: give the private key of the certificate, in PEM format.")

    def ask() -> NoReturn:
        raise WrongInput(f"{key.label}: it has a password. Give it without one; it is kept sealed.")

    try:
        with _as_file(f"{certificate.text}\n{key.text}\n") as path:
            context.load_cert_chain(path, password=ask)
    except ssl.SSLError as error:
        if error.reason in _MISMATCHES:
            text = f"it does not belong to the {certificate.label[0].lower()}"
            raise WrongInput(f"{key.label}: {text}{certificate.label[1:]}.") from None
        if error.reason and error.reason.endswith("_TOO_SMALL"):
            text = "its key is too short to be safe. Have a new one made"
            raise WrongInput(f"{certificate.label}: {text}.") from None
        raise WrongInput(
            f"{key.label}: it cannot be read as a private key in PEM format."
        ) from None


@contextmanager
def _as_file(text: str) -> Iterator[str]:
    """A path from which OpenSSL reads it; in memory where the system can, else for a moment."""
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
