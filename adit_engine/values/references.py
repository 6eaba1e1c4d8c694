"""References: the UIDs that identify a study, series or instance. Also AE titles and levels."""

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from adit_engine.errors import InvalidInput

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_AE_TITLE = re.compile(r"[\x20-\x5b\x5d-\x7e]{1,16}")


class QueryLevel(StrEnum):
    """The query/retrieve levels of PS3.4 C.6.1.1, as spelled in the standard."""

    PATIENT = "PATIENT"
    STUDY = "STUDY"
    SERIES = "SERIES"
    IMAGE = "IMAGE"


@lru_cache(maxsize=4096)
def validate_uid(text: str) -> str:
    """Return the UID without padding.

    Leading zeros in a component are accepted, since archives hold such UIDs. Raises InvalidInput
    for anything but digits and dots, or more than 64 characters (PS3.5 9.1).
    """
    uid = text.rstrip("\0 ").lstrip(" ")
    if len(uid) > 64 or not _UID.fullmatch(uid):
        raise InvalidInput("uid.invalid")
    return uid


class AETitle(str):
    """An application entity title: 1 to 16 characters, no backslash (PS3.5 6.2, VR AE)."""

    def __new__(cls, text: str) -> "AETitle":
        title = text.strip(" ")
        if not _AE_TITLE.fullmatch(title):
            raise InvalidInput("ae-title.invalid")
        return super().__new__(cls, title)


@dataclass(frozen=True, slots=True, order=True)
class StudyRef:
    study_uid: str

    level = QueryLevel.STUDY

    def __post_init__(self) -> None:
        object.__setattr__(self, "study_uid", validate_uid(self.study_uid))


@dataclass(frozen=True, slots=True, order=True)
class SeriesRef:
    study_uid: str
    series_uid: str

    level = QueryLevel.SERIES

    def __post_init__(self) -> None:
        object.__setattr__(self, "study_uid", validate_uid(self.study_uid))
        object.__setattr__(self, "series_uid", validate_uid(self.series_uid))

    @property
    def study(self) -> StudyRef:
        return StudyRef(self.study_uid)


@dataclass(frozen=True, slots=True, order=True)
class InstanceRef:
    study_uid: str
    series_uid: str
    instance_uid: str

    level = QueryLevel.IMAGE

    def __post_init__(self) -> None:
        for name in ("study_uid", "series_uid", "instance_uid"):
            object.__setattr__(self, name, validate_uid(getattr(self, name)))

    @property
    def series(self) -> SeriesRef:
        return SeriesRef(self.study_uid, self.series_uid)


Ref = StudyRef | SeriesRef | InstanceRef
