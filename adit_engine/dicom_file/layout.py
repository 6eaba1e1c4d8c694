"""Names of folders and files below a base folder. Used by all nodes that write files.

Every name is a function of the object's own (output) values alone, so that two workers, or two
attempts, agree without reading the disk. Short digests of the UIDs distinguish two studies of one
day and two series of the same name. No name can lead out of the base folder.
"""

import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256

MAX_COMPONENT_BYTES = 100
MAX_PATH_BYTES = 240

_WINDOWS_NAMES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
_NOT_ALLOWED = re.compile(r"[^\w.\-+=@() ]+", re.UNICODE)


_FOLDER_KEYWORDS = (
    "ClinicalTrialProtocolID",
    "PatientID",
    "ClinicalTrialTimePointID",
    "StudyDate",
    "StudyTime",
    "StudyInstanceUID",
    "SeriesNumber",
    "Modality",
    "SeriesDescription",
    "SeriesInstanceUID",
)


def make_component(text: str, fallback: str) -> str:
    """Return a valid name of a folder or file.

    The name is in NFC and has plain characters, no dot or space at its ends, and at most 100
    bytes in UTF-8. Names reserved by Windows get a prefix; an empty name becomes `fallback`.
    """
    name = _NOT_ALLOWED.sub("_", unicodedata.normalize("NFC", text)).strip(" .")
    name = _truncate(name, MAX_COMPONENT_BYTES).rstrip(" .") or fallback
    return f"_{name}" if _WINDOWS_NAMES.fullmatch(name) else name


def make_path(values: Mapping[str, str]) -> tuple[str, ...]:
    """Return the folder names and the file name of an object.

    `values` are by DICOM keyword. The path is
    `<trial>/<patient>/<visit-date-time>/<series number-modality-description>/<instance uid>.dcm`.
    Without a trial the first folder is omitted, and without a visit its name.
    """
    file = make_component(values["SOPInstanceUID"], "instance") + ".dcm"
    texts = tuple(values.get(keyword, "") for keyword in _FOLDER_KEYWORDS)
    return (*_folder_names(texts, len(file.encode())), file)


@lru_cache(maxsize=64)
def _folder_names(texts: tuple[str, ...], file_bytes: int) -> tuple[str, ...]:
    """The same for all images of a series. `texts` are the values of `_FOLDER_KEYWORDS`."""
    trial, patient, visit, date, time, study_uid, number, modality, description, series_uid = texts
    day = "-".join(filter(None, (_truncate(visit.strip(), 40), date, time[:6])))
    words = (number.strip(), modality.strip(), _truncate(description.strip(), 40))
    series = "-".join(filter(None, words))
    names = (
        _patient_folder(patient.strip()),
        make_component(f"{day or 'study'}-{_shorten(study_uid)}", "study"),
        make_component(f"{series or 'series'}-{_shorten(series_uid)}", "series"),
    )
    above = (make_component(trial.strip(), "trial"),) if trial.strip() else ()
    return _shorten_folders(above + names, file_bytes)


def _patient_folder(text: str) -> str:
    """Append a digest to IDs that a disk could confuse with the folder of another patient.

    Examples are Abc and ABC on disks that ignore case, and a/b and a_b on any disk.
    """
    name = make_component(text, "no-patient-id")
    if not text or (name == text and name == name.upper()):
        return name
    return f"{_truncate(name, MAX_COMPONENT_BYTES - 9).rstrip(' .')}-{_shorten(text)}"


def _shorten_folders(names: tuple[str, ...], file_bytes: int) -> tuple[str, ...]:
    """Shorten the longest folder names until the path fits, and append a digest to each."""
    parts = list(names)
    while sum(len(part.encode()) + 1 for part in parts) + file_bytes + 1 > MAX_PATH_BYTES:
        longest = max(range(len(parts)), key=lambda i: len(parts[i].encode()))
        whole = parts[longest]
        parts[longest] = f"{_truncate(whole, len(whole.encode()) // 2 - 7)}-{_shorten(whole)}"
    return tuple(parts)


def _shorten(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:8]


def _truncate(text: str, max_bytes: int) -> str:
    return text.encode()[:max_bytes].decode(errors="ignore")
