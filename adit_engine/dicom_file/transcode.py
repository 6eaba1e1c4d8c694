"""Convert deflated and big endian data sets to explicit VR little endian. Used before changes."""

import zlib
from struct import Struct

from adit_engine.elements import LONG_VRS, MAX_DEPTH, UNDEFINED, Buffer
from adit_engine.errors import InstanceWithheld, Malformed
from adit_engine.values.instance import DEFLATED_LE, EXPLICIT_BE, EXPLICIT_LE, Instance

MAX_INFLATED_BYTES = 256 << 20
"""Bytes. A data set that inflates to more is withheld: a small file can expand to terabytes."""

_HEAD = Struct(">HH2sH")
_LENGTH = Struct(">I")
_TAG_LENGTH = Struct(">HHI")
_LITTLE = Struct("<HH2sH")
_LITTLE_LONG = Struct("<HH2sHI")
_LITTLE_TAG = Struct("<HHI")

_WIDTHS = {
    **dict.fromkeys(("US", "SS", "OW", "AT"), 2),
    **dict.fromkeys(("UL", "SL", "FL", "OF", "OL"), 4),
    **dict.fromkeys(("FD", "OD", "SV", "UV", "OV"), 8),
}
_VRS = frozenset(
    {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UI"}
    | LONG_VRS
    | _WIDTHS.keys()
)
_SEQUENCE_END = (0xFFFE, 0xE0DD)
_ITEM_END = (0xFFFE, 0xE00D)


def to_little_endian(instance: Instance) -> Instance:
    """Return the object in a little endian syntax. Raises InstanceWithheld, Malformed.

    Only deflated and big endian objects are converted; others are returned unchanged.
    """
    if instance.transfer_syntax_uid not in (DEFLATED_LE, EXPLICIT_BE):
        return instance
    whole = b"".join(instance.parts())
    if instance.transfer_syntax_uid == DEFLATED_LE:
        data = _inflate(whole)
    else:
        data = _ByteOrderSwapper(whole).level(0, len(whole), 0)[0]
    return Instance.from_data_set(instance.sop_class_uid, instance.instance_uid, EXPLICIT_LE, data)


def _inflate(data: Buffer) -> bytes:
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        out = inflate.decompress(data, MAX_INFLATED_BYTES)
    except zlib.error:
        raise Malformed("data-set.not-inflatable") from None
    if inflate.unconsumed_tail or not inflate.eof:
        raise InstanceWithheld("too-large.deflated", limit_mb=MAX_INFLATED_BYTES >> 20)
    return out


class _ByteOrderSwapper:
    """Swaps tags, lengths and numbers (PS3.5 7.3). Text and bytes are unchanged."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def level(self, start: int, stop: int, depth: int, *, item: bool = False) -> tuple[bytes, int]:
        """Convert elements from `start`. Return them and their end.

        The end is `stop`, or the offset behind the item delimiter.
        """
        if depth > MAX_DEPTH:
            raise Malformed("data-set.too-deep", limit=MAX_DEPTH)
        out: list[bytes] = []
        position = start
        while position < stop:
            if self._tag(position, stop) == _ITEM_END and item:
                return b"".join(out), position + 8
            element, position = self._element(position, stop, depth)
            out.append(element)
        return b"".join(out), position

    def _element(self, position: int, stop: int, depth: int) -> tuple[bytes, int]:
        self._tag(position, stop)
        group, number, code, length = _HEAD.unpack_from(self._data, position)
        vr = code.decode("ascii", "replace")
        if vr not in _VRS:
            raise Malformed("data-set.no-vr", offset=position)
        value = position + 8
        if vr in LONG_VRS:
            if position + 12 > stop:
                raise Malformed("data-set.truncated", offset=position)
            (length,) = _LENGTH.unpack_from(self._data, position + 8)
            value += 4
        if vr == "SQ":
            content, end = self._sequence(value, length, stop, depth + 1)
            return _LITTLE_LONG.pack(group, number, code, 0, len(content)) + content, end
        end = value + length
        if length == UNDEFINED or end > stop:
            raise Malformed("data-set.element-too-long", offset=position)
        content = _swap_value(self._data[value:end], vr)
        if vr in LONG_VRS:
            return _LITTLE_LONG.pack(group, number, code, 0, len(content)) + content, end
        return _LITTLE.pack(group, number, code, len(content)) + content, end

    def _sequence(self, position: int, length: int, stop: int, depth: int) -> tuple[bytes, int]:
        end = stop if length == UNDEFINED else position + length
        if end > stop:
            raise Malformed("data-set.sequence-too-long", offset=position)
        out: list[bytes] = []
        while position < end:
            tag = self._tag(position, end)
            if tag == _SEQUENCE_END and length == UNDEFINED:
                return b"".join(out), position + 8
            if tag != (0xFFFE, 0xE000):
                raise Malformed("data-set.not-an-item", offset=position)
            (size,) = _LENGTH.unpack_from(self._data, position + 4)
            begin = position + 8
            if size != UNDEFINED and begin + size > end:
                raise Malformed("data-set.item-too-long", offset=position)
            inner = end if size == UNDEFINED else begin + size
            content, position = self.level(begin, inner, depth, item=size == UNDEFINED)
            out += [_LITTLE_TAG.pack(0xFFFE, 0xE000, len(content)), content]
        if length == UNDEFINED:
            raise Malformed("data-set.sequence-open", offset=end)
        return b"".join(out), end

    def _tag(self, position: int, stop: int) -> tuple[int, int]:
        if position + 8 > stop:
            raise Malformed("data-set.truncated", offset=position)
        group, number, _ = _TAG_LENGTH.unpack_from(self._data, position)
        return group, number


def _swap_value(value: bytes, vr: str) -> bytes:
    width = _WIDTHS.get(vr)
    if width is None:
        return value
    if len(value) % width:
        raise Malformed("data-set.value-length", vr=vr)
    import numpy as np  # slow to import, and big endian is rare

    return np.frombuffer(value, f">u{width}").astype(f"<u{width}").tobytes()
