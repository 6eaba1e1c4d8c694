"""Matching: which studies, series and images answer a C-FIND, and the answers (PS3.4 C.2.2.2)."""

import fnmatch
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from struct import pack

from pydicom.datadict import dictionary_VR, tag_for_keyword

from adit.demo import header
from adit.demo.holdings import Held, Holdings, Series, Study
from adit_engine.instance import IMPLICIT_LE

UNIQUE = {
    "PATIENT": "PatientID",
    "STUDY": "StudyInstanceUID",
    "SERIES": "SeriesInstanceUID",
    "IMAGE": "SOPInstanceUID",
}

_LISTED = frozenset({"ModalitiesInStudy", "SOPClassesInStudy", "Modality", "SOPClassUID"})
_ANSWERED = frozenset(
    {"SpecificCharacterSet", "QueryRetrieveLevel", "InstanceAvailability", "RetrieveAETitle"}
)
_BINARY = {"US": "<H", "UL": "<I", "SS": "<h", "SL": "<i"}

Values = dict[str, str]


def answers(holdings: Holdings, keys: Mapping[str, str], ae_title: str) -> list[Values]:
    """All answers to one identifier, each with the keys that were asked for.

    Raises KeyError for a level that does not exist.
    """
    level = keys.get("QueryRetrieveLevel", "")
    candidates = _LEVELS[level]
    tests = _tests(keys)
    wanted = {*keys, UNIQUE[level]} - _ANSWERED
    fixed = {
        "SpecificCharacterSet": "ISO_IR 192",
        "QueryRetrieveLevel": level,
        "InstanceAvailability": "ONLINE",
        "RetrieveAETitle": ae_title,
    }
    with holdings.lock:
        return [
            {**fixed, **{keyword: values.get(keyword, "") for keyword in wanted}}
            for values in candidates(holdings, keys)
            if all(test(values) for test in tests)
        ]


def retrieved(holdings: Holdings, keys: Mapping[str, str]) -> list[Held] | None:
    """The instances that a C-GET or C-MOVE names by unique keys; None if it names none."""
    level = keys.get("QueryRetrieveLevel", "")
    if not keys.get(UNIQUE.get(level, "")):
        return None
    wanted = {
        unique: frozenset(keys[unique].split("\\"))
        for unique in UNIQUE.values()
        if keys.get(unique)
    }
    found: list[Held] = []
    with holdings.lock:
        for study in _studies(holdings, keys):
            if _named(study.values, wanted, "PatientID"):
                for series in study.series.values():
                    if _named(series.values, wanted, "SeriesInstanceUID"):
                        images = series.instances.values()
                        found += [
                            one for one in images if _named(one.values, wanted, "SOPInstanceUID")
                        ]
    return found


def encode(values: Mapping[str, str], syntax: str) -> bytes:
    """An identifier in UTF-8, explicit or implicit little endian."""
    explicit = syntax != IMPLICIT_LE
    tagged = sorted((*_tag_and_vr(keyword), text) for keyword, text in values.items())
    return b"".join(_element(tag, vr, text, explicit) for tag, vr, text in tagged if tag)


def _named(values: Mapping[str, str], wanted: Mapping[str, frozenset[str]], unique: str) -> bool:
    return unique not in wanted or values.get(unique, "") in wanted[unique]


def _studies(holdings: Holdings, keys: Mapping[str, str]) -> list[Study]:
    uids = keys.get("StudyInstanceUID", "")
    if uids and not set(uids) & set("*?"):
        named = (holdings.studies.get(uid) for uid in uids.split("\\"))
        return [study for study in named if study is not None]
    return list(holdings.studies.values())


def _patients(holdings: Holdings, keys: Mapping[str, str]) -> Iterator[Values]:
    by_patient: dict[tuple[str, str], list[Study]] = {}
    for study in holdings.studies.values():
        key = (study.values.get("PatientID", ""), study.values.get("IssuerOfPatientID", ""))
        by_patient.setdefault(key, []).append(study)
    for studies in by_patient.values():
        latest = max(studies, key=lambda study: study.values.get("StudyDate", ""))
        yield {
            **{k: latest.values[k] for k in header.PATIENT if k in latest.values},
            "NumberOfPatientRelatedStudies": str(len(studies)),
            "NumberOfPatientRelatedSeries": str(sum(len(study.series) for study in studies)),
            "NumberOfPatientRelatedInstances": str(sum(study.instance_count for study in studies)),
        }


def _study_values(study: Study) -> Values:
    return {
        **study.values,
        "ModalitiesInStudy": "\\".join(study.modalities),
        "SOPClassesInStudy": "\\".join(study.class_uids),
        "NumberOfStudyRelatedSeries": str(len(study.series)),
        "NumberOfStudyRelatedInstances": str(study.instance_count),
    }


def _of_studies(holdings: Holdings, keys: Mapping[str, str]) -> Iterator[Values]:
    for study in _studies(holdings, keys):
        yield _study_values(study)


def _of_series(holdings: Holdings, keys: Mapping[str, str]) -> Iterator[Values]:
    for study in _studies(holdings, keys):
        for series in study.series.values():
            yield _series_values(study, series)


def _series_values(study: Study, series: Series) -> Values:
    count = str(len(series.instances))
    return {**_study_values(study), **series.values, "NumberOfSeriesRelatedInstances": count}


def _of_images(holdings: Holdings, keys: Mapping[str, str]) -> Iterator[Values]:
    for study in _studies(holdings, keys):
        for series in study.series.values():
            if _named(series.values, _series_named(keys), "SeriesInstanceUID"):
                above = _series_values(study, series)
                for held in series.instances.values():
                    yield {**above, **held.values, "AvailableTransferSyntaxUID": held.syntax}


def _series_named(keys: Mapping[str, str]) -> dict[str, frozenset[str]]:
    uids = keys.get("SeriesInstanceUID", "")
    return {"SeriesInstanceUID": frozenset(uids.split("\\"))} if uids else {}


_LEVELS: Mapping[str, Callable[[Holdings, Mapping[str, str]], Iterator[Values]]] = {
    "PATIENT": _patients,
    "STUDY": _of_studies,
    "SERIES": _of_series,
    "IMAGE": _of_images,
}


def _tests(keys: Mapping[str, str]) -> list[Callable[[Values], bool]]:
    """One test for each key that has a value; a key nobody holds does not speak against anyone."""
    return [
        _test(keyword, wanted)
        for keyword, wanted in keys.items()
        if wanted and keyword not in _ANSWERED
    ]


def _test(keyword: str, wanted: str) -> Callable[[Values], bool]:
    matches = _matcher(keyword, wanted)
    return lambda values: keyword not in values or matches(values[keyword])


def _matcher(keyword: str, wanted: str) -> Callable[[str], bool]:
    vr = _tag_and_vr(keyword)[1]
    if vr in ("DA", "TM"):
        return _in_range(wanted)
    if vr == "PN":
        name = _pattern(folded(wanted))
        return lambda text: any(name.fullmatch(folded(one)) for one in (text, *text.split("=")))
    listed = keyword in _LISTED or vr == "UI"
    alternatives = [_pattern(one) for one in (wanted.split("\\") if listed else [wanted])]
    return lambda text: any(
        pattern.fullmatch(one) for one in text.split("\\") for pattern in alternatives
    )


def folded(name: str) -> str:
    """A name without regard to case and trailing delimiters (PS3.4 C.2.2.2.1, PS3.5 6.2.1.1)."""
    return unicodedata.normalize("NFC", name).casefold().rstrip("^= ")


@lru_cache(maxsize=1024)
def _pattern(wanted: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(wanted.strip().replace("[", "[[]")))


def _in_range(wanted: str) -> Callable[[str], bool]:
    """PS3.4 C.2.2.2.5; also the dots and colons that ACR-NEMA wrote into dates and times."""
    first, dash, last = (_plain(part) for part in wanted.partition("-"))
    if not dash:
        return lambda text: _plain(text).startswith(first)
    return lambda text: (
        bool(text) and first <= _plain(text) and (not last or _plain(text)[: len(last)] <= last)
    )


def _plain(moment: str) -> str:
    return re.sub(r"[ .:]", "", moment)


@lru_cache(maxsize=4096)
def _tag_and_vr(keyword: str) -> tuple[int, str]:
    tag = tag_for_keyword(keyword)
    return (tag, dictionary_VR(tag)[:2]) if tag is not None else (0, "")


def _element(tag: int, vr: str, text: str, explicit: bool) -> bytes:
    raw = _raw(vr, text)
    if not explicit:
        return pack("<HHI", tag >> 16, tag & 0xFFFF, len(raw)) + raw
    if vr in ("SQ", "UT", "UC", "UR", "OB", "OW", "UN"):
        return pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr.encode(), 0, len(raw)) + raw
    return pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr.encode(), len(raw)) + raw


def _raw(vr: str, text: str) -> bytes:
    if not text or vr in ("SQ", "OB", "OW", "UN"):
        return b""
    if vr in _BINARY:
        return b"".join(pack(_BINARY[vr], int(part)) for part in _several(text))
    raw = text.encode()
    return raw + (b"\0" if vr == "UI" else b" ") * (len(raw) % 2)


def _several(text: str) -> Iterable[str]:
    return text.split("\\")
