"""Patient search: complete results from a PACS that caps lists or ignores or refuses keys."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta

import pytest

from adit_engine.bounded_stream import Stop
from adit_engine.errors import InvalidInput, NodeRefused, Stopped
from adit_engine.messages import Message
from adit_engine.nodes.base import FindResults
from adit_engine.patient_search.search import (
    OUT_OF_RESOURCES,
    PatientQuery,
    PatientQueryResult,
    PatientSearch,
    PersonCriteria,
)
from adit_engine.values.query import Query
from adit_engine.values.record import Record
from adit_engine.values.references import QueryLevel


@dataclass
class Shelf:
    """A PACS with the limitations of real ones; records the queries that it receives."""

    records: list[Record]
    cap: int | None = None
    ignores: frozenset[str] = frozenset()
    refuses: frozenset[str] = frozenset()
    overflows: bool = False
    """Respond with A700 and no record instead of the first `cap` records."""
    is_silent_about_modalities: bool = False
    name: str = "PACS1"
    asked: list[Query] = field(default_factory=list)

    def find(self, query: Query) -> FindResults:
        self.asked.append(query)
        return FindResults(self._found(query), self.cap)

    def _found(self, query: Query) -> Iterator[Record]:
        used = set(query.keys) | ({"StudyDate"} if query.study_date else set())
        if used & self.refuses:
            raise NodeRefused(self.name, "does not know a key.", status=0xA900)
        plain = Query(
            query.level,
            {name: value for name, value in query.keys.items() if name not in self.ignores},
            None if "StudyDate" in self.ignores else query.study_date,
        )
        matching = [r for r in self.records if r.level is query.level and plain.matches(r)]
        if self.overflows and self.cap is not None and len(matching) > self.cap:
            raise NodeRefused(self.name, "has too much to say.", status=OUT_OF_RESOURCES)
        for record in matching[: self.cap]:
            if self.is_silent_about_modalities and record.level is QueryLevel.STUDY:
                yield Record(record.level, {**record.values, "ModalitiesInStudy": ""})
            else:
                yield record


def study(uid: int, **values: object) -> Record:
    usual = {
        "StudyInstanceUID": f"1.2.{uid}",
        "PatientID": "1001",
        "PatientName": "Müller^Jürgen",
        "PatientBirthDate": "19640812",
        "StudyDate": "20240229",
        "StudyDescription": "CT Thorax",
        "ModalitiesInStudy": ("CT",),
        "AccessionNumber": f"A{uid}",
    }
    return Record(QueryLevel.STUDY, {**usual, **values})  # type: ignore[arg-type]


def series(of: int, number: int, **values: object) -> Record:
    usual = {
        "StudyInstanceUID": f"1.2.{of}",
        "SeriesInstanceUID": f"1.2.{of}.{number}",
        "SeriesNumber": str(number),
        "SeriesDescription": f"Serie {number}",
        "Modality": "CT",
    }
    return Record(QueryLevel.SERIES, {**usual, **values})  # type: ignore[arg-type]


def ask(shelf: Shelf, *questions: PatientQuery) -> list[PatientQueryResult]:
    return list(PatientSearch(shelf, Stop()).search(questions))


def uids(answer: PatientQueryResult) -> list[str]:
    return [record.series_uid or record.study_uid for record in answer.records]


BY_ID = PersonCriteria(patient_id="1001")


def named(family: str, given: str = "", born: date = date(1964, 8, 12)) -> PatientQuery:
    return PatientQuery(PersonCriteria(family=family, given=given, birth_date=born))


@pytest.mark.parametrize("held", ["Müller^Jürgen", "Mueller^Juergen", "MUELLER^JUERGEN^KARL^DR."])
@pytest.mark.parametrize("asked", ["Müller", "Mueller", "MÜLLER"])
def test_umlauts_are_found_in_both_spellings(asked: str, held: str) -> None:
    (answer,) = ask(Shelf([study(1, PatientName=held)]), named(asked, "Jürgen"))

    assert uids(answer) == ["1.2.1"]


@pytest.mark.parametrize("held", ["Müller^Hans", "Muster^Jürgen", "Möller^Jürgen"])
def test_another_name_does_not_match(held: str) -> None:
    (answer,) = ask(Shelf([study(1, PatientName=held)]), named("Müller", "Jürgen"))

    assert uids(answer) == []


def test_a_name_without_latin_letters_is_searched_by_birth_date() -> None:
    shelf = Shelf([study(1, PatientName="Yamada^Tarou=山田^太郎"), study(2)])

    (answer,) = ask(shelf, named("山田", "太郎"))

    assert uids(answer) == ["1.2.1"]
    assert [set(query.keys) for query in shelf.asked] == [{"PatientBirthDate"}]


def test_a_name_with_an_unexpected_spelling_is_found_by_birth_date() -> None:
    shelf = Shelf([study(1, PatientName="Weiß-Groß^A")])

    (answer,) = ask(shelf, named("Weiss Gross", "A"))

    assert uids(answer) == ["1.2.1"]


def test_the_pacs_is_queried_by_patient_id_only_and_the_rest_is_filtered() -> None:
    shelf = Shelf(
        [study(1), study(2, StudyDescription="MR Kopf", ModalitiesInStudy=("MR", "SR")), study(3)]
    )
    question = PatientQuery(BY_ID, modalities=("MR", "PT"), study_description="mr*KOPF")

    (answer,) = ask(shelf, question)

    assert uids(answer) == ["1.2.2"]
    assert [dict(query.keys) for query in shelf.asked] == [{"PatientID": "1001"}]


def test_one_query_serves_all_rows_with_the_same_key() -> None:
    shelf = Shelf([study(1), study(2, StudyDescription="MR Kopf", ModalitiesInStudy=("MR",))])
    rows = (
        PatientQuery(BY_ID),
        PatientQuery(BY_ID, modalities=("MR",)),
        PatientQuery(BY_ID, study_description="*abdomen*"),
    )
    assert len({row.key for row in rows}) == 1

    answers = ask(shelf, *rows)

    assert [uids(answer) for answer in answers] == [["1.2.1", "1.2.2"], ["1.2.2"], []]
    assert len(shelf.asked) == 1


def test_studies_are_returned_newest_first() -> None:
    days = ("20200101", "20240101", "20220101")
    shelf = Shelf([study(n, StudyDate=day) for n, day in enumerate(days)])

    (answer,) = ask(shelf, PatientQuery(BY_ID))

    assert uids(answer) == ["1.2.1", "1.2.2", "1.2.0"]


def test_date_limits_are_inclusive() -> None:
    shelf = Shelf([study(n, StudyDate=f"2024010{n}") for n in range(1, 6)])

    (answer,) = ask(shelf, PatientQuery(BY_ID, date(2024, 1, 2), date(2024, 1, 4)))

    assert sorted(uids(answer)) == ["1.2.2", "1.2.3", "1.2.4"]


@pytest.mark.parametrize("overflows", [False, True])
def test_capped_results_are_completed_by_splitting_the_date_range(overflows: bool) -> None:
    first = date(2010, 1, 1)
    days = [first + timedelta(days=11 * n) for n in range(200)]
    held = [study(n, StudyDate=f"{day:%Y%m%d}") for n, day in enumerate(days)]
    shelf = Shelf(held, cap=25, overflows=overflows)

    (answer,) = ask(shelf, PatientQuery(BY_ID))

    assert len(answer.records) == 200
    assert not answer.is_capped


def test_more_studies_in_one_day_than_the_cap_give_a_capped_result() -> None:
    shelf = Shelf([study(n) for n in range(40)], cap=10)

    (answer,) = ask(shelf, PatientQuery(BY_ID, date(2024, 2, 1), date(2024, 3, 1)))

    assert answer.is_capped
    assert len(answer.records) == 10


def test_a_pacs_that_refuses_even_a_query_for_one_day_raises_an_error() -> None:
    shelf = Shelf([study(n) for n in range(40)], cap=10, overflows=True)

    with pytest.raises(NodeRefused):
        ask(shelf, PatientQuery(BY_ID, date(2024, 2, 29), date(2024, 2, 29)))


@pytest.mark.parametrize("key", ["PatientID", "StudyDate", "PatientName"])
def test_an_ignored_query_key_does_not_return_other_patients(key: str) -> None:
    held = [study(1), study(2, PatientID="9", PatientName="Doe^J"), study(3, StudyDate="20200101")]
    shelf = Shelf(held, ignores=frozenset({key}))
    question = PatientQuery(
        PersonCriteria("1001", "Müller", "Jürgen", date(1964, 8, 12)),
        date(2024, 1, 1),
        date(2024, 12, 31),
    )

    (answer,) = ask(shelf, question)

    assert uids(answer) == ["1.2.1"]


def test_a_refused_query_key_is_omitted_and_the_result_is_relaxed() -> None:
    shelf = Shelf([study(1), study(2, StudyDate="20200101")], refuses=frozenset({"StudyDate"}))

    (answer,) = ask(shelf, PatientQuery(BY_ID, first_day=date(2024, 1, 1)))

    assert uids(answer) == ["1.2.1"]
    assert answer.is_relaxed


def test_a_pacs_that_refuses_the_only_key_raises_an_error() -> None:
    with pytest.raises(NodeRefused):
        ask(Shelf([study(1)], refuses=frozenset({"PatientID"})), PatientQuery(BY_ID))


def test_a_patient_id_of_another_person_is_reported() -> None:
    person = PersonCriteria("1001", "Huber", "Anna", date(1990, 1, 1))

    (answer,) = ask(Shelf([study(1)]), PatientQuery(person))

    assert answer.other_person
    assert uids(answer) == []


def test_an_accession_number_alone_finds_its_study() -> None:
    (answer,) = ask(
        Shelf([study(1), study(2)]), PatientQuery(PersonCriteria(accession_number="A2"))
    )

    assert uids(answer) == ["1.2.2"]


def test_the_result_counts_the_patients_found() -> None:
    shelf = Shelf([study(1), study(2, PatientID="1002")])

    (answer,) = ask(shelf, named("Müller", "Jürgen"))

    assert answer.patients == 2


def test_series_are_found_by_number_and_description_with_study_values() -> None:
    held = [study(1), series(1, 1), series(1, 2, SeriesDescription="T1 MPRAGE"), series(1, 3)]
    rows = (
        PatientQuery(BY_ID, series_description="t1*"),
        PatientQuery(BY_ID, series_number=3),
        PatientQuery(BY_ID, series_description="*", series_number=1),
    )
    shelf = Shelf(held)

    answers = ask(shelf, *rows)

    assert [uids(answer) for answer in answers] == [["1.2.1.2"], ["1.2.1.3"], ["1.2.1.1"]]
    assert answers[0].records[0].patient_id == "1001"
    assert [query.level for query in shelf.asked] == [QueryLevel.STUDY, QueryLevel.SERIES]


def test_missing_modalities_in_study_are_read_from_the_series() -> None:
    held = [study(1), study(2), series(1, 1), series(2, 1, Modality="MR")]
    shelf = Shelf(held, is_silent_about_modalities=True)

    (answer,) = ask(shelf, PatientQuery(BY_ID, modalities=("MR",)))

    assert uids(answer) == ["1.2.2"]


def test_stop_ends_the_search() -> None:
    stop = Stop()
    stop.set(Message("node.stopped", node="PACS1"))

    with pytest.raises(Stopped):
        list(PatientSearch(Shelf([study(1)]), stop).search([PatientQuery(BY_ID)]))


def test_a_patient_query_survives_a_json_round_trip() -> None:
    question = PatientQuery(
        PersonCriteria("1", "Müller", "Jürgen", date(1964, 8, 12), "A1"),
        date(2024, 1, 1),
        None,
        ("CT", "MR"),
        "thorax*",
        "t1?",
        3,
    )

    assert PatientQuery.from_json(question.to_json()) == question


def test_a_family_name_alone_is_not_sufficient_to_search() -> None:
    with pytest.raises(InvalidInput):
        PersonCriteria(family="Müller")
