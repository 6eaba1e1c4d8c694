"""One signed HTTP request to the address of a webhook, by the engine's HTTP client.

The client resolves the host once, connects only to an address that was checked, follows no redirect
and has a deadline for everything.
"""

import hashlib
import hmac
import ipaddress
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx
from django.conf import settings

from adit_engine.dicom_ul.peer import Timeouts
from adit_engine.dicom_ul.tcp_connection import SocketAddress
from adit_engine.errors import (
    AditError,
    InvalidInput,
    NodeError,
    NodeRefused,
    TimedOut,
    Unreachable,
)
from adit_engine.messages import Message
from adit_engine.nodes.dicomweb.http import (
    DicomwebClient,
    DicomwebRequest,
    DicomwebServer,
    explain_refusal,
    unwrap_address,
)

MAX_URL_LENGTH = 500
CONNECT_S = 3
TOTAL_S = 10
_WHAT = Message("clause.webhook-request")


class DeliveryFailed(AditError):
    """The request was not accepted. `status` is that of the answer, if there was one."""

    def __init__(self, code: str, status: int | None = None, **values: object) -> None:
        super().__init__(code, **values)
        self.status = status


def parse_url(text: str) -> httpx.URL:
    """Parse the address of a webhook. Raise InvalidInput.

    Host names are resolved when the request is sent, not here.
    """
    if len(text) > MAX_URL_LENGTH or any(not 0x20 < ord(char) < 0x7F for char in text):
        raise InvalidInput("webhook.invalid-url", limit=MAX_URL_LENGTH)
    try:
        url = httpx.URL(text)
        host = url.host  # decodes IDNA
    except (httpx.InvalidURL, UnicodeError):
        raise InvalidInput("webhook.invalid-url", limit=MAX_URL_LENGTH) from None
    if url.scheme not in ("http", "https") or not host or url.fragment:
        raise InvalidInput("webhook.invalid-url", limit=MAX_URL_LENGTH)
    if url.userinfo:
        raise InvalidInput("webhook.url-with-password")
    if url.port is not None and not 0 < url.port < 65536:
        raise InvalidInput("webhook.invalid-url", limit=MAX_URL_LENGTH)
    if url.scheme == "http" and not settings.WEBHOOK_NETWORKS:
        raise InvalidInput("webhook.https-needed")
    try:
        ip = str(ipaddress.ip_address(host))
    except ValueError:
        return url
    if not is_allowed_address(ip, url.scheme):
        raise InvalidInput("webhook.target-not-allowed", host=host)
    return url


def is_allowed_address(ip: str, scheme: str) -> bool:
    """Return whether an address may be called.

    That is: it is in one of the networks of ADIT_WEBHOOK_NETWORKS, or public and called by https.
    Multicast, link-local and metadata addresses are never called.
    """
    if explain_refusal(ip, allow_local=True) is not None:
        return False
    one = unwrap_address(ip)
    if any(one in network for network in settings.WEBHOOK_NETWORKS):
        return True
    is_site_local = one.version == 6 and one.is_site_local
    is_public = one.is_global and not one.is_reserved and not is_site_local
    return is_public and scheme == "https"


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """Return the signature: HMAC-SHA256 over `timestamp.body`, in hex digits."""
    return hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def post(url: httpx.URL, secret: str, event: str, event_id: str, body: bytes) -> int:
    """Send one request and return the status, which is 2xx. Raise DeliveryFailed.

    The answer's body is not kept.
    """
    timestamp = str(int(time.time()))
    headers = {
        "ADIT-Event": event,
        "ADIT-Event-ID": event_id,
        "ADIT-Timestamp": timestamp,
        "ADIT-Signature": f"sha256={sign(secret, timestamp, body)}",
    }
    server = _Server(
        url.host,
        httpx.URL(scheme=url.scheme, host=url.host, port=url.port),
        Timeouts(connect_s=CONNECT_S, no_progress_s=TOTAL_S),
        ca_file=settings.WEBHOOK_CA_FILE,
        allow_local=True,
    )
    request = _Request(
        method="POST",
        path=url.raw_path.decode(),
        accept="*/*",
        what=_WHAT,
        within_s=TOTAL_S,
        body=(body,),
        content_type="application/json",
        headers=headers,
    )
    client = DicomwebClient(server, TOTAL_S)
    try:
        with client.send(request) as response:
            status = response.status
    except AditError as error:
        raise _describe(error, url.host) from error
    finally:
        client.close()
    if 300 <= status < 400:
        raise DeliveryFailed("webhook.redirect", status, host=url.host, http_status=status)
    if not 200 <= status < 300:
        raise DeliveryFailed("webhook.refused", status, host=url.host, http_status=status)
    return status


@dataclass(frozen=True)
class _Server(DicomwebServer):
    def resolve(self) -> list[SocketAddress]:
        """Return those addresses of the host that a webhook may call. Raise NodeRefused."""
        found = super().resolve()
        allowed = [one for one in found if is_allowed_address(str(one[1][0]), self.root.scheme)]
        if not allowed:
            raise NodeRefused(self.name, "webhook.target-not-allowed", host=self.root.host)
        return allowed


@dataclass(frozen=True)
class _Request(DicomwebRequest):
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def is_repeatable(self) -> bool:
        """Only the queue repeats a request, so that one call has one deadline."""
        return False

    def to_httpx(self, server: DicomwebServer, exchange: object) -> httpx.Request:
        request = super().to_httpx(server, exchange)  # type: ignore[arg-type]
        request.headers.update(self.headers)
        return request


def _describe(error: AditError, host: str) -> DeliveryFailed:
    """Return the error in words about a webhook. Those of the engine are about a PACS."""
    status = error.message.values.get("http_status")
    if isinstance(status, int):
        return DeliveryFailed("webhook.refused", status, host=host, http_status=status)
    code = error.message.code
    if code in ("webhook.target-not-allowed", "host.not-allowed"):
        return DeliveryFailed("webhook.target-not-allowed", host=host)
    if code == "host.unknown":
        return DeliveryFailed("webhook.unknown-host", host=host)
    if code in ("dicomweb.certificate-untrusted", "host.tls-failed"):
        return DeliveryFailed("webhook.no-trusted-tls", host=host)
    if isinstance(error, TimedOut):
        return DeliveryFailed("webhook.timed-out", host=host, seconds=TOTAL_S)
    if isinstance(error, Unreachable):
        return DeliveryFailed("webhook.unreachable", host=host)
    if isinstance(error, NodeError):
        return DeliveryFailed("webhook.connection-lost", host=host)
    return DeliveryFailed("webhook.not-sent", reason=error.message)
