"""Change: what happens to an object on its way. Pseudonymized, or as it is; there is no third."""

from dataclasses import dataclass, field

from adit_engine.pseudonymize.profile import Profile
from adit_engine.pseudonymize.pseudonym import TrialKey, checked_pseudonym


@dataclass(frozen=True, slots=True)
class TrialStamp:
    """What the header says of the trial (PS3.3 C.7.1.3). The sponsor may not be empty there."""

    sponsor: str
    protocol_id: str
    protocol_name: str = ""
    site_name: str = ""
    site_id: str = ""


@dataclass(frozen=True, slots=True)
class Pseudonymized:
    """`pseudonym` stands for one patient within one trial; `key` derives all UIDs and dates.

    `stamp` is None for the site's default trial, which leaves no trial in the header.
    """

    profile: Profile
    pseudonym: str
    key: TrialKey = field(repr=False)
    stamp: TrialStamp | None

    def __post_init__(self) -> None:
        object.__setattr__(self, "pseudonym", checked_pseudonym(self.pseudonym))


@dataclass(frozen=True, slots=True)
class AsIs:
    """Identified, byte for byte."""


Change = Pseudonymized | AsIs
