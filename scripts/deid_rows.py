"""The rows of PS3.15 Table E.1-1 as objects: at several depths, and in each admitted class.

Used by `deid_corpus` and `deid_whole`.
"""

from collections.abc import Iterator
from pathlib import Path
from struct import pack

from deid_file import (
    EXPLICIT,
    IMPLICIT,
    NAME,
    ROOT,
    TEXT,
    Case,
    Header,
    Planted,
    element,
    file,
    header,
    items,
)

TABLES = Path(__file__).resolve().parent.parent / "adit_engine" / "pseudonymize" / "tables"

# Nested sequences of many IODs: Referenced Image, purpose of reference, equivalent code.
_NEST = (0x00081140, 0x0040A170, 0x00080121)
_OWN = (0x00080018, 0x0020000D, 0x0020000E)
_VALUES = {
    "AE": b"ZWOELFENDER",
    "AS": b"067Y",
    "CS": b"ZWOELFENDER",
    "DA": b"19560412",
    "DS": b"4711.08151",
    "DT": b"19560412101500.123456",
    "IS": b"471108151",
    "PN": NAME,
    "SH": b"Zwoelfender 1",
    "UI": f"{ROOT}.4711.4711".encode(),
    "UR": b"http://zwoelfender.example/4711",
    "US": pack("<H", 0x4711),
}
_SHORT = frozenset({"AS", "US"})


def rows() -> list[tuple[int, str]]:
    """Return tag and VR of every row with an attribute."""
    found = []
    for line in (TABLES / "confidentiality.tsv").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            tag, vr, *_ = line.split("\t")
            found.append((int(tag, 16), (vr or "UN").split("/")[0]))
    return found


def row_cases(every: int = 1) -> Iterator[Case]:
    """Yield each row at depth 0, 1, 3 and in a private sequence.

    `every` n-th row only, for a short run.
    """
    for tag, vr in rows()[::every]:
        for syntax in (EXPLICIT, IMPLICIT):
            value, planted = _planted(tag, vr, syntax)
            name = f"{tag:08x} {'explicit' if syntax == EXPLICIT else 'implicit'}"
            for depth in (0, 1, 3):
                made = header() | _at_depth(tag, vr, value, depth, syntax)
                yield Case("row", f"{name} depth {depth}", file(made, syntax), planted)
            inside = items(element(tag, vr, value, syntax), syntax=syntax)
            made = header() | {0x00090010: ("LO", b"ZWOELF"), 0x00091001: ("SQ", inside)}
            creator = Planted(b"ZWOELF")
            yield Case("row", f"{name} private", file(made, syntax), (*planted, creator))


def class_cases(every: int = 1) -> Iterator[Case]:
    """Yield every class with some rows, at the top and in sequences of its IOD."""
    for turn, (sop_class, iod) in enumerate(classes()):
        for tag, vr in rows()[turn % 5 :: 5 * every]:
            value, planted = _planted(tag, vr, EXPLICIT)
            holder = _holder(iod, element(tag, vr, value))
            front = _of_class(sop_class, iod)
            for name, more in (("top", {tag: (vr, value)}), ("inside", holder)):
                if more and not (name == "top" and tag in _OWN):
                    yield Case("class", f"{iod} {tag:08x} {name}", file(front | more), planted)


def classes() -> list[tuple[str, str]]:
    """Return SOP class UID and IOD of all classes that may leave without a pixel rule."""
    lines = (TABLES / "admission.tsv").read_text(encoding="utf-8").splitlines()
    cells = [line.split("\t") for line in lines if not line.startswith("#")]
    return [(uid, iod) for uid, iod, _, asks, _ in cells if "rule" not in asks.split()]


def _of_class(sop_class: str, iod: str) -> Header:
    made = header(t00080016=("UI", sop_class.encode()))
    if iod in ("rt-plan", "rt-ion-plan", "rt-structure-set"):
        made = {tag: value for tag, value in made.items() if tag >> 16 not in (0x28, 0x7FE0)}
    return made


def _holder(iod: str, content: bytes) -> Header:
    """Return the content inside a sequence that is important in this IOD."""
    if "enhanced" in iod or iod in ("segmentation", "parametric-map", "breast-tomosynthesis-image"):
        groups = element(0x00209111, "SQ", items(content))
        place = 0x52009230
    else:
        groups = content
        place = {
            "rt-plan": 0x300A00B0, "rt-ion-plan": 0x300A03A2, "rt-structure-set": 0x30060020,
            "rt-dose": 0x300C0002, "rt-image": 0x30020030, "nuclear-medicine-image": 0x00540012,
            "positron-emission-tomography-image": 0x00540016,
        }.get(iod, 0x00081140)  # fmt: skip
    return {place: ("SQ", items(groups))}


def _planted(tag: int, vr: str, syntax: str) -> tuple[bytes, tuple[Planted, ...]]:
    if vr == "SQ":
        inner = element(0x00080050, "SH", b"ZWACC4711", syntax)
        inner += element(0x00080018, "UI", _VALUES["UI"], syntax)
        inner += element(0x00100010, "PN", NAME, syntax) + element(0x00104000, "LT", TEXT, syntax)
        words = (b"ZWACC4711", _VALUES["UI"], NAME, TEXT)
        return items(inner, syntax=syntax), tuple(Planted(word) for word in words)
    value = _VALUES.get(vr, TEXT)
    return value, () if vr == "TM" else (Planted(value, tag if vr in _SHORT else 0),)


def _at_depth(tag: int, vr: str, value: bytes, depth: int, syntax: str) -> Header:
    content = element(tag, vr, value, syntax)
    for place in reversed(_NEST[1 : max(depth, 1)]):
        content = element(place, "SQ", items(content, syntax=syntax), syntax)
    return {_NEST[0]: ("SQ", items(content, syntax=syntax))} if depth else {tag: (vr, value)}
