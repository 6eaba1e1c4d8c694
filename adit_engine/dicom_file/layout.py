"""Layout: names of folders and files below a base folder; nothing can climb out of it.

Every name is a function of the object's own (output) values alone, so that two workers, or two
attempts, always agree without looking at the disk. Short digests of the UIDs keep two studies of
one day, or two series of one name, apart.
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
    "StudyDate",
    "StudyTime",
    "StudyInstanceUID",
    "SeriesNumber",
    "Modality",
    "SeriesDescription",
    "SeriesInstanceUID",
)


def make_component(text: str, fallback: str) -> str:
    """One name of a folder or file: NFC, plain characters, no leading or trailing dot or space.

    At most 100 bytes in UTF-8. What Windows reserves is prefixed; what is empty is `fallback`.
    """
    name = _NOT_ALLOWED.sub("_", unicodedata.normalize("NFC", text)).strip(" .")
    name = _truncate(name, MAX_COMPONENT_BYTES).rstrip(" .") or fallback
    return f"_{name}" if _WINDOWS_NAMES.fullmatch(name) else name


def make_path(values: Mapping[str, str]) -> tuple[str, ...]:
    """Folder names and the file name of one object, from its values by DICOM keyword.

    `<trial>/<patient>/<study date-time>/<series number-modality-description>/<instance uid>.dcm`;
    without a trial the first is left out.
    """
    file = make_component(values["SOPInstanceUID"], "instance") + ".dcm"
    texts = tuple(values.get(keyword, "") for keyword in _FOLDER_KEYWORDS)
    return (*_folder_names(texts, len(file.encode())), file)


@lru_cache(maxsize=64)
def _folder_names(texts: tuple[str, ...], file_bytes: int) -> tuple[str, ...]:
    """The same for all images of a series. `texts` are those of `_OF_FOLDERS`."""
    trial, patient, date, time, study_uid, number, modality, description, series_uid = texts
    day = "-".join(filter(None, (date, time[:6])))
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
    """What some disk could take for another patient's folder is marked by a digest of itself: Abc
    beside ABC where case counts for nothing, a/b beside a_b anywhere.
    """
    name = make_component(text, "no-patient-id")
    if not text or (name == text and name == name.upper()):
        return name
    return f"{_truncate(name, MAX_COMPONENT_BYTES - 9).rstrip(' .')}-{_shorten(text)}"


def _shorten_folders(names: tuple[str, ...], file_bytes: int) -> tuple[str, ...]:
    """Shortens the longest folder names until the path fits, each marked by a digest of itself."""
    parts = list(names)
    while sum(len(part.encode()) + 1 for part in parts) + file_bytes + 1 > MAX_PATH_BYTES:
        longest = max(range(len(parts)), key=lambda i: len(parts[i].encode()))
        whole = parts[longest]
        parts[longest] = f"{_truncate(whole, len(whole.encode()) // 2 - 7)}-{_shorten(whole)}"
    return tuple(parts)


def _shorten(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:8]


def _truncate(text: str, most_bytes: int) -> str:
    return text.encode()[:most_bytes].decode(errors="ignore")
