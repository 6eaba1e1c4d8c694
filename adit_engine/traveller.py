"""Traveller: what all series of one study share: whose it is, what changes, and who may stop it."""

from collections.abc import Callable
from dataclasses import dataclass, field

from adit_engine.errors import RuleBroken, Withhold
from adit_engine.handoff import Stop
from adit_engine.instance import Instance
from adit_engine.pseudonymize import admit
from adit_engine.pseudonymize.apply import apply
from adit_engine.pseudonymize.change import Change, Pseudonymized
from adit_engine.pseudonymize.tally import Tally
from adit_engine.rejection import Rejections
from adit_engine.treatment import Treatment


class Hit(Withhold):
    """The second look found something in what was about to leave."""


@dataclass
class Traveller:
    """Decides for each instance of a study whether it may leave, and as what."""

    patient_id: str = field(repr=False)
    change: Change
    stop: Stop
    rejections: Rejections

    def __post_init__(self) -> None:
        self._check = _second_look(self.change)
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
        tally = Tally()
        changed = apply(self.change, instance, tally)
        if self._check is not None:
            try:
                self._check(instance, changed)
            except Withhold as hit:
                raise Hit(hit.code, hit.reason) from None
        return changed, next(iter(tally.treatments), None)

    def why_refused(self, sop_class_uid: str) -> tuple[str, str] | None:
        """Code and sentence when objects of this class will be withheld whatever they hold."""
        if isinstance(self.change, Pseudonymized) and sop_class_uid:
            return admit.why_not(sop_class_uid, self.change.profile)
        return None


def _second_look(change: Change) -> Callable[[Instance, Instance], None] | None:
    if not isinstance(change, Pseudonymized):
        return None
    from adit_engine.pseudonymize.verify import Verifier  # takes long to load

    return Verifier(change).check
