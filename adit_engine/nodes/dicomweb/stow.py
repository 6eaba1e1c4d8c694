"""STOW-RS: store instances at a DICOMweb node, with one result for each (PS3.18 10.5).

Used by the DICOMweb node. The size of each request is bounded.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from adit_engine.dicom_file import part10
from adit_engine.dicom_ul import statuses
from adit_engine.elements import Buffer
from adit_engine.errors import AditError, Malformed, NodeRefused, NotSupported
from adit_engine.messages import Message
from adit_engine.nodes.base import StoreResult
from adit_engine.nodes.dicomweb import dicom_json, multipart
from adit_engine.nodes.dicomweb.http import DicomwebClient, DicomwebRequest, DicomwebResponse
from adit_engine.nodes.dicomweb.qido import Qido, find_confirmed
from adit_engine.nodes.reencode import reencode
from adit_engine.values.instance import EXPLICIT_LE, Instance

BATCH_INSTANCES = 32
BATCH_BYTES = 16 * 1024 * 1024
MAX_RESPONSE_BYTES = 2 * 1024 * 1024
MAX_FAILED_TRIES = 3
"""After this many failures in a row, of one instance each, the node itself counts as failing."""

NO_SUCH_SYNTAX = 0xC122

_BYTES_PER_S = 5_000_000
"""A node may take longer to respond to a large upload: one second per this many bytes."""

_REFERENCED, _FAILED = "00081199", "00081198"
_INSTANCE, _WARNING, _FAILURE = "00081155", "00081196", "00081197"
_WHAT = Message("clause.request-stow")
_TAKEN = frozenset({200, 201, 202, 204, 206})
"""With these, what the response says or omits about single instances decides."""
_OF_SINGLES = frozenset({400, 409, 413, 415, 422, 500, 502, 504})
"""Statuses that one instance among many can cause."""

_ABOUT_ONE = {
    413: Message("refused.too-large"),
    415: Message("refused.object-or-encoding"),
}


@dataclass(frozen=True)
class _StowResponse:
    """The response to a request: warnings and failures by instance UID."""

    http_status: int
    stored: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    error: AditError | None = None

    @property
    def is_empty(self) -> bool:
        return not self.stored and not self.failed


class Stow:
    """Stores one stream. `qido` confirms the instances that a response does not mention."""

    def __init__(self, client: DicomwebClient, prefix: str, qido: Qido, within_s: float) -> None:
        self._client = client
        self._prefix = prefix
        self._qido = qido
        self._within_s = within_s
        self._failed_tries = 0

    def store(self, instances: Iterable[Instance]) -> Iterator[StoreResult]:
        """Yield one result for each instance, in order. Lazy. Raises NodeError, Stopped."""
        batch: dict[str, Instance] = {}
        size = 0
        for instance in instances:
            uid = instance.in_header.ref.instance_uid
            is_full = len(batch) >= BATCH_INSTANCES or size + instance.size_bytes > BATCH_BYTES
            if batch and (is_full or uid in batch):
                held, batch, size = list(batch.values()), {}, 0
                yield from self._store_batch(held)
            batch[uid] = instance
            size += instance.size_bytes
        if batch:
            yield from self._store_batch(list(batch.values()))

    def _store_batch(self, batch: Sequence[Instance]) -> Iterator[StoreResult]:
        verdict = self._send(batch)
        if verdict.is_empty and verdict.http_status in _OF_SINGLES and len(batch) > 1:
            for instance in batch:
                yield from self._store_batch([instance])
            return
        if verdict.is_empty and verdict.http_status not in _TAKEN:
            yield self._refused_result(batch, verdict)
            return
        self._failed_tries = 0
        there = self._find_stored(batch, verdict)
        for instance in batch:
            yield self._stored_result(instance, verdict, there)

    def _refused_result(self, batch: Sequence[Instance], verdict: _StowResponse) -> StoreResult:
        """Return the result for the only instance of a request that failed as a whole."""
        status = verdict.http_status
        assert verdict.error is not None
        if status not in _OF_SINGLES or len(batch) > 1:
            raise verdict.error
        self._failed_tries += 1
        if self._failed_tries >= MAX_FAILED_TRIES and status not in _ABOUT_ONE:
            raise verdict.error
        reason = _ABOUT_ONE.get(status, Message("refused.http-status", http_status=status))
        return StoreResult(batch[0].in_header.ref, statuses.CANNOT_UNDERSTAND, error=reason)

    def _stored_result(
        self, instance: Instance, verdict: _StowResponse, there: set[str]
    ) -> StoreResult:
        ref = instance.in_header.ref
        uid = ref.instance_uid
        status = verdict.failed.get(uid, verdict.stored.get(uid, statuses.SUCCESS))
        if status == NO_SUCH_SYNTAX and uid in verdict.failed:
            return self._store_reencoded(instance)
        if uid in there:
            done = StoreResult(ref, 0, Message("warning.not-confirmed"))
        elif uid in verdict.failed and not statuses.is_stored_with_warning(status):
            return StoreResult(
                ref, status or 0x0110, error=statuses.describe_store_error(status or 0x0110)
            )
        elif uid not in verdict.stored and uid not in verdict.failed:
            return StoreResult(ref, 0x0110, error=Message("refused.not-confirmed"))
        else:
            done = StoreResult(
                ref, status, statuses.describe_store_warning(status) if status else None
            )
        return replace(done, size_bytes=instance.size_bytes, sha256=instance.sha256())

    def _store_reencoded(self, instance: Instance) -> StoreResult:
        """Store once more, uncompressed."""
        ref, name = instance.in_header.ref, statuses.describe_uid(instance.transfer_syntax_uid)
        is_plain = instance.transfer_syntax_uid == EXPLICIT_LE
        other = None if is_plain else reencode(instance, (EXPLICIT_LE,))
        if other is None:
            error = Message("refused.transfer-syntax", transfer_syntax=name)
            return StoreResult(ref, NO_SUCH_SYNTAX, error=error)
        stored = next(self._store_batch([other]))
        warning = statuses.describe_re_encoding(EXPLICIT_LE, stored.warning)
        return replace(stored, warning=warning) if stored.is_stored else stored

    def _find_stored(self, batch: Sequence[Instance], verdict: _StowResponse) -> set[str]:
        """Return the instances that the node lists but its response does not mention."""
        refs = [instance.in_header.ref for instance in batch]
        named = verdict.stored.keys() | verdict.failed.keys()
        unnamed = [(ref.series, ref.instance_uid) for ref in refs if ref.instance_uid not in named]
        try:
            return set(find_confirmed(self._qido, unnamed))
        except (NotSupported, NodeRefused):
            return set()

    # The request -------------------------------------------------------------------------------

    def _send(self, batch: Sequence[Instance]) -> _StowResponse:
        boundary = multipart.new_boundary()
        body = list(multipart.encode_parts((part10.file_parts(one) for one in batch), boundary))
        request = DicomwebRequest(
            "POST",
            f"{self._prefix}/studies",
            "application/dicom+json",
            _WHAT,
            self._within_s + _size(body) / _BYTES_PER_S,
            body,
            multipart.content_type(boundary),
        )
        with self._client.send(request) as answer:
            return self._read_response(answer)

    def _read_response(self, answer: DicomwebResponse) -> _StowResponse:
        """Read a response.

        A broken response to a successful upload counts as one that mentions no instance.
        """
        found: dicom_json.Object = {}
        if answer.media_type in ("application/dicom+json", "application/json"):
            try:
                found = dicom_json.parse_object(answer.read_all(MAX_RESPONSE_BYTES))
            except Malformed:
                found = {}
        elif answer.is_ok and "html" in answer.media_type:
            raise answer.type_error()
        is_good = answer.status in _TAKEN
        return _StowResponse(
            answer.status,
            _by_uid(found, _REFERENCED, _WARNING),
            _by_uid(found, _FAILED, _FAILURE),
            None if is_good else answer.error(),
        )


def _by_uid(found: dicom_json.Object, sequence: str, reason: str) -> dict[str, int]:
    return {
        dicom_json.first_text(item, _INSTANCE): _number(dicom_json.first_text(item, reason))
        for item in dicom_json.sequence_items(found, sequence)
    }


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 6 else 0


def _size(body: Iterable[Buffer]) -> int:
    return sum(len(buffer) for buffer in body)
