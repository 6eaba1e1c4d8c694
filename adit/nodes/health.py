"""Check receiver, certificates and folders of nodes. Used by `adit doctor` and host checks."""

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

from django.conf import settings
from django.db import Error

from adit.nodes import folder_rules
from adit.nodes.folder_rules import FolderRefused
from adit.nodes.gateway import get_engine_settings
from adit.nodes.models import Node, receiver_nodes
from adit.nodes.receiving.certificates import load_receiver_tls
from adit.vault.cipher import DecryptionError
from adit.vault.master_key import KeyMissing
from adit_engine.dicom_ul import tls as dicom_ul_tls
from adit_engine.dicom_ul.acceptor import VERIFICATION
from adit_engine.dicom_ul.association import OpenAssociations
from adit_engine.dicom_ul.command_set import Operation, make_request
from adit_engine.dicom_ul.pdu import PresentationContext
from adit_engine.dicom_ul.tls import ServerTls
from adit_engine.errors import InvalidInput, NodeError, Unreachable, Untrusted
from adit_engine.messages import Message, join_messages
from adit_engine.nodes.base import Grade, NodeFinding
from adit_engine.nodes.dimse.settings import WARN_DAYS, DimseSettings
from adit_engine.values.instance import IMPLICIT_LE

TIMEOUT_S = 5.0
_LOOPBACK_OF = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - what they mean here


def check_receiver_and_nodes(*, runs: bool) -> Iterator[NodeFinding]:
    """Check the receiver, its certificates, those of all nodes, and the folders of nodes.

    Connects to our own receiver only. If `runs` is false, the receiver need not answer.
    """
    if settings.RECEIVER_PORT:
        yield from _check_receiver(runs)
    yield from _check_nodes()
    yield from _folders()


def check_receiver_certificates() -> Iterator[tuple[str, NodeFinding]]:
    """Yield findings on the receiver's certificates, each with an opaque key.

    Call it on the machine where the receiver runs.
    """
    if not settings.RECEIVER_PORT:
        return
    try:
        tls = load_receiver_tls()
    except InvalidInput as error:
        yield "receiver", NodeFinding(Grade.BAD, Message("receiver.certificate"), error.message)
        return
    papers = (
        () if tls is None else (tls.credentials.certificate, tls.credentials.trusted_certificates)
    )
    for number, pem in enumerate(papers):
        for finding in _check_validity(pem.label, pem.text, is_ours=number == 0):
            yield f"receiver:{number}", finding


def check_node_certificates() -> Iterator[tuple[str, NodeFinding]]:
    """Yield findings on the certificates of all nodes, each with an opaque key. Opens nothing."""
    for row in receiver_nodes():
        for number, finding in enumerate(_check_node(row)):
            yield f"node:{row.pk}:{number}", finding


def is_own_receiver_check(ae_title: str, address: str) -> bool:
    """Return whether a call to the receiver comes from the check of this machine itself."""
    if ae_title != settings.CALLING_AE_TITLE:
        return False
    return ip_address(address).is_loopback or address == settings.RECEIVER_HOST


def _check_receiver(runs: bool) -> Iterator[NodeFinding]:
    try:
        tls = load_receiver_tls()
    except InvalidInput as error:
        step = join_messages((error.message, Message("receiver.no-images")))
        yield NodeFinding(Grade.BAD, Message("receiver.port", port=settings.RECEIVER_PORT), step)
        return
    yield _echo_receiver(tls, runs)
    if tls is not None:
        papers = tls.credentials
        for pem in (papers.certificate, papers.trusted_certificates):
            yield from _check_validity(pem.label, pem.text, is_ours=pem is papers.certificate)


def _echo_receiver(tls: ServerTls | None, runs: bool) -> NodeFinding:
    """Send a C-ECHO as a PACS would. Under mutual TLS it presents the receiver's own certificate.

    There is no other certificate to present.
    """
    port = settings.RECEIVER_PORT
    what = Message("receiver.port", port=port)
    try:
        peer = _make_own_settings(tls).peer("ADIT receiver")
        with OpenAssociations(peer).open(
            [PresentationContext(VERIFICATION, (IMPLICIT_LE,))]
        ) as association:
            context = association.negotiated.context_of(VERIFICATION) or 1
            number = association.next_message_id()
            association.send(
                context, make_request(Operation.ECHO, number, VERIFICATION, data=False)
            )
            association.receive(TIMEOUT_S, "clause.await-echo")
    except Untrusted as error:
        if tls is None or not tls.credentials.trusted_certificates.text:
            return NodeFinding(Grade.BAD, what, error.message)
        return NodeFinding(Grade.GOOD, Message("receiver.wants-certificate", port=port))
    except (NodeError, InvalidInput) as error:
        if isinstance(error, Unreachable) and not runs:
            return NodeFinding(Grade.GOOD, Message("receiver.not-started", port=port))
        step = join_messages((error.message, Message("receiver.start")))
        return NodeFinding(Grade.BAD, what, step)
    return NodeFinding(Grade.GOOD, Message("receiver.answers", port=port))


def _make_own_settings(tls: ServerTls | None) -> DimseSettings:
    title, host = settings.CALLING_AE_TITLE, settings.RECEIVER_HOST
    secure: dict[str, Any] = {}
    if tls is not None:
        shown = tls.credentials.certificate.text
        (first, *_others) = dicom_ul_tls.read_certificates(shown)
        secure = {
            "transport": "tls",
            "ca_certificate": _strip_private_key(shown),
            "certificate_name": first.names[0] if first.names else "",
        }
        if tls.credentials.trusted_certificates.text:
            key = tls.credentials.key.text
            secure.update(client_certificate=_strip_private_key(shown), client_key=key)
    return DimseSettings(
        called_ae_title=title,
        calling_ae_title=title,
        host=_LOOPBACK_OF.get(host, host),
        port=settings.RECEIVER_PORT,
        connect_s=TIMEOUT_S,
        association_s=TIMEOUT_S,
        **secure,
    )


def _strip_private_key(text: str) -> str:
    """Return only the certificates of a file that may hold the key as well."""
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    parts = text.split(begin)[1:]
    return "\n".join(begin + part.partition(end)[0] + end for part in parts)


def _check_nodes() -> Iterator[NodeFinding]:
    try:
        rows = list(receiver_nodes())
    except (Error, KeyMissing, DecryptionError):
        # Already reported by the checks of the database and of the key.
        return
    for row in rows:
        yield from _check_node(row)


def _folders() -> Iterator[NodeFinding]:
    """Check the folders of nodes. Creates and opens none."""
    try:
        rows = list(Node.objects.filter(kind__in=folder_rules.folder_kinds()).defer("secrets"))
    except Error:
        return
    for row in rows:
        what = Message("node-folder.checked", node=row.name)
        try:
            folder_rules.validate_folders(row, row.settings)
        except FolderRefused as error:
            yield NodeFinding(Grade.BAD, what, error.message)
        else:
            yield NodeFinding(Grade.GOOD, what)


def _check_node(row: Node) -> Iterator[NodeFinding]:
    if row.settings.get("transport") != "tls":
        return
    try:
        given = DimseSettings(**get_engine_settings(row))
    except InvalidInput as error:
        what = Message("certificate.unreadable", owner=row.name)
        yield NodeFinding(Grade.BAD, what, error.message)
        return
    own = Message("clause.own-client-certificate", node=row.name)
    yield from _check_validity(own, given.client_certificate, is_ours=True)
    theirs = Message("clause.ca-certificate", node=row.name)
    yield from _check_validity(theirs, given.ca_certificate, is_ours=False)


def _check_validity(owner: str | Message, text: str, *, is_ours: bool) -> Iterator[NodeFinding]:
    """In a chain that we present all certificates must be valid; of trusted ones one is enough."""
    if not text:
        return
    try:
        found = dicom_ul_tls.read_certificates(text)
    except InvalidInput as error:
        what = Message("certificate.unreadable", owner=owner)
        yield NodeFinding(Grade.BAD, what, error.message)
        return
    one = (min if is_ours else max)(found, key=lambda each: each.ends_at)
    what = Message(
        "certificate.checked",
        owner=owner,
        name=one.names[0] if one.names else "–",
        expires=f"{one.ends_at:%Y-%m-%d}",
    )
    if one.days_left < 0:
        yield NodeFinding(Grade.BAD, what, Message("certificate.expired"))
    elif one.days_left < WARN_DAYS:
        step = Message("certificate.expires-soon", days=one.days_left)
        yield NodeFinding(Grade.WARNING, what, step)
    else:
        yield NodeFinding(Grade.GOOD, what)
