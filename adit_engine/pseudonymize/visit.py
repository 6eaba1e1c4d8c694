"""The visit of a patient in a clinical trial, and whether its name may identify the patient.

Used by orders, and when an instance is rewritten.
"""

import re
from dataclasses import dataclass

from adit_engine.errors import InvalidInput
from adit_engine.messages import Message

MAX_ID_LENGTH = 64
MAX_DESCRIPTION_LENGTH = 200
"""ST allows 1,024 characters; a description of a visit is a short text."""

_DATE = re.compile(
    r"(?<!\d)(?:(?:19|20)\d\d[-./ ]?(?:0\d|1[0-2])[-./ ]?[0-3]\d|[0-3]?\d[-./][01]?\d[-./](?:\d\d){1,2})"
    r"(?!\d)"
)
_LONG_NUMBER = re.compile(r"\d{6}")


@dataclass(frozen=True, slots=True)
class TrialVisit:
    """Clinical Trial Time Point ID and Description (PS3.3 C.7.2.3). Raises InvalidInput."""

    id: str
    description: str = ""

    def __post_init__(self) -> None:
        for name, limit in (("id", MAX_ID_LENGTH), ("description", MAX_DESCRIPTION_LENGTH)):
            text = getattr(self, name).strip()
            if len(text) > limit:
                raise InvalidInput("visit.too-long", limit=limit)
            if "\\" in text or not text.isprintable():
                raise InvalidInput("visit.invalid-character")
            object.__setattr__(self, name, text)
        if not self.id:
            raise InvalidInput("visit.no-id")


def explain_visit_risk(visit: TrialVisit, patient_id: str) -> Message | None:
    """Return why the visit may identify the patient; None if it does not look so."""
    for text in (visit.id, visit.description):
        if _DATE.search(text):
            return Message("visit.looks-like-date")
        bare = text.casefold().lstrip("0")
        if _LONG_NUMBER.search(text) or (
            bare and bare == patient_id.casefold().strip().lstrip("0")
        ):
            return Message("visit.looks-like-patient-id")
    return None
