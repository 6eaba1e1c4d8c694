"""Query parameters and Accept headers of the DICOMweb API (PS3.18 8.3, 8.7)."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

from django.http import HttpRequest, QueryDict

from adit.dicomweb.errors import InvalidParameter, NotAcceptable
from adit_engine.errors import InvalidInput
from adit_engine.messages import Message
from adit_engine.nodes.dicomweb.multipart import DICOM_MEDIA_TYPE, media_type, read_parameter
from adit_engine.values.attributes import find_by_keyword, find_by_tag
from adit_engine.values.instance import EXPLICIT_LE, IMPLICIT_LE
from adit_engine.values.query import RETURN_KEYS, DateRange, Query
from adit_engine.values.references import QueryLevel, validate_uid

ZIP_MEDIA_TYPE = "application/zip"
OCTETS_MEDIA_TYPE = "application/octet-stream"
MULTIPART_MEDIA_TYPE = "multipart/related"
PICTURE_MEDIA_TYPES = ("image/jpeg", "image/png", "image/gif")
"""The default comes first (PS3.18 Table 8.7.4-1)."""
JSON_MEDIA_TYPES = ("application/dicom+json", "application/json")
MAX_LIMIT = 5000
DATE_LENGTH = 8
NEGOTIATION_PARAMETERS = ("accept", "charset")
"""What replaces header fields in links (PS3.18 8.3.3)."""

STUDY_KEYS = frozenset(
    {*RETURN_KEYS[QueryLevel.STUDY], "ReferringPhysicianName", "InstitutionName"}
)
"""Keys by which studies are found when a search for series names no study."""
SERIES_KEYS = frozenset(RETURN_KEYS[QueryLevel.SERIES])
"""Keys by which series are found when a search for instances names no series."""

_UNSEARCHED_VRS = frozenset({"SQ", "OB", "OD", "OF", "OL", "OV", "OW", "UN"})
_SHOWN_OF_PATIENT = frozenset({"PatientID", "PatientSex", "IssuerOfPatientID"})
_PATIENT_GROUP = 0x0010
_BROAD_KEYS = frozenset({"ModalitiesInStudy", "Modality"})


# QIDO-RS -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SearchParameters:
    """A search, and which part of its result is wanted. `is_broad`: no key narrows it."""

    query: Query = field(repr=False)
    limit: int | None
    offset: int
    warnings: tuple[Message, ...]
    is_broad: bool


def read_search(
    request: HttpRequest, level: QueryLevel, fixed: dict[str, str], *, sees_identified: bool
) -> SearchParameters:
    """Return the search of a request. `fixed` are the UIDs in its address.

    Raise InvalidParameter.
    """
    keys: dict[str, str | tuple[str, ...]] = {}
    included: list[str] = []
    limit, offset = None, 0
    is_fuzzy = False
    ignored: list[str] = []
    dates: DateRange | None = None
    for name, values in request.GET.lists():
        if any("\ufffd" in value for value in values):  # Django's mark for bytes that are not UTF-8
            raise InvalidParameter(name, "dicomweb.not-utf-8", parameter=name)
        if name in NEGOTIATION_PARAMETERS:
            continue
        if name == "limit":
            limit = _read_number(name, values, most=MAX_LIMIT)
        elif name == "offset":
            offset = _read_number(name, values, most=None)
        elif name == "fuzzymatching":
            is_fuzzy = _read_truth(name, values[-1])
        elif name == "includefield":
            included += [part for value in values for part in value.split(",") if part]
        elif (keyword := _find_keyword(name)) is None:
            ignored.append(name)
        else:
            if values[-1] and not sees_identified and is_hidden(keyword):
                raise InvalidParameter(name, "dicomweb.hidden-key", parameter=name)
            if keyword == "StudyDate":
                dates = _read_dates(name, values[-1])
            elif value := _read_key(name, keyword, values):
                keys[keyword] = value
    is_broad = dates is None and not fixed and not _narrows(keys, level)
    only, unknown = _read_included(level, included)
    try:
        query = Query(level, {**keys, **fixed}, dates, only, wildcards=True)
    except InvalidInput as error:
        name = str(error.message.values.get("keyword", "query"))
        raise InvalidParameter(name, error.message.code, **error.message.values) from None
    notes = [Message("dicomweb.unknown-parameter", parameter=name) for name in ignored]
    notes += [Message("dicomweb.unknown-field", field=name) for name in unknown]
    if is_fuzzy:
        notes.append(Message("dicomweb.no-fuzzy-matching"))
    return SearchParameters(query, limit, offset, tuple(notes), is_broad)


def is_hidden(keyword: str) -> bool:
    """Return whether only users see the attribute who may see identified data."""
    known = find_by_keyword(keyword)
    if known is None:
        return True
    tag, vr = known
    return vr == "PN" or (tag >> 16 == _PATIENT_GROUP and keyword not in _SHOWN_OF_PATIENT)


def _find_keyword(name: str) -> str | None:
    """Return the keyword of an attribute that can be searched, given as keyword or tag number."""
    if re.fullmatch(r"[0-9A-Fa-f]{8}", name):
        keyword, vr = find_by_tag(int(name, 16))
        return keyword if keyword and vr not in _UNSEARCHED_VRS else None
    known = find_by_keyword(name) if name.isascii() and name.isalpha() else None
    return name if known is not None and known[1] not in _UNSEARCHED_VRS else None


def _read_key(name: str, keyword: str, values: list[str]) -> str | tuple[str, ...]:
    """Return the value to match; a list of UIDs or modalities is separated by commas."""
    if keyword.endswith("UID") or keyword in _BROAD_KEYS:
        parts = [part for value in values for part in value.replace("\\", ",").split(",") if part]
        parts = list(dict.fromkeys(parts))
        if keyword.endswith("UID"):
            parts = [_check_uid(name, part) for part in parts]
        return tuple(parts) if len(parts) > 1 else "".join(parts)
    return values[-1]


def _check_uid(name: str, text: str) -> str:
    try:
        return validate_uid(text)
    except InvalidInput as error:
        raise InvalidParameter(name, error.message.code) from None


def _read_dates(name: str, text: str) -> DateRange | None:
    """Return the dates of 20260101, 20260101-20260131, 20260101- or -20260131."""
    if not text:
        return None
    first, dash, last = text.partition("-")
    begin, end = _read_date(name, first), _read_date(name, last)
    try:
        return DateRange(begin, end if dash else begin)
    except InvalidInput as error:
        raise InvalidParameter(name, error.message.code, **error.message.values) from None


def _read_date(name: str, text: str) -> date | None:
    text = text.strip()
    if not text:
        return None
    try:
        if len(text) != DATE_LENGTH:  # strptime accepts days and months of one digit
            raise ValueError
        return datetime.strptime(text, "%Y%m%d").date()  # noqa: DTZ007
    except ValueError:
        raise InvalidParameter(name, "dicomweb.not-a-date", parameter=name) from None


def _read_number(name: str, values: list[str], *, most: int | None) -> int:
    text = values[-1]
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise InvalidParameter(name, "dicomweb.not-a-number", parameter=name)
    return int(text) if most is None else min(int(text), most)


def _read_truth(name: str, text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise InvalidParameter(name, "dicomweb.not-true-or-false", parameter=name)
    return text.lower() == "true"


def _narrows(keys: dict[str, str | tuple[str, ...]], level: QueryLevel) -> bool:
    """Return whether the keys limit the studies that have to be searched."""

    def is_narrow(value: str | tuple[str, ...]) -> bool:
        parts = (value,) if isinstance(value, str) else value
        return any(part.strip("*? ") for part in parts)

    narrowing = keys.keys() - _BROAD_KEYS
    if level is not QueryLevel.STUDY:
        narrowing &= STUDY_KEYS
    return any(is_narrow(keys[keyword]) for keyword in narrowing)


def _read_included(
    level: QueryLevel, included: Iterable[str]
) -> tuple[tuple[str, ...] | None, list[str]]:
    """Return the attributes to ask for besides the keys, and the names that are unknown."""
    found, unknown = [], []
    for name in dict.fromkeys(included):
        keyword = _find_keyword(name)
        if keyword is not None:
            found.append(keyword)
        elif name != "all":
            unknown.append(name)
    if not found:
        return None, unknown
    return tuple(dict.fromkeys([*RETURN_KEYS[level], *found])), unknown


# WADO-RS -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RequestedPseudonym:
    """What a request says about how the images are to be pseudonymized; all may be empty."""

    pseudonym: str = field(default="", repr=False)
    protocol_id: str = ""
    protocol_name: str = ""


_RETRIEVE_PARAMETERS = ("pseudonym", "trial_protocol_id", "trial_protocol_name")


def read_pseudonymization(values: QueryDict) -> RequestedPseudonym | None:
    """Return None if identified data are asked for. Raise InvalidParameter for anything unknown.

    A mistyped parameter must not yield identified data.
    """
    found: dict[str, str] = {}
    for name, given in values.lists():
        if name in NEGOTIATION_PARAMETERS:
            continue
        if name not in _RETRIEVE_PARAMETERS:
            raise InvalidParameter(name, "dicomweb.unknown-parameter", parameter=name)
        if len(given) > 1 or not given[0].strip():
            raise InvalidParameter(name, "dicomweb.one-value", parameter=name)
        found[name] = given[0].strip()
    if not found:
        return None
    return RequestedPseudonym(*(found.get(name, "") for name in _RETRIEVE_PARAMETERS))


# Media types -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AcceptedType:
    """An entry of the header Accept. An empty syntax: any."""

    media_type: str
    part_type: str
    """What the parts are, if it is multipart."""
    syntax: str
    quality: float


@dataclass(frozen=True, slots=True)
class AcceptedForm:
    """A form of the answer. `syntaxes`: the accepted transfer syntaxes; None: as stored."""

    media_type: str
    syntaxes: tuple[str, ...] | None = None
    part_type: str = ""


_FRAME_SYNTAXES = {
    "image/jpeg": tuple(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70)),
    "image/dicom-rle": ("1.2.840.10008.1.2.5",),
    "image/x-dicom-rle": ("1.2.840.10008.1.2.5",),
    "image/jls": ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"),
    "image/x-jls": ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"),
    "image/jp2": ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"),
    "image/jpx": ("1.2.840.10008.1.2.4.92", "1.2.840.10008.1.2.4.93"),
    "image/jphc": tuple(f"1.2.840.10008.1.2.4.{number}" for number in (201, 202, 203)),
}
"""The transfer syntaxes of compressed frames by media type (PS3.18 Table 8.7.3-5)."""


def read_accepted(request: HttpRequest) -> list[AcceptedType]:
    """Return what the client accepts, the preferred entries first (PS3.18 8.7.5).

    The parameter `accept` replaces the header. Raise InvalidParameter for a wrong charset.
    """
    for charset in request.GET.getlist("charset"):
        if charset.partition(";")[0].strip().lower() not in ("utf-8", "utf8"):
            raise InvalidParameter("charset", "dicomweb.not-utf-8", parameter="charset")
    text = ",".join(request.GET.getlist("accept")) or request.headers.get("Accept", "")
    entries = [_read_entry(entry) for entry in _split_header(text) or ["*/*"]]
    return sorted(entries, key=lambda one: -one.quality)


def _read_entry(text: str) -> AcceptedType:
    syntax = read_parameter(text, "transfer-syntax")
    return AcceptedType(
        media_type(text),
        read_parameter(text, "type").lower(),
        "" if syntax == "*" else syntax,
        _read_quality(read_parameter(text, "q")),
    )


def _read_quality(text: str) -> float:
    """Return the weight of an entry (RFC 9110 12.4.2). An invalid one is that of no preference."""
    return float(text) if re.fullmatch(r"0(\.\d{0,3})?|1(\.0{0,3})?", text) else 1.0


def choose_form(request: HttpRequest, *, is_instance: bool) -> AcceptedForm:
    """Return the preferred form of images. Raise NotAcceptable."""
    return _merge(_find_image_forms(request, is_instance), "dicomweb.not-acceptable")


def _find_image_forms(request: HttpRequest, is_instance: bool) -> Iterable[AcceptedForm]:
    for entry in read_accepted(request):
        if entry.quality == 0:
            continue
        syntaxes = (entry.syntax,) if entry.syntax else None
        kind = entry.media_type
        if kind in ("*/*", "multipart/*", MULTIPART_MEDIA_TYPE):
            if entry.part_type in ("", DICOM_MEDIA_TYPE, "*/*", "application/*"):
                yield AcceptedForm(MULTIPART_MEDIA_TYPE, syntaxes)
        elif kind in (DICOM_MEDIA_TYPE, "application/*"):
            yield AcceptedForm(DICOM_MEDIA_TYPE if is_instance else MULTIPART_MEDIA_TYPE, syntaxes)
        elif kind == ZIP_MEDIA_TYPE and not is_instance:
            yield AcceptedForm(ZIP_MEDIA_TYPE, syntaxes)


def _merge(forms: Iterable[AcceptedForm], refusal: str) -> AcceptedForm:
    """Return the first form with the transfer syntaxes of all entries for it.

    As stored, if one of them allows any: then nothing has to be converted.
    """
    found = list(forms)
    if not found:
        raise NotAcceptable(refusal)
    kind = found[0].media_type
    return AcceptedForm(kind, merge_syntaxes([one for one in found if one.media_type == kind]))


def merge_syntaxes(forms: Sequence[AcceptedForm]) -> tuple[str, ...] | None:
    """Return the transfer syntaxes of all forms; None if one of them allows any."""
    found: list[str] = []
    for form in forms:
        if form.syntaxes is None:
            return None
        found += form.syntaxes
    return tuple(dict.fromkeys(found))


def find_frame_forms(request: HttpRequest, *, is_single: bool) -> list[AcceptedForm]:
    """Return the acceptable forms of frames, the preferred ones first. Raise NotAcceptable.

    Compressed frames are also offered under their own media type. Without parts only if it is one.
    """
    found: list[AcceptedForm] = []
    for entry in read_accepted(request):
        kind, part = entry.media_type, entry.part_type
        is_multipart = kind in ("*/*", "multipart/*", MULTIPART_MEDIA_TYPE)
        if entry.quality == 0 or not (is_multipart or is_single):
            continue
        form = MULTIPART_MEDIA_TYPE if is_multipart else ""
        wanted = (part or OCTETS_MEDIA_TYPE) if is_multipart else kind
        if wanted in (OCTETS_MEDIA_TYPE, "*/*", "application/*"):
            # Frames contain no VR, so that both little endian syntaxes are the same.
            syntax = EXPLICIT_LE if entry.syntax == IMPLICIT_LE else entry.syntax
            syntaxes = (syntax,) if syntax else None
            found.append(AcceptedForm(form or OCTETS_MEDIA_TYPE, syntaxes, OCTETS_MEDIA_TYPE))
        for name, known in _FRAME_SYNTAXES.items():
            if wanted in (name, "image/*"):
                given = tuple(one for one in known if entry.syntax in ("", one))
                found.append(AcceptedForm(form or name, given, name))
    if not found:
        raise NotAcceptable("dicomweb.only-octets")
    return found


def choose_octets(request: HttpRequest) -> AcceptedForm:
    """Return the acceptable form of bulk data. Raise NotAcceptable."""
    forms = find_frame_forms(request, is_single=True)
    octets = (form for form in forms if form.part_type == OCTETS_MEDIA_TYPE)
    return _merge(octets, "dicomweb.only-octets")


def choose_picture(request: HttpRequest, *, is_single: bool = True) -> AcceptedForm:
    """Return the preferred form of pictures. Raise NotAcceptable.

    Several are the parts of a multipart answer, or the frames of a GIF picture.
    """
    entries = read_accepted(request)
    best: tuple[float, int, AcceptedForm] | None = None
    for form in _PICTURE_FORMS:
        if not is_single and form.media_type in ("image/jpeg", "image/png"):
            continue
        matching = [
            (_matches_picture(entry, form), entry.quality, -number)
            for number, entry in enumerate(entries)
        ]
        specific, quality, place = max(matching)
        if specific and quality and (best is None or (quality, place) > best[:2]):
            best = (quality, place, form)
    if best is None:
        raise NotAcceptable("dicomweb.only-pictures")
    return best[2]


_PICTURE_FORMS = (
    *(AcceptedForm(kind, part_type=kind) for kind in PICTURE_MEDIA_TYPES),
    *(AcceptedForm(MULTIPART_MEDIA_TYPE, part_type=kind) for kind in PICTURE_MEDIA_TYPES),
)


def _matches_picture(entry: AcceptedType, form: AcceptedForm) -> int:
    """Return how specifically the entry names the form; 0: not at all."""
    if form.media_type != MULTIPART_MEDIA_TYPE:
        return _match_range(entry.media_type, form.media_type)
    outer = _match_range(entry.media_type, MULTIPART_MEDIA_TYPE)
    return outer and _match_range(entry.part_type or "*/*", form.part_type)


def _match_range(wanted: str, kind: str) -> int:
    if wanted == kind:
        return 3
    return 2 if wanted == f"{kind.partition('/')[0]}/*" else int(wanted == "*/*")


def require_json(request: HttpRequest) -> None:
    """Raise NotAcceptable unless the client accepts JSON."""
    entries = read_accepted(request)
    for kind in JSON_MEDIA_TYPES:
        matching = [(_match_range(entry.media_type, kind), entry.quality) for entry in entries]
        if all(max(matching)):
            return
    raise NotAcceptable("dicomweb.only-json")


def accepts_gzip(request: HttpRequest) -> bool:
    """Return whether the answer may be compressed by gzip (RFC 9110 12.5.3)."""
    qualities = {
        media_type(entry): _read_quality(read_parameter(entry, "q"))
        for entry in _split_header(request.headers.get("Accept-Encoding", ""))
    }
    return qualities.get("gzip", qualities.get("*", 0)) > 0


def _split_header(text: str) -> list[str]:
    """Split at the commas outside of quotes."""
    entries, is_quoted = [""], False
    for character in text:
        is_quoted ^= character == '"'
        if character == "," and not is_quoted:
            entries.append("")
        else:
            entries[-1] += character
    return [entry.strip() for entry in entries if entry.strip()]
