"""Look-up tables: as long as their descriptors say, with nothing behind the last entry.

Without a descriptor nobody can read a table, and its bytes may be anything: it goes.
"""

from struct import Struct

TABLES = {0x00283006: 0x00283002, **{0x00281201 + n: 0x00281101 + n for n in range(4)}}
"""Table to its descriptor (PS3.3 C.11.1.1, C.7.6.3.1.5, C.7.6.3.1.6)."""

_SEGMENTED = {0x00281221 + n: 0x00281101 + n for n in range(3)}
OF_TABLES = TABLES.keys() | _SEGMENTED.keys()

_COUNT = Struct("<H")
_LENGTH = Struct("<I")
_LONG_HEAD, _SHORT_HEAD = 12, 8
_DESCRIPTOR_BYTES = 6
_BYTES = (b"OW", b"OB", b"UN")


def cut(level: dict[int, bytes], explicit: bool) -> list[int]:
    """Cuts the encoded tables of one level of a data set, in place. The tags of those that went."""
    gone = [
        tag
        for tag, descriptor in (TABLES | _SEGMENTED).items()
        if tag in level and len(level.get(descriptor, b"")) < _SHORT_HEAD + _DESCRIPTOR_BYTES
    ]
    for tag in gone:
        del level[tag]
    for tag, descriptor in TABLES.items():
        table, says = level.get(tag), level.get(descriptor)
        if table is None or says is None:
            continue
        entries: int = _COUNT.unpack_from(says, _SHORT_HEAD)[0] or 65536  # 0 stands for 65536
        is_long = explicit and table[4:6] in _BYTES
        head = _LONG_HEAD if is_long else _SHORT_HEAD
        if len(table) > head + 2 * entries:
            length = _LENGTH if is_long or not explicit else _COUNT
            front = table[: head - length.size] + length.pack(2 * entries)
            level[tag] = front + table[head : head + 2 * entries]
    return gone
