"""DICOM JSON of query responses and of image headers (PS3.18 F)."""

import json
import math
import secrets
from base64 import b64encode
from collections.abc import Callable, Hashable, Iterable, Iterator
from io import BytesIO
from typing import Any

from pydicom import dcmread
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from adit_engine.dicom_file import part10
from adit_engine.dicom_file.transcode import to_little_endian
from adit_engine.elements import (
    PIXEL_TAGS,
    Buffer,
    Element,
    elements,
    is_sequence,
    items,
    nested_explicit,
)
from adit_engine.values.attributes import find_by_keyword, find_by_tag
from adit_engine.values.instance import Instance
from adit_engine.values.record import Record

MAX_BINARY_BYTES = 1024
"""Longer binary values are left out of the metadata, as the pixel data are."""

JsonObject = dict[str, dict[str, Any]]

_INTEGER_VRS = frozenset({"IS", "SL", "SS", "SV", "UL", "US", "UV"})
_DECIMAL_VRS = frozenset({"DS", "FL", "FD"})
_NAME_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
_PIXEL_DATA = frozenset({0x7FE00001, 0x7FE00002, 0x7FE00008, 0x7FE00009, 0x7FE00010})
_CHARACTER_SET = 0x00080005
_CONTEXT = (_CHARACTER_SET, 0x00280100, 0x00280103, 0x00283002)
"""Character set; bits allocated, pixel representation and LUT descriptor, which determine VRs."""
MAX_KNOWN_ELEMENTS = 20_000
MAX_KNOWN_BYTES = 1024
"""Longer elements are converted again for each image."""


class RecordEncoder:
    """Encodes query responses, without the values of hidden keywords.

    Requested attributes that the node did not return are empty.
    """

    def __init__(self, requested: Iterable[str], is_hidden: Callable[[str], bool]) -> None:
        self._is_hidden = is_hidden
        self._attributes: dict[str, tuple[str, str, bool] | None] = {}
        """Tag, VR and whether it is hidden, by keyword; None for what is left out."""
        self._requested = {keyword: "" for keyword in requested if self._find(keyword)}

    def encode(self, record: Record) -> JsonObject:
        found: JsonObject = {}
        for keyword, value in {**self._requested, **record.values}.items():
            attribute = self._find(keyword)
            if attribute is None:
                continue
            tag, vr, is_hidden = attribute
            texts = () if is_hidden or not value else record.texts(keyword)
            found[tag] = make_attribute(vr, *texts)
        return found

    def _find(self, keyword: str) -> tuple[str, str, bool] | None:
        if keyword in self._attributes:
            return self._attributes[keyword]
        known = find_by_keyword(keyword)
        found = None
        if known is not None and keyword not in ("QueryRetrieveLevel", "SpecificCharacterSet"):
            found = (f"{known[0]:08X}", known[1], self._is_hidden(keyword))
        self._attributes[keyword] = found
        return found


def make_attribute(vr: str, *values: Any) -> dict[str, Any]:
    """Return an attribute; without values it is empty. One of several is null (PS3.18 F.2.5)."""
    encoded = [_encode(vr, value) for value in values]
    is_empty = all(value is None for value in encoded)
    return {"vr": vr} if is_empty else {"vr": vr, "Value": encoded}


def _encode(vr: str, value: Any) -> Any:
    if value is None or value == "":
        return None
    if vr == "PN":
        groups = zip(_NAME_GROUPS, str(value).split("="), strict=False)
        return {name: text for name, text in groups if text} or None
    if vr == "AT":
        return value if isinstance(value, str) else f"{value:08X}"
    is_integer = vr in _INTEGER_VRS
    if not is_integer and vr not in _DECIMAL_VRS:
        return value
    try:
        number = int(value) if is_integer else float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


class HeaderEncoder:
    """Encodes headers of images, without pixel data, other long binary values and what is invalid.

    Elements that several images have in common are converted once. The result does not depend on
    the images before.
    """

    def __init__(self) -> None:
        self._texts: dict[Hashable, str | None] = {}
        self._address_mark = secrets.token_hex(16)

    def encode(self, instance: Instance, bulk_address: str = "") -> str:
        """Return the JSON text. Raise Malformed.

        With an address, the values that are left out are replaced by BulkDataURI.
        """
        instance = to_little_endian(instance)
        encoded = {
            element.tag: bytes(instance.header[element.start : element.end])
            for element in elements(instance.header, instance.explicit)
        }
        keys = _make_keys(encoded, (instance.explicit, bool(bulk_address)))
        texts = {tag: self._texts[key] for tag, key in keys.items() if key in self._texts}
        unknown = encoded.keys() - texts.keys()
        if unknown:
            needed = unknown | _find_context(encoded, unknown)
            data = part10.file_head(instance) + b"".join(encoded[tag] for tag in sorted(needed))
            made = self._convert(data, bool(bulk_address))
            texts |= {tag: made.get(f"{tag:08X}") for tag in unknown}
            if len(self._texts) > MAX_KNOWN_ELEMENTS:
                self._texts.clear()
            short = (tag for tag in unknown if len(encoded[tag]) <= MAX_KNOWN_BYTES)
            self._texts |= {keys[tag]: texts[tag] for tag in short}
        # JSON is always UTF-8 (PS3.18 F.2.1.1).
        texts[_CHARACTER_SET] = _UTF8
        pairs = (f'"{tag:08X}":{text}' for tag, text in sorted(texts.items()) if text is not None)
        return f"{{{','.join(pairs)}}}".replace(self._address_mark, bulk_address)

    def _convert(self, data: bytes, with_bulk: bool) -> dict[str, str]:
        """Return the JSON texts of the elements of a file, by tag."""
        dataset = dcmread(BytesIO(data), stop_before_pixels=True)
        found = _convert(dataset, f"{self._address_mark}/" if with_bulk else "")
        return {tag: _dump(value) for tag, value in found.items()}


def _convert(dataset: Dataset, address: str) -> JsonObject:
    """Return the elements except pixel data. `address`: where those are that are left out.

    The path behind it consists of the tag of a sequence, the number of an item, and so on to the
    tag. These are left out: long binary values, and what is invalid.
    """
    found: JsonObject = {}
    for tag in sorted(dataset.keys() - _PIXEL_DATA):
        name = f"{tag:08X}"
        try:
            made = _convert_element(dataset[tag], f"{address}{name}." if address else "")
        except Exception:  # noqa: BLE001 - pydicom raises errors of many types
            made = None
        if made is not None:
            found[name] = made
        elif address:
            vr = dataset.get_item(tag).VR
            found[name] = {"vr": str(vr or "UN"), "BulkDataURI": f"{address}{name}"}
    return found


def _convert_element(element: DataElement, address: str) -> dict[str, Any] | None:
    """Return None for a long binary value. Raise any error if the value is invalid."""
    vr, value = str(element.VR), element.value
    if vr == "SQ":
        inside = [
            _convert(item, f"{address}{number}." if address else "")
            for number, item in enumerate(value, 1)
        ]
        return {"vr": vr, "Value": inside}
    if element.is_empty:
        return {"vr": vr}
    if isinstance(value, bytes):
        is_long = len(value) > MAX_BINARY_BYTES
        return None if is_long else {"vr": vr, "InlineBinary": b64encode(value).decode()}
    return make_attribute(vr, *(value if element.VM > 1 else [value]))


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


_UTF8 = _dump(make_attribute("CS", "ISO_IR 192"))


def _make_keys(encoded: dict[int, bytes], form: Hashable) -> dict[int, Hashable]:
    """Return for each element all that its JSON text depends on."""
    common = (form, *(encoded.get(tag) for tag in _CONTEXT))
    creators: dict[int, list[bytes]] = {}
    for tag, element in encoded.items():
        if _is_creator(tag):
            creators.setdefault(tag >> 16, []).append(element)
    private = {group: (*common, *found) for group, found in creators.items()}
    return {
        tag: (element, private.get(tag >> 16, common) if tag >> 16 & 1 else common)
        for tag, element in encoded.items()
    }


def _find_context(encoded: dict[int, bytes], tags: set[int]) -> set[int]:
    """Return the elements by which pydicom decodes others: character set, creators and so on."""
    groups = {tag >> 16 for tag in tags}
    return {tag for tag in encoded if tag in _CONTEXT or (_is_creator(tag) and tag >> 16 in groups)}


def _is_creator(tag: int) -> bool:
    """Return whether the element names who defines private elements (PS3.5 7.8.1)."""
    return bool(tag >> 16 & 1) and 0x10 <= tag & 0xFFFF <= 0xFF


def find_bulk_value(instance: Instance, path: str) -> bytes | None:
    """Return the value at the end of a BulkDataURI; None if there is none. Raise Malformed."""
    instance = to_little_endian(instance)
    level = elements(instance.header, instance.explicit)
    return _find_value(instance.header, level, instance.explicit, path.upper().split("."))


def _find_value(
    data: Buffer, level: Iterator[Element], explicit: bool, path: list[str], depth: int = 0
) -> bytes | None:
    tag, *below = path
    found = next((one for one in level if f"{one.tag:08X}" == tag), None)
    if found is None or found.tag in PIXEL_TAGS:
        return None
    if not below:
        return None if found.undefined else bytes(data[found.value : found.end])
    number, *rest = below
    is_number = number.isascii() and number.isdigit() and 0 < len(number) < 10
    if not rest or not is_number or not is_sequence(found, find_by_tag(found.tag)[1]):
        return None
    explicit = nested_explicit(found, explicit)
    all_items = dict(enumerate(items(data, explicit, found, depth), 1))
    item = all_items.get(int(number))
    if item is None:
        return None
    inside = elements(data, explicit, item.value, item.value_end, depth + 1)
    return _find_value(data, inside, explicit, rest, depth + 1)
