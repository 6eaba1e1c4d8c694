"""QIDO-RS: the searches of pages for programs, with the same limits and the same masks."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.utils import timezone
from lab.dicomweb_api import Program
from lab.jobs import put_study

from adit.accounts.models import User
from adit.audit.models import AuditEvent
from adit.dicomweb import searching
from adit.nodes.models import Node

pytestmark = pytest.mark.django_db


@pytest.fixture
def sighted(make_program: Callable[..., Program], root: User) -> Program:
    """A program whose user may see identified data."""
    return make_program("query", user=root)


def find(program: Program, path: str, **parameters: Any) -> list[dict[str, Any]]:
    answer = program.get(path, **parameters)
    assert answer.status_code == 200, answer.content
    assert answer["Content-Type"] == "application/dicom+json"
    found: list[dict[str, Any]] = answer.json()
    return found


def values(found: list[dict[str, Any]], tag: str) -> list[Any]:
    return [one.get(tag, {}).get("Value", [None])[0] for one in found]


def test_studies_are_found_by_keyword_and_by_tag(sighted: Program, source: Node) -> None:
    first, second = put_study(source, "1"), put_study(source, "2", PatientID="OTHER")

    by_keyword = find(sighted, "qidors/studies", PatientID="OTHER")
    by_tag = find(sighted, "qidors/studies", **{"00100020": "PID-4711-0815"})
    by_uids = find(sighted, "qidors/studies", StudyInstanceUID=f"{first},{second}")
    nothing = find(sighted, "qidors/studies", PatientID="NOBODY")

    assert values(by_keyword, "0020000D") == [second]
    assert values(by_tag, "0020000D") == [first]
    assert values(by_uids, "0020000D") == [first, second]
    assert nothing == []
    assert by_tag[0]["00100010"] == {"vr": "PN", "Value": [{"Alphabetic": "Mustermann^Änne"}]}
    assert by_tag[0]["00081190"]["Value"][0].endswith(f"/PACS1/wadors/studies/{first}")
    event = AuditEvent.objects.filter(action="search.run").first()
    assert event is not None
    assert event.details["named"] == "API token script"


@pytest.mark.parametrize(
    ("key", "text", "is_found"),
    [
        ("00100020", "*4711*", True),
        ("PatientID", "PID-4711-081?", True),
        ("PatientID", "pid*", False),
        ("AccessionNumber", "AC*", True),
        ("AccessionNumber", "*B", False),
        ("StudyTime", "10", True),
        ("StudyTime", "101500.000000", True),
        ("StudyTime", "1000-1015", True),
        ("StudyTime", "-1014", False),
        ("StudyTime", "101501-", False),
        ("PatientBirthDate", "19560101-19561231", True),
    ],
)
def test_identifiers_and_times_match_by_wildcard_and_range(
    key: str, text: str, is_found: bool, sighted: Program, source: Node
) -> None:
    about = {"PatientBirthDate": "19560417", "StudyTime": "101500", "AccessionNumber": "AC1"}
    study = put_study(source, **about)

    found = find(sighted, "qidors/studies", **{key: text})

    assert values(found, "0020000D") == [study] * is_found


def test_series_and_instances_of_a_study_are_listed(sighted: Program, source: Node) -> None:
    study = put_study(source, images=2, series=2)

    series = find(sighted, f"qidors/studies/{study}/series")
    of_series = find(sighted, f"qidors/studies/{study}/series/{study}.2/instances")
    of_study = find(sighted, f"qidors/studies/{study}/instances")
    of_modality = [
        find(sighted, f"qidors/studies/{study}/instances", Modality=modality)
        for modality in ("CT", "MR")
    ]
    second = find(
        sighted, f"qidors/studies/{study}/instances", SeriesNumber="2", InstanceNumber="1"
    )
    anywhere = find(sighted, "qidors/series", PatientID="PID-4711-0815", Modality="CT")

    assert values(series, "0020000E") == [f"{study}.1", f"{study}.2"]
    assert values(series, "00200011") == [1, 2]
    assert values(of_series, "00080018") == [f"{study}.2.1", f"{study}.2.2"]
    assert len(of_study) == 4
    assert [len(found) for found in of_modality] == [4, 0]
    assert values(second, "00080018") == [f"{study}.2.1"]
    assert values(anywhere, "0020000E") == values(series, "0020000E")


def test_pages_come_in_the_order_of_uids(sighted: Program, source: Node) -> None:
    studies = [put_study(source, str(number)) for number in (3, 1, 2, 4)]
    asked = {"PatientID": "PID-4711-0815"}

    first = find(sighted, "qidors/studies", **asked, limit=3)
    rest = find(sighted, "qidors/studies", **asked, limit=3, offset=3)

    assert values(first + rest, "0020000D") == sorted(studies)
    assert AuditEvent.objects.filter(action="node.opened").count() == 1


def test_names_and_birth_dates_are_neither_shown_nor_searched_without_permission(
    make_program: Callable[..., Program], make_user: Any, source: Node
) -> None:
    put_study(source)
    user = make_user("blind", "Coordinators")
    group = user.groups.get()
    group.permissions.remove(Permission.objects.get(codename="see_identified"))
    program = make_program("query", user=user)

    found = find(program, "qidors/studies", PatientID="PID-4711-0815", includefield="00080090")
    refused = program.get("qidors/studies", PatientName="Muster*")

    assert found[0]["00100010"] == {"vr": "PN"}
    assert found[0]["00100030"] == {"vr": "DA"}
    assert found[0]["00080090"] == {"vr": "PN"}
    assert found[0]["00100020"]["Value"] == ["PID-4711-0815"]
    assert (refused.status_code, "PatientName" in refused.json()) == (400, True)


def test_the_requests_of_a_viewer_are_understood(sighted: Program, source: Node) -> None:
    study = put_study(source)
    listing = {"limit": 101, "offset": 0, "fuzzymatching": "false"}
    fields = {"includefield": "00081030,00080060,00080090,00100030"}

    found = find(sighted, "qidors/studies", **listing, **fields, PatientName="*muster*")
    by_modality = find(sighted, "qidors/studies", ModalitiesInStudy="CT,MR", StudyDate="20240101-")

    assert values(found, "0020000D") == values(by_modality, "0020000D") == [study]
    assert "00080090" in found[0]


def test_a_search_without_a_narrowing_key_prefers_recent_studies(
    sighted: Program, source: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = put_study(source)
    new = put_study(source, "2", StudyDate=timezone.localdate().strftime("%Y%m%d"))
    everything = sighted.get("qidors/studies", limit=101)
    monkeypatch.setattr(searching, "MANY_RECENT", 1)
    recent = sighted.get("qidors/studies", limit=102)

    assert values(everything.json(), "0020000D") == [old, new]
    assert "Warning" not in everything
    assert values(recent.json(), "0020000D") == [new]
    assert "last 7 days" in recent["Warning"]


def test_a_result_cut_at_the_limit_says_so(sighted: Program, source: Node, settings: Any) -> None:
    settings.SEARCH_LIMIT = 2
    for number in range(3):
        put_study(source, str(number + 1))

    answer = sighted.get("qidors/studies", PatientID="PID-4711-0815")

    assert (answer.status_code, len(answer.json())) == (200, 2)
    assert answer["Warning"].startswith('299 ADIT "There are more results at PACS1')


def test_unknown_parameters_are_ignored_with_a_warning(sighted: Program, source: Node) -> None:
    put_study(source)

    answer = sighted.get("qidors/studies", PatientID="PID-4711-0815", wrong="1")

    assert (answer.status_code, len(answer.json())) == (200, 1)
    assert "wrong" in answer["Warning"]


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("limit", "-1"),
        ("limit", "many"),
        ("offset", "1.5"),
        ("StudyDate", "2024-01-01"),
        ("StudyDate", "2026015"),
        ("StudyDate", "20240201-20240101"),
        ("fuzzymatching", "maybe"),
        ("StudyInstanceUID", "1.2.x"),
        ("PatientID", "a\\b"),
    ],
)
def test_an_invalid_value_is_refused_with_its_parameter(
    parameter: str, value: str, sighted: Program, source: Node
) -> None:
    answer = sighted.get("qidors/studies", **{parameter: value})

    assert answer.status_code == 400
    assert answer.json()[parameter] == [answer.json()["detail"]]


def test_only_json_is_offered(sighted: Program, source: Node) -> None:
    answer = sighted.get("qidors/studies", accept="application/dicom+xml", PatientID="1")

    assert answer.status_code == 406
