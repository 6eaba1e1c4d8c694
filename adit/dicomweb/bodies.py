"""Encode images as bodies of HTTP responses: multipart, one file, ZIP, or JSON of their headers.

All are lazy and hold one image at a time. After an error the body is never closed properly, so that
no client takes it for whole.
"""

import zipfile
from collections.abc import Generator
from io import RawIOBase
from typing import Self

from adit.dicomweb.dicom_json import HeaderEncoder
from adit.dicomweb.image_request import open_images
from adit.dicomweb.pieces import PIECE_BYTES, cut
from adit_engine.dicom_file.part10 import file_parts
from adit_engine.elements import Buffer
from adit_engine.errors import AditError
from adit_engine.nodes.dicomweb import multipart
from adit_engine.values.instance import Instance

Images = Generator[Instance, None, None]
Pieces = Generator[bytes, None, None]


class StreamedBody:
    """A body whose first piece is made at once, so that an error before it can be answered."""

    def __init__(self, pieces: Generator[bytes, None, None]) -> None:
        self._pieces = pieces
        self._first = next(pieces, None)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        first, self._first = self._first, None
        if first is not None:
            return first
        return next(self._pieces)

    def close(self) -> None:
        """End the work, if the client has left."""
        self._pieces.close()


def encode_multipart(instances: Images, boundary: str) -> Pieces:
    """Yield one part per image.

    After an error the last part is text, which no DICOM parser accepts, and the closing boundary is
    missing.
    """
    has_begun = False
    try:
        with open_images(instances) as images:
            for instance in images:
                has_begun = True
                yield from cut([multipart.make_part_head(boundary), *file_parts(instance)])
                del instance
    except AditError as error:
        if has_begun:
            head = multipart.make_part_head(boundary, "text/plain; charset=utf-8")
            yield head + str(error).encode()
        raise
    yield multipart.closing_boundary(boundary)


def encode_single(instances: Images) -> Pieces:
    """Yield the file of the only image."""
    with open_images(instances) as images:
        for instance in images:
            yield from cut(file_parts(instance))


def encode_json(instances: Images) -> Pieces:
    """Yield an array of the headers."""
    before, encoder = b"[", HeaderEncoder()
    with open_images(instances) as images:
        for instance in images:
            yield before + encoder.encode(instance).encode()
            before = b","
    yield b"]"


def encode_zip(instances: Images) -> Pieces:
    """Yield a ZIP file without compression (PS3.18 Supplement 211)."""
    sink = _Sink()
    with (
        open_images(instances) as images,
        zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive,
    ):
        is_whole = False
        try:
            for instance in images:
                ref = instance.in_header.ref
                entry = zipfile.ZipInfo(f"{ref.series_uid}/{ref.instance_uid}.dcm")
                entry.file_size = instance.size_bytes + PIECE_BYTES
                with archive.open(entry, "w") as file:
                    for piece in cut(file_parts(instance)):
                        file.write(piece)
                        yield sink.take()
                yield sink.take()
                del instance
            is_whole = True
        finally:
            if not is_whole:
                sink.is_open = False  # the directory at the end would make it a whole file
    yield sink.take()


class _Sink(RawIOBase):
    """Collects what a ZIP file writes until it is taken. It cannot be positioned."""

    def __init__(self) -> None:
        super().__init__()
        self.is_open = True
        self._written: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer) -> int:  # type: ignore[override]
        if self.is_open:
            self._written.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        data = b"".join(self._written)
        self._written.clear()
        return data
