"""Consecutive searches share one association and recover from its loss."""

from datetime import date

import pytest
from lab import peers
from lab.samples import ct, instance
from lab.wire import Wire

from adit_engine.bounded_stream import Stop
from adit_engine.errors import ConnectionLost, Stopped
from adit_engine.nodes.base import SupportsSharedAssociation
from adit_engine.nodes.dimse.node import DimseNode
from adit_engine.patient_search.search import PatientQuery, PatientSearch, PersonCriteria
from adit_engine.values.query import Query
from adit_engine.values.references import QueryLevel

ALL = Query(QueryLevel.STUDY, {"PatientName": "*"})
FAR = 1 << 40


@pytest.fixture
def filled(orthancs: tuple[peers.Orthanc, peers.Orthanc]) -> peers.Orthanc:
    """An Orthanc that responds in UTF-8; in Latin-1 it omits what it cannot encode."""
    archive = orthancs[1]
    people = (
        ("1", "Mueller^Juergen^Karl", "ISO_IR 100", "19640812"),
        ("2", "Müller^Anna", "ISO_IR 100", "19640812"),
        ("3", "Yamada^Tarou=山田^太郎=やまだ^たろう", ["", "ISO 2022 IR 87"], "19700101"),
        ("4", "Weiß^Zoë", "ISO_IR 192", "19800202"),
    )
    list(
        archive.node().store(
            instance(
                ct(
                    study=number,
                    PatientID=f"P{number}",
                    PatientName=name,
                    SpecificCharacterSet=charset,
                    PatientBirthDate=born,
                )
            )
            for number, name, charset, born in people
        )
    )
    return archive


def through(wire: Wire, archive: peers.Orthanc) -> DimseNode:
    return peers.node(wire.port, archive.called)


def patients(node: DimseNode, query: Query = ALL) -> list[str]:
    return sorted(record.patient_id for record in node.find(query))


def test_searches_within_share_association_use_one_association(
    filled: peers.Orthanc, same_threads: None
) -> None:
    with Wire(filled.port, FAR, "cut") as wire:
        node = through(wire, filled)
        assert isinstance(node, SupportsSharedAssociation)

        with node.share_association():
            answers = [patients(node) for _ in range(5)]
        after = patients(node)

        assert answers == [["P1", "P2", "P3", "P4"]] * 5
        assert after == answers[0]
        assert wire.connections == 2


def test_a_lost_association_is_reopened_for_the_next_search(filled: peers.Orthanc) -> None:
    with Wire(filled.port, 1500, "cut", heals=True) as wire:
        node = through(wire, filled)
        with node.share_association():
            answers = [
                patients(node, Query(QueryLevel.STUDY, {"PatientID": "P1"})) for _ in range(10)
            ]

        assert answers == [["P1"]] * 10
        assert wire.connections == 2


def test_an_interrupted_search_raises_an_error_and_the_next_one_succeeds(
    filled: peers.Orthanc,
) -> None:
    with Wire(filled.port, 700, "cut", heals=True) as wire:
        node = through(wire, filled)
        with node.share_association():
            with pytest.raises(ConnectionLost):
                patients(node)
            assert len(patients(node)) == 4


def test_a_search_that_is_not_read_to_its_end_does_not_affect_the_next(
    filled: peers.Orthanc,
) -> None:
    with Wire(filled.port, FAR, "cut") as wire:
        node = through(wire, filled)
        with node.share_association():
            begun = node.find(ALL)
            next(begun)
            begun.close()
            assert len(patients(node)) == 4


def test_a_search_after_abort_raises_stopped(filled: peers.Orthanc) -> None:
    node = filled.node()
    with node.share_association():
        assert len(patients(node)) == 4
        node.abort()
        with pytest.raises(Stopped):
            patients(node)


@pytest.mark.parametrize(
    ("family", "given", "born", "found"),
    [
        ("Müller", "Jürgen", date(1964, 8, 12), ["P1"]),
        ("Mueller", "Anna", date(1964, 8, 12), ["P2"]),
        ("Müller", "", date(1964, 8, 12), ["P1", "P2"]),
        ("MÜLLER", "Karl", date(1964, 8, 12), []),
        ("山田", "太郎", date(1970, 1, 1), ["P3"]),
        ("Yamada", "Tarou", date(1970, 1, 1), ["P3"]),
        ("Weiss", "Zoe", date(1980, 2, 2), ["P4"]),
        ("Weiß", "Zoë", date(1980, 2, 3), []),
    ],
)
@pytest.mark.parametrize("fallback", ["ISO_IR 100", "ISO_IR 192"])
def test_patients_are_found_in_orthanc_in_any_character_set(
    filled: peers.Orthanc, family: str, given: str, born: date, found: list[str], fallback: str
) -> None:
    node = filled.node(character_set_fallback=fallback)
    question = PatientQuery(PersonCriteria(family=family, given=given, birth_date=born))

    (answer,) = PatientSearch(node, Stop()).search([question])

    assert sorted(record.patient_id for record in answer.records) == found
