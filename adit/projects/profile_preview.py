"""Apply a profile to one real image and compare the headers before and after.

Nothing is stored or sent. Used by the profile page.
"""

import secrets
import struct
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from django.dispatch import Signal

from adit.accounts.permissions import AnyUser, Right, require
from adit.audit.trail import record
from adit.nodes.access import get_domain
from adit.nodes.models import Node
from adit.nodes.sample_images import fetch_sample, render_png
from adit.projects.models import ProfileVersion
from adit.projects.profile_versions import parse_rules
from adit_engine.dicom_file.transcode import to_little_endian
from adit_engine.elements import PIXEL_TAGS, Element, elements, is_sequence, items, nested_explicit
from adit_engine.errors import InstanceWithheld, InvalidInput, Malformed
from adit_engine.messages import Message
from adit_engine.pseudonymize import tables
from adit_engine.pseudonymize.apply import apply
from adit_engine.pseudonymize.charset import Charset
from adit_engine.pseudonymize.face_risk import RiskDecision
from adit_engine.pseudonymize.keys import ProjectKey
from adit_engine.pseudonymize.parameters import Pseudonymization
from adit_engine.pseudonymize.verify.verifier import verify
from adit_engine.values.instance import Instance
from adit_engine.values.references import StudyRef

image_fetched = Signal()
"""Sent with `node` and `patient_id` before an image is shown; a receiver may raise AditError."""
MAX_VALUE_LENGTH = 160
_CHARSET = 0x00080005
_NUMBER_FORMATS = {
    "US": "H",
    "SS": "h",
    "UL": "I",
    "SL": "i",
    "FL": "f",
    "FD": "d",
    "UV": "Q",
    "SV": "q",
}
_BINARY_VRS = frozenset({"OB", "OW", "OD", "OF", "OL", "OV", "UN"})
_MAX_NUMBERS = 16


class ElementChange(StrEnum):
    SAME = "same"
    CHANGED = "changed"
    REMOVED = "removed"
    ADDED = "added"


@dataclass(frozen=True, slots=True)
class HeaderLine:
    """One data element, before and after. `path` has the keywords of the sequences around it."""

    tag: int
    keyword: str
    path: str
    before: str = field(repr=False)
    after: str
    change: ElementChange
    rule: str

    @property
    def number(self) -> str:
        return f"({self.tag >> 16:04X},{self.tag & 0xFFFF:04X})"


@dataclass(frozen=True, slots=True)
class _HeaderValue:
    tag: int
    path: str
    text: str = field(repr=False)
    raw: bytes = field(repr=False)


ElementPath = tuple[tuple[int, ...], int]
"""Tags and item numbers of the sequences around the element, and its own tag."""


def compare_headers(before: Instance, after: Instance) -> list[HeaderLine]:
    """Return every element of either header, in the order of tags.

    Raises Malformed.
    """
    was, now = dict(_walk_header(before)), dict(_walk_header(after))
    return [_make_line(was.get(key), now.get(key)) for key in sorted({*was, *now}, key=_sort_key)]


def list_header(instance: Instance) -> list[HeaderLine]:
    """Return the elements of one header when there is nothing to compare it with.

    Raises Malformed.
    """
    found = sorted(_walk_header(instance), key=lambda pair: _sort_key(pair[0]))
    return [_make_line(value, value) for _key, value in found]


def _make_line(was: _HeaderValue | None, now: _HeaderValue | None) -> HeaderLine:
    one = was or now
    assert one is not None
    if was is None or now is None:
        fate = ElementChange.ADDED if was is None else ElementChange.REMOVED
    else:
        fate = (
            ElementChange.SAME
            if was.raw.rstrip(b" \0") == now.raw.rstrip(b" \0")
            else ElementChange.CHANGED
        )
    return HeaderLine(
        tag=one.tag,
        keyword=_get_keyword(one.tag),
        path=one.path,
        before=was.text if was else "",
        after=now.text if now else "",
        change=fate,
        rule="" if fate is ElementChange.SAME else _cite_rule(one.tag),
    )


def _cite_rule(tag: int) -> str:
    """The section of PS3.15 that says what happens to the element."""
    if tag >> 16 & 1:
        return "PS3.15 E.3.10"
    row = tables.confidentiality().get(tag)
    if row is not None:
        options = ", ".join(f"{code} {how}" for code, how in sorted(row.options.items()))
        return f"PS3.15 E.1-1: {row.basic}" + (f" ({options})" if options else "")
    if tag >> 16 == 0x0012 or tag == _CHARSET:
        return "PS3.15 E.1.1"
    return ""


def _walk_header(instance: Instance) -> Iterator[tuple[ElementPath, _HeaderValue]]:
    data = bytes(instance.header)
    yield from _walk_dataset(data, instance.explicit, (0, len(data)), (), "", Charset(b""))


def _walk_dataset(
    data: bytes,
    explicit: bool,
    reach: tuple[int, int],
    above: tuple[int, ...],
    path: str,
    charset: Charset,
) -> Iterator[tuple[ElementPath, _HeaderValue]]:
    depth = len(above) // 2
    for element in elements(data, explicit, *reach, depth):
        if element.tag in PIXEL_TAGS:
            continue
        vr = element.vr or tables.dictionary().get(element.tag, "UN").split("/")[0]
        raw = data[element.value : element.value_end]
        if element.tag == _CHARSET:
            charset = Charset(raw.strip(b" \0"))
        if not is_sequence(element, vr):
            value = _HeaderValue(element.tag, path, _format_value(raw, vr, charset), raw)
            yield (above, element.tag), value
            continue
        yield (above, element.tag), _HeaderValue(element.tag, path, "", b"")
        inside = nested_explicit(element, explicit)
        yield from _walk_items(
            data, inside, element, above, f"{path}{_get_keyword(element.tag)}", charset
        )


def _walk_items(
    data: bytes,
    explicit: bool,
    element: Element,
    above: tuple[int, ...],
    path: str,
    charset: Charset,
) -> Iterator[tuple[ElementPath, _HeaderValue]]:
    for number, item in enumerate(items(data, explicit, element, len(above) // 2), start=1):
        reach = (item.value, item.value_end)
        below = (*above, element.tag, number)
        yield from _walk_dataset(data, explicit, reach, below, f"{path} {number} › ", charset)


def _format_value(raw: bytes, vr: str, charset: Charset) -> str:
    if not raw:
        return ""
    if vr in _NUMBER_FORMATS:
        return _format_numbers(raw, _NUMBER_FORMATS[vr])
    if vr == "AT" and len(raw) % 4 == 0:
        pairs = struct.iter_unpack("<HH", raw)
        return " ".join(f"({group:04X},{number:04X})" for group, number in pairs)[:MAX_VALUE_LENGTH]
    if vr in _BINARY_VRS or vr == "AT":
        return f"{len(raw)} B"
    text = charset.decode(raw.rstrip(b" \0"))
    if text is None:
        text = raw.decode("latin-1").strip(" \0")
    text = text.replace("\0", "")
    return text if len(text) <= MAX_VALUE_LENGTH else f"{text[:MAX_VALUE_LENGTH]} …"


def _format_numbers(raw: bytes, code: str) -> str:
    size = struct.calcsize(code)
    if len(raw) % size:
        return f"{len(raw)} B"
    found = struct.unpack(f"<{len(raw) // size}{code}", raw)
    text = " ".join(f"{n:g}" if isinstance(n, float) else str(n) for n in found[:_MAX_NUMBERS])
    return text if len(found) <= _MAX_NUMBERS else f"{text} …"


def _get_keyword(tag: int) -> str:
    return _load_keywords().get(tag, "")


def _load_keywords() -> dict[int, str]:
    if not _KEYWORD_CACHE:
        _KEYWORD_CACHE.update({tag: keyword for keyword, tag in tables.keywords().items()})
    return _KEYWORD_CACHE


_KEYWORD_CACHE: dict[int, str] = {}


def _sort_key(key: ElementPath) -> tuple[int, ...]:
    above, tag = key
    return (*above, tag)


PREVIEW_PSEUDONYM = "TRY-IT-0001"
MAX_PREVIEW_PIXELS = 640


@dataclass(frozen=True, slots=True)
class ProfilePreview:
    """The header before and after.

    If the image would be withheld: only the header before, and the reason.
    """

    lines: list[HeaderLine]
    reason: Message | None = None
    before: str = field(default="", repr=False)
    after: str = field(default="", repr=False)
    """The first frame of the changed image as a data URL; empty if it cannot be rendered."""


def preview_profile(
    user: AnyUser, profile: ProfileVersion, node: Node, study: StudyRef
) -> ProfilePreview:
    """Apply the profile to one image of the study and return the result.

    A random key that belongs to no project is used and discarded. Raises like `fetch_sample`, and
    what the receivers of `image_fetched` raise.
    """
    require(user, Right.SEE_IDENTIFIED)
    image = fetch_sample(user, node, study)
    patient_id = _get_patient_id(image)
    image_fetched.send(None, node=node, patient_id=patient_id)
    tried = _apply_profile(profile, image)
    details = {"node": node.name, "withheld": tried.reason.category if tried.reason else ""}
    patient = (get_domain(node), patient_id) if patient_id else None
    record(
        "profile.tried", user=user, about=f"profile:{profile.pk}", details=details, patient=patient
    )
    return tried


def _apply_profile(profile: ProfileVersion, image: Instance) -> ProfilePreview:
    key = ProjectKey(secrets.token_bytes(32))
    # Nothing is sent, so risks are no reason to withhold the image from the preview.
    change = Pseudonymization(
        parse_rules(profile), PREVIEW_PSEUDONYM, key, None, RiskDecision.ACCEPT, RiskDecision.ACCEPT
    )
    try:
        if image.defect:
            raise InstanceWithheld("fault", fault=image.defect)
        changed = apply(change, image)
        verify(image, changed, change)
        lines = compare_headers(to_little_endian(image), changed)
        return ProfilePreview(
            lines, before=_render_data_url(image), after=_render_data_url(changed)
        )
    except InstanceWithheld as error:
        return ProfilePreview(
            _list_readable_header(image), error.message, before=_render_data_url(image)
        )


def _render_data_url(image: Instance) -> str:
    """The image is part of the page itself, so that no URL and no cache contains it."""
    try:
        data = render_png(image, largest=MAX_PREVIEW_PIXELS)
    except InvalidInput:
        return ""
    return f"data:image/png;base64,{b64encode(data).decode('ascii')}"


def _list_readable_header(image: Instance) -> list[HeaderLine]:
    try:
        return list_header(to_little_endian(image))
    except (Malformed, InstanceWithheld):
        return []


def _get_patient_id(image: Instance) -> str:
    try:
        return image.in_header.patient_id.decode("utf-8", "replace")
    except Malformed:
        return ""
