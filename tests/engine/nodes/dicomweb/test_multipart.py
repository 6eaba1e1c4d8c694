"""Multipart bodies: every legal form is read in chunks of any size; truncation is an error."""

import mmap
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adit_engine.dicom_file.part10 import MAPPED_FROM_BYTES
from adit_engine.errors import Malformed
from adit_engine.nodes.dicomweb import multipart

TYPE = 'multipart/related; type="application/dicom"; boundary=frontier'
BODY = (
    b"a preamble\r\n--frontier\r\nContent-Type: application/dicom\r\n\r\nfirst\r\n"
    b"--frontier  \r\nContent-Type: text/plain;\r\n charset=utf-8\r\nX: y\r\n\r\nsecond\r\n\r\n"
    b"--frontier\r\n\r\n\r\n--frontier--\r\nan epilogue"
)


def bodies(data: bytes, content_type: str = TYPE, size: int = 7) -> list[bytes]:
    pieces = [data[i : i + size] for i in range(0, len(data), size)]
    return [bytes(part.body) for part in multipart.read_parts(pieces, content_type)]


@pytest.mark.parametrize("size", [1, 2, 3, 16, 1000])
def test_parts_are_read_from_chunks_of_any_size(size: int) -> None:
    assert bodies(BODY, size=size) == [b"first", b"second\r\n", b""]


def test_folded_header_lines_are_read() -> None:
    first, second, third = multipart.read_parts([BODY], TYPE)

    assert first.media_type == "application/dicom"
    assert second.headers == {"content-type": "text/plain; charset=utf-8", "x": "y"}
    assert third.headers == {}


def test_bare_line_feeds_are_accepted() -> None:
    assert bodies(BODY.replace(b"\r\n", b"\n")) == [b"first", b"second\n", b""]


@pytest.mark.parametrize(
    "boundary", ["x", "a b", "0'()+_,-./:=?", "=_Part_7", "-" * 70, "END.OF;PART"]
)
def test_any_legal_boundary_is_accepted(boundary: str) -> None:
    data = b"".join(multipart.encode_parts([[b"one", b" two"], [b"three"]], boundary))

    assert bodies(data, multipart.content_type(boundary)) == [b"one two", b"three"]
    if ";" not in boundary:
        plain = f"Multipart/Related;Boundary={boundary};type=application/dicom"
        assert bodies(data, plain) == [b"one two", b"three"]


def test_text_that_only_starts_like_the_boundary_belongs_to_the_part() -> None:
    text = b"a\r\n--frontiers\r\nb\r\n--front\r\n--frontier-\r\n--frontier x\r\n--frontier--y\r\nc"

    assert bodies(b"--frontier\r\n\r\n" + text + b"\r\n--frontier--") == [text]


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_a_truncated_body_always_raises_malformed(size: int) -> None:
    whole = BODY[: BODY.index(b"--frontier--") + len(b"--frontier--")]
    assert len(bodies(whole, size=size)) == 3
    for end in range(len(whole)):
        with pytest.raises(Malformed):
            bodies(whole[:end], size=size)


def test_complete_parts_of_a_truncated_body_are_yielded_first() -> None:
    reader = multipart.read_parts([BODY[: BODY.index(b"second")]], TYPE)

    assert bytes(next(reader).body) == b"first"
    with pytest.raises(Malformed, match="before its last boundary"):
        next(reader)


def test_an_endless_body_with_another_boundary_raises_malformed() -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"\r\n--other\r\n\r\n" + bytes(4000)

    with pytest.raises(Malformed, match="does not use the boundary"):
        list(multipart.read_parts(endless(), TYPE))


def test_endless_part_headers_raise_malformed() -> None:
    def endless() -> Iterator[bytes]:
        yield b"--frontier\r\n"
        while True:
            yield b"X: y\r\n"

    with pytest.raises(Malformed, match="headers"):
        list(multipart.read_parts(endless(), TYPE))


@pytest.mark.parametrize("kind", ["application/dicom", "multipart/related", "", TYPE + ' "'])
def test_a_content_type_without_boundary_raises_malformed(kind: str) -> None:
    if kind.startswith(TYPE):
        kind = 'multipart/related; boundary=" "'
    with pytest.raises(Malformed, match="boundary"):
        multipart.read_parts([], kind)


def test_a_large_part_is_kept_in_a_mapped_file() -> None:
    megabyte = bytes(range(256)) * 4096

    def pieces() -> Iterator[bytes]:
        yield multipart.make_part_head("frontier")
        for _ in range(MAPPED_FROM_BYTES // len(megabyte) + 1):
            yield megabyte
        yield multipart.closing_boundary("frontier")

    (part,) = multipart.read_parts(pieces(), TYPE)

    assert isinstance(part.body, memoryview)
    assert isinstance(part.body.obj, mmap.mmap)
    assert len(part.body) == MAPPED_FROM_BYTES + len(megabyte)
    assert part.body[-len(megabyte) :] == megabyte


def test_a_writer_that_fails_never_writes_the_closing_boundary() -> None:
    def failing() -> Iterator[list[bytes]]:
        yield [b"one"]
        raise BrokenPipeError

    written: list[bytes] = []
    with pytest.raises(BrokenPipeError):
        written.extend(multipart.encode_parts(failing(), "frontier"))  # type: ignore[arg-type]

    assert b"one" in written
    with pytest.raises(Malformed):
        bodies(b"".join(written))


@given(
    st.lists(st.lists(st.sampled_from([b"\r", b"\n", b"-", b"--b", b"b", b"\r\n", b"x", b" "]))),
    st.integers(1, 9),
)
def test_encoded_parts_are_decoded_unchanged(contents: list[list[bytes]], size: int) -> None:
    boundary = "b" * 9  # longer than any run of b that a part can hold next to a line start
    texts = [b"".join(pieces).replace(b"bbb", b"") for pieces in contents]
    data = b"".join(multipart.encode_parts(([text] for text in texts), boundary))

    assert bodies(data, multipart.content_type(boundary), size) == texts
