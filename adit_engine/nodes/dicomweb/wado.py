"""WADO-RS: fetch images from a DICOMweb node, each yielded as it arrives (PS3.18 10.4).

Used by the DICOMweb node.
"""

import time
from collections.abc import Callable, Generator, Iterator, Sequence

from adit_engine.dicom_file import part10, temp_files
from adit_engine.dicom_ul.peer import Timeouts
from adit_engine.elements import Buffer
from adit_engine.errors import Malformed, NotFound
from adit_engine.messages import Message
from adit_engine.nodes.dicomweb import multipart
from adit_engine.nodes.dicomweb.http import (
    NO_CONTENT,
    DicomwebClient,
    DicomwebRequest,
    DicomwebResponse,
)
from adit_engine.values.instance import Instance
from adit_engine.values.references import InstanceRef, Ref, SeriesRef

ACCEPT = 'multipart/related; type="application/dicom"'

_WHAT = Message("clause.request-wado")


class Wado:
    """Fetches through a client.

    `prefix` is the path of the service below the root URL. `notify_answer` gets, once per fetch, the
    seconds from the first request until its first image begins.
    """

    def __init__(
        self,
        client: DicomwebClient,
        prefix: str,
        timeouts: Timeouts,
        notify_answer: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self._client = client
        self._prefix = prefix
        self._timeouts = timeouts
        self._notify_answer = notify_answer
        self._name = client.server.name
        # As stored. A node that does not know the parameter responds with 406; then the request is
        # sent again without it.
        self._accept = f"{ACCEPT}; transfer-syntax=*"

    def images(self, refs: Sequence[Ref]) -> Generator[Instance, None, None]:
        """Yield images by one request per reference. Lazy, one image in memory at a time.

        A single instance that the node does not have is left out. Raises NotFound for a study or
        series, ConnectionLost where a response is cut off or is not DICOM.
        """
        for position, ref in enumerate(refs):
            yield from self._fetch_one(ref, is_timed=not position)

    def _fetch_one(self, ref: Ref, *, is_timed: bool) -> Iterator[Instance]:
        sent_at = time.monotonic() if is_timed else None
        with self._client.send(self._request(ref)) as answer:
            if answer.status != 406 or self._accept == ACCEPT:
                yield from self._read(answer, ref, sent_at)
                return
        self._accept = ACCEPT
        yield from self._fetch_one(ref, is_timed=is_timed)

    def _request(self, ref: Ref) -> DicomwebRequest:
        path = f"{self._prefix}/studies/{ref.study_uid}"
        if isinstance(ref, SeriesRef | InstanceRef):
            path += f"/series/{ref.series_uid}"
        if isinstance(ref, InstanceRef):
            path += f"/instances/{ref.instance_uid}"
        return DicomwebRequest("GET", path, self._accept, _WHAT, self._timeouts.first_byte_s)

    def _read(
        self, answer: DicomwebResponse, ref: Ref, sent_at: float | None
    ) -> Iterator[Instance]:
        if answer.status == NO_CONTENT:
            return
        if answer.is_missing:
            if isinstance(ref, InstanceRef):
                return
            is_series = isinstance(ref, SeriesRef)
            raise NotFound(
                "wado.series-not-found" if is_series else "wado.study-not-found", node=self._name
            )
        if not answer.is_ok:
            raise answer.error()
        awaited = Message("clause.await-first-image")
        answer.expect_within(self._timeouts.first_byte_s, awaited)
        broken = 0
        for body in self._bodies(answer, sent_at):
            try:
                instance = part10.parse_file(body)
            except Malformed as error:
                if isinstance(ref, InstanceRef):
                    yield Instance("", ref.instance_uid, "", b"", defect=error.message)
                else:
                    broken += 1
            else:
                yield instance
                del instance
        if broken:
            raise answer.protocol_error("dicomweb.invalid-parts", count=broken)

    def _bodies(self, answer: DicomwebResponse, sent_at: float | None) -> Iterator[Buffer]:
        """Yield the files of a response: its parts, or the whole of it if it is a single file."""
        kind, pieces = answer.content_type, self._timed(answer.pieces(), sent_at)
        if answer.media_type == multipart.DICOM_MEDIA_TYPE:
            if not answer.has_length:
                raise answer.protocol_error("dicomweb.no-length")
            boundary = multipart.new_boundary()
            kind, pieces = multipart.content_type(boundary), _wrap(pieces, boundary)
        elif answer.media_type != "multipart/related":
            raise answer.type_error()
        try:
            for part in multipart.read_parts(pieces, kind):
                yield part.body
        except Malformed as error:
            raise answer.protocol_error("dicomweb.invalid-multipart") from error
        except OSError as error:
            raise temp_files.disk_full_error(self._name) from error

    def _timed(self, pieces: Iterator[bytes], sent_at: float | None) -> Iterator[bytes]:
        """Yield the pieces; report when the first one has come."""
        for piece in pieces:
            if sent_at is not None:
                self._notify_answer(time.monotonic() - sent_at)
                sent_at = None
            yield piece


def _wrap(pieces: Iterator[bytes], boundary: str) -> Iterator[bytes]:
    yield multipart.make_part_head(boundary)
    yield from pieces
    yield multipart.closing_boundary(boundary)
