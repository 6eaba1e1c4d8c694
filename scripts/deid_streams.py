"""Leaks through pixels: spare bits, trailing bytes, comments in compressed streams.

Used by `deid_cases`.
"""

from collections.abc import Iterator
from struct import pack

import jpeg_ls
import numpy as np
import openjpeg
from deid_file import (
    JPEG_2000,
    JPEG_LOSSLESS,
    JPEG_LS,
    NAME,
    PLANT,
    RLE,
    Case,
    Planted,
    encapsulated,
    file,
    header,
)


def stream_cases() -> Iterator[Case]:
    yield from _pixels()
    yield from _streams()


def _pixels() -> Iterator[Case]:
    made = header(t7fe00010=("OW", bytes(32) + NAME))
    yield Case("behind pixels", "native", file(made), PLANT)
    words = [0x1000 * (letter & 0xF) for letter in NAME[:16]]
    made = header(t7fe00010=("OW", pack("<16H", *words)))
    yield Case("spare bits", "native", file(made), (Planted(pack("<16H", *words)),))
    made = header(t60000102=("US", pack("<H", 3)), t60000022=("LO", NAME))
    yield Case("spare bits", "inside the image", file(made), PLANT)
    made = header(t7fe00001=("OV", NAME), t7fe00002=("OV", NAME))
    yield Case("behind pixels", "offset tables", file(made), PLANT)


def _segment(code: int, content: bytes) -> bytes:
    return pack(">BBH", 0xFF, code, len(content) + 2) + content


def _streams() -> Iterator[Case]:
    frame = pack(">BHHB3s", 12, 4, 4, 1, b"\1\x11\0")
    scan = _segment(0xDA, b"\1\1\0\1\0\0") + b"\x12\x34\x56"
    start, end = b"\xff\xd8", b"\xff\xd9"
    sized = _segment(0xC3, frame)
    for name, stream in (
        ("comment", start + _segment(0xFE, NAME) + sized + scan + end),
        ("Exif", start + _segment(0xE1, b"Exif\0" + NAME) + sized + scan + end),
        ("APP0", start + _segment(0xE0, b"JFIF\0" + NAME) + sized + scan + end),
        ("late comment", start + sized + scan + _segment(0xFE, NAME) + end),
        ("behind the end", start + sized + scan + end + NAME),
        ("between segments", start + NAME + sized + scan + end),
    ):
        yield _stream("JPEG stream", name, JPEG_LOSSLESS, stream)
    yield _stream("JPEG stream", "offset table", JPEG_LOSSLESS, start + sized + scan + end, NAME)
    image = np.arange(16, dtype="<u2").reshape(4, 4) * 200
    plain = bytes(jpeg_ls.encode(image))
    for name, stream in (
        ("comment", plain[:2] + _segment(0xFE, NAME) + plain[2:]),
        ("APP", plain[:2] + _segment(0xE5, NAME) + plain[2:]),
        ("behind the end", plain + NAME),
    ):
        yield _stream("JPEG-LS stream", name, JPEG_LS, stream)
    image = np.arange(4096, dtype="<u2").reshape(64, 64)  # 4 x 4 is too small for wavelet levels
    code = bytes(openjpeg.encode(image, photometric_interpretation=2, use_mct=False))
    size = 2 + int.from_bytes(code[4:6]) + 2
    comment = _segment(0x64, b"\0\1" + NAME)
    tile = code.index(b"\xff\x90")
    longer = int.from_bytes(code[tile + 6 : tile + 10]) + len(comment)
    in_tile = code[: tile + 6] + longer.to_bytes(4) + code[tile + 10 : tile + 12] + comment
    for name, stream in (
        ("comment", code[:size] + comment + code[size:]),
        ("tile comment", in_tile + code[tile + 12 :]),
        ("behind the end", code + NAME),
        ("boxes", b"\0\0\0\x0cjP  \r\n\x87\n" + NAME + code),
    ):
        yield _stream("JPEG 2000 stream", name, JPEG_2000, stream)
    runs = bytes([256 - 15, 0])
    plain = pack("<16I", 2, 64, 66, *[0] * 13) + runs + runs
    gap = pack("<16I", 2, 64, 66 + len(NAME), *[0] * 13) + runs + NAME + runs
    for name, stream in (("behind the end", plain + NAME), ("between segments", gap)):
        yield _stream("RLE stream", name, RLE, stream)
    held = pack("<16I", 2, 64, 66, *[0] * 13)[:-24] + NAME.ljust(24) + runs + runs
    yield _stream("RLE stream", "header", RLE, held)


def _stream(kind: str, name: str, syntax: str, stream: bytes, table: bytes = b"") -> Case:
    pixels = encapsulated(stream, table=table)
    made = header()
    if syntax == JPEG_2000:
        made |= {tag: ("US", pack("<H", 64)) for tag in (0x00280010, 0x00280011)}
    return Case(kind, name, file(made, syntax, pixels=pixels), PLANT)
