"""Split compressed frames into data that a decoder reads and data that it ignores.

Used to compare pixels before and after, and to search for text.
"""

import re
from collections.abc import Iterator

from adit_engine.errors import InstanceWithheld

_JPEG, _CODESTREAM, _END = b"\xff\xd8", b"\xff\x4f", b"\xff\xd9"
_JP2_SIGNATURE = b"\0\0\0\x0cjP  \r\n\x87\n"
_TILE, _TILE_DATA, _COMMENT = 0x90, 0x93, 0x64
_SCAN, _IMAGE_END = 0xDA, 0xD9
# Segments of a JPEG header that decoders do not need, by marker: comments and application data. Not
# ignored are APP14 (Adobe's color transform) and APP8 of JPEG-LS (HP's color transform).
_SCANNED = 0x100
_ENTROPY_CODED = frozenset({_SCANNED, _TILE_DATA})
_LONGEST_SEGMENT = 65537
_IGNORED = frozenset({0, 0xFE, _COMMENT, *range(0xE0, 0xF0)} - {0xE8, 0xEE})
# Neither T.81 nor T.87 uses these codes in entropy-coded data. Restart markers belong to the data.
_AFTER_SCAN = re.compile(rb"\xff[\x80-\xcf\xd8-\xfe]")

_RLE = "1.2.840.10008.1.2.5"
_TAIL_SCANNED = 4096

StreamPart = tuple[int, bytes]
"""Marker code and bytes. Bytes behind the end of the image have the code 0."""


def is_same_stream(before: bytes, after: bytes, syntax: str, plane: int) -> bool:
    """Whether a decoder reads the same from both. `plane`: number of pixels per frame."""
    if before == after:
        return True
    if syntax == _RLE:
        planes = _decode_planes(before, plane)
        return planes is not None and planes == _decode_planes(after, plane)
    return _decoder_input(before) == _decoder_input(after)


def readable_segments(frame: bytes) -> Iterator[bytes]:
    """Yield bytes where text can hide: segments, data behind the end, the last bytes."""
    for code, part in _split_stream(frame):
        yield part[:_LONGEST_SEGMENT] if code not in _ENTROPY_CODED else b""
    yield frame[-_TAIL_SCANNED:]


def _decoder_input(data: bytes) -> bytes:
    return b"".join(part for code, part in _split_stream(data) if code not in _IGNORED)


def _split_stream(data: bytes) -> Iterator[StreamPart]:
    """Split into marker segments and data. Other formats are yielded as a whole."""
    inner = _unwrap_jp2(data)
    if inner is not data:
        yield 0, data[: data.index(inner)]
    if inner.startswith(_JPEG):
        yield from _split_jpeg(inner)
    elif inner.startswith(_CODESTREAM):
        yield from _split_jpeg_2000(inner)
    else:
        yield -1, data


def _unwrap_jp2(data: bytes) -> bytes:
    """The codestream of a JP2 file (T.800 Annex I)."""
    at = 0
    while data.startswith(_JP2_SIGNATURE) and at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4])
        if data[at + 4 : at + 8] == b"jp2c":
            return data[at + 8 : at + length if length else len(data)]
        if length < 8:
            break
        at += length
    return data


def _find_segment_end(data: bytes, at: int) -> int:
    """Return the end of the marker segment that begins here."""
    if at + 4 > len(data) or data[at] != 0xFF:
        raise InstanceWithheld("verify-not-understood.segments")
    return at + 2 + int.from_bytes(data[at + 2 : at + 4])


def _split_jpeg(data: bytes) -> Iterator[StreamPart]:
    at = 2
    while at < len(data):
        if data[at : at + 2] == b"\xff\xff":
            at += 1
            continue
        if data[at : at + 2] == _END:
            yield _IMAGE_END, _END
            yield 0, data[at + 2 :]
            return
        code, end = data[at + 1], _find_segment_end(data, at)
        yield code, data[at:end]
        if code == _SCAN:
            following = _AFTER_SCAN.search(data, end)
            at, end = end, following.start() if following else len(data)
            yield _SCANNED, data[at:end]
        at = end


def _split_jpeg_2000(data: bytes) -> Iterator[StreamPart]:
    at = 2
    while data[at : at + 2] != b"\xff\x90":
        end = _find_segment_end(data, at)
        yield data[at + 1] or -1, data[at:end]
        at = end
    while data[at : at + 2] == b"\xff\x90":
        parts = list(_split_tile_part(data, at))
        # The length field changes if comments are removed. Compare the length of the other parts.
        used = sum(len(part) for code, part in parts if code != _COMMENT)
        yield _TILE, data[at : at + 6] + data[at + 10 : at + 12] + used.to_bytes(8)
        yield from parts
        at += 12 + sum(len(part) for _, part in parts)
    yield _IMAGE_END, data[at : at + 2]
    yield 0, data[at + 2 :]


def _split_tile_part(data: bytes, at: int) -> Iterator[StreamPart]:
    """The segments of one tile-part, and its data."""
    length = int.from_bytes(data[at + 6 : at + 10])
    end = at + length if length else data.find(_END, at)
    if not at + 12 <= end <= len(data):
        raise InstanceWithheld("verify-not-understood.tile")
    position = at + 12
    while position < end and data[position : position + 2] != b"\xff\x93":
        after = _find_segment_end(data, position)
        yield data[position + 1] or -1, data[position:after]
        position = after
    yield _TILE_DATA, data[position:end]


def _decode_planes(data: bytes, size: int) -> list[bytes] | None:
    """Decode the segments (PS3.5 Annex G). None if it is not RLE."""
    head = [int.from_bytes(data[at : at + 4], "little") for at in range(0, 64, 4)]
    if not 0 < head[0] <= 15:
        return None
    starts = head[1 : head[0] + 1]
    return [
        _unpack_segment(data[begin:end], size)
        for begin, end in zip(starts, [*starts[1:], len(data)], strict=True)
    ]


def _unpack_segment(segment: bytes, size: int) -> bytes:
    out, at = bytearray(), 0
    while at < len(segment) and len(out) < size:
        control = segment[at]
        if control < 128:
            out += segment[at + 1 : at + 2 + control]
            at += 2 + control
        else:
            if control > 128:
                out += segment[at + 1 : at + 2] * (257 - control)
            at += 1 + (control > 128)
    return bytes(out)
