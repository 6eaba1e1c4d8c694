"""Traveller: what all series of one study share: whose it is, what changes, and who may stop it."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from adit_engine.errors import RuleBroken
from adit_engine.handoff import Stop
from adit_engine.instance import Instance
from adit_engine.pseudonymize.change import AsIs, Change
from adit_engine.rejection import Rejections
from adit_engine.treatment import Treatment

if TYPE_CHECKING:
    from adit_engine.pseudonymizing import Pseudonymizing


@dataclass
class Traveller:
    """Decides for each instance of a study whether it may leave, and as what."""

    patient_id: str = field(repr=False)
    change: Change
    stop: Stop
    rejections: Rejections

    def __post_init__(self) -> None:
        self._rules = _rules(self.change)
        self._patient = self.patient_id.encode() if self.patient_id else None

    def admit_patient(self, patient_id: bytes) -> None:
        """Raises RuleBroken for an instance of another patient than the order's (or the first)."""
        if self._patient is None:
            self._patient = patient_id
        if patient_id not in (self._patient, self.patient_id.encode("latin-1", "replace")):
            raise RuleBroken(
                "The source holds images of another patient under this study, or the patient was "
                "merged since the order. Nothing more of it was sent: ask the PACS administrator "
                "to put the study in order, then order it again."
            )

    def outgoing(self, instance: Instance) -> tuple[Instance, Treatment | None]:
        """The instance as it may leave, and what was done to it; None where it is as it was.

        Raises Withhold, and Hit after the second look.
        """
        if self._rules is None:
            return instance, None
        return self._rules.outgoing(instance)

    def why_refused(self, sop_class_uid: str) -> tuple[str, str] | None:
        """Code and sentence when objects of this class will be withheld whatever they hold."""
        if self._rules is None or not sop_class_uid:
            return None
        return self._rules.why_refused(sop_class_uid)


def _rules(change: Change) -> "Pseudonymizing | None":
    if isinstance(change, AsIs):
        return None
    from adit_engine.pseudonymizing import Pseudonymizing  # takes long to load

    return Pseudonymizing(change)
