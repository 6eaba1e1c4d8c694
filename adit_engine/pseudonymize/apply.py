"""Apply: a Change done to one instance. What is not understood is withheld, never passed on."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from adit_engine.elements import PIXEL_TAGS, Buffer, Element, elements
from adit_engine.errors import Malformed, Withhold
from adit_engine.instance import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE, Instance
from adit_engine.pseudonymize import admit, descriptors, face, pixel_rules, pixels, stamp, tables
from adit_engine.pseudonymize.actions import Work
from adit_engine.pseudonymize.admit import Cover
from adit_engine.pseudonymize.blank import blanked
from adit_engine.pseudonymize.change import AsIs, Change, Pseudonymized
from adit_engine.pseudonymize.encapsulated import extended_table, rewritten
from adit_engine.pseudonymize.pixel_rules import PixelRule, Rectangle
from adit_engine.pseudonymize.pixels import PixelFormat
from adit_engine.pseudonymize.profile import RETAIN_UIDS, SAFE_PRIVATE
from adit_engine.pseudonymize.rewrite import Rewriter, Source, encoded
from adit_engine.pseudonymize.rules import RuleBook, rule_book
from adit_engine.pseudonymize.streams import WALKS
from adit_engine.pseudonymize.tables import Admitted, well_known_uids
from adit_engine.pseudonymize.tally import Done, Tally, Traces, treatment_of
from adit_engine.pseudonymize.transcode import little_endian

_CLASS_UID = 0x00080016
_INSTANCE_UID = 0x00080018
_STUDY_UID = 0x0020000D
_SERIES_UID = 0x0020000E
_IDENTITY = frozenset({_CLASS_UID, _INSTANCE_UID, _STUDY_UID, _SERIES_UID})
_UID = re.compile(r"[0-9.]{1,64}")
_OFFSETS = frozenset({0x7FE00001, 0x7FE00002})
_DATES = frozenset({stamp.BIRTH_DATE, stamp.STUDY_DATE})
_PHOTOMETRIC = 0x00280004
_PLANAR = 0x00280006
_PATIENT_NAME = 0x00100010
_ALLOCATED = 0x00280100
_READ = frozenset(
    {
        stamp.BURNED_IN,
        _PATIENT_NAME,
        _PLANAR,
        *_OFFSETS,
        *_IDENTITY,
        *_DATES,
        *admit.READ,
        *face.READ,
        *pixels.READ,
        *pixel_rules.READ,
    }
)
_PIXEL_DATA = 0x7FE00010
_FLOATS = {0x7FE00008: 4, 0x7FE00009: 8}
_NATIVE = frozenset({EXPLICIT_LE, IMPLICIT_LE})
_SYNTAXES = _NATIVE | WALKS.keys()


def apply(change: Change, instance: Instance, tally: Tally | None = None) -> Instance:
    """The instance as it may leave: itself for AsIs, else a new one. Raises Withhold alone.

    Pixel buffers are passed on uncopied unless a rule alters them. The same input and change give
    the same bytes. A `tally` is added to when the instance may leave.
    """
    if isinstance(change, AsIs):
        return instance
    try:
        made, traces = _pseudonymized(change, instance)
    except Withhold:
        raise
    except Malformed as error:
        raise Withhold("malformed", str(error)) from None
    except Exception as error:  # noqa: BLE001
        # What could not be foreseen must not let an object through; the text of an unforeseen error
        # could hold a value of the header, so only its kind is told.
        kind = type(error).__name__
        raise Withhold("not-understood", f"The object could not be understood ({kind}).") from None
    if tally is not None:
        tally.note(treatment_of(traces))
    return made


@dataclass(frozen=True, slots=True)
class _Parts:
    """One data set, taken apart: elements before the pixels, the pixels, elements behind them."""

    header: Source
    found: list[Element]
    body: Source
    pixels: Element | None
    behind: list[Element]

    def values(self) -> dict[int, bytes]:
        """Of the top level, as encoded, for the tags that decide about the whole object."""
        return {
            element.tag: bytes(source.data[element.value : element.end])
            for source, found in ((self.header, self.found), (self.body, self.behind))
            for element in found
            if element.tag in _READ and not element.undefined
        }


def _pseudonymized(change: Pseudonymized, instance: Instance) -> tuple[Instance, Traces]:
    was_big_endian = instance.transfer_syntax_uid == EXPLICIT_BE
    instance = little_endian(instance)
    if instance.transfer_syntax_uid not in _SYNTAXES:
        raise Withhold("syntax", "Objects of this transfer syntax cannot be checked.")
    parts = _taken_apart(instance)
    values = parts.values()
    uids = {tag: values.get(tag, b"").strip(b" \0") for tag in _IDENTITY}
    sop_class_uid = uids[_CLASS_UID].decode("latin-1") or instance.sop_class_uid.strip(" \0")
    refused = admit.why_not(sop_class_uid, change.profile) if sop_class_uid else None
    if refused is not None:
        raise Withhold(*refused)
    _check_identity(uids, instance)
    admitted = tables.admitted()[sop_class_uid]
    rules: tuple[PixelRule, ...] = ()
    if change.profile.pixel_rules and parts.pixels is not None:
        rules = pixel_rules.covering(change.profile.pixel_rules, values)
        if not admit.is_refused(admitted, values):
            rules = tuple(rule for rule in rules if rule.applies == pixel_rules.ALL)
    where = tuple(rectangle for rule in rules for rectangle in rule.rectangles)
    cover = Cover.BLANKED if where else Cover.RELEASED if rules else Cover.NOTHING
    admit.check(admitted, values, cover)
    if was_big_endian and parts.pixels is not None:
        _check_word_order(parts.pixels, values)
    may_show_face = _may_show_face(change, admitted, parts, values)
    book = rule_book(change.profile, admitted.iod)
    rewriter = _rewriter(change, book, instance.explicit, values.get(_PATIENT_NAME, b""))
    out = _by_rules(rewriter, book, parts)
    by_rules = tuple(out)
    _finish(change, parts, values, out, instance.explicit)
    made = (
        _blanked(change, parts, values, (out, where), instance)
        if where
        else Instance(
            sop_class_uid,
            _new_uid(change, uids[_INSTANCE_UID]),
            instance.transfer_syntax_uid,
            b"".join(out[tag] for tag in sorted(out)),
            _pixels(parts, values, instance, admitted),
        )
    )
    traces = Traces(
        top=(tuple(rewriter.top), by_rules),
        inside=tuple(rewriter.inside),
        stamped=_stamped_tags(change),
        leaving=tuple(out),
        marks=(Done.BLANKED,) * bool(where) + (Done.FACE,) * may_show_face,
    )
    return made, traces


def _blanked(
    change: Pseudonymized,
    parts: _Parts,
    values: dict[int, bytes],
    made: tuple[dict[int, bytes], tuple[Rectangle, ...]],
    instance: Instance,
) -> Instance:
    """With the rectangles blanked and the pixels uncompressed; its header says so."""
    out, where = made
    element = parts.pixels
    is_native = instance.transfer_syntax_uid in _NATIVE
    if element is None or element.tag != _PIXEL_DATA or element.undefined is is_native:
        raise Withhold("pixel-format", "The pixels are of a kind that cannot be checked.")
    _check_overlays(parts, PixelFormat.of({**values, _PHOTOMETRIC: b""}))
    data = memoryview(parts.body.data)
    new = blanked(data, element, values, where, instance.transfer_syntax_uid)
    form = PixelFormat.of({**values, _PHOTOMETRIC: new.photometric})
    explicit = instance.explicit
    for tag in _OFFSETS:
        out.pop(tag, None)
    out[_PHOTOMETRIC] = encoded(_PHOTOMETRIC, "CS", new.photometric, explicit)
    if form.samples > 1:
        out[_PLANAR] = encoded(_PLANAR, "US", new.planar, explicit)
    out[stamp.BURNED_IN] = encoded(stamp.BURNED_IN, "CS", b"NO", explicit)
    out |= _stamped(change, explicit, blanked=True)
    value = b"".join(bytes(part) for part in pixels.native(new.pixels, form))
    vr = "OW" if form.allocated > 8 or not explicit else "OB"
    return Instance(
        instance.sop_class_uid.strip(" \0") or values[_CLASS_UID].strip(b" \0").decode("ascii"),
        _new_uid(change, values[_INSTANCE_UID].strip(b" \0")),
        EXPLICIT_LE if explicit else IMPLICIT_LE,
        b"".join(out[tag] for tag in sorted(out)),
        (encoded(_PIXEL_DATA, vr, value, explicit),),
    )


def _taken_apart(instance: Instance) -> _Parts:
    explicit = instance.explicit
    header = Source(bytes(instance.header), explicit)
    found = list(elements(header.data, explicit))
    if not instance.rest:
        for place, element in enumerate(found):
            if element.tag in PIXEL_TAGS:
                return _Parts(header, found[:place], header, element, found[place + 1 :])
        return _Parts(header, found, header, None, [])
    whole = instance.rest[0] if len(instance.rest) == 1 else b"".join(instance.rest)
    body = Source(memoryview(whole), explicit)
    first = next(elements(body.data, explicit))
    if first.tag not in PIXEL_TAGS:
        raise Malformed("The pixel data do not stand where they should.")
    is_padded = not bytes(body.data[first.end :]).strip(b"\0")
    behind = [] if is_padded else list(elements(body.data, explicit, first.end))
    return _Parts(header, found, body, first, behind)


def _check_identity(uids: dict[int, bytes], instance: Instance) -> None:
    """The UIDs of the data set count. Another instance UID in the file meta is a label, and goes."""
    said = {tag: uid.decode("latin-1") for tag, uid in uids.items()}
    if not all(said.values()):
        raise Withhold("identity", "A UID that says what the object is or belongs to is missing.")
    if not all(_UID.fullmatch(uid) for uid in said.values()):
        raise Withhold("identity", "A UID that says what the object is or belongs to is not legal.")
    if well_known_uids() & {uid for tag, uid in uids.items() if tag != _CLASS_UID}:
        raise Withhold("identity", "A UID of the object is one that the standard has taken.")
    if instance.sop_class_uid.strip(" \0") not in ("", said[_CLASS_UID]):
        raise Withhold("identity", "The object came as one of another class than its header says.")


def _check_word_order(pixels: Element, values: dict[int, bytes]) -> None:
    """PS3.5 7.3 turns each word of OW round; many writers turn whole numbers, and none says which."""
    if pixels.vr == "OW" and values.get(_ALLOCATED, b"") not in (b"", b"\x08\0", b"\x10\0"):
        raise Withhold(
            "pixel-format", "Big endian pixels of more than 16 bits can be read in two ways."
        )


def _check_overlays(parts: _Parts, form: PixelFormat) -> None:
    """An overlay inside the bits of the image cannot be taken out of it (PS3.3 C.9.2)."""
    for element in parts.found:
        if element.tag & 0xFF00FFFF == 0x60000102 and element.end - element.value == 2:
            value = parts.header.data[element.value : element.end]
            bit = int.from_bytes(value, "little")
            if bit and form.mask >> bit & 1:
                raise Withhold("pixel-bits", "An overlay lies in the bits of the image.")


def _may_show_face(
    change: Pseudonymized, admitted: Admitted, parts: _Parts, values: dict[int, bytes]
) -> bool:
    """Raises Withhold where that is not accepted."""
    told = face.told_inside(parts.header.data, parts.header.explicit, parts.found)
    return face.check(change.faces, admitted.modality, values, told)


def _rewriter(change: Pseudonymized, book: RuleBook, explicit: bool, name: bytes) -> Rewriter:
    names = descriptors.words(name)
    work = Work(change.key, change.key.date_offset_days(change.pseudonym), names=names)
    private = SAFE_PRIVATE in change.profile.options
    return Rewriter(book, work, explicit, private=private)


def _by_rules(rewriter: Rewriter, book: RuleBook, parts: _Parts) -> dict[int, bytes]:
    """Tag to encoded element of the whole top level, without the pixels."""
    out = rewriter.level(parts.header, parts.found, book.top)
    if parts.behind:
        _refuse_twice(parts.found, parts.behind)
        out |= rewriter.level(parts.body, parts.behind, book.top)
    return out


def _finish(
    change: Pseudonymized,
    parts: _Parts,
    values: dict[int, bytes],
    out: dict[int, bytes],
    explicit: bool,
) -> None:
    """What the standard wants beyond the rules, and the stamp."""
    for tag in [tag for tag in out if tag >> 16 == 0x0012]:
        del out[tag]
    if parts.pixels is None or not parts.pixels.undefined:
        for tag in _OFFSETS:  # of compressed frames only, and compared with them below
            out.pop(tag, None)
    if not values.get(stamp.BURNED_IN, b"").strip(b" \0"):
        out.pop(stamp.BURNED_IN, None)
    age = stamp.computed_age(change.profile, values)
    if age is not None and stamp.AGE not in out:
        out[stamp.AGE] = encoded(stamp.AGE, "AS", age, explicit)
    for tag, vr in stamp.empties(out).items():
        out.setdefault(tag, encoded(tag, vr, b"", explicit))
    out |= _stamped(change, explicit)


@lru_cache(maxsize=256)
def _stamped_tags(change: Pseudonymized) -> frozenset[int]:
    return frozenset(_stamped(change, True))


def _new_uid(change: Pseudonymized, uid: bytes) -> str:
    text = uid.decode("ascii")
    return text if RETAIN_UIDS in change.profile.options else change.key.uid(text)


def _refuse_twice(found: Iterable[Element], behind: list[Element]) -> None:
    tags = {element.tag for element in found}
    if any(element.tag in tags or element.tag in PIXEL_TAGS for element in behind):
        raise Malformed("An element stands twice, before and behind the pixel data.")


@lru_cache(maxsize=1024)
def _stamped(change: Pseudonymized, explicit: bool, *, blanked: bool = False) -> dict[int, bytes]:
    out = {
        tag: encoded(tag, vr, value, explicit) for tag, (vr, value) in stamp.stamp(change).items()
    }
    items = b""
    for code in stamp.codes(change.profile, blanked=blanked):
        item = b"".join(encoded(tag, vr, value, explicit) for tag, (vr, value) in code.items())
        items += b"\xfe\xff\x00\xe0" + len(item).to_bytes(4, "little") + item
    out[stamp.CODES] = encoded(stamp.CODES, "SQ", items, explicit)
    return out


def _pixels(
    parts: _Parts, values: dict[int, bytes], instance: Instance, admitted: Admitted
) -> tuple[Buffer, ...]:
    """The pixel data element, and nothing behind it; the same buffers where nothing had to go."""
    element = parts.pixels
    if element is None:
        return ()
    is_native = instance.transfer_syntax_uid in _NATIVE
    if element.undefined is is_native:
        raise Withhold("pixel-format", "The pixels do not stand as the transfer syntax says.")
    form = _format(element, values, admitted)
    _check_overlays(parts, form)
    data = memoryview(parts.body.data)
    new = (_native if is_native else _compressed)(data, element, form, values, instance)
    if new is not None:
        return new
    if element.end == len(data) and instance.rest:
        return instance.rest
    return (data[element.start : element.end],)


def _format(element: Element, values: dict[int, bytes], admitted: Admitted) -> PixelFormat:
    size_bytes = _FLOATS.get(element.tag)
    if size_bytes is not None and "float" in admitted.asks:
        if element.vr in ("", "OF", "OD"):
            return PixelFormat.of_floats(values, size_bytes)
    elif element.tag == _PIXEL_DATA and element.vr in ("", "OB", "OW"):
        form = PixelFormat.of(values)
        if form.allocated <= 32:
            return form
    raise Withhold("pixel-format", "The pixels are of a kind that cannot be checked.")


def _native(
    data: memoryview, element: Element, form: PixelFormat, _: object, instance: Instance
) -> tuple[Buffer, ...] | None:
    value = data[element.value : element.end]
    new = pixels.native(value, form)
    if len(new) == 1 and new[0] is value:
        return None
    head = encoded(element.tag, element.vr or "OW", b"", instance.explicit)
    return (head[:-4] + sum(map(len, new)).to_bytes(4, "little"), *new)


def _compressed(
    data: memoryview,
    element: Element,
    form: PixelFormat,
    values: dict[int, bytes],
    instance: Instance,
) -> tuple[Buffer, ...] | None:
    new = rewritten(data, element, form, instance.transfer_syntax_uid)
    tables_given = [values.get(tag) for tag in sorted(_OFFSETS)]
    if any(tables_given) and (new or tables_given != list(extended_table(data, element, form))):
        raise Withhold("pixel-stream", "The table of where frames begin would no longer be true.")
    return new
