"""The kind "selective transfer": send selected studies or series."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from adit.jobs.kinds.base import (
    Kind,
    OrderRequest,
    TaskContext,
    TaskOutput,
    TaskPlan,
    transfer_study,
)
from adit.jobs.kinds.picked_study import PickedStudy
from adit_engine.errors import InvalidInput

MAX_STUDIES = 500


class Selective(Kind):
    code: ClassVar[str] = "selective"
    label: ClassVar[str] = "Selective transfer"

    def plan(self, request: OrderRequest[PickedStudy]) -> list[TaskPlan]:
        """Return one task per study, in the order of selection.

        Raises InvalidInput if the order contradicts itself.
        """
        picks = request.items
        if not picks:
            raise InvalidInput("selective.no-study")
        if len(picks) > MAX_STUDIES:
            raise InvalidInput("selective.many-studies", limit=MAX_STUDIES)
        studies = Counter((pick.source, pick.study.study_uid) for pick in picks)
        if studies.most_common(1)[0][1] > 1:
            raise InvalidInput("selective.repeated-study")
        request.check_destinations({pick.source for pick in picks})
        if request.is_as_is:
            return [replace(pick, pseudonym="", visit=None).plan() for pick in picks]
        _check_pseudonyms(picks)
        return [pick.plan() for pick in picks]

    def run(self, payload: Mapping[str, Any], context: TaskContext) -> Iterator[TaskOutput]:
        return transfer_study(payload, context)


def _check_pseudonyms(picks: Sequence[PickedStudy]) -> None:
    """Check pseudonyms within this order. The registry of the project checks them again."""
    by_patient: dict[tuple[int, str], str] = {}
    by_pseudonym: dict[tuple[int, str], str] = {}
    for row, pick in enumerate(picks, start=1):
        patient_id = pick.study.patient_id
        if not patient_id.strip() and not pick.pseudonym:
            raise InvalidInput("selective.no-patient-id", row=row)
        if by_patient.setdefault((pick.source, patient_id), pick.pseudonym) != pick.pseudonym:
            raise InvalidInput("selective.two-pseudonyms", row=row)
        if not pick.pseudonym:
            continue
        key = (pick.source, pick.pseudonym)
        if by_pseudonym.setdefault(key, patient_id) != patient_id:
            raise InvalidInput("selective.shared-pseudonym", row=row, pseudonym=pick.pseudonym)
