"""Compile a profile to rules per attribute and nesting level of an IOD. Used by `rewrite`."""

from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from adit_engine.elements import PIXEL_TAGS
from adit_engine.pseudonymize import actions, icc_profile, safe_text, tables
from adit_engine.pseudonymize.actions import KEEP_ACTIONS, Action
from adit_engine.pseudonymize.profile import (
    CLEAN_DESCRIPTORS,
    CLEAN_STRUCTURE,
    DEVICE_IDENTITY,
    FULL_DATES,
    INSTITUTION_IDENTITY,
    MODIFIED_DATES,
    PATIENT_CHARACTERISTICS,
    RETAIN_UIDS,
    ConfidentialityProfile,
)
from adit_engine.pseudonymize.tables import ConfidentialityRow, IodLevel

CHARACTER_SET = 0x00080005
IMAGE_TYPE = 0x00080008
CODE_VALUE = 0x00080100
CODING_SCHEME = 0x00080102
CODING_SCHEME_VERSION = 0x00080103
CODE_MEANING = 0x00080104
LONG_CODE_VALUE = 0x00080119
TEXT_VALUE = 0x0040A160
TIMEZONE = 0x00080201
PATIENT_AGE = 0x00101010
ICC_PROFILE = 0x00282000

CODE_PARTS = frozenset(
    {CODE_VALUE, CODING_SCHEME, CODING_SCHEME_VERSION, CODE_MEANING, LONG_CODE_VALUE}
)
# The whole macro (PS3.3 Table 8.8-1), with context groups, mapping resources, equivalent codes.
CODE_MACRO = CODE_PARTS | frozenset(
    {0x00080105, 0x00080106, 0x00080107, 0x0008010B, 0x0008010D, 0x0008010F, 0x00080117}
    | {0x00080118, 0x00080120, 0x00080121, 0x00080122}
)
# The only bulk data that may stay, besides pixels: lookup tables and frame offsets.
_KEPT_BULK_DATA = frozenset(
    {0x00281201, 0x00281202, 0x00281203, 0x00281204, 0x00281221, 0x00281222, 0x00281223}
    | {0x00283006, 0x7FE00001, 0x7FE00002}
)
_FUNCTIONAL_GROUPS = frozenset({0x52009229, 0x52009230})
_REMOVED_GROUPS = frozenset({0x0000, 0x0002, 0x0004, 0xFFFA, 0xFFFC, 0xFFFE})
_RETAIN_OPTIONS = (
    PATIENT_CHARACTERISTICS,
    DEVICE_IDENTITY,
    INSTITUTION_IDENTITY,
    RETAIN_UIDS,
)

_NUMERIC_VRS = frozenset({"DS", "IS", "FL", "FD", "US", "SS", "UL", "SL", "UV", "SV"})
_TEXT_VRS = frozenset({"LO", "SH", "ST", "LT", "UT", "UC"})
_DATE_ACTIONS: dict[str, dict[str, Action]] = {
    MODIFIED_DATES: {
        "DA": actions.shift_dates,
        "DT": actions.shift_datetimes,
        "TM": actions.keep_times,
    },
    FULL_DATES: {
        "DA": actions.keep_dates,
        "DT": actions.keep_datetimes,
        "TM": actions.keep_times,
    },
}
_ATTRIBUTE_ACTIONS: dict[int, Action] = {
    PATIENT_AGE: actions.keep_age,
    IMAGE_TYPE: actions.keep_leading_codes,
    ICC_PROFILE: icc_profile.clean_icc_profile,
}


class Replacement(Enum):
    """What replaces a value that must be removed."""

    NOTHING = 0
    EMPTY = 1
    DUMMY = 2


_REPLACEMENT_BY_TYPE = {
    "1": Replacement.DUMMY,
    "1C": Replacement.DUMMY,
    "2": Replacement.EMPTY,
    "2C": Replacement.EMPTY,
}


@dataclass(frozen=True, slots=True)
class AttributeRule:
    """A rule for one attribute.

    `act` returns the new value, or None if it must be removed; then `lost` is the replacement. For
    a sequence, `place` is the number of the rules for its items. They are rewritten if it is
    `opened`.
    `withhold`: an instance that would lose this element is withheld, since its pixels would be read
    differently.
    """

    vrs: tuple[str, ...]
    action: Action | None
    replacement: Replacement
    level: int = 0
    descend: bool = False
    withhold: bool = False


@dataclass(frozen=True, slots=True)
class LevelRules:
    """The rules of the top level or of sequence items. Elements without a rule are removed."""

    rules: dict[int, AttributeRule]
    types: dict[int, str]

    @property
    def holds_codes(self) -> bool:
        """Whether the items are codes or contain code attributes (PS3.3 8.8)."""
        return CODE_MEANING in self.types

    @property
    def needs_other_attributes(self) -> bool:
        """Whether items require attributes besides the code, as the number of an agent."""
        return any(kind in ("1", "2") and tag not in CODE_MACRO for tag, kind in self.types.items())


class CompiledRules:
    """All levels of one SOP class under one profile. Each level is compiled on first use."""

    def __init__(self, profile: ConfidentialityProfile, iod: str) -> None:
        self._options = profile.options
        self._is_report = iod in {one.iod for one in tables.report_sop_classes().values()}
        self._dates: dict[str, Action] = {}
        self._uids = actions.keep_uids if RETAIN_UIDS in self._options else actions.map_uids
        for code in _DATE_ACTIONS.keys() & profile.options:
            self._dates = _DATE_ACTIONS[code]
        self._iod, levels = tables.iod(iod)
        self._levels = (IodLevel({}, {}), *(_renumber_level(level, 1) for level in levels))
        self._iod = _renumber_level(self._iod, 1)
        self._groups = {
            self._iod.item_levels[tag] for tag in _FUNCTIONAL_GROUPS & self._iod.item_levels.keys()
        }
        self._places: dict[int, LevelRules] = {}
        self._anywhere = self._compile_table_rules()
        self.top = self._compile_top_level()

    def level(self, number: int) -> LevelRules:
        place = self._places.get(number)
        if place is None:
            place = self._compile_level(self._levels[number])
            if number in self._groups:
                _withhold_unlisted(place)
            self._places[number] = place
        return place

    def _compile_table_rules(self) -> dict[int, AttributeRule]:
        """Rules of Table E.1-1 for attributes that the IOD does not list."""
        found: dict[int, AttributeRule] = {}
        for row in tables.confidentiality().values():
            rule = (
                None
                if _is_always_removed(row.tag)
                else self._compile_row(row, "", self._iod.item_levels.get(row.tag, 0))
            )
            if rule is not None:
                found[row.tag] = rule
        return found

    def _compile_top_level(self) -> LevelRules:
        extra, extra_levels = tables.iod("additions")
        behind = len(self._levels)
        self._levels = (*self._levels, *(_renumber_level(level, behind) for level in extra_levels))
        extra = _renumber_level(extra, behind)
        added = tables.reviewed("keep") - self._iod.types.keys()
        kinds = {**dict.fromkeys(added, "3"), **self._iod.types}
        inside = {
            **{tag: n for tag, n in extra.item_levels.items() if tag in added},
            **self._iod.item_levels,
        }
        top = self._compile_level(IodLevel(kinds, inside))
        _withhold_unlisted(top)
        return top

    def _compile_level(self, level: IodLevel) -> LevelRules:
        rules = dict(self._anywhere)
        for tag, kind in level.types.items():
            rules.pop(tag, None)
            rule = (
                None
                if _is_always_removed(tag)
                else self._compile_attribute(tag, kind, level.item_levels.get(tag, 0))
            )
            if rule is not None:
                rules[tag] = rule
        if CODE_MEANING in level.types:
            for tag in CODE_PARTS & level.types.keys():
                keeper = KEEP_ACTIONS[_vrs(tag)[0]]
                lost = Replacement.NOTHING
                if tag == CODING_SCHEME_VERSION:
                    keeper = safe_text.keep_scheme_version
                elif tag == CODE_MEANING:
                    keeper, lost = safe_text.vocabulary_action("LO"), Replacement.DUMMY
                rules[tag] = AttributeRule(_vrs(tag), keeper, lost)
        return LevelRules(rules, level.types)

    def _compile_attribute(self, tag: int, kind: str, level: int) -> AttributeRule | None:
        """The rule for an attribute of the IOD, or for a reviewed addition to it."""
        row = tables.confidentiality().get(tag)
        if row is not None:
            return self._compile_row(row, kind, level)
        if self._is_removed(tag):
            return None
        vrs, lost = _vrs(tag), _REPLACEMENT_BY_TYPE.get(kind, Replacement.NOTHING)
        # If a required number is invalid, the instance is withheld: no one may measure by a dummy.
        invented = lost is Replacement.DUMMY and vrs[0] in _NUMERIC_VRS
        withhold = invented or tag in tables.reviewed("withhold")
        if vrs == ("SQ",):
            return AttributeRule(vrs, None, lost, level, True, withhold)
        return AttributeRule(vrs, self._keep_action(tag, vrs[0]), lost, withhold=withhold)

    def _is_removed(self, tag: int) -> bool:
        if tag in tables.reviewed(PATIENT_CHARACTERISTICS):
            return PATIENT_CHARACTERISTICS not in self._options
        return tag in tables.reviewed("remove")

    def _keep_action(self, tag: int, vr: str) -> Action | None:
        """Free text stays if reviewed, dates as the profile says, bulk data if listed."""
        if tag in _ATTRIBUTE_ACTIONS:
            return _ATTRIBUTE_ACTIONS[tag]
        if tag in _KEPT_BULK_DATA:
            return actions.keep_bytes
        if tag in tables.reviewed("words") or (tag == TEXT_VALUE and self._is_report):
            return safe_text.vocabulary_action(vr)
        if vr in _TEXT_VRS and tag not in tables.safe_text_tags():
            return self._descriptor_action(vr)
        if vr == "UI":
            return self._uids
        if vr == "CS" and tag not in tables.reviewed("withhold"):
            return safe_text.keep_terms
        return self._dates.get(vr) or KEEP_ACTIONS.get(vr)

    def _compile_row(self, row: ConfidentialityRow, kind: str, level: int) -> AttributeRule | None:
        """The rule for a row of Table E.1-1 with the options of the profile."""
        vrs = tuple((row.vr or "UN").split("/"))
        lost = _replacement_by_row(row.basic, kind, vrs[0])
        if vrs == ("SQ",) and (
            self._is_retained(row) or self._is_cleaned(row) or "U*" in row.basic
        ):
            return AttributeRule(vrs, None, lost, level, True)
        act = self._row_action(row)
        return (
            None
            if act is None and lost is Replacement.NOTHING
            else AttributeRule(vrs, act, lost, level)
        )

    def _row_action(self, row: ConfidentialityRow) -> Action | None:
        if row.vr == "UI":
            return None if row.basic == "X" else self._uids
        if MODIFIED_DATES in row.options:
            # Device Identity would keep calibration dates, but one decision applies to all dates.
            return self._dates.get(row.vr) or (
                actions.keep_utc_offset if row.tag == TIMEZONE and self._dates else None
            )
        if row.options.get(CLEAN_DESCRIPTORS) == "C" and row.vr in _TEXT_VRS:
            if row.tag in tables.reviewed("remove"):
                return None
            return self._descriptor_action(row.vr)
        if not self._is_retained(row):
            return None
        if row.tag in tables.reviewed("words"):
            return safe_text.vocabulary_action(row.vr)
        return _ATTRIBUTE_ACTIONS.get(row.tag) or KEEP_ACTIONS.get(row.vr)

    def _descriptor_action(self, vr: str) -> Action | None:
        return safe_text.DESCRIPTOR_ACTIONS[vr] if CLEAN_DESCRIPTORS in self._options else None

    def _is_cleaned(self, row: ConfidentialityRow) -> bool:
        """Structured content keeps numbers and codes of listed schemes."""
        return CLEAN_STRUCTURE in self._options and row.options.get(CLEAN_STRUCTURE) == "C"

    def _is_retained(self, row: ConfidentialityRow) -> bool:
        return any(
            code in self._options and row.options.get(code) == "K" for code in _RETAIN_OPTIONS
        )


def _withhold_unlisted(level: LevelRules) -> None:
    """Withhold attributes that define how pixels are read and that the IOD does not list here."""
    for tag in tables.reviewed("withhold") - level.rules.keys():
        level.rules[tag] = AttributeRule(_vrs(tag), None, Replacement.NOTHING, withhold=True)


def _replacement_by_row(basic: str, kind: str, vr: str) -> Replacement:
    """R4. A plain X is literal: according to the table no IOD requires the attribute.

    A name that may be removed is removed even where the table requires a replacement (R5), and so
    is a sequence of which nothing is known.
    """
    if kind == "1C" and (vr == "PN" or (vr == "SQ" and "X" in basic)):
        return Replacement.NOTHING
    if basic == "X":
        return Replacement.DUMMY if kind == "1" else Replacement.NOTHING
    by_type = _REPLACEMENT_BY_TYPE.get(kind, Replacement.NOTHING)
    if basic == "D":
        return by_type if vr in ("PN", "SQ") else Replacement.DUMMY
    return Replacement.EMPTY if by_type is Replacement.NOTHING and "X" not in basic else by_type


def _renumber_level(level: IodLevel, by: int) -> IodLevel:
    return IodLevel(level.types, {tag: number + by for tag, number in level.item_levels.items()})


def _vrs(tag: int) -> tuple[str, ...]:
    return tuple(tables.dictionary().get(tag, "UN").split("/"))


def _is_always_removed(tag: int) -> bool:
    """R3, step 1: odd groups, curves, overlays, group lengths; also what is handled elsewhere."""
    group = tag >> 16
    of_repeats = group & 0xFF00 in (0x5000, 0x6000)
    if group & 1 or group in _REMOVED_GROUPS or of_repeats or tag in PIXEL_TAGS:
        return True
    return not tag & 0xFFFF or tag == CHARACTER_SET


@lru_cache(maxsize=256)
def compile_rules(profile: ConfidentialityProfile, iod: str) -> CompiledRules:
    return CompiledRules(profile, iod)
