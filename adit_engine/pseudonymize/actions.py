"""The actions of PS3.15 as functions: keep, replace, map UIDs, shift dates. Used by the rules.

An action takes the encoded value and the context of the instance. It returns the new value, or None
if the value must be removed. If it returns the same object, the value is unchanged.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta

from adit_engine.pseudonymize.charset import DEFAULT_CHARSET, Charset
from adit_engine.pseudonymize.keys import ProjectKey
from adit_engine.pseudonymize.tables import well_known_uids

_DECIMAL = re.compile(rb"[ ]*[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?[ ]*|[ ]*")
_INTEGER = re.compile(rb"[ ]*[+-]?[0-9]+[ ]*|[ ]*")
_UID = re.compile(rb"[0-9.]{0,64}")
_CODE_STRING = re.compile(rb"[A-Z0-9 _]{0,16}")
_DATE = re.compile(rb"[0-9]{8}")
_TIME = re.compile(rb"([01][0-9]|2[0-3])([0-5][0-9]([0-5][0-9]|60)?)?")
_FRACTION = re.compile(rb"\.[0-9]{1,6}")
_UTC_OFFSET = re.compile(rb"[+-](0[0-9]|1[0-4])[0-5][0-9]")
_AGE = re.compile(rb"([0-9]{3})([DWMY])")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f]")
_LINE_BREAKS = re.compile(r"[\t\n\x0c\r]")

_MAX_AGE = {b"D": 32850, b"W": 4696, b"M": 1080, b"Y": 90}
"""Ages above 90 years are written as 090Y, in any unit."""

_MAX_CHARACTERS = {"SH": 16, "LO": 64, "ST": 1024, "LT": 10240}


@dataclass(slots=True)
class ActionContext:
    """What the actions need to know about the current instance."""

    key: ProjectKey = field(repr=False)
    offset_days: int
    charset: Charset = DEFAULT_CHARSET
    patient_name_words: frozenset[bytes] = frozenset()
    """Words of the patient's name, in lower case."""


Action = Callable[[bytes, ActionContext], bytes | None]


def map_uids(value: bytes, context: ActionContext) -> bytes | None:
    """Map each UID with the key of the project; well-known UIDs (PS3.6 Annex A) stay."""
    known = well_known_uids()
    uids = [uid.strip(b"\0 ") for uid in value.split(b"\\")]
    return b"\\".join(
        uid if not uid or uid in known else context.key.uid(uid.decode("latin-1")).encode()
        for uid in uids
    )


def keep_uids(value: bytes, context: ActionContext) -> bytes | None:
    """Keep the value if all UIDs are valid (PS3.5 9.1), for option 113110."""
    clean = value.rstrip(b" \0")
    return value if all(_UID.fullmatch(uid.strip(b" \0")) for uid in clean.split(b"\\")) else None


def shift_dates(value: bytes, context: ActionContext) -> bytes | None:
    """Shift DA values. Remove partial dates and ranges, which would remain real."""
    shifted = [_shift_date(text.strip(b" \0"), context) for text in value.split(b"\\")]
    return None if None in shifted else b"\\".join(text or b"" for text in shifted)


def shift_datetimes(value: bytes, context: ActionContext) -> bytes | None:
    """Shift DT values. Time of day, fraction and UTC offset stay unchanged."""
    shifted = []
    for text in (part.strip(b" \0") for part in value.split(b"\\")):
        day, rest = _shift_date(text[:8], context), text[8:]
        if day is None or (rest and not _is_time_and_zone(rest)):
            return None
        shifted.append(day + rest)
    return b"\\".join(shifted)


def keep_dates(value: bytes, context: ActionContext) -> bytes | None:
    texts = [text.strip(b" \0") for text in value.split(b"\\")]
    return value if all(not text or _parse_date(text) for text in texts) else None


def keep_datetimes(value: bytes, context: ActionContext) -> bytes | None:
    for text in (part.strip(b" \0") for part in value.split(b"\\")):
        if text and (
            _parse_date(text[:8]) is None or (text[8:] and not _is_time_and_zone(text[8:]))
        ):
            return None
    return value


def keep_times(value: bytes, context: ActionContext) -> bytes | None:
    texts = [text.strip(b" \0") for text in value.split(b"\\")]
    return value if all(not text or _is_time(text) for text in texts) else None


def keep_utc_offset(value: bytes, context: ActionContext) -> bytes | None:
    return value if _UTC_OFFSET.fullmatch(value.strip(b" \0")) else None


def keep_age(value: bytes, context: ActionContext) -> bytes | None:
    found = _AGE.fullmatch(value.strip(b" \0"))
    if found is None:
        return None
    return b"090Y" if int(found[1]) > _MAX_AGE[found[2]] else found[0]


def text_action(vr: str) -> Action:
    return lambda value, work: _keep_text(value, work, vr)


def keep_decimals(value: bytes, context: ActionContext) -> bytes | None:
    return _keep_matching(_DECIMAL, value)


def keep_integers(value: bytes, context: ActionContext) -> bytes | None:
    return _keep_matching(_INTEGER, value)


def keep_codes(value: bytes, context: ActionContext) -> bytes | None:
    """Keep CS values: capitals, digits, space and underscore, at most 16 (PS3.5 6.2)."""
    texts = value.rstrip(b"\0 ").split(b"\\")
    return value if all(_CODE_STRING.fullmatch(text.strip(b" ")) for text in texts) else None


def keep_leading_codes(value: bytes, context: ActionContext) -> bytes | None:
    """Keep values of Image Type before the first invalid CS, if two or more are valid."""
    legal: list[bytes] = []
    for text in value.rstrip(b"\0 ").split(b"\\"):
        if not _CODE_STRING.fullmatch(text.strip(b" ")):
            return b"\\".join(legal) if len(legal) > 1 else None
        legal.append(text)
    return value


def keep_bytes(value: bytes, context: ActionContext) -> bytes | None:
    return value


def binary_action(size: int) -> Action:
    return lambda value, work: value if len(value) % size == 0 else None


_BYTES_PER_VALUE = {"US": 2, "SS": 2, "UL": 4, "SL": 4, "FL": 4, "FD": 8, "SV": 8, "UV": 8, "AT": 4}


def value_multiplicity(vr: str, value: bytes) -> int:
    """Return the number of values (VM, PS3.5 6.4)."""
    size = _BYTES_PER_VALUE.get(vr)
    if size is not None:
        return len(value) // size
    return value.count(b"\\") + 1 if value.strip(b" \0") else 0


KEEP_ACTIONS: dict[str, Action] = {
    "DS": keep_decimals,
    "IS": keep_integers,
    "CS": keep_codes,
    "UI": map_uids,
    **{vr: binary_action(size) for vr, size in _BYTES_PER_VALUE.items()},
    **{vr: text_action(vr) for vr in ("SH", "LO", "ST", "LT", "UT", "UC")},
}
"""Checks for values that may stay, by VR. A value that is invalid for its VR is removed."""

DUMMY_VALUES: dict[str, bytes] = {
    "AE": b"ADIT",
    "AS": b"000Y",
    "AT": b"\0\0\0\0",
    "CS": b"UNKNOWN ",
    "DA": b"19000101",
    "DS": b"0 ",
    "DT": b"19000101000000",
    "FD": bytes(8),
    "FL": bytes(4),
    "IS": b"0 ",
    "LO": b"REMOVED ",
    "LT": b"REMOVED ",
    "OB": b"\0\0",
    "OD": bytes(8),
    "OF": bytes(4),
    "OL": bytes(4),
    "OV": bytes(8),
    "OW": b"\0\0",
    "PN": b"REMOVED ",
    "SH": b"REMOVED ",
    "SL": bytes(4),
    "SS": b"\0\0",
    "ST": b"REMOVED ",
    "SV": bytes(8),
    "TM": b"000000",
    "UC": b"REMOVED ",
    "UI": b"2.25.0",
    "UL": bytes(4),
    "UN": b"\0\0",
    "UR": b"urn:removed ",
    "US": b"\0\0",
    "UT": b"REMOVED ",
    "UV": bytes(8),
}
"""Replacement where a value is required and the real one must be removed, by VR."""


def age_from_dates(birth: bytes, on: bytes) -> bytes | None:
    """Return the AS value for two DA values, at most 090Y, or None if one is invalid."""
    born, then = _parse_date(birth.strip(b" \0")), _parse_date(on.strip(b" \0"))
    if born is None or then is None or then < born:
        return None
    years = then.year - born.year - ((then.month, then.day) < (born.month, born.day))
    months = (then.year - born.year) * 12 + then.month - born.month - (then.day < born.day)
    if years >= 2:
        return b"%03dY" % min(years, 90)
    return b"%03dM" % months if months >= 1 else b"%03dD" % (then - born).days


def _keep_matching(pattern: re.Pattern[bytes], value: bytes) -> bytes | None:
    clean = value.rstrip(b"\0")
    for text in clean.split(b"\\"):
        if not pattern.fullmatch(text):
            return None
    return value if len(clean) == len(value) else clean


def _keep_text(value: bytes, context: ActionContext, vr: str) -> bytes | None:
    """Return text in UTF-8; None if it is undecodable, too long or has control characters."""
    clean = value.rstrip(b"\0 ")
    text = context.charset.decode(clean)
    if text is None or _CONTROL.search(text):
        return None
    longest = _MAX_CHARACTERS.get(vr)
    if vr in ("SH", "LO", "UC"):
        if _LINE_BREAKS.search(text):
            return None
        if longest is not None and any(len(part.strip()) > longest for part in text.split("\\")):
            return None
    elif longest is not None and len(text) > longest:
        return None
    encoded = text.encode()
    return value if encoded == clean and b"\0" not in value else encoded


def _parse_date(text: bytes) -> date | None:
    if not _DATE.fullmatch(text):
        return None
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:8]))
    except ValueError:
        return None


def _shift_date(text: bytes, context: ActionContext) -> bytes | None:
    if not text:
        return b""
    day = _parse_date(text)
    if day is None:
        return None
    try:
        return (
            (day + timedelta(days=context.offset_days)).strftime("%Y%m%d").encode().rjust(8, b"0")
        )
    except OverflowError:
        return None


def _is_time(text: bytes) -> bool:
    whole, point, fraction = text.partition(b".")
    if not _TIME.fullmatch(whole):
        return False
    return not point or (len(whole) == 6 and bool(_FRACTION.fullmatch(point + fraction)))


def _is_time_and_zone(text: bytes) -> bool:
    if text[-5:-4] in (b"+", b"-"):
        return bool(_UTC_OFFSET.fullmatch(text[-5:])) and (len(text) == 5 or _is_time(text[:-5]))
    return _is_time(text)
