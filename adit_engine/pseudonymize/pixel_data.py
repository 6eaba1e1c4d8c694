"""Split a data set at its pixel data, and build the new pixel data element. Used by `apply`.

Buffers are reused if nothing in them had to be removed.
"""

from dataclasses import dataclass

from adit_engine.elements import (
    PIXEL_TAGS,
    Buffer,
    Element,
    EncodedElements,
    elements,
    encode_element,
    format_tag,
)
from adit_engine.errors import InstanceWithheld, Malformed
from adit_engine.pseudonymize import pixel_format
from adit_engine.pseudonymize.encapsulated_pixel_data import (
    build_extended_offset_table,
    rebuild_pixel_data,
)
from adit_engine.pseudonymize.pixel_format import PixelFormat
from adit_engine.pseudonymize.tables import AdmittedSopClass
from adit_engine.values.instance import EXPLICIT_LE, IMPLICIT_LE, Instance


@dataclass(frozen=True, slots=True)
class SplitDataset:
    """One data set: the elements before the pixel data, the pixel data, the elements after them."""

    header: EncodedElements
    before: list[Element]
    pixel_source: EncodedElements
    pixels: Element | None
    after: list[Element]

    def values(self, wanted: frozenset[int]) -> dict[int, bytes]:
        """Return the encoded values of these tags at the top level."""
        return {
            element.tag: bytes(source.data[element.value : element.end])
            for source, found in ((self.header, self.before), (self.pixel_source, self.after))
            for element in found
            if element.tag in wanted and not element.undefined
        }

    def reject_duplicates(self) -> None:
        """Raise Malformed if an element occurs both before and after the pixel data."""
        tags = {element.tag for element in self.before}
        for element in self.after:
            if element.tag in tags or element.tag in PIXEL_TAGS:
                raise Malformed("data-set.duplicate-element", tag=format_tag(element.tag))


def split_dataset(instance: Instance) -> SplitDataset:
    """Split a data set at its pixel data, without copying pixels. Raises Malformed."""
    explicit = instance.explicit
    header = EncodedElements(bytes(instance.header), explicit)
    found = list(elements(header.data, explicit))
    if not instance.rest:
        for place, element in enumerate(found):
            if element.tag in PIXEL_TAGS:
                return SplitDataset(header, found[:place], header, element, found[place + 1 :])
        return SplitDataset(header, found, header, None, [])
    whole = instance.rest[0] if len(instance.rest) == 1 else b"".join(instance.rest)
    body = EncodedElements(memoryview(whole), explicit)
    first = next(elements(body.data, explicit))
    if first.tag not in PIXEL_TAGS:
        raise Malformed("data-set.pixel-data-position")
    is_padded = not bytes(body.data[first.end :]).strip(b"\0")
    behind = [] if is_padded else list(elements(body.data, explicit, first.end))
    return SplitDataset(header, found, body, first, behind)


PIXEL_DATA = 0x7FE00010
OFFSET_TABLE_TAGS = frozenset({0x7FE00001, 0x7FE00002})
"""Offsets and lengths of compressed frames (PS3.3 C.7.6.3.1.8)."""
NATIVE_SYNTAXES = frozenset({EXPLICIT_LE, IMPLICIT_LE})
_ALLOCATED = 0x00280100
_FLOAT_PIXEL_BYTES = {0x7FE00008: 4, 0x7FE00009: 8}


def check_word_order(element: Element, values: dict[int, bytes]) -> None:
    """Raise InstanceWithheld for big endian OW data of more than 16 bits.

    PS3.5 7.3 swaps each 16-bit word of OW. Many writers swap whole numbers, and nothing shows which
    was done.
    """
    if element.vr == "OW" and values.get(_ALLOCATED, b"") not in (b"", b"\x08\0", b"\x10\0"):
        raise InstanceWithheld("pixel-format.big-endian")


def check_overlays(parts: SplitDataset, form: PixelFormat) -> None:
    """Raise InstanceWithheld if an overlay uses bits of the image (PS3.3 C.9.2).

    Such an overlay cannot be removed.
    """
    for element in parts.before:
        if element.tag & 0xFF00FFFF == 0x60000102 and element.end - element.value == 2:
            value = parts.header.data[element.value : element.end]
            bit = int.from_bytes(value, "little")
            if bit and form.mask >> bit & 1:
                raise InstanceWithheld("pixel-bits.overlay")


def build_pixel_data(
    parts: SplitDataset, values: dict[int, bytes], instance: Instance, admitted: AdmittedSopClass
) -> tuple[Buffer, ...]:
    """Return the pixel data element, and nothing after it.

    Unchanged data keep their buffers. Raises InstanceWithheld.
    """
    element = parts.pixels
    if element is None:
        return ()
    is_native = instance.transfer_syntax_uid in NATIVE_SYNTAXES
    if element.undefined is is_native:
        raise InstanceWithheld("pixel-format.encapsulation")
    form = _read_pixel_format(element, values, admitted)
    check_overlays(parts, form)
    data = memoryview(parts.pixel_source.data)
    new = (_build_native if is_native else _build_encapsulated)(
        data, element, form, values, instance
    )
    if new is not None:
        return new
    if element.end == len(data) and instance.rest:
        return instance.rest
    return (data[element.start : element.end],)


def _read_pixel_format(
    element: Element, values: dict[int, bytes], admitted: AdmittedSopClass
) -> PixelFormat:
    size_bytes = _FLOAT_PIXEL_BYTES.get(element.tag)
    if size_bytes is not None and "float" in admitted.conditions:
        if element.vr in ("", "OF", "OD"):
            return PixelFormat.from_float_values(values, size_bytes)
    elif element.tag == PIXEL_DATA and element.vr in ("", "OB", "OW"):
        form = PixelFormat.from_values(values)
        if form.bits_allocated <= 32:
            return form
    raise InstanceWithheld("pixel-format.unsupported")


def _build_native(
    data: memoryview, element: Element, form: PixelFormat, _: object, instance: Instance
) -> tuple[Buffer, ...] | None:
    value = data[element.value : element.end]
    new = pixel_format.clean_native_pixels(value, form)
    if len(new) == 1 and new[0] is value:
        return None
    head = encode_element(element.tag, element.vr or "OW", b"", instance.explicit)
    return (head[:-4] + sum(map(len, new)).to_bytes(4, "little"), *new)


def _build_encapsulated(
    data: memoryview,
    element: Element,
    form: PixelFormat,
    values: dict[int, bytes],
    instance: Instance,
) -> tuple[Buffer, ...] | None:
    new = rebuild_pixel_data(data, element, form, instance.transfer_syntax_uid)
    tables_given = [values.get(tag) for tag in sorted(OFFSET_TABLE_TAGS)]
    if any(tables_given) and (
        new or tables_given != list(build_extended_offset_table(data, element, form))
    ):
        raise InstanceWithheld("pixel-stream.offset-table")
    return new
