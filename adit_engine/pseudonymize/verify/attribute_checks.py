"""Check each element of the output against the profile's options. Used by the verifier."""

from collections.abc import Iterable
from datetime import date

from adit_engine.errors import InstanceWithheld
from adit_engine.pseudonymize.verify.forbidden_elements import (
    FORBIDDEN_GROUPS,
    SAFE_PRIVATE_BY_CREATOR,
    always_empty,
)
from adit_engine.pseudonymize.verify.identifiers import OriginalIdentifiers, find_uids
from adit_engine.pseudonymize.verify.patterns import BIRTH, DATE, parse_dates
from adit_engine.pseudonymize.verify.pixels import PIXEL_MODULE_TAGS
from adit_engine.pseudonymize.verify.reader import ITEM, DatasetContent, Region
from adit_engine.pseudonymize.verify.search import WELL_KNOWN_UIDS, element_error, leak_error

SOP_CLASS_UID, SOP_INSTANCE_UID, STUDY_UID, SERIES_UID = (
    0x00080016,
    0x00080018,
    0x0020000D,
    0x0020000E,
)
CHARSET, PATIENT_NAME, PATIENT_ID = 0x00080005, 0x00100010, 0x00100020
SUBJECT_ID, IDENTITY_REMOVED, DEID_METHOD, DEID_METHOD_CODES = (
    0x00120040,
    0x00120062,
    0x00120063,
    0x00120064,
)
TEMPORAL_INFORMATION, BURNED_IN_ANNOTATION, CONVERSION_TYPE = 0x00280303, 0x00280301, 0x00080064
DEVICE_TAGS = frozenset({0x00080070, 0x00081090, 0x00181020})
"""Manufacturer, model and software, by which pixel rules identify a device."""
CLINICAL_TRIAL_FIELDS = {
    0x00120010: "sponsor",
    0x00120020: "protocol_id",
    0x00120021: "protocol_name",
    0x00120030: "site_id",
    0x00120031: "site_name",
}
VISIT_FIELDS = {0x00120050: "id", 0x00120051: "description"}
_OWN_TAGS = frozenset(CLINICAL_TRIAL_FIELDS) | {
    *VISIT_FIELDS,
    SUBJECT_ID,
    IDENTITY_REMOVED,
    DEID_METHOD,
    DEID_METHOD_CODES,
}
_DEID_TAGS = frozenset({IDENTITY_REMOVED, DEID_METHOD, DEID_METHOD_CODES, TEMPORAL_INFORMATION})
_DATE_TAGS = (0x00080020, 0x00080021, 0x00080022, 0x00080023)
TOP_LEVEL_TAGS = (
    frozenset(
        {SOP_CLASS_UID, SOP_INSTANCE_UID, STUDY_UID, SERIES_UID, CHARSET, PATIENT_NAME, PATIENT_ID}
    )
    | {TEMPORAL_INFORMATION, *_OWN_TAGS, *_DATE_TAGS}
    | {BURNED_IN_ANNOTATION, CONVERSION_TYPE, *DEVICE_TAGS}
    | PIXEL_MODULE_TAGS
)
"""The top-level attributes that are compared, in the original and in the output."""

_CODE_VALUE, _CODE_SCHEME, _DEVICE_UID = 0x00080100, 0x00080102, 0x00181002
_CHECKED_VRS = frozenset(b"AS DA DT PN UI".split())
_ALWAYS_EMPTY = always_empty()
_DUMMY_VALUES = frozenset({b"REMOVED", b"19000101", b"19000101000000", b"000000"})
"""Allowed values where an IOD requires a value and the table removes it."""
_LONGEST_SHIFT_DAYS, _SHORTEST_SHIFT_DAYS = -3650, -30

# The option codes of PS3.15 Table E.1-1.
CLEAN_PIXELS, CLEAN_GRAPHICS = "113101", "113103"
FULL_DATES, MODIFIED_DATES, PATIENT_CHARACTERISTICS = "113106", "113107", "113108"
DEVICE_IDENTITY, RETAIN_UIDS, RETAIN_SAFE_PRIVATE, INSTITUTION_IDENTITY = (
    "113109",
    "113110",
    "113111",
    "113112",
)


class OutputAttributes:
    """The elements of the output, checked against the rules of the profile."""

    def __init__(
        self,
        options: frozenset[str],
        pseudonym: bytes,
        found: OriginalIdentifiers,
        content: DatasetContent,
    ) -> None:
        self.top_level: dict[int, bytes] = {}
        self.codes: set[str] = set()
        self._options = options
        self._pseudonym = pseudonym
        self._found = found
        self._content = content
        self._checked_uids: set[bytes] = set()

    def text(self, tag: int) -> bytes:
        """Return a top-level value without padding; empty if absent."""
        return self.top_level.get(tag, b"").strip(b" \0")

    def check(self, empty: frozenset[int], differ: frozenset[int]) -> None:
        """Check all elements. Raises InstanceWithheld for one that the rules do not allow."""
        for region in self._content.regions:
            self._check_region(region, empty, differ)
            self._check_codes(region)
            if RETAIN_SAFE_PRIVATE in self._options:
                _check_private_creators(region)
        self._check_uid_texts()

    def _check_region(self, region: Region, empty: frozenset[int], differ: frozenset[int]) -> None:
        data, checked = region.data, -1
        for tag, vr, start, end, depth in region.elements:
            if tag >> 16 != checked:
                checked = tag >> 16
                self._check_group(tag, depth)
            if not tag & 0xFFFF and tag != ITEM:
                raise element_error("verify-group.length", tag)
            if start == end:
                continue
            if depth and tag in _DEID_TAGS:
                raise element_error("verify-stamp.nested", tag)
            if tag in empty and (depth or tag not in VISIT_FIELDS):
                value = data[start:end].strip(b" \0")
                stands_in = value in _DUMMY_VALUES and tag not in _ALWAYS_EMPTY
                if vr == b"SQ" or (value and not stands_in):
                    raise element_error("verify-element.not-removed", tag)
            elif tag in TOP_LEVEL_TAGS and not depth:
                if tag in self.top_level:
                    raise element_error("verify-element.duplicate", tag)
                self.top_level[tag] = data[start:end]
            if vr in _CHECKED_VRS or tag == PATIENT_ID:
                self._check_value(tag, vr, data[start:end].strip(b" \0"))
            if tag in differ:
                self._check_differs(tag, data[start:end])

    def _check_group(self, tag: int, depth: int) -> None:
        group = tag >> 16
        if group & 1 and RETAIN_SAFE_PRIVATE not in self._options:
            raise element_error("verify-private.not-removed", tag)
        if group in FORBIDDEN_GROUPS or group & 0xFF00 == 0x5000:
            raise element_error("verify-group.forbidden", tag)
        if group & 0xFF00 == 0x6000 and CLEAN_GRAPHICS not in self._options:
            raise element_error("verify-group.overlay", tag)
        if group == 0x7FE0 and depth:
            raise element_error("verify-element.nested-pixels", tag)

    def _check_value(self, tag: int, vr: bytes, value: bytes) -> None:
        if vr == b"UI":
            self._check_uids(tag, value)
        elif vr == b"PN":
            dummy = b"REMOVED" if tag != PATIENT_NAME else b""
            if value.rstrip(b"^= ") not in (b"", self._pseudonym, dummy):
                raise element_error("verify-person.not-pseudonym", tag)
        elif vr == b"AS":
            self._check_age(tag, value)
        elif tag == PATIENT_ID and value != self._pseudonym:
            raise element_error("verify-id.not-pseudonym", tag)
        elif vr in (b"DA", b"DT"):
            self._check_date(tag, value)

    def _check_uids(self, tag: int, value: bytes) -> None:
        if RETAIN_UIDS in self._options or (
            tag == _DEVICE_UID and DEVICE_IDENTITY in self._options
        ):
            return
        for uid in (uid.strip(b" \0") for uid in value.split(b"\\")):
            if not uid or uid in WELL_KNOWN_UIDS or uid in self._checked_uids:
                continue
            if uid in self._found.uids:
                raise element_error("verify-uid.original", tag)
            if not uid.startswith(b"2.25."):
                raise element_error("verify-uid.foreign", tag)
            self._checked_uids.add(uid)

    def _check_uid_texts(self) -> None:
        """Find original UIDs in elements of other VRs, or with appended text."""
        if RETAIN_UIDS in self._options:
            return
        kept = frozenset[bytes]()
        for region in self._content.regions:
            for run in find_uids(region.data):
                if run in WELL_KNOWN_UIDS or run in self._checked_uids:
                    continue
                if not kept:
                    kept = frozenset(self._found.uids) - WELL_KNOWN_UIDS - self._device_uids()
                if not kept.isdisjoint(_uid_prefixes(run)):
                    raise InstanceWithheld("verify-uid.original-in-text")

    def _device_uids(self) -> frozenset[bytes]:
        if DEVICE_IDENTITY not in self._options:
            return frozenset()
        return frozenset(
            region.data[start:end].strip(b" \0")
            for region in self._content.regions
            for tag, _, start, end, _ in region.elements
            if tag == _DEVICE_UID
        )

    def _check_age(self, tag: int, value: bytes) -> None:
        if PATIENT_CHARACTERISTICS not in self._options and value != b"000Y":
            raise element_error("verify-element.age", tag)
        if value.endswith(b"Y") and value[:-1].isdigit() and int(value[:-1]) > 90:
            raise element_error("verify-age.above-90", tag)

    def _check_date(self, tag: int, value: bytes) -> None:
        found = self._found
        dates = parse_dates(value)
        if FULL_DATES in self._options:
            if any(day in found.birth_dates and day not in found.dates for day in dates):
                raise leak_error(BIRTH, tag)
            return
        if value and not dates:
            raise element_error("verify-date.not-shifted", tag)
        original = found.dates | found.birth_dates
        if not original.isdisjoint(dates) and not set(dates) <= self._shift_dates(original):
            raise leak_error(DATE, tag)

    def _shift_dates(self, original: Iterable[bytes]) -> set[bytes]:
        """Apply the shift of the main dates to the original dates. Never returns the originals.

        A date that is shifted onto another original date is no leak, and is unavoidable for some
        patients.
        """
        if MODIFIED_DATES not in self._options:
            return set()
        shifts = {
            _parse_date(after) - _parse_date(before)
            for tag in _DATE_TAGS
            if (before := self._found.top_level.get(tag, b"").strip(b" \0"))
            and (after := self._main_date(tag))
        }
        if len(shifts) != 1:
            return set()
        (shift,) = shifts
        if not _LONGEST_SHIFT_DAYS <= shift.days <= _SHORTEST_SHIFT_DAYS:
            return set()
        return {f"{_parse_date(day) + shift:%Y%m%d}".encode() for day in original if _is_date(day)}

    def _main_date(self, tag: int) -> bytes:
        for region in self._content.regions:
            for other, _, start, end, depth in region.elements:
                if other == tag and not depth:
                    return region.data[start:end].strip(b" \0")
        return b""

    def _check_differs(self, tag: int, value: bytes) -> None:
        word = value.strip(b" \0").lower()
        if tag in _OWN_TAGS and word in (self.text(tag).lower(), self._pseudonym.lower()):
            return  # a clinical trial attribute, compared elsewhere
        if word in self._found.values_by_tag.get(tag, ()) and word not in _COMMON_VALUES:
            raise element_error("verify-element.not-replaced", tag)

    def _check_codes(self, region: Region) -> None:
        inside = False
        for tag, _, start, end, depth in region.elements:
            if not depth:
                inside = tag == DEID_METHOD_CODES
            elif inside and depth == 1 and tag == _CODE_VALUE:
                self.codes.add(region.data[start:end].strip(b" \0").decode("ascii"))
            elif inside and tag == _CODE_SCHEME and region.data[start:end].strip(b" \0") != b"DCM":
                raise InstanceWithheld("verify-stamp.code-scheme")


_COMMON_VALUES = frozenset(
    b"""
    unknown anonymous anonymized removed dummy none 0 1 n/a na other no yes deidentified
    de-identified 00 0000 000000 000000.0 000000.000000 120000
    """.split()
) | {b""}


def _is_date(value: bytes) -> bool:
    try:
        _parse_date(value)
    except ValueError:
        return False
    return True


def _parse_date(value: bytes) -> date:
    if len(value) != 8:
        raise ValueError
    return date(int(value[:4]), int(value[4:6]), int(value[6:]))


def _uid_prefixes(run: bytes) -> set[bytes]:
    """The run, without a last digit that may belong to the next element, and its long prefixes."""
    found = {run, run[:-1]}
    at = run.find(b".", 20)
    while at > 0:
        found.add(run[:at])
        at = run.find(b".", at + 1)
    return found


def _check_private_creators(region: Region) -> None:
    """Private elements must be of creators and numbers listed as safe in PS3.15 E.3.10."""
    creators: dict[tuple[int, int], bytes] = {}
    for tag, _, start, end, depth in region.elements:
        if tag == ITEM:
            creators = {key: name for key, name in creators.items() if key[0] < depth}
        if not tag & 0x10000:
            continue
        group, element = tag >> 16, tag & 0xFFFF
        if 0x10 <= element <= 0xFF:
            creators[depth, group << 8 | element] = region.data[start:end].strip(b" \0")
            continue
        creator = creators.get((depth, group << 8 | element >> 8), b"")
        if f"{group:04X}{element & 0xFF:02X}" not in SAFE_PRIVATE_BY_CREATOR.get(creator, ()):
            raise element_error("verify-private.not-safe", tag)
