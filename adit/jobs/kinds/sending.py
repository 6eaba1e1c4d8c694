"""Sending: how every kind that delivers images carries one study, once its task runs."""

from collections.abc import Iterator, Mapping
from typing import Any

from adit.jobs.kinds.base import Context, Yielded
from adit_engine.transfer.study import StudyRequest as Transfer
from adit_engine.transfer.study import transfer
from adit_engine.values.references import StudyRef
from adit_engine.values.selection import Selection


def sent(payload: Mapping[str, Any], context: Context) -> Iterator[Yielded]:
    """The study of a payload with study_uid, patient_id and series_uids (none = all), and
    `renamed` where a person has confirmed another id of the patient. Lazy.

    Raises the engine's errors.
    """
    assert context.destination is not None, "an order that delivers has a destination"
    assert context.change is not None, "and says what happens to its images"
    order = Transfer(
        StudyRef(payload["study_uid"]),
        payload["patient_id"],
        Selection(tuple(payload["series_uids"]), context.modalities),
        payload.get("renamed", ""),
    )
    return transfer(
        order,
        context.source,
        context.destination,
        context.change,
        context.held,
        context.stop,
    )
