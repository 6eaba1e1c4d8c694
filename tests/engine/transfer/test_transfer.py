"""Transfer of a study: what is sent, what is not, and the ledger of each instance."""

import json
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from lab.samples import ROOT, ct, file_bytes, instance

from adit_engine.bounded_stream import Stop
from adit_engine.errors import (
    ConnectionLost,
    NodeRefused,
    NotFound,
    PatientChanged,
    RuleViolation,
    Stopped,
)
from adit_engine.messages import Message
from adit_engine.nodes.base import FindResults, StoreResult
from adit_engine.nodes.folder import FolderNode, FolderSettings
from adit_engine.nodes.memory import MemoryNode, MemorySettings
from adit_engine.pseudonymize.keys import ProjectKey
from adit_engine.pseudonymize.parameters import AsIs, ClinicalTrialAttributes, Pseudonymization
from adit_engine.pseudonymize.profile import ConfidentialityProfile
from adit_engine.transfer.study import MAX_REFUSED, StudyRequest, transfer
from adit_engine.values.instance import Instance
from adit_engine.values.outcome import (
    Completeness,
    InstanceEvent,
    InstanceState,
    SeriesLedger,
    SeriesOutcome,
    SourceListing,
    sum_outcomes,
)
from adit_engine.values.query import Query
from adit_engine.values.record import Record
from adit_engine.values.references import Ref, SeriesRef, StudyRef
from adit_engine.values.selection import Selection

PATIENT = "PID-4711-0815"
STUDY = StudyRef(f"{ROOT}.1")
ORDER = StudyRequest(STUDY, PATIENT)
RULE_BROKEN = Message("rule-broken", error=Message("study.second-patient"))
PLAIN = {"ReferringPhysicianName": "", "InstitutionName": ""}


def node(name: str, *instances: Instance) -> MemoryNode:
    return fill(MemoryNode(name, MemorySettings()), *instances)


def fill(made: MemoryNode, *instances: Instance) -> MemoryNode:
    made.held = {}
    for one in instances:
        made.held[one.instance_uid] = one
    return made


def two_series() -> list[Instance]:
    return [instance(ct(n, series=s)) for s in ("1", "2") for n in range(1, 6)]


def pseudonymized() -> Pseudonymization:
    stamp = ClinicalTrialAttributes("University Hospital", "LUNG", "Lung Study")
    return Pseudonymization(
        ConfidentialityProfile.default(), "LUNG-0001", ProjectKey(b"k" * 32), stamp
    )


def run(source, destination, change=None, *, order=ORDER, held=None, stop=None):
    """Return all events, the ledgers as a runner would store them, and the error."""
    told: list[SourceListing | InstanceEvent | SeriesOutcome] = []
    manifests: dict[str, SeriesLedger] = dict(held or {})
    error = None
    try:
        for one in transfer(
            order, source, destination, change or AsIs(), held or {}, stop or Stop()
        ):
            told.append(one)
            if isinstance(one, SourceListing):
                before = manifests.get(one.ref.series_uid)
                manifests[one.ref.series_uid] = SeriesLedger(
                    one.ref, one.expected, dict(before.entries) if before else {}
                )
            elif isinstance(one, InstanceEvent):
                manifests[one.ref.series_uid].add(one)
    except Exception as raised:
        error = raised
    return told, manifests, error


def outcomes(told) -> list[SeriesOutcome]:
    return [one for one in told if isinstance(one, SeriesOutcome)]


def test_every_instance_is_delivered_and_counted_once() -> None:
    source, destination = node("A", *two_series()), node("B")

    told, manifests, error = run(source, destination)

    assert error is None
    assert destination.held.keys() == source.held.keys()
    assert [o.completeness for o in outcomes(told)] == [
        Completeness.COMPLETE,
        Completeness.COMPLETE,
    ]
    sums = sum_outcomes(outcomes(told))
    assert (sums.expected, sums.delivered) == (10, 10)
    for manifest in manifests.values():
        assert {e.state for e in manifest.entries.values()} == {InstanceState.DELIVERED}


def test_the_source_is_listed_again_while_the_destination_confirms() -> None:
    asked_for_proof, listed_again = threading.Event(), threading.Event()

    class Source(MemoryNode):
        def find(self, query: Query) -> FindResults:
            if query == Query.uids_of(query_series):
                listed_again.set()
                assert asked_for_proof.wait(10)
            return super().find(query)

    class Destination(MemoryNode):
        def confirm(self, stored: Sequence[StoreResult]) -> Iterator[str]:
            assert listed_again.wait(10)
            asked_for_proof.set()
            return super().confirm(stored)

    images = [instance(ct(n)) for n in range(1, 6)]
    query_series = images[0].in_header.ref.series
    source = fill(Source("A", MemorySettings()), *images)
    destination = fill(Destination("B", MemorySettings()))

    told, _, error = run(source, destination, order=StudyRequest(STUDY, ""))

    assert error is None
    assert [o.completeness for o in outcomes(told)] == [Completeness.COMPLETE]


def test_as_is_leaves_every_byte_unchanged() -> None:
    source, destination = node("A", *two_series()), node("B")

    run(source, destination)

    for uid, one in source.held.items():
        assert destination.held[uid].sha256() == one.sha256()


def test_pseudonymized_instances_contain_the_pseudonym_and_no_original_uid() -> None:
    source, destination = node("A", *two_series()), node("B")

    told, _, error = run(source, destination, pseudonymized())

    assert error is None
    assert sum_outcomes(outcomes(told)).delivered == 10
    assert not destination.held.keys() & source.held.keys()
    for one in destination.held.values():
        data = b"".join(one.parts())
        assert b"LUNG-0001" in data
        assert ROOT.encode() not in data
        assert b"Mustermann" not in data


def test_a_repeated_order_gives_the_same_uids_and_bytes() -> None:
    source, destination = node("A", *two_series()), node("B")
    run(source, destination, pseudonymized())
    first = {uid: one.sha256() for uid, one in destination.held.items()}

    run(source, destination, pseudonymized())

    assert {uid: one.sha256() for uid, one in destination.held.items()} == first


def test_an_unselected_series_is_reported_and_not_expected() -> None:
    source, destination = node("A", *two_series()), node("B")
    order = StudyRequest(STUDY, PATIENT, Selection(series_uids=(f"{ROOT}.1.2",)))

    told, _, _ = run(source, destination, order=order)

    left_out = [o for o in outcomes(told) if o.skip_reason]
    assert [o.ref.series_uid for o in left_out] == [f"{ROOT}.1.1"]
    (listing,) = (o.listing for o in left_out)
    assert (listing.number, listing.modality, listing.description) == (1, "CT", "Serie 1")
    assert sum_outcomes(outcomes(told)).expected == 5


def test_a_selected_series_that_does_not_exist_is_reported() -> None:
    order = StudyRequest(STUDY, PATIENT, Selection(series_uids=(f"{ROOT}.1.1", f"{ROOT}.1.7")))

    told, _, _ = run(node("A", *two_series()), node("B"), order=order)

    gone = next(o for o in outcomes(told) if o.ref.series_uid.endswith(".7"))
    assert gone.completeness is Completeness.PARTIAL
    assert gone.notes == (Message("series.not-found"),)


def test_a_missing_study_raises_not_found() -> None:
    _, _, error = run(node("A"), node("B"))

    assert isinstance(error, NotFound)


def test_images_delivered_by_an_earlier_attempt_are_not_sent_again() -> None:
    source, destination = node("A", *two_series()), node("B")
    _, held, _ = run(source, destination)
    lost = f"{ROOT}.1.1.3"
    del held[f"{ROOT}.1.1"].entries[lost]
    empty = node("C")

    told, _, _ = run(source, empty, held=held)

    assert set(empty.held) == {lost}
    assert sum_outcomes(outcomes(told)).completeness is Completeness.COMPLETE


def test_an_image_of_another_patient_ends_the_task_and_is_not_sent() -> None:
    images = two_series()
    foreign = instance(ct(3, series="1", PatientID="SOMEBODY-ELSE"))
    source, destination = node("A", *images), node("B")
    source.held[foreign.instance_uid] = foreign

    told, manifests, error = run(source, destination, pseudonymized())

    assert isinstance(error, RuleViolation)
    assert "SOMEBODY-ELSE" not in str(error)
    assert all(b"SOMEBODY" not in b"".join(i.parts()) for i in destination.held.values())
    entries = manifests[f"{ROOT}.1.1"].entries
    assert sorted(e.state.value for e in entries.values()) == ["delivered"] * 2 + ["failed"] * 3
    assert entries[foreign.instance_uid].reason == RULE_BROKEN


OTHER = "SOMEBODY-ELSE"
CHANGED = StudyRequest(STUDY, PATIENT, confirmed_patient_id=OTHER)


def in_other_hands(listed_as: str = PATIENT) -> MemoryNode:
    """Return a source whose images have another patient ID; `listed_as` is in its records."""

    class Merged(MemoryNode):
        def find(self, query: Query) -> FindResults:
            keys = {k: OTHER if v == listed_as else v for k, v in query.keys.items()}
            if query.keys.get("PatientID", listed_as) != listed_as:
                return FindResults(iter(()))
            records = super().find(replace(query, keys=keys))
            told = [replace(r, values={**r.values, "PatientID": listed_as}) for r in records]
            return FindResults(iter(told))

    images = [instance(ct(n, series=s, PatientID=OTHER)) for s in "12" for n in range(1, 4)]
    return fill(Merged("A", MemorySettings()), *images)


@pytest.mark.parametrize("listed_as", [PATIENT, OTHER], ids=["in its headers", "in its list"])
def test_a_changed_patient_id_must_be_confirmed_before_anything_is_sent(
    listed_as: str,
) -> None:
    source, destination = in_other_hands(listed_as), node("B")
    told, _, error = run(source, destination, pseudonymized())

    assert isinstance(error, PatientChanged)
    assert error.found == OTHER
    assert OTHER not in str(error)
    assert not destination.held
    assert not outcomes(told)

    told, _, error = run(source, destination, pseudonymized(), order=CHANGED)
    assert error is None
    assert sum_outcomes(outcomes(told)).completeness is Completeness.COMPLETE
    assert len(destination.held) == 6


@pytest.mark.parametrize(
    ("letters", "patient"),
    [
        ("GB18030", "患者37"),
        ("ISO_IR 144", "Д-37"),
        ("\\ISO 2022 IR 87", "山-37"),
        ("ISO_IR 192", "Ä37"),
        ("ISO_IR 100", "Ä37"),
    ],
)
def test_a_patient_id_is_decoded_with_the_character_set_of_the_image(
    letters: str, patient: str
) -> None:
    def image(number: int, patient: str) -> Instance:
        sets = letters.split("\\") if "\\" in letters else letters
        return instance(
            ct(number, PatientID=patient, PatientName="A^B", SpecificCharacterSet=sets, **PLAIN)
        )

    order, destination = StudyRequest(STUDY, patient), node("B")
    told, _, error = run(node("A", image(1, patient), image(2, patient)), destination, order=order)
    assert error is None
    assert sum_outcomes(outcomes(told)).completeness is Completeness.COMPLETE

    other = image(3, patient.replace("37", "38"))
    destination = node("C")
    _, _, error = run(node("A", image(1, patient), other), destination, order=order)
    assert isinstance(error, RuleViolation)
    assert other.instance_uid not in destination.held


class Illiterate(MemoryNode):
    """Lists studies, but finds nothing by a patient ID that is not ASCII."""

    def find(self, query: Query) -> FindResults:
        if not str(query.keys.get("PatientID", "P")).isascii():
            return FindResults(iter(()))
        return super().find(query)


@pytest.mark.parametrize("patient", ["Ä37", "A\\B"])
def test_a_study_with_an_unsearchable_patient_id_is_found_by_its_uid(patient: str) -> None:
    def image(number: int, patient: str) -> Instance:
        return instance(ct(number, PatientID=patient))

    source = fill(Illiterate("A", MemorySettings()), image(1, patient), image(2, patient))
    order, destination = StudyRequest(STUDY, patient), node("B")
    told, _, error = run(source, destination, order=order)
    assert error is None
    assert sum_outcomes(outcomes(told)).completeness is Completeness.COMPLETE
    assert len(destination.held) == 2

    # The patient ID is still checked in each image.
    foreign = image(3, "SOMEBODY-ELSE")
    source.held[foreign.instance_uid] = foreign
    destination = node("C")
    _, _, error = run(source, destination, order=order)
    assert isinstance(error, RuleViolation)
    assert foreign.instance_uid not in destination.held


def test_a_second_patient_is_detected_before_a_changed_id_is_confirmed() -> None:
    source, destination = in_other_hands(), node("B")
    third = instance(ct(9, series="1", PatientID="A-THIRD"))
    source.held[third.instance_uid] = third

    _, _, error = run(source, destination, pseudonymized())
    assert isinstance(error, RuleViolation)
    assert not destination.held


@pytest.mark.parametrize("patient", [PATIENT, "A-THIRD"])
def test_a_confirmed_patient_id_permits_no_other_patient(patient: str) -> None:
    source, destination = in_other_hands(), node("B")
    another = instance(ct(9, series="2", PatientID=patient))
    source.held[another.instance_uid] = another

    _, manifests, error = run(source, destination, pseudonymized(), order=CHANGED)
    assert isinstance(error, RuleViolation)
    assert manifests[f"{ROOT}.1.2"].entries[another.instance_uid].reason == RULE_BROKEN


def test_a_missing_study_is_not_treated_as_a_merged_one() -> None:
    source = node("A", instance(ct(1, study="7")))
    _, _, error = run(source, node("B"))
    assert isinstance(error, NotFound)


class Forgetful(MemoryNode):
    """Lists an image but does not send it."""

    def fetch(self, refs: Sequence[Ref], *, patient_id: str = "") -> Iterator[Instance]:
        for one in super().fetch(refs, patient_id=patient_id):
            if not one.instance_uid.endswith(".1.2"):
                yield one


def test_the_second_of_two_images_with_one_uid_is_withheld(tmp_path: Path) -> None:
    twin = ct(1, series="2", SOPInstanceUID=f"{ROOT}.1.1.1")
    for name, one in {"a": ct(1), "b": ct(2), "c": twin, "d": ct(2, series="2")}.items():
        (tmp_path / name).write_bytes(file_bytes(one))
    source = FolderNode("A", FolderSettings(path=str(tmp_path)))
    destination = node("B")

    told, manifests, error = run(source, destination)

    assert error is None
    sums = sum_outcomes(outcomes(told))
    assert (sums.expected, sums.delivered, sums.withheld) == (4, 3, 1)
    assert manifests[f"{ROOT}.1.2"].entries[twin.SOPInstanceUID].reason == Message("uid-repeated")
    kept = destination.held[twin.SOPInstanceUID].in_header.ref
    assert kept.series_uid == f"{ROOT}.1.1"

    # It does not replace the first image in a second attempt either.
    for series in manifests.values():
        for uid in series.entries.keys() - series.delivered_entries().keys():
            del series.entries[uid]
    run(source, destination, held=manifests)
    assert destination.held[twin.SOPInstanceUID].in_header.ref == kept


def test_an_image_that_is_listed_but_not_sent_fails() -> None:
    source = fill(Forgetful("A", MemorySettings()), *two_series())

    told, manifests, error = run(source, node("B"))

    assert error is None
    assert sum_outcomes(outcomes(told)).completeness is Completeness.PARTIAL
    assert manifests[f"{ROOT}.1.1"].entries[f"{ROOT}.1.1.2"].reason == Message("not-received")


class FirstTimeForgetful(Forgetful):
    """Sends the image only if it is requested individually."""

    def fetch(self, refs: Sequence[Ref], *, patient_id: str = "") -> Iterator[Instance]:
        single = any(hasattr(ref, "instance_uid") for ref in refs)
        parent = MemoryNode if single else Forgetful
        yield from parent.fetch(self, refs, patient_id=patient_id)


def test_a_missing_image_is_requested_again_individually() -> None:
    source = fill(FirstTimeForgetful("A", MemorySettings()), *two_series())
    destination = node("B")

    told, _, _ = run(source, destination)

    assert sum_outcomes(outcomes(told)).completeness is Completeness.COMPLETE
    assert len(destination.held) == 10


class Capped(MemoryNode):
    def find(self, query: Query) -> FindResults:
        cap = 3 if query.level == "IMAGE" else None
        records = list(super().find(query))[:cap]
        return FindResults(iter(records), cap)


def test_a_capped_list_makes_the_outcome_unverifiable_even_if_all_arrive() -> None:
    source = fill(Capped("A", MemorySettings()), *two_series())
    destination = node("B")

    told, _, _ = run(source, destination)

    assert len(destination.held) == 10
    assert sum_outcomes(outcomes(told)).completeness is Completeness.UNVERIFIABLE
    assert sum_outcomes(outcomes(told)).expected is None


class Breaking(MemoryNode):
    """The connection breaks after three images."""

    def fetch(self, refs: Sequence[Ref], *, patient_id: str = "") -> Iterator[Instance]:
        for sent, one in enumerate(super().fetch(refs, patient_id=patient_id)):
            if sent == 3:
                raise ConnectionLost(self.name, "the connection broke off")
            yield one


@pytest.mark.parametrize(("status", "delivered"), [(0xC000, 5), (0xA702, 5), (0xA900, 0)])
def test_the_status_decides_if_a_refused_series_stops_the_others(
    status: int, delivered: int
) -> None:
    class Refuses(MemoryNode):
        def fetch(self, refs: Sequence[Ref], *, patient_id: str = "") -> Iterator[Instance]:
            if refs[0] == SeriesRef(STUDY.study_uid, f"{ROOT}.1.1"):
                raise NodeRefused(self.name, "refused the retrieval.", status)
            return super().fetch(refs, patient_id=patient_id)

    source, destination = fill(Refuses("A", MemorySettings()), *two_series()), node("B")

    told, manifests, error = run(source, destination)

    assert isinstance(error, NodeRefused)
    assert len(destination.held) == delivered
    assert not manifests[f"{ROOT}.1.1"].delivered_entries()
    assert [one.completeness for one in outcomes(told)] == [Completeness.COMPLETE] * bool(delivered)


def test_a_source_that_refuses_every_series_is_not_asked_for_all_of_them() -> None:
    asked: set[str] = set()

    class Refuses(MemoryNode):
        def fetch(self, refs: Sequence[Ref], *, patient_id: str = "") -> Iterator[Instance]:
            asked.update(ref.series_uid for ref in refs if isinstance(ref, SeriesRef))
            raise NodeRefused(self.name, "refused the retrieval.", 0xC000)

    images = [instance(ct(1, series=str(number))) for number in range(1, 8)]
    _, _, error = run(fill(Refuses("A", MemorySettings()), *images), node("B"))

    assert isinstance(error, NodeRefused)
    assert len(asked) == MAX_REFUSED


def test_the_ledger_keeps_images_delivered_before_a_connection_loss() -> None:
    source = fill(Breaking("A", MemorySettings()), *two_series())
    destination = node("B")

    _, manifests, error = run(source, destination)

    assert isinstance(error, ConnectionLost)
    delivered = manifests[f"{ROOT}.1.1"].delivered_entries()
    assert delivered.keys() == destination.held.keys()
    assert len(delivered) == 3


class Loses(MemoryNode):
    """Reports an image as stored, but does not keep it."""

    def store(self, instances: Iterable[Instance]) -> Iterator[StoreResult]:
        for stored in super().store(instances):
            if stored.ref.instance_uid.endswith(".4"):
                del self.held[stored.ref.instance_uid]
            yield stored


def test_an_image_that_the_destination_loses_is_not_delivered() -> None:
    destination = fill(Loses("B", MemorySettings()))

    told, manifests, _ = run(node("A", *two_series()), destination)

    assert sum_outcomes(outcomes(told)).delivered == 8
    assert manifests[f"{ROOT}.1.1"].entries[f"{ROOT}.1.1.4"].reason == Message(
        "not-kept.not-listed"
    )


class Growing(MemoryNode):
    """Gets one more image during each retrieval."""

    def fetch(self, refs: Sequence[Ref], *, patient_id: str = "") -> Iterator[Instance]:
        yield from super().fetch(refs, patient_id=patient_id)
        late = instance(ct(99, series="1"))
        self.held[late.instance_uid] = late


def test_an_image_added_during_the_transfer_is_fetched_and_reported() -> None:
    source = fill(Growing("A", MemorySettings()), *two_series())
    destination = node("B")

    told, _, _ = run(source, destination)

    assert f"{ROOT}.1.1.99" in destination.held
    assert any(Message("series.new-images") in o.notes for o in outcomes(told))


class OnTape(MemoryNode):
    """Lists one image as offline and one as nearline; must not be asked for the offline one."""

    def find(self, query: Query) -> FindResults:
        said = {f"{ROOT}.1.1.2": "OFFLINE", f"{ROOT}.1.1.3": "NEARLINE"}
        return FindResults(
            Record(
                one.level, {**one.values, "InstanceAvailability": said.get(one.instance_uid, "")}
            )
            for one in super().find(query)
        )

    def fetch(self, refs: Sequence[Ref], *, patient_id: str = "") -> Iterator[Instance]:
        for one in super().fetch(refs, patient_id=patient_id):
            assert one.instance_uid != f"{ROOT}.1.1.2", "an offline image was requested"
            yield one


def test_an_offline_image_fails_with_a_reason_and_a_nearline_one_is_delivered() -> None:
    source, destination = fill(OnTape("A", MemorySettings()), *two_series()), node("B")

    told, manifests, _ = run(source, destination)

    lost = manifests[f"{ROOT}.1.1"].entries[f"{ROOT}.1.1.2"]
    assert (lost.state, lost.reason) == (InstanceState.FAILED, Message("offline"))
    assert "administrator" in str(lost.reason)
    assert f"{ROOT}.1.1.3" in destination.held
    assert sum_outcomes(outcomes(told)).delivered == 9


def test_a_stopped_transfer_sends_nothing() -> None:
    source, destination, stop = node("A", *two_series()), node("B"), Stop()
    stop.set(Message("node.stopped", node="A"))

    _, _, error = run(source, destination, stop=stop)

    assert isinstance(error, Stopped)
    assert not destination.held


def test_an_image_of_a_refused_sop_class_is_withheld() -> None:
    report = instance(ct(1, series="3", SOPClassUID="1.2.840.10008.5.1.4.1.1.7", Modality="OT"))
    source, destination = node("A", *two_series(), report), node("B")

    told, manifests, error = run(source, destination, pseudonymized())

    assert error is None
    assert len(destination.held) == 10
    assert manifests[f"{ROOT}.1.3"].entries[report.instance_uid].state is InstanceState.WITHHELD


def test_a_verification_finding_withholds_the_rest_of_the_series(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Here the transformation is faulty: it leaves one image unchanged."""
    from adit_engine.pseudonymize import instance_pseudonymizer

    def leaky(change: object, one: Instance, *others: object) -> Instance:
        return one if one.instance_uid.endswith(".1.3") else real(change, one)

    real = instance_pseudonymizer.apply
    monkeypatch.setattr(instance_pseudonymizer, "apply", leaky)
    source, destination = node("A", *two_series()), node("B")

    told, manifests, error = run(source, destination, pseudonymized())

    assert error is None
    ends = {u.rsplit(".", 1)[1]: e for u, e in manifests[f"{ROOT}.1.1"].entries.items()}
    assert {n: e.state.value for n, e in ends.items()} == {
        "1": "delivered",
        "2": "delivered",
        "3": "withheld",
        "4": "withheld",
        "5": "withheld",
    }
    assert ends["5"].reason == Message("series-held-back")
    assert len(manifests[f"{ROOT}.1.2"].delivered_entries()) == 5
    assert all(b"Mustermann" not in b"".join(i.parts()) for i in destination.held.values())


def test_the_ledger_omits_a_patient_name_found_in_the_device_model() -> None:
    named = instance(ct(1, ManufacturerModelName="Scanner of Mustermann", SoftwareVersions="1"))
    source, destination = node("A", named), node("B")

    _, manifests, _ = run(source, destination, pseudonymized())

    entry = manifests[f"{ROOT}.1.1"].entries[named.instance_uid]
    assert entry.reason is not None
    assert (entry.state, entry.reason.category) == (InstanceState.WITHHELD, "verify-name")
    assert "Mustermann" not in json.dumps(entry.to_json())
    assert entry.device is not None
    assert (entry.device.sop_class, entry.device.rows) == (named.sop_class_uid, 16)


def test_the_outcome_quotes_why_the_source_list_is_incomplete() -> None:
    class Part(FindResults):
        is_capped = True
        shortfall = "has 2 files that cannot be read"

    class Source(MemoryNode):
        def find(self, query: Query) -> FindResults:
            return Part(super().find(query))

    source = fill(Source("A", MemorySettings()), *[instance(ct(n)) for n in range(1, 4)])

    told, _, error = run(source, node("B"), order=StudyRequest(STUDY, ""))

    assert error is None
    (outcome,) = outcomes(told)
    assert outcome.completeness is Completeness.UNVERIFIABLE
    (note,) = outcome.notes
    assert note.code == "source-list.incomplete"
    assert "2 files that cannot be read" in str(note)
