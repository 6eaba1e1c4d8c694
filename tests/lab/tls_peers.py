"""Peers for the TLS tests: certificates for both sides, PACS with TLS, a scripted peer."""

import json
import socket
import ssl
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from adit_engine.dicom_ul.tls import Pem, ServerTls, TlsCredentials
from lab import peers
from lab.certificates import Authority, Held

CA = Authority()
PACS = CA.issue("pacs", is_rsa=True)
OURS = CA.issue("adit")
STRANGER = Authority("Other CA").issue("stranger")


def tls(**more: Any) -> dict[str, Any]:
    """Return settings of a node with one-way TLS."""
    return {"transport": "tls", "ca_certificate": CA.certificate, **more}


def mutual(held: Held = OURS, **more: Any) -> dict[str, Any]:
    """Return settings of a node with mutual TLS."""
    return tls(client_certificate=held.certificate, client_key=held.key, **more)


def receiver_tls(held: Held = PACS, trusted: str = "") -> ServerTls:
    """Return TLS settings of a receiver; `trusted` makes it require client certificates."""
    return ServerTls(
        TlsCredentials(
            Pem("Receiver certificate", held.certificate),
            Pem("Receiver key", held.key),
            Pem("Client CA", trusted),
        )
    )


def dcmtk(folder: Path, *more: str, held: Held = PACS) -> list[str]:
    """Return TLS options of dcmtk programs."""
    certificate, key = held.files(folder, "dcmtk")
    (folder / "ca.crt").write_text(CA.certificate)
    return ["+tls", str(key), str(certificate), "+cf", str(folder / "ca.crt"), *more]


@contextmanager
def orthanc(folder: Path, called: str, *, is_mutual: bool) -> Iterator[peers.Orthanc]:
    held = folder.with_name(f"{folder.name}-held")
    held.mkdir()
    certificate, key = PACS.files(held, "pacs")
    (held / "ca.crt").write_text(CA.certificate)
    settings = {
        "DicomTlsEnabled": True,
        "DicomTlsCertificate": str(certificate),
        "DicomTlsPrivateKey": str(key),
        "DicomTlsTrustedCertificates": str(held / "ca.crt"),
        "DicomTlsRemoteCertificateRequired": is_mutual,
    }
    with peers.orthanc(folder, called, **settings) as one:
        yield one


def register(archive: peers.Orthanc, port: int) -> None:
    """Register ADIT in Orthanc as a C-MOVE destination with TLS."""
    where = {"AET": "ADIT", "Host": "127.0.0.1", "Port": port, "UseDicomTls": True}
    address = f"http://127.0.0.1:{archive.http_port}/modalities/adit"
    request = urllib.request.Request(address, json.dumps(where).encode(), method="PUT")
    urllib.request.urlopen(request, timeout=250).close()


def server_context(
    held: Held = PACS, *, asks: bool = False, most: ssl.TLSVersion | None = None
) -> ssl.SSLContext:
    """Return a server context of Python; `asks` makes it require a client certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        context.load_cert_chain(*held.files(Path(folder), "server"))
    if asks:
        context.load_verify_locations(cadata=CA.certificate)
        context.verify_mode = ssl.CERT_REQUIRED
    if most is not None:
        context.maximum_version = most
    return context


class Encrypted:
    """A socket for `peers.Talk` whose output can be cut anywhere, even within a record."""

    def __init__(self, one: socket.socket, context: ssl.SSLContext) -> None:
        self.raw = one
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._step(self._tls.do_handshake)

    def encrypted(self, data: bytes) -> bytes:
        view = memoryview(data)
        while view:
            view = view[self._tls.write(view) :]
        return self._outgoing.read()

    def goodbye(self) -> bytes:
        """Return the bytes of a close_notify alert."""
        with suppress(ssl.SSLError):
            # Raises because the close_notify of the peer is missing.
            self._tls.unwrap()
        return self._outgoing.read()

    def sendall(self, data: bytes) -> None:
        self.raw.sendall(self.encrypted(data))

    def recv(self, size: int) -> bytes:
        return bytes(self._step(lambda: self._tls.read(size)))

    def shutdown(self, how: int) -> None:
        self.raw.shutdown(how)

    def close(self) -> None:
        self.raw.close()

    def _step(self, action: Callable[[], Any]) -> Any:
        while True:
            try:
                done = action()
                self.raw.sendall(self._outgoing.read())
                return done
            except ssl.SSLWantReadError:
                self.raw.sendall(self._outgoing.read())
                data = self.raw.recv(65536)
                if not data:
                    raise EOFError from None
                self._incoming.write(data)
            except ssl.SSLError:
                self.raw.sendall(self._outgoing.read())
                raise


def scripted(
    script: Callable[[peers.Talk], object], context: ssl.SSLContext | None = None
) -> peers.Scripted:
    """Return a scripted peer with TLS."""
    given = context or server_context()

    def secured(talk: peers.Talk) -> None:
        try:
            talk.socket = Encrypted(talk.socket, given)  # type: ignore[assignment]
            script(talk)
        except ssl.SSLError:
            talk.close()

    return peers.Scripted(secured)
