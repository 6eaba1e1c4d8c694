"""Read DICOM JSON, object by object, into records (PS3.18 F).

Used by QIDO-RS, STOW-RS and the probe of a service.
"""

import codecs
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydicom.datadict import dictionary_keyword, dictionary_VR

from adit_engine.errors import Malformed
from adit_engine.values.record import Record, clean_text
from adit_engine.values.references import QueryLevel

MAX_OBJECT_CHARACTERS = 1024 * 1024
MAX_SPACE_CHARACTERS = 1024 * 1024
_SPACE = " \t\r\n"
_SKIPPED = frozenset({"SQ", "OB", "OD", "OF", "OL", "OV", "OW", "UN"})
_NAME_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")

Object = Mapping[str, Any]


def read_objects(pieces: Iterable[bytes]) -> Iterator[Object]:
    """Yield the objects of one JSON array. Lazy, one object in memory at a time.

    The array comes in pieces; an empty body is an empty array. Raises Malformed for anything but a
    complete array of objects, each of at most a million characters.
    """
    reader = _JsonReader(pieces)
    if not reader.next_character():
        return
    reader.expect("[")
    if reader.next_character() == "]":
        reader.expect("]")
    else:
        while True:
            yield reader.read_object()
            if reader.next_character() != ",":
                break
            reader.expect(",")
        reader.expect("]")
    if reader.next_character():
        raise Malformed("json.trailing-text")


def parse_object(text: bytes) -> Object:
    """Parse one JSON object. Raises Malformed."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise Malformed("json.invalid") from None
    if not isinstance(found, dict):
        raise Malformed("json.not-an-object")
    return found


def decode_record(level: QueryLevel, found: Object) -> Record:
    """Return a record of all texts and numbers.

    Sequences, bulk data, private and unreadable values are omitted.
    """
    values: dict[str, str | tuple[str, ...]] = {}
    for tag, attribute in found.items():
        keyword, vr = _keyword_and_vr(tag)
        if not keyword or not isinstance(attribute, dict):
            continue
        stated = attribute.get("vr")
        held = attribute.get("Value", [])
        is_skipped = (stated if isinstance(stated, str) and stated else vr) in _SKIPPED
        if is_skipped or not isinstance(held, list):
            continue
        texts = [_decode_text(value) for value in held]
        values[keyword] = tuple(texts) if len(texts) > 1 else "".join(texts)
    return Record(level, values)


def first_text(found: Object, tag: str) -> str:
    """Return the first value of one attribute; empty where it has no readable one."""
    attribute = found.get(tag)
    held = attribute.get("Value") if isinstance(attribute, dict) else None
    return _decode_text(held[0]) if isinstance(held, list) and held else ""


def sequence_items(found: Object, tag: str) -> list[Object]:
    """Return the items of a sequence."""
    attribute = found.get(tag)
    held = attribute.get("Value") if isinstance(attribute, dict) else None
    return [item for item in held if isinstance(item, dict)] if isinstance(held, list) else []


def _keyword_and_vr(tag: str) -> tuple[str, str]:
    try:
        number = int(tag, 16) if len(tag) == 8 else -1
        return dictionary_keyword(number), dictionary_VR(number)
    except (KeyError, ValueError, OverflowError):
        return "", ""


def _decode_text(value: object) -> str:
    if isinstance(value, dict):
        groups = [value.get(name) for name in _NAME_GROUPS]
        texts = [clean_text(group) if isinstance(group, str) else "" for group in groups]
        return "=".join(texts).rstrip("=")
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, str):
        return clean_text(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else ""


class _JsonReader:
    """Holds a window of the text: what was not read yet, from `_at` on."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._texts = codecs.iterdecode(pieces, "utf-8-sig")
        self._window = ""
        self._at = 0
        self._decoder = json.JSONDecoder()

    def next_character(self) -> str:
        """Return the next character other than white space; empty at the end.

        It is not consumed.
        """
        left = MAX_SPACE_CHARACTERS
        while left > 0:
            left -= len(self._window) - self._at
            while self._at < len(self._window):
                if self._window[self._at] not in _SPACE:
                    return self._window[self._at]
                self._at += 1
            if not self._read_more():
                return ""
        raise Malformed("json.too-much-space")

    def expect(self, character: str) -> None:
        if self.next_character() != character:
            raise Malformed("json.incomplete-array")
        self._at += 1

    def read_object(self) -> Object:
        if self.next_character() != "{":
            raise Malformed("json.no-objects")
        tried = 0
        while True:
            # Parsing again only after the window has doubled keeps a slow trickle of pieces cheap.
            if len(self._window) - self._at >= 2 * tried:
                try:
                    found, self._at = self._decoder.raw_decode(self._window, self._at)
                except json.JSONDecodeError:
                    tried = len(self._window) - self._at
                except (RecursionError, ValueError):
                    raise Malformed("json.too-deep") from None
                else:
                    return dict(found)
            if len(self._window) - self._at > MAX_OBJECT_CHARACTERS:
                raise Malformed("json.object-too-large")
            if not self._read_more():
                if tried == len(self._window) - self._at:
                    raise Malformed("json.truncated")
                tried = 0

    def _read_more(self) -> bool:
        try:
            text = next(self._texts, None)
        except UnicodeDecodeError:
            raise Malformed("json.not-utf8") from None
        if text is None:
            return False
        self._window = self._window[self._at :] + text
        self._at = 0
        return True
