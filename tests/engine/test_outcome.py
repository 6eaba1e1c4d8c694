"""Outcome of a series: reasons are counted and survive a JSON round trip."""

import json

from lab.samples import ROOT

from adit_engine.messages import Message
from adit_engine.values.outcome import (
    InstanceEvent,
    InstanceState,
    SeriesLedger,
    SeriesOutcome,
)
from adit_engine.values.references import InstanceRef, SeriesRef

SERIES = SeriesRef(f"{ROOT}.1", f"{ROOT}.1.1")
REJECTED = Message("rejected", why=Message("clause.rejected-for-quality"))
OTHER_MODALITY = Message("left-out.modality", modalities=("MR", "PT"))


def ledger(*reasons: Message | None) -> SeriesLedger:
    made = SeriesLedger(SERIES, frozenset(f"{ROOT}.1.1.{n}" for n in range(len(reasons))))
    for number, reason in enumerate(reasons):
        ref = InstanceRef(SERIES.study_uid, SERIES.series_uid, f"{ROOT}.1.1.{number}")
        state = InstanceState.DELIVERED if reason is None else InstanceState.WITHHELD
        made.add(InstanceEvent(ref, state, reason))
    return made


def test_a_stored_ledger_keeps_the_codes_and_values_of_its_reasons() -> None:
    made = ledger(None, REJECTED, OTHER_MODALITY)

    read = SeriesLedger.from_json(json.loads(json.dumps(made.to_json())))

    assert read == made
    assert "for quality reasons" in str(read.entries[f"{ROOT}.1.1.1"].reason)


def test_equal_reasons_are_counted_together_in_any_order_of_values() -> None:
    reason = Message("source-list.contradictory", listed=3, counted=5)
    reordered = Message("source-list.contradictory", counted=5, listed=3)

    outcome = SeriesOutcome.from_ledger(ledger(reason, reordered, REJECTED, None))

    assert outcome.reasons == ((reason, 2), (REJECTED, 1))


def test_close_skips_pending_images_and_fails_unconfirmed_ones() -> None:
    made = SeriesLedger(SERIES, frozenset({f"{ROOT}.1.1.1", f"{ROOT}.1.1.2"}))
    sent = InstanceRef(SERIES.study_uid, SERIES.series_uid, f"{ROOT}.1.1.1")
    made.add(InstanceEvent(sent, InstanceState.STORED))

    made.close(InstanceState.SKIPPED, Message("canceled"))

    ends = {uid[-1]: (entry.state, entry.reason) for uid, entry in made.entries.items()}
    assert ends == {
        "1": (InstanceState.FAILED, Message("not-confirmed")),
        "2": (InstanceState.SKIPPED, Message("canceled")),
    }
