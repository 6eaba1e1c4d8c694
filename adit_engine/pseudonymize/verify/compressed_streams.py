"""Verification of compressed streams: what of one frame a decoder reads, and what it passes over."""

import re
from collections.abc import Iterator

from adit_engine.pseudonymize.verify.reader import unreadable_error

_JPEG, _CODESTREAM, _END = b"\xff\xd8", b"\xff\x4f", b"\xff\xd9"
_JP2_SIGNATURE = b"\0\0\0\x0cjP  \r\n\x87\n"
_TILE, _TILE_DATA, _COMMENT = 0x90, 0x93, 0x64
_SCAN, _IMAGE_END = 0xDA, 0xD9
# What a decoder may need of a JPEG header, by marker; comments and application data it does not,
# but for APP14, which tells Adobe's colour transform, and APP8 of JPEG-LS (HP's colour transform).
_SCANNED = 0x100
_ENTROPY_CODED = frozenset({_SCANNED, _TILE_DATA})
_LONGEST_SEGMENT = 65537
_IGNORED = frozenset({0, 0xFE, _COMMENT, *range(0xE0, 0xF0)} - {0xE8, 0xEE})
# Neither T.81 nor T.87 has these codes inside entropy-coded data; restart markers belong to it.
_AFTER_SCAN = re.compile(rb"\xff[\x80-\xcf\xd8-\xfe]")

_RLE = "1.2.840.10008.1.2.5"
_TAIL_SCANNED = 4096

StreamPart = tuple[int, bytes]
"""The code of its marker, and the bytes; what stands behind the end has the code 0."""


def is_same_stream(before: bytes, after: bytes, syntax: str, plane: int) -> bool:
    """Whether a decoder gets the same from both. `plane`: pixels in one frame."""
    if before == after:
        return True
    if syntax == _RLE:
        planes = _decode_planes(before, plane)
        return planes is not None and planes == _decode_planes(after, plane)
    return _decoder_input(before) == _decoder_input(after)


def readable_segments(frame: bytes) -> Iterator[bytes]:
    """Where text can hide in a frame: its segments, what follows its end, the end of its data."""
    for code, part in _split_stream(frame):
        yield part[:_LONGEST_SEGMENT] if code not in _ENTROPY_CODED else b""
    yield frame[-_TAIL_SCANNED:]


def _decoder_input(data: bytes) -> bytes:
    return b"".join(part for code, part in _split_stream(data) if code not in _IGNORED)


def _split_stream(data: bytes) -> Iterator[StreamPart]:
    """The marker segments with the data behind them; what is neither JPEG nor JPEG 2000 as a whole."""
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
    """The code stream of a JP2 file (T.800 Annex I)."""
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
    """Where the marker segment ends that begins here."""
    if at + 4 > len(data) or data[at] != 0xFF:
        raise unreadable_error("a compressed frame is no row of segments")
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
        # How long it is now follows from its parts; the number that says so changes with remarks.
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
        raise unreadable_error("a tile of a compressed frame does not end where it should")
    position = at + 12
    while position < end and data[position : position + 2] != b"\xff\x93":
        after = _find_segment_end(data, position)
        yield data[position + 1] or -1, data[position:after]
        position = after
    yield _TILE_DATA, data[position:end]


def _decode_planes(data: bytes, size: int) -> list[bytes] | None:
    """The decoded segments (PS3.5 Annex G); None where it is no RLE."""
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
