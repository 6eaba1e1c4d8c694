"""Parameters of the change to an instance: pseudonymization or none. Used by all transfers."""

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

from adit_engine.errors import InvalidInput
from adit_engine.pseudonymize.face_risk import RiskDecision
from adit_engine.pseudonymize.keys import ProjectKey, validate_pseudonym
from adit_engine.pseudonymize.visit import TrialVisit

if TYPE_CHECKING:
    from adit_engine.pseudonymize.profile import ConfidentialityProfile


@dataclass(frozen=True, slots=True)
class ClinicalTrialAttributes:
    """The clinical trial attributes (PS3.3 C.7.1.3). The standard requires a sponsor."""

    sponsor: str
    protocol_id: str
    protocol_name: str = ""
    site_name: str = ""
    site_id: str = ""

    def __post_init__(self) -> None:
        for each in fields(self):
            text = getattr(self, each.name)
            if len(text) > 64 or "\\" in text or not text.isprintable():
                raise InvalidInput("trial.field", field=each.name.replace("_", " "))
        if not self.sponsor.strip() or not self.protocol_id.strip():
            raise InvalidInput("trial.required")


@dataclass(frozen=True, slots=True)
class Pseudonymization:
    """Pseudonymization under the pseudonym of one patient in one project.

    `key` derives all UIDs and dates. `stamp` is None for the default project of the site, which is
    not written to the header. `faces` is the decision on images that may show a face, `header_word`
    that on radiographs for which only the header says that no text is burned in. Both are withheld
    unless accepted.
    """

    profile: "ConfidentialityProfile"
    pseudonym: str
    key: ProjectKey = field(repr=False)
    clinical_trial: ClinicalTrialAttributes | None
    face_decision: RiskDecision = RiskDecision.UNDECIDED
    annotation_decision: RiskDecision = RiskDecision.UNDECIDED
    visit: TrialVisit | None = None
    """Written to the header instead of that of the original, which is always removed."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "pseudonym", validate_pseudonym(self.pseudonym))


@dataclass(frozen=True, slots=True)
class AsIs:
    """No change: the instance leaves with all identifying data, byte for byte."""


Change = Pseudonymization | AsIs
