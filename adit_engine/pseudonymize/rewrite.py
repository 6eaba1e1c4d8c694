"""Rewrite the levels of a data set by the rules, with a cache of elements that repeat in a series.

Used by `apply`.
"""

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import replace
from struct import Struct
from typing import NamedTuple

from adit_engine.elements import (
    Element,
    EncodedElements,
    elements,
    encode_element,
    encode_item,
    format_tag,
    is_sequence,
    items,
    nested_explicit,
)
from adit_engine.errors import InstanceWithheld, Malformed
from adit_engine.pseudonymize import actions, safe_text
from adit_engine.pseudonymize.actions import DUMMY_VALUES, KEEP_ACTIONS, Action, ActionContext
from adit_engine.pseudonymize.charset import Charset
from adit_engine.pseudonymize.parameters import Pseudonymization
from adit_engine.pseudonymize.rules import (
    CHARACTER_SET,
    CODE_MACRO,
    CODE_MEANING,
    CODE_PARTS,
    CODE_VALUE,
    CODING_SCHEME,
    LONG_CODE_VALUE,
    AttributeRule,
    CompiledRules,
    LevelRules,
    Replacement,
)
from adit_engine.pseudonymize.statistics import ACTION_BITS, ACTION_CODES, AppliedAction, LevelNotes
from adit_engine.pseudonymize.structured_report import CONTENT_SEQUENCE, ReportTemplate, may_stay
from adit_engine.pseudonymize.tables import dictionary, safe_private_attributes

_MAX_CONTEXTS = 8
MAX_CACHED_BYTES = 1 << 14
"""Maximum size of a cached element in bytes."""


class CachedElement(NamedTuple):
    """An encoded element, its replacement (None: removed), and the notes on the changes."""

    raw: bytes
    output: bytes | None
    top_notes: tuple[int, ...]
    item_notes: tuple[LevelNotes, ...]


class ElementCache:
    """Elements of images that are changed one after another by one `change`. Not thread-safe.

    The result for an element depends on its own bytes and on a context: its rules, its encoding,
    the character set, and the words of the patient's name. A cached result is used only if all of
    these are equal byte for byte. Per context, the last value of each tag is kept.
    """

    def __init__(self, change: Pseudonymization) -> None:
        self.change = change
        self._contexts: dict[Hashable, dict[int, CachedElement]] = {}

    def elements_of(self, context: Hashable) -> dict[int, CachedElement]:
        """Return the cached elements of the top level by tag, for reading and adding."""
        known = self._contexts.get(context)
        if known is None:
            if len(self._contexts) >= _MAX_CONTEXTS:
                self._contexts.clear()
            known = self._contexts[context] = {}
        return known

    def iter_contexts(self) -> Iterator[dict[int, CachedElement]]:
        """Yield all cached elements, by context."""
        yield from self._contexts.values()


LUT_DESCRIPTORS = {0x00283006: 0x00283002, **{0x00281201 + n: 0x00281101 + n for n in range(4)}}
"""Lookup table to its descriptor (PS3.3 C.11.1.1, C.7.6.3.1.5, C.7.6.3.1.6)."""

_SEGMENTED_LUT_DESCRIPTORS = {0x00281221 + n: 0x00281101 + n for n in range(3)}
LUT_TAGS = LUT_DESCRIPTORS.keys() | _SEGMENTED_LUT_DESCRIPTORS.keys()

_UINT16 = Struct("<H")
_UINT32 = Struct("<I")
_LONG_HEADER_BYTES, _SHORT_HEADER_BYTES = 12, 8
_DESCRIPTOR_BYTES = 6
_BYTE_VRS = (b"OW", b"OB", b"UN")


def trim_lookup_tables(level: dict[int, bytes], explicit: bool) -> list[int]:
    """Truncate lookup tables of one level to their declared size, in place.

    Returns the tags of the tables that were removed because their descriptor is missing.
    """
    gone = [
        tag
        for tag, descriptor in (LUT_DESCRIPTORS | _SEGMENTED_LUT_DESCRIPTORS).items()
        if tag in level
        and len(level.get(descriptor, b"")) < _SHORT_HEADER_BYTES + _DESCRIPTOR_BYTES
    ]
    for tag in gone:
        del level[tag]
    for tag, descriptor in LUT_DESCRIPTORS.items():
        table, says = level.get(tag), level.get(descriptor)
        if table is None or says is None:
            continue
        entries: int = _UINT16.unpack_from(says, _SHORT_HEADER_BYTES)[0] or 65536  # 0 means 65536
        is_long = explicit and table[4:6] in _BYTE_VRS
        head = _LONG_HEADER_BYTES if is_long else _SHORT_HEADER_BYTES
        if len(table) > head + 2 * entries:
            length = _UINT32 if is_long or not explicit else _UINT16
            front = table[: head - length.size] + length.pack(2 * entries)
            level[tag] = front + table[head : head + 2 * entries]
    return gone


PER_FRAME_GROUPS = 0x52009230
VALUE_TYPE = 0x0040A040


_POSSIBLE_SEQUENCE_VRS = frozenset({"SQ", ""})
_REMOVED, _EMPTIED, _REPLACED, _REWRITTEN = (
    ACTION_CODES[done]
    for done in (
        AppliedAction.REMOVED,
        AppliedAction.EMPTIED,
        AppliedAction.REPLACED,
        AppliedAction.REWRITTEN,
    )
)
_NOTED_BY_ACTION: dict[Action, int] = {
    actions.map_uids: ACTION_CODES[AppliedAction.NEW_UID],
    actions.shift_dates: ACTION_CODES[AppliedAction.DATE_SHIFTED],
    actions.shift_datetimes: ACTION_CODES[AppliedAction.DATE_SHIFTED],
}


class Rewriter:
    """Rewrites one instance. `explicit` is the encoding of the result.

    Records changes of elements that do not simply stay: `top` for the top level, `inside` for each
    sequence item. Top-level elements that are the same as in a previous image come from `memory`.
    """

    def __init__(
        self,
        rules: CompiledRules,
        context: ActionContext,
        explicit: bool,
        cache: ElementCache,
        *,
        private: bool,
        template: ReportTemplate | None = None,
    ) -> None:
        self.top_notes: list[int] = []
        self.item_notes: list[LevelNotes] = []
        self._notes = self.top_notes
        self._rules = rules
        self._context = context
        self._explicit = explicit
        self._private = private
        self._template = template
        self._cache = cache
        self._known: dict[int, CachedElement] = {}

    def rewrite_level(
        self,
        source: EncodedElements,
        found: Iterable[Element],
        place: LevelRules,
        context: ActionContext | None = None,
    ) -> dict[int, bytes]:
        """Return the elements of one level that stay, encoded, by tag.

        Raises InstanceWithheld if an element must be removed that defines how pixels are read, and
        Malformed if an element occurs twice.
        """
        context = context or self._context
        out: dict[int, bytes] = {}
        seen: set[int] = set()
        rules, make = place.rules, self._rewrite_element
        if not source.depth:
            make = self._rewrite_cached
            self._known = self._cached_elements(b"")
        creators: dict[int, bytes] = {}
        for element in found:
            tag = element[0]
            if tag in seen:
                raise Malformed("data-set.duplicate-element", tag=format_tag(tag))
            seen.add(tag)
            rule = rules.get(tag)
            if rule is not None:
                new = make(source, element, rule, context)
                if new is not None:
                    out[tag] = new
                else:
                    self._notes.append(tag << ACTION_BITS | _REMOVED)
                continue
            self._notes.append(tag << ACTION_BITS | _REMOVED)
            if tag == CHARACTER_SET:
                if any(earlier > tag for earlier in seen):
                    raise Malformed("data-set.character-set-position")
                value = _read_value(source, element)
                context = replace(context, charset=Charset(value))
                if not source.depth:
                    self._known = self._cached_elements(value)
            elif tag & 0x10000:
                if self._private:
                    self._rewrite_private(source, element, context, creators, out)
            elif element[1] in _POSSIBLE_SEQUENCE_VRS:
                _check_sequence(source, element)
        if not LUT_TAGS.isdisjoint(out):
            gone = trim_lookup_tables(out, self._explicit)
            self._notes += [tag << ACTION_BITS | _REMOVED for tag in gone]
        return out

    def _cached_elements(self, charset: bytes) -> dict[int, CachedElement]:
        """The context covers everything the result depends on except change, tag and value."""
        names = self._context.patient_name_words
        context = (self._rules, self._template, self._explicit, names, charset)
        return self._cache.elements_of(context)

    def _rewrite_cached(
        self, source: EncodedElements, element: Element, rule: AttributeRule, context: ActionContext
    ) -> bytes | None:
        raw = bytes(source.data[element[2] : element[4]])
        known = self._known.get(element[0])
        if known is not None and known[0] == raw:
            self.top_notes += known[2]
            self.item_notes += known[3]
            return known[1]
        top, inside = len(self.top_notes), len(self.item_notes)
        new = self._rewrite_element(source, element, rule, context)
        if len(raw) <= MAX_CACHED_BYTES:
            noted = tuple(self.top_notes[top:]), tuple(self.item_notes[inside:])
            self._known[element[0]] = CachedElement(raw, new, *noted)
        return new

    def _rewrite_element(
        self, source: EncodedElements, element: Element, rule: AttributeRule, context: ActionContext
    ) -> bytes | None:
        if rule.descend:
            return self._rewrite_sequence(source, element, rule, context)
        new: bytes | None = None
        if rule.action is not None and not element.undefined:
            new = self._apply_action(source, element, rule, context)
            if new is not None:
                return new
        if rule.withhold:
            raise _pixel_meaning_error(element.tag)
        if element[1] in _POSSIBLE_SEQUENCE_VRS:
            _check_sequence(source, element)
        return self._encode_replacement(element.tag, rule)

    def _apply_action(
        self, source: EncodedElements, element: Element, rule: AttributeRule, context: ActionContext
    ) -> bytes | None:
        tag, vr, start, begin, end, _ = element
        act, vrs = rule.action, rule.vrs
        if act is None:
            return None
        if act is actions.map_uids or act is actions.keep_uids:
            vr = "UI"
        elif vr not in vrs:
            if vr and (vr != "UN" or len(vrs) > 1):
                return None
            vr = vrs[0]
        value = bytes(source.data[begin:end])
        new = act(value, context) if value else value
        if new is None:
            return None
        same_form = source.explicit == self._explicit and element[1] != "UN"
        if new is value and same_form and not (end - begin) & 1:
            return bytes(source.data[start:end])
        if new is not value and new != value.rstrip(b" \0"):
            self._notes.append(tag << ACTION_BITS | _NOTED_BY_ACTION.get(act, _REWRITTEN))
        return encode_element(tag, vr, new, self._explicit)

    def _encode_replacement(self, tag: int, rule: AttributeRule) -> bytes | None:
        if rule.replacement is Replacement.NOTHING:
            return None
        if rule.replacement is Replacement.EMPTY:
            self._notes.append(tag << ACTION_BITS | _EMPTIED)
            return encode_element(tag, rule.vrs[0], b"", self._explicit)
        self._notes.append(tag << ACTION_BITS | _REPLACED)
        if rule.vrs == ("SQ",):
            outer, self._notes = self._notes, []
            content = encode_item(self._encode_dummy_item(rule.level))
            self._notes = outer
            return encode_element(tag, "SQ", content, self._explicit)
        return encode_element(tag, rule.vrs[0], DUMMY_VALUES[rule.vrs[0]], self._explicit)

    def _rewrite_sequence(
        self, source: EncodedElements, element: Element, rule: AttributeRule, context: ActionContext
    ) -> bytes | None:
        content = None
        # A UN of defined length has the same encoding as one of undefined length (PS3.5 6.2.2).
        if element.vr == "UN" or is_sequence(element, "SQ"):
            content = self._rewrite_items(source, element, rule, context)
        if content is not None:
            if content != source.data[element.value : element.value_end]:
                self._notes.append(element.tag << ACTION_BITS | _REWRITTEN)
            return encode_element(element.tag, "SQ", content, self._explicit)
        if rule.withhold:
            raise _pixel_meaning_error(element.tag)
        return self._encode_replacement(element.tag, rule)

    def _rewrite_items(
        self, source: EncodedElements, element: Element, rule: AttributeRule, context: ActionContext
    ) -> bytes | None:
        """Encode the items that stay. None if there were items and none stays."""
        inner = source.nested(nested_explicit(element, source.explicit))
        place = self._rules.level(rule.level)
        counted = element.tag == PER_FRAME_GROUPS
        kept: list[bytes] = []
        empty = True
        for item in items(source.data, inner.explicit, element, source.depth):
            empty = False
            found = list(
                elements(inner.data, inner.explicit, item.value, item.value_end, inner.depth)
            )
            if element.tag == CONTENT_SEQUENCE and not self._may_stay(inner, found):
                self._notes.append(element.tag << ACTION_BITS | _REMOVED)
                continue
            new = self._encode_one_item(inner, found, place, context)
            if new or counted:
                kept.append(encode_item(new))
        return b"".join(kept) if kept or empty else None

    def _may_stay(self, source: EncodedElements, found: list[Element]) -> bool:
        return self._template is None or may_stay(self._template, source, found)

    def _encode_one_item(
        self,
        source: EncodedElements,
        found: list[Element],
        place: LevelRules,
        context: ActionContext,
    ) -> bytes:
        """Empty if nothing stays, or if the item is a private code or a name (PS3.3 10.2)."""
        private = place.holds_codes and not self._is_standard_code(source, found)
        if private and not place.needs_other_attributes:
            return b""
        if any(
            e.tag == VALUE_TYPE and _read_value(source, e).strip(b" \0") == b"PNAME" for e in found
        ):
            return b""
        outer, self._notes = self._notes, []
        if private:
            found = [element for element in found if element.tag not in CODE_MACRO]
        out = self.rewrite_level(source, found, place, context)
        if private and out:
            out |= self._encode_removed_code()
            self._notes += [tag << ACTION_BITS | _REPLACED for tag in self._encode_removed_code()]
        self.item_notes.append((tuple(self._notes), tuple(out)))
        self._notes = outer
        return b"".join(out[tag] for tag in sorted(out))

    def _encode_removed_code(self) -> dict[int, bytes]:
        tags, vrs = (CODE_VALUE, CODING_SCHEME, CODE_MEANING), ("SH", "SH", "LO")
        return {
            tag: encode_element(tag, vr, value, self._explicit)
            for tag, vr, value in zip(tags, vrs, safe_text.REMOVED_CODE, strict=True)
        }

    def _is_standard_code(self, source: EncodedElements, found: list[Element]) -> bool:
        parts = {e.tag: e for e in found if e.tag in CODE_PARTS and not e.undefined}
        if not parts:
            return True
        values = [parts[tag] for tag in (CODE_VALUE, LONG_CODE_VALUE) if tag in parts]
        scheme = parts.get(CODING_SCHEME)
        if not values or scheme is None or CODE_MEANING not in parts:
            return False
        designator = _read_value(source, scheme)
        return all(
            safe_text.is_standard_code(_read_value(source, value), designator) for value in values
        )

    def _encode_dummy_item(self, number: int) -> bytes:
        place = self._rules.level(number)
        if place.holds_codes:
            return b"".join(self._encode_removed_code().values())
        out = []
        for tag, kind in sorted(place.types.items()):
            rule = place.rules.get(tag)
            if rule is not None and kind in ("1", "2"):
                lost = Replacement.DUMMY if kind == "1" else Replacement.EMPTY
                out.append(self._encode_replacement(tag, replace(rule, replacement=lost)) or b"")
        return b"".join(out)

    def _rewrite_private(
        self,
        source: EncodedElements,
        element: Element,
        context: ActionContext,
        creators: dict[int, bytes],
        out: dict[int, bytes],
    ) -> None:
        """Keep elements of Table E.3.10-1 with their creator, found in `creators` of this level."""
        group, number = element.tag >> 16, element.tag & 0xFFFF
        block = (group << 16) | number >> 8
        if 0x10 <= number <= 0xFF:
            creators[element.tag] = _read_value(source, element).strip(b" \0")
            return
        creator = creators.get(block)
        safe = safe_private_attributes().get((group, creator or b""), {}).get(number & 0xFF)
        if creator is None or safe is None or element.undefined:
            return
        count = actions.value_multiplicity(safe.vr, _read_value(source, element))
        if count < safe.min_values or (safe.max_values is not None and count > safe.max_values):
            return
        rule = AttributeRule((safe.vr,), KEEP_ACTIONS[safe.vr], Replacement.NOTHING)
        kept = self._rewrite_element(source, element, rule, context)
        if kept is not None:
            out[block] = encode_element(block, "LO", creator, self._explicit)
            out[element.tag] = kept


def _check_sequence(source: EncodedElements, element: Element) -> None:
    """Raise Malformed if a removed sequence is damaged, since no other code parses it."""
    if element.vr not in _POSSIBLE_SEQUENCE_VRS or not is_sequence(
        element, dictionary().get(element.tag, "")
    ):
        return
    inner = source.nested(source.explicit)
    for item in items(source.data, source.explicit, element, source.depth):
        for one in elements(inner.data, inner.explicit, item.value, item.value_end, inner.depth):
            if not one.tag & 0x10000:
                _check_sequence(inner, one)


def _read_value(source: EncodedElements, element: Element) -> bytes:
    return bytes(source.data[element.value : element.value_end])


def _pixel_meaning_error(tag: int) -> InstanceWithheld:
    return InstanceWithheld("pixel-meaning.element", tag=format_tag(tag))
