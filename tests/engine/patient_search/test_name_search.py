"""A name as typed finds its patient in each spelling and order, in archives that match as they do."""

import fnmatch
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from lab import peers, samples

from adit.demo.pacs import DemoPacs
from adit_engine.nodes.base import FindResults
from adit_engine.nodes.dimse.node import DimseNode
from adit_engine.patient_search import name_search
from adit_engine.patient_search.name_matching import TypedName
from adit_engine.values.query import Query
from adit_engine.values.record import Record
from adit_engine.values.references import QueryLevel

HELD = (
    "Müller^Jürgen",
    "MUELLER^JUERGEN^KARL",
    "Weiß^Renate",
    "Weiss^René",
    "Lefèvre^Éva",
    "von der Heide^Anna",
    "Möller^Jürgen",
)
MUELLERS = {"Müller^Jürgen", "MUELLER^JUERGEN^KARL"}
CHARACTER_SETS = ("ISO_IR 100", "ISO_IR 192")
QUERIES: tuple[tuple[str, set[str]], ...] = (
    ("Müller", MUELLERS),
    ("mueller", MUELLERS),
    ("MÜL", MUELLERS),
    ("Müller, Jürgen", MUELLERS),
    ("Juergen Mueller", MUELLERS),
    ("mueller jürgen", MUELLERS),
    ("Müller^Jürgen", MUELLERS),
    ("Dr. Karl Müller", {"MUELLER^JUERGEN^KARL"}),
    ("Müller, Hans", set()),
    ("Jürgen, Müller", set()),
    ("weiss", {"Weiß^Renate", "Weiss^René"}),
    ("Weiß, Rene", {"Weiss^René"}),
    ("lefevre", {"Lefèvre^Éva"}),
    ("Eva Lefèvre", {"Lefèvre^Éva"}),
    ("Anna von der Heide", {"von der Heide^Anna"}),
    ("m?ller", {"Müller^Jürgen", "Möller^Jürgen"}),
    ("*juerg*", {"Müller^Jürgen", "MUELLER^JUERGEN^KARL", "Möller^Jürgen"}),
)


@dataclass
class StrictPacs:
    """A PACS that compares names letter by letter, as several do; records the keys it receives."""

    names: tuple[str, ...] = HELD
    ignores_case: bool = False
    cap: int | None = None
    name: str = "PACS1"
    asked: list[str] = field(default_factory=list)

    def find(self, query: Query) -> FindResults:
        key = query.keys["PatientName"]
        assert isinstance(key, str)
        self.asked.append(key)
        return FindResults(self._records(key), self.cap)

    def _records(self, key: str) -> Iterator[Record]:
        for number, name in enumerate(self.names):
            same = (str.casefold if self.ignores_case else str)(name)
            if fnmatch.fnmatchcase(same, key.casefold() if self.ignores_case else key):
                values = {"StudyInstanceUID": f"1.2.{number}", "PatientName": name}
                yield Record(QueryLevel.STUDY, values)


def by_name(text: str) -> Query:
    return Query(QueryLevel.STUDY, {"PatientName": text})


def names(found: FindResults) -> set[str]:
    return {record.patient_name for record in found}


@pytest.mark.parametrize(("typed", "expected"), QUERIES)
def test_a_typed_name_is_found_letter_by_letter_in_each_spelling_and_order(
    typed: str, expected: set[str]
) -> None:
    pacs = StrictPacs()

    assert names(name_search.find(pacs, by_name(typed))) == expected
    assert len(pacs.asked) <= 6
    assert all(key.isascii() for key in pacs.asked)


@contextmanager
def _orthanc(folder: Path) -> Iterator[DimseNode]:
    more = {"CaseSensitivePN": True, "DefaultEncoding": "Latin1"}
    with peers.orthanc(folder / "orthanc", "PACS", **more) as archive:
        yield archive.node()


@contextmanager
def _dcmqrscp(folder: Path) -> Iterator[DimseNode]:
    with peers.dcmqrscp(folder / "qr") as port:
        yield peers.node(port, "QR")


@contextmanager
def _demo(folder: Path) -> Iterator[DimseNode]:
    with DemoPacs("DEMO", folder / "demo") as pacs:
        yield peers.node(pacs.port, "DEMO")


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(_orthanc, marks=peers.needs_orthanc),
        pytest.param(_dcmqrscp, marks=peers.needs_dcmtk),
        _demo,
    ],
)
def test_real_archives_find_typed_names_in_latin_1_and_utf_8(
    run: Callable[[Path], AbstractContextManager[DimseNode]], tmp_path: Path
) -> None:
    objects = [
        samples.instance(
            samples.ct(study=f"{page}.{n}", SpecificCharacterSet=charset, PatientName=name)
        )
        for page, charset in enumerate(CHARACTER_SETS, start=1)
        for n, name in enumerate(HELD, start=1)
    ]
    with run(tmp_path) as node, closing(node):
        assert all(stored.is_stored for stored in node.store(iter(objects)))

        for typed, expected in QUERIES:
            found = [r.patient_name for r in name_search.find(node, by_name(typed))]
            assert sorted(found) == sorted([*expected] * len(CHARACTER_SETS)), typed


def test_a_pacs_that_shows_that_it_ignores_case_is_not_asked_in_capitals() -> None:
    pacs = StrictPacs(ignores_case=True)

    assert names(name_search.find(pacs, by_name("Müller, Jürgen"))) == MUELLERS
    assert pacs.asked == ["M*ll*r*J*rg*"]


def test_a_short_name_keeps_enough_letters_to_be_a_narrow_query() -> None:
    assert TypedName("Lee").wildcards() == ("Lee*", "LEE*")
    assert TypedName("Meier").wildcards() == ("Meier*", "MEIER*", "Me*r*", "ME*R*")


def test_a_name_without_latin_letters_is_queried_as_typed() -> None:

    assert TypedName("山田").wildcards() == ("山田*",)
    assert TypedName("山田").matches("Yamada^Tarou=山田^太郎")


def test_further_queries_end_in_time_and_mark_the_result_as_incomplete() -> None:
    pacs = StrictPacs()
    times = iter([0.0, *[name_search.FURTHER_QUERIES_S + 1] * 20])

    found = name_search.find(pacs, by_name("Müller"), lambda: next(times))

    assert names(found) == {"Müller^Jürgen"}
    assert pacs.asked == ["M*ller*"]
    assert found.is_capped


def test_a_capped_answer_to_one_of_the_queries_makes_the_result_incomplete() -> None:
    found = name_search.find(StrictPacs(cap=1), by_name("Müller"))

    list(found)

    assert found.is_capped
