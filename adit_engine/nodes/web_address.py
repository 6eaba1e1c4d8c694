"""Address: where a DICOMweb node's URL leads: read strictly, resolved once, refused where unsafe."""

import ipaddress
import socket
import threading
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import urlsplit

from adit_engine.errors import NodeRefused, Unreachable, WrongInput

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
Place = tuple[int, Any]
"""A socket's family and the address to connect to."""

# Clouds answer there with the machine's own keys; some of these are not link-local.
_METADATA = frozenset({"169.254.169.254", "100.100.100.200", "192.0.0.192", "fd00:ec2::254"})
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Address:
    """Scheme, host, port and path of a root URL. `path` is empty or begins with a slash."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def of(cls, url: str) -> "Address":
        """Raises WrongInput for anything but http(s)://host[:port][/path]."""
        if any(not 0x20 < ord(character) < 0x7F for character in url):
            raise WrongInput("Root URL: no spaces, and plain letters only.")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise WrongInput("Root URL: this is no URL.") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise WrongInput("Root URL: write https://host/path, or http:// where it must be.")
        if parts.username is not None or parts.password is not None:
            raise WrongInput("Root URL: user and password have fields of their own.")
        if parts.query or parts.fragment or ".." in parts.path.split("/"):
            raise WrongInput("Root URL: without ?, # and dots that climb.")
        default = 443 if parts.scheme == "https" else 80
        path = parts.path.rstrip("/")
        return cls(parts.scheme, parts.hostname, default if port is None else port, path)

    @property
    def secure(self) -> bool:
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """As the Host header has it (RFC 9110 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return f"{self.scheme}://{self.authority}"

    def __str__(self) -> str:
        return f"{self.origin}{self.path}"


def places(node: str, address: Address, *, allow_local: bool, within_s: float) -> list[Place]:
    """Where to connect. Raises Unreachable, and NodeRefused where no address is allowed."""
    found = _resolved(node, address, within_s)
    allowed = [place for place in found if not why_refused(place[1][0], allow_local)]
    if not allowed:
        raise NodeRefused(
            node,
            f"{address.host} leads to {why_refused(found[0][1][0], allow_local)}, which is not "
            "allowed. Check the root URL; an administrator can allow it in its settings.",
        )
    return allowed


def why_refused(ip: str, allow_local: bool) -> str:
    """What an address is that must not be called; empty for one that may."""
    one = _bare(ipaddress.ip_address(ip.partition("%")[0]))
    if one.is_multicast or one.is_unspecified or (one.version == 4 and one.is_reserved):
        return "no single machine"
    if allow_local:
        return ""
    if str(one) in _METADATA or one.is_link_local:
        return "a link-local or metadata address"
    return "this machine itself" if one.is_loopback else ""


def _bare(ip: Ip) -> Ip:
    """The IPv4 address that an IPv6 one only wraps."""
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return ip.ipv4_mapped
        if ip in _NAT64:
            return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if ip.sixtofour is not None:
            return ip.sixtofour
    return ip


def _resolved(node: str, address: Address, within_s: float) -> list[Place]:
    """Asks the resolver in a thread of its own, since nothing else can give it a deadline."""
    answer: SimpleQueue[list[Place]] = SimpleQueue()

    def resolve() -> None:
        try:
            found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
            answer.put([(entry[0], entry[4]) for entry in found])
        except (OSError, UnicodeError):
            answer.put([])

    threading.Thread(target=resolve, name="resolve host", daemon=True).start()
    try:
        found = answer.get(timeout=within_s)
    except Empty:
        text = f"the name service did not answer for {address.host}. Check the network."
        raise Unreachable(node, text) from None
    if not found:
        raise Unreachable(node, f"the host name {address.host} is unknown. Check the root URL.")
    return found
