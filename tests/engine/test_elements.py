"""The element scanner agrees with pydicom and rejects what it cannot parse."""

from io import BytesIO
from struct import pack

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filebase import DicomFileLike
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

from adit_engine.elements import (
    PIXEL_TAGS,
    Element,
    elements,
    header_end_and_values,
    is_sequence,
    items,
    nested_explicit,
)
from adit_engine.errors import Malformed

VALUES: dict[int, st.SearchStrategy[object]] = {
    0x00080060: st.sampled_from(["CT", "MR"]),
    0x00100010: st.text("ABC^", max_size=20),
    0x00104000: st.text("abc ", max_size=300),
    0x00189087: st.floats(0, 1e6),
    0x00280010: st.integers(0, 65535),
    0x00281201: st.binary(max_size=40).filter(lambda value: len(value) % 2 == 0),
    0x0040A160: st.text("abc", max_size=70000),
}
SEQUENCES = (0x00081140, 0x00082112, 0x00540016)


def data_sets(depth: int) -> st.SearchStrategy[Dataset]:
    plain = st.fixed_dictionaries({}, optional=VALUES)
    if depth == 0:
        return plain.map(lambda values: data_set(values, {}))
    inner = st.lists(data_sets(depth - 1), max_size=3)
    nested = st.fixed_dictionaries(
        {}, optional={tag: st.tuples(inner, st.booleans(), st.booleans()) for tag in SEQUENCES}
    )
    return st.builds(data_set, plain, nested)


def data_set(
    values: dict[int, object], nested: dict[int, tuple[list[Dataset], bool, bool]]
) -> Dataset:
    ds = Dataset()
    for tag, value in values.items():
        ds.add_new(tag, "OW" if tag == 0x00281201 else _vr(tag), value)
    for tag, (inner, endless, endless_items) in nested.items():
        for item in inner:
            item.is_undefined_length_sequence_item = endless_items
        ds.add_new(tag, "SQ", Sequence(inner))
        ds[tag].is_undefined_length = endless
    return ds


def _vr(tag: int) -> str:
    from pydicom.datadict import dictionary_VR

    return dictionary_VR(tag)


def written(ds: Dataset, explicit: bool) -> bytes:
    buffer = DicomFileLike(BytesIO())
    buffer.is_little_endian, buffer.is_implicit_VR = True, not explicit
    write_dataset(buffer, ds)
    return buffer.parent.getvalue()  # type: ignore[no-any-return]


Seen = list[tuple[int, "Seen | int"]]


def scanned(data: bytes, explicit: bool, found: list[Element]) -> Seen:
    """Return each tag with the length of its value, or with the contents of its items."""
    seen: Seen = []
    for element in found:
        if is_sequence(element, "SQ" if element.tag in SEQUENCES else ""):
            inside = nested_explicit(element, explicit)
            inner: Seen = []
            for item in items(data, inside, element):
                inner += scanned(
                    data, inside, list(elements(data, inside, item.value, item.value_end))
                )
                inner.append((-1, 0))
            seen.append((element.tag, inner))
        else:
            seen.append((element.tag, element.end - element.value))
    return seen


def expected(ds: Dataset, explicit: bool) -> Seen:
    seen: Seen = []
    for element in ds:
        if element.VR == "SQ":
            inner: Seen = []
            for item in element.value:
                inner += expected(item, explicit)
                inner.append((-1, 0))
            seen.append((int(element.tag), inner))
        else:
            single = Dataset()
            single.add(element)
            long = element.VR in ("OW", "UT")
            head = 12 if explicit and long else 8
            seen.append((int(element.tag), len(written(single, explicit)) - head))
    return seen


@given(data_sets(3), st.booleans())
@settings(max_examples=120)
def test_the_scanner_finds_every_written_element(ds: Dataset, explicit: bool) -> None:
    data = written(ds, explicit)
    assert scanned(data, explicit, list(elements(data, explicit))) == expected(ds, explicit)
    view = memoryview(data)
    assert list(elements(view, explicit)) == list(elements(data, explicit))


@given(data_sets(2), st.booleans())
@settings(max_examples=60)
def test_elements_cover_every_byte_once(ds: Dataset, explicit: bool) -> None:
    data = written(ds, explicit)
    position = 0
    for element in elements(data, explicit):
        assert element.start == position
        assert element.start < element.value <= element.value_end <= element.end
        position = element.end
    assert position == len(data)


@given(data_sets(2), st.booleans(), st.data())
@settings(max_examples=80)
def test_a_truncated_data_set_is_malformed_or_ends_at_an_element(
    ds: Dataset, explicit: bool, draw: st.DataObject
) -> None:
    data = written(ds, explicit)
    cut = draw.draw(st.integers(0, len(data)))
    ends = {0, *(element.end for element in elements(data, explicit))}
    if cut in ends:
        assert list(elements(data[:cut], explicit)) is not None
    else:
        with pytest.raises(Malformed):
            list(elements(data[:cut], explicit))


@given(st.binary(max_size=300), st.booleans())
@settings(max_examples=300)
def test_arbitrary_bytes_yield_elements_or_raise_malformed(data: bytes, explicit: bool) -> None:
    try:
        for element in elements(data, explicit):
            if is_sequence(element, "SQ" if not explicit else ""):
                list(items(data, nested_explicit(element, explicit), element))
    except Malformed:
        pass


def test_a_un_sequence_of_undefined_length_is_read_as_implicit_vr() -> None:
    inner = pack("<HHI", 0x0008, 0x0060, 2) + b"CT"
    item = pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + inner + pack("<HHI", 0xFFFE, 0xE00D, 0)
    data = pack("<HH2sHI", 0x0009, 0x1001, b"UN", 0, 0xFFFFFFFF) + item
    data += pack("<HHI", 0xFFFE, 0xE0DD, 0)
    (element,) = elements(data, True)
    assert not nested_explicit(element, True)
    (found,) = items(data, False, element)
    assert data[found.value : found.value_end] == inner


def test_the_header_ends_at_the_pixel_data() -> None:
    head = pack("<HH2sH", 0x0028, 0x0010, b"US", 2) + b"\1\0"
    pixels = pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, 2) + b"\1\0"
    assert header_end_and_values(head + pixels, True, frozenset())[0] == len(head)
    assert header_end_and_values(head, True, frozenset())[0] == len(head)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [0x00080018, 0x00080060, 0x00100020, 0x7FE00001, 0x7FE00010, 0x7FE10010, 0xFFFEE000]
            ),
            st.sampled_from([b"UI", b"CS", b"LO", b"US", b"OW", b"SQ", b"UN", b"??", b"\0\0"]),
            st.binary(max_size=6),
        ),
        max_size=8,
    ),
    st.integers(0, 9),
)
@example([(0x00080060, b"CS", b"CT")], 1)
@example([(0x00080060, b"CS", b"CT"), (0x00100020, b"LO", b"P1")], 1)
@example([(0x00080018, b"UI", b"1.2"), (0xFFFEE000, b"UI", b"1.2")], 0)
@example([(0x00080060, b"??", b"CT"), (0x00100020, b"LO", b"P1")], 0)
def test_the_fast_header_scan_agrees_with_the_element_scan(
    given_elements: list[tuple[int, bytes, bytes]], cut: int
) -> None:
    """The fast scan skips most elements, but must not skip malformed ones."""
    whole = b"".join(
        pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value
        for tag, vr, value in given_elements
    )
    data = whole[: len(whole) - cut]
    wanted = frozenset({0x00080018, 0x00100020})

    def one_by_one() -> tuple[int, dict[int, bytes]]:
        found, end = {}, len(data)
        for element in elements(data, True):
            if element.tag in PIXEL_TAGS:
                end = element.start
                break
            if element.tag in wanted:
                found[element.tag] = data[element.value : element.end]
        return end, found

    try:
        expected = one_by_one()
    except Malformed:
        with pytest.raises(Malformed):
            header_end_and_values(data, True, wanted)
    else:
        assert header_end_and_values(data, True, wanted) == expected


@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize(
    "text", [b"Mustermann, Erika", b"MusterLO\xff\xffErika", b"MustSQ\0\0\xff\xff\xff\xffErika"]
)
def test_the_error_for_text_in_place_of_an_element_does_not_quote_it(
    text: bytes, explicit: bool
) -> None:
    with pytest.raises(Malformed) as raised:
        list(elements(text, explicit))
    told = str(raised.value).lower().replace(",", "")
    letters = [text[at : at + 2] for at in range(0, 4, 2)]
    assert not any(part[::-1].hex() in told or part.hex() in told for part in letters)
