"""Header: what two versions of one image's header say, element by element, side by side.
Tryout: a profile applied to one real image, to be looked at; nothing is stored, nothing leaves."""

import secrets
import struct
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from adit.accounts.permissions import Person, Right, require
from adit.audit.trail import record
from adit.nodes.access import domain_of
from adit.nodes.models import Node
from adit.nodes.sample_images import sample_of
from adit.projects.images import png_of
from adit.projects.models import Profile
from adit.projects.profile_versions import rules_of
from adit_engine.dicom_file.transcode import to_little_endian
from adit_engine.elements import PIXEL_TAGS, Element, elements, is_sequence, items, nested_explicit
from adit_engine.errors import InstanceWithheld, InvalidInput, Malformed
from adit_engine.pseudonymize import tables
from adit_engine.pseudonymize.apply import apply
from adit_engine.pseudonymize.charset import Charset
from adit_engine.pseudonymize.keys import ProjectKey
from adit_engine.pseudonymize.parameters import Pseudonymization, RiskDecision
from adit_engine.pseudonymize.verify.verifier import verify
from adit_engine.values.instance import Instance
from adit_engine.values.references import StudyRef

LONGEST = 160
_CHARSET = 0x00080005
_NUMBERS = {
    "US": "H",
    "SS": "h",
    "UL": "I",
    "SL": "i",
    "FL": "f",
    "FD": "d",
    "UV": "Q",
    "SV": "q",
}
_BYTES = frozenset({"OB", "OW", "OD", "OF", "OL", "OV", "UN"})
_MOST_NUMBERS = 16


class Fate(StrEnum):
    SAME = "same"
    CHANGED = "changed"
    REMOVED = "removed"
    ADDED = "added"


@dataclass(frozen=True, slots=True)
class Line:
    """One element, before and after. `path` names the sequences it stands in, by keyword."""

    tag: int
    keyword: str
    path: str
    before: str = field(repr=False)
    after: str
    fate: Fate
    why: str

    @property
    def number(self) -> str:
        return f"({self.tag >> 16:04X},{self.tag & 0xFFFF:04X})"


@dataclass(frozen=True, slots=True)
class _Value:
    tag: int
    path: str
    text: str = field(repr=False)
    raw: bytes = field(repr=False)


Key = tuple[tuple[int, ...], int]
"""Tags and item numbers of the sequences around it, and its own tag."""


def compared(before: Instance, after: Instance) -> list[Line]:
    """Every element of either header, in the order of tags. Raises Malformed."""
    was, now = dict(_values(before)), dict(_values(after))
    return [_line(was.get(key), now.get(key)) for key in sorted({*was, *now}, key=_order)]


def lines_of(instance: Instance) -> list[Line]:
    """The header alone, where there is nothing to compare it with. Raises Malformed."""
    found = sorted(_values(instance), key=lambda pair: _order(pair[0]))
    return [_line(value, value) for _key, value in found]


def _line(was: _Value | None, now: _Value | None) -> Line:
    one = was or now
    assert one is not None
    if was is None or now is None:
        fate = Fate.ADDED if was is None else Fate.REMOVED
    else:
        fate = Fate.SAME if was.raw.rstrip(b" \0") == now.raw.rstrip(b" \0") else Fate.CHANGED
    return Line(
        tag=one.tag,
        keyword=_keyword(one.tag),
        path=one.path,
        before=was.text if was else "",
        after=now.text if now else "",
        fate=fate,
        why="" if fate is Fate.SAME else _rule(one.tag),
    )


def _rule(tag: int) -> str:
    """Where the standard, or we, say what happens to it."""
    if tag >> 16 & 1:
        return "PS3.15 E.3.10"
    row = tables.confidentiality().get(tag)
    if row is not None:
        options = ", ".join(f"{code} {how}" for code, how in sorted(row.options.items()))
        return f"PS3.15 E.1-1: {row.basic}" + (f" ({options})" if options else "")
    if tag >> 16 == 0x0012 or tag == _CHARSET:
        return "PS3.15 E.1.1"
    return ""


def _values(instance: Instance) -> Iterator[tuple[Key, _Value]]:
    data = bytes(instance.header)
    yield from _level(data, instance.explicit, (0, len(data)), (), "", Charset(b""))


def _level(
    data: bytes,
    explicit: bool,
    reach: tuple[int, int],
    above: tuple[int, ...],
    path: str,
    charset: Charset,
) -> Iterator[tuple[Key, _Value]]:
    depth = len(above) // 2
    for element in elements(data, explicit, *reach, depth):
        if element.tag in PIXEL_TAGS:
            continue
        vr = element.vr or tables.dictionary().get(element.tag, "UN").split("/")[0]
        raw = data[element.value : element.value_end]
        if element.tag == _CHARSET:
            charset = Charset(raw.strip(b" \0"))
        if not is_sequence(element, vr):
            value = _Value(element.tag, path, _text(raw, vr, charset), raw)
            yield (above, element.tag), value
            continue
        yield (above, element.tag), _Value(element.tag, path, "", b"")
        inside = nested_explicit(element, explicit)
        yield from _items(data, inside, element, above, f"{path}{_keyword(element.tag)}", charset)


def _items(
    data: bytes,
    explicit: bool,
    element: Element,
    above: tuple[int, ...],
    path: str,
    charset: Charset,
) -> Iterator[tuple[Key, _Value]]:
    for number, item in enumerate(items(data, explicit, element, len(above) // 2), start=1):
        reach = (item.value, item.value_end)
        below = (*above, element.tag, number)
        yield from _level(data, explicit, reach, below, f"{path} {number} › ", charset)


def _text(raw: bytes, vr: str, charset: Charset) -> str:
    if not raw:
        return ""
    if vr in _NUMBERS:
        return _numbers(raw, _NUMBERS[vr])
    if vr == "AT" and len(raw) % 4 == 0:
        pairs = struct.iter_unpack("<HH", raw)
        return " ".join(f"({group:04X},{number:04X})" for group, number in pairs)[:LONGEST]
    if vr in _BYTES or vr == "AT":
        return f"{len(raw)} B"
    text = charset.text(raw.rstrip(b" \0"))
    if text is None:
        text = raw.decode("latin-1").strip(" \0")
    text = text.replace("\0", "")
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"


def _numbers(raw: bytes, code: str) -> str:
    size = struct.calcsize(code)
    if len(raw) % size:
        return f"{len(raw)} B"
    found = struct.unpack(f"<{len(raw) // size}{code}", raw)
    text = " ".join(f"{n:g}" if isinstance(n, float) else str(n) for n in found[:_MOST_NUMBERS])
    return text if len(found) <= _MOST_NUMBERS else f"{text} …"


def _keyword(tag: int) -> str:
    return _keywords().get(tag, "")


def _keywords() -> dict[int, str]:
    if not _NAMES:
        _NAMES.update({tag: keyword for keyword, tag in tables.keywords().items()})
    return _NAMES


_NAMES: dict[int, str] = {}


def _order(key: Key) -> tuple[int, ...]:
    above, tag = key
    return (*above, tag)


PSEUDONYM = "TRY-IT-0001"
LARGEST_PICTURE = 640


@dataclass(frozen=True, slots=True)
class Tried:
    """The header before and after; where the image would be withheld, before only, and why."""

    lines: list[Line]
    code: str = ""
    withheld: str = ""
    before: str = field(default="", repr=False)
    after: str = field(default="", repr=False)
    """Its first frame, as text that an address of an image can be; empty where none can be shown."""


def try_it(user: Person, profile: Profile, node: Node, study: StudyRef) -> Tried:
    """Under a key of no project, which is forgotten at once. Raises as `sample_of` does."""
    require(user, Right.SEE_IDENTIFIED)
    image = sample_of(user, node, study)
    tried = _tried(profile, image)
    details = {"node": node.name, "withheld": tried.code}
    patient = (domain_of(node), patient_id) if (patient_id := _patient_id(image)) else None
    record(
        "profile.tried", user=user, about=f"profile:{profile.pk}", details=details, patient=patient
    )
    return tried


def _tried(profile: Profile, image: Instance) -> Tried:
    key = ProjectKey(secrets.token_bytes(32))
    # Nothing leaves, so that a risk is no reason to show nothing.
    change = Pseudonymization(
        rules_of(profile), PSEUDONYM, key, None, RiskDecision.ACCEPT, RiskDecision.ACCEPT
    )
    try:
        if image.fault:
            raise InstanceWithheld("fault", image.fault)
        changed = apply(change, image)
        verify(image, changed, change)
        lines = compared(to_little_endian(image), changed)
        return Tried(lines, before=_picture(image), after=_picture(changed))
    except InstanceWithheld as error:
        return Tried(_readable(image), error.code, str(error), before=_picture(image))


def _picture(image: Instance) -> str:
    """Stands in the page itself, so that no address and no cache holds it."""
    try:
        data = png_of(image, largest=LARGEST_PICTURE)
    except InvalidInput:
        return ""
    return f"data:image/png;base64,{b64encode(data).decode('ascii')}"


def _readable(image: Instance) -> list[Line]:
    try:
        return lines_of(to_little_endian(image))
    except (Malformed, InstanceWithheld):
        return []


def _patient_id(image: Instance) -> str:
    try:
        return image.in_header.patient_id.decode("utf-8", "replace")
    except Malformed:
        return ""
