"""What is done to an instance: pseudonymization with its parameters, or nothing."""

from dataclasses import dataclass, field, fields
from enum import Enum
from typing import TYPE_CHECKING

from adit_engine.errors import InvalidInput
from adit_engine.pseudonymize.keys import ProjectKey, validate_pseudonym

if TYPE_CHECKING:
    from adit_engine.pseudonymize.profile import ConfidentialityProfile


class RiskDecision(Enum):
    """There is no default: as long as a risk is UNDECIDED, what bears it is withheld."""

    UNDECIDED = "undecided"
    WITHHOLD = "withhold"
    ACCEPT = "accept"


@dataclass(frozen=True, slots=True)
class ClinicalTrialAttributes:
    """What the header says of the trial (PS3.3 C.7.1.3). The sponsor may not be empty there."""

    sponsor: str
    protocol_id: str
    protocol_name: str = ""
    site_name: str = ""
    site_id: str = ""

    def __post_init__(self) -> None:
        for each in fields(self):
            text = getattr(self, each.name)
            if len(text) > 64 or "\\" in text or not text.isprintable():
                raise InvalidInput(
                    f"{each.name}: at most 64 characters, no backslash, no line break (PS3.5 6.2)."
                )
        if not self.sponsor.strip() or not self.protocol_id.strip():
            raise InvalidInput("A trial in the header needs a sponsor and a protocol id.")


@dataclass(frozen=True, slots=True)
class Pseudonymization:
    """`pseudonym` stands for one patient within one trial; `key` derives all UIDs and dates.

    `stamp` is None for the site's default trial, which leaves no trial in the header. `faces` is the
    choice for what may show a face, `header_word` that for radiographs whose header alone says that
    no text is burned in; both are withheld unless they are accepted.
    """

    profile: "ConfidentialityProfile"
    pseudonym: str
    key: ProjectKey = field(repr=False)
    stamp: ClinicalTrialAttributes | None
    faces: RiskDecision = RiskDecision.UNDECIDED
    header_word: RiskDecision = RiskDecision.UNDECIDED

    def __post_init__(self) -> None:
        object.__setattr__(self, "pseudonym", validate_pseudonym(self.pseudonym))


@dataclass(frozen=True, slots=True)
class AsIs:
    """Identified, byte for byte."""


Change = Pseudonymization | AsIs
