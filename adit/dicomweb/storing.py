"""Store what a program sends by STOW-RS at a node (PS3.18 10.5).

The body goes to a file first: a slow client occupies no association, and nothing is stored of a
body that arrives incompletely.
"""

import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from django.conf import settings
from django.http import HttpRequest, UnreadablePostError

from adit.accounts.permissions import NotPermitted
from adit.audit.trail import record
from adit.blocklist import blocking
from adit.dicomweb.authentication import Caller
from adit.dicomweb.client_watch import ClientWatch, get_client_socket, open_node_patiently
from adit.dicomweb.dicom_json import JsonObject, make_attribute
from adit.dicomweb.errors import TooBusy, UnsupportedMediaType
from adit.nodes.access import get_domain
from adit.nodes.gateway import Purpose, require_purpose, require_still_available
from adit.nodes.models import Node
from adit_engine.bounded_stream import Stop
from adit_engine.dicom_file import temp_files
from adit_engine.dicom_file.part10 import parse_file_without_preamble
from adit_engine.errors import AditError, Malformed
from adit_engine.nodes.base import StoreResult
from adit_engine.nodes.dicomweb.multipart import (
    DICOM_MEDIA_TYPE,
    BodyPart,
    media_type,
    read_parameter,
    read_parts,
)
from adit_engine.pseudonymize.charset import Charset
from adit_engine.values.instance import CHARACTER_SET, Instance
from adit_engine.values.references import InstanceRef

PROCESSING_FAILURE = 0x0110
NOT_AUTHORIZED = 0x0124
DOES_NOT_MATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000

_READ_BYTES = 256 * 1024
_CHECK_DISK_BYTES = 64 * 1024 * 1024


@dataclass
class StoreReport:
    """What became of each image: (SOP class, reference, status); status 0: stored."""

    stored: list[tuple[str, InstanceRef, int]] = field(default_factory=list)
    failed: list[tuple[str, str, int]] = field(default_factory=list)
    """SOP class, instance UID and reason."""
    unreadable: int = 0
    """Parts that are not DICOM."""

    @property
    def http_status(self) -> int:
        """200: all stored, 202: some or with warnings, 409: none."""
        if not self.stored:
            return 409
        has_warnings = any(status for _class, _ref, status in self.stored)
        return 202 if self.failed or self.unreadable or has_warnings else 200

    def to_json(self, wado_root: str) -> JsonObject:
        """Return the answer (PS3.18 10.5.3). `wado_root` is the address of the studies."""
        found: JsonObject = {}
        if self.stored:
            studies = {ref.study_uid for _class, ref, _status in self.stored}
            if len(studies) == 1:
                found["00081190"] = make_attribute("UR", f"{wado_root}/{studies.pop()}")
            items = [_stored_item(one, wado_root) for one in self.stored]
            found["00081199"] = {"vr": "SQ", "Value": items}
        if self.failed:
            items = [_failed_item(*one) for one in self.failed]
            found["00081198"] = {"vr": "SQ", "Value": items}
        if self.unreadable:
            item = {"00081197": make_attribute("US", CANNOT_UNDERSTAND)}
            found["0008119A"] = {"vr": "SQ", "Value": [item] * self.unreadable}
        return dict(sorted(found.items()))


def _stored_item(one: tuple[str, InstanceRef, int], wado_root: str) -> JsonObject:
    class_uid, ref, status = one
    address = f"{wado_root}/{ref.study_uid}/series/{ref.series_uid}/instances/{ref.instance_uid}"
    item = {
        "00081150": make_attribute("UI", class_uid),
        "00081155": make_attribute("UI", ref.instance_uid),
        "00081190": make_attribute("UR", address),
    }
    if status:
        item["00081196"] = make_attribute("US", status)
    return item


def _failed_item(class_uid: str, instance_uid: str, reason: int) -> JsonObject:
    return {
        "00081150": make_attribute("UI", class_uid),
        "00081155": make_attribute("UI", instance_uid),
        "00081197": make_attribute("US", reason),
    }


def store_request(
    caller: Caller, node: Node, request: HttpRequest, study_uid: str | None
) -> StoreReport:
    """Store the images of a request. With `study_uid`, those of other studies are refused.

    Raise AditError if nothing was stored and the request or the node is the reason.
    """
    require_purpose(caller.user, node, Purpose.STORE)
    content_type = request.headers.get("Content-Type", "")
    if not _is_chunked(request) and request.headers.get("Content-Length", "0") in ("", "0"):
        raise Malformed("dicomweb.body-empty")
    _require_plain_body(request)
    _require_dicom_parts(content_type)
    with temp_files.open_unnamed() as file:
        _receive(request, file)
        _require_complete(file, content_type)
        storing = _Storing(caller, node, study_uid)
        try:
            return storing.run(_read_pieces(file), content_type, request)
        finally:
            _record(caller, node, storing.report)


def _record(caller: Caller, node: Node, report: StoreReport) -> None:
    failed = len(report.failed) + report.unreadable
    if not report.stored and not failed:
        return
    details = {
        "node": node.name,
        "caller": caller.label,
        "stored": len(report.stored),
        "failed": failed,
    }
    record("dicomweb.stored", user=caller.user, about=f"node:{node.pk}", details=details)


# Receiving ---------------------------------------------------------------------------------------


def _require_plain_body(request: HttpRequest) -> None:
    if request.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
        raise UnsupportedMediaType("dicomweb.encoded-body")


def _require_dicom_parts(content_type: str) -> None:
    if media_type(content_type) != "multipart/related":
        raise UnsupportedMediaType("dicomweb.not-multipart")
    kind = read_parameter(content_type, "type") or DICOM_MEDIA_TYPE
    if kind.lower() != DICOM_MEDIA_TYPE:
        raise UnsupportedMediaType("dicomweb.not-multipart")


def _receive(request: HttpRequest, file: BinaryIO) -> None:
    """Write the body to the file. Raise Malformed if it stops, TooBusy if the disk is full."""
    stream = _open_body(request)
    unchecked = _CHECK_DISK_BYTES
    try:
        while piece := stream.read(_READ_BYTES):
            unchecked += len(piece)
            if unchecked > _CHECK_DISK_BYTES:
                unchecked = 0
                _require_free_disk(file)
            file.write(piece)
    except (OSError, UnreadablePostError):
        raise Malformed("dicomweb.body-incomplete") from None
    if not file.tell():
        raise Malformed("dicomweb.body-empty")


def _open_body(request: HttpRequest) -> Any:
    # Django reads nothing of a body without a length.
    environ = request.environ  # type: ignore[attr-defined]
    return environ["wsgi.input"] if _is_chunked(request) else request


def _is_chunked(request: HttpRequest) -> bool:
    return "chunked" in request.headers.get("Transfer-Encoding", "").lower()


def _require_free_disk(file: BinaryIO) -> None:
    status = os.fstatvfs(file.fileno())
    if status.f_bavail * status.f_frsize < settings.SPOOL_RESERVE_MB * 1024 * 1024:
        raise TooBusy("dicomweb.disk-full")


def _require_complete(file: BinaryIO, content_type: str) -> None:
    """Raise Malformed unless the body has a boundary and its last one; text may follow that."""
    boundary = read_parameter(content_type, "boundary")
    if not boundary:
        raise Malformed("multipart.no-boundary")
    last, position = f"--{boundary}--".encode(), file.tell()
    while position:
        position = max(0, position - _READ_BYTES)
        file.seek(position)
        if last in file.read(_READ_BYTES + len(last)):
            return
    raise Malformed("dicomweb.body-incomplete")


def _read_pieces(file: BinaryIO) -> Iterator[bytes]:
    file.seek(0)
    while piece := file.read(_READ_BYTES):
        yield piece


# Storing -----------------------------------------------------------------------------------------


class _Storing:
    def __init__(self, caller: Caller, node: Node, study_uid: str | None) -> None:
        self._caller = caller
        self._node = node
        self._study_uid = study_uid
        self.report = StoreReport()
        self._sent: dict[str, str] = {}
        """SOP class by instance UID of those without a result yet."""
        self._broken: Malformed | None = None
        """Why the rest of the body cannot be divided into parts."""

    def run(self, pieces: Iterable[bytes], content_type: str, request: HttpRequest) -> StoreReport:
        report, instances = self.report, self._instances(pieces, content_type)
        try:
            self._store(instances, request)
        except AditError:
            if not report.stored and not report.failed:
                raise
        for _not_sent in instances:
            pass
        for uid, class_uid in self._sent.items():
            report.failed.append((class_uid, uid, PROCESSING_FAILURE))
        if not report.stored and not report.failed:
            if self._broken:
                raise self._broken
            if not report.unreadable:
                raise Malformed("dicomweb.body-empty")
        return report

    def _store(self, instances: Iterator[Instance], request: HttpRequest) -> None:
        holder = f"web:{secrets.token_hex(8)}"
        client = get_client_socket(request.environ)  # type: ignore[attr-defined]
        with ExitStack() as stack:
            node = open_node_patiently(
                stack, self._caller, self._node, Purpose.STORE, holder, client
            )

            def check() -> None:
                self._caller.require_valid()
                require_still_available(self._node, Purpose.STORE, holder)

            stack.enter_context(ClientWatch(None, holder, Stop(), check, node.abort))
            for result in node.store(instances):
                self._add(result)

    def _add(self, result: StoreResult) -> None:
        class_uid = self._sent.pop(result.ref.instance_uid, result.class_uid)
        if result.is_stored:
            self.report.stored.append((class_uid, result.ref, result.status))
        else:
            reason = result.status or PROCESSING_FAILURE
            self.report.failed.append((class_uid, result.ref.instance_uid, reason))

    def _instances(self, pieces: Iterable[bytes], content_type: str) -> Iterator[Instance]:
        """Yield the images that may be stored; note the others."""
        for part in self._parts(pieces, content_type):
            instance = self._parse(part.body, part.media_type)
            if instance is None:
                self.report.unreadable += 1
                continue
            reason = self._find_refusal(instance)
            if reason:
                refused = (instance.sop_class_uid, instance.instance_uid, reason)
                self.report.failed.append(refused)
                continue
            self._sent[instance.instance_uid] = instance.sop_class_uid
            yield instance

    def _parts(self, pieces: Iterable[bytes], content_type: str) -> Iterator[BodyPart]:
        """Yield the parts; a rest that cannot be divided counts as one unreadable part."""
        try:
            yield from read_parts(pieces, content_type)
        except Malformed as error:
            self._broken = error
            self.report.unreadable += 1

    def _parse(self, body: Any, kind: str) -> Instance | None:
        if kind not in (DICOM_MEDIA_TYPE, ""):
            return None
        try:
            return parse_file_without_preamble(body)
        except Malformed:
            return None

    def _find_refusal(self, instance: Instance) -> int:
        """Return why an image is not stored (PS3.18 Table I.2-2); 0: it may be stored."""
        try:
            ref = instance.in_header.ref
            patient_id = _decode_patient_id(instance)
        except AditError:
            return CANNOT_UNDERSTAND
        if patient_id is None or ref.instance_uid != instance.instance_uid:
            return CANNOT_UNDERSTAND
        if self._study_uid is not None and ref.study_uid != self._study_uid:
            return DOES_NOT_MATCH
        try:
            blocking.require_not_blocked(None, get_domain(self._node), patient_id)
        except NotPermitted:
            return NOT_AUTHORIZED
        return 0


def _decode_patient_id(instance: Instance) -> str | None:
    """Return None if it is invalid in the character set of the data set."""
    identity = instance.in_header
    value = identity.patient_id
    if value.isascii() and b"\x1b" not in value:
        return value.decode()
    return Charset(identity.trimmed(CHARACTER_SET)).decode(value)
