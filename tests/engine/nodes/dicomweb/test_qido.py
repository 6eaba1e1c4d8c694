"""QIDO-RS searches in a node that misbehaves: truncated lists and invalid JSON are detected."""

import itertools
import json
from collections.abc import Callable, Iterable
from contextlib import closing

import pytest
from lab import web_peers
from lab.web_peers import (
    JSON,
    STUDY,
    Liar,
    Request,
    Said,
    answer,
    chunk,
    failed,
    find,
    head,
    scripted,
)

from adit_engine.errors import (
    ConnectionLost,
    NodeRefused,
)
from adit_engine.nodes.dicomweb import dicom_json
from adit_engine.values.query import Query
from adit_engine.values.references import QueryLevel

nothing_left = web_peers.nothing_left


def listed(count: int, start: int = 0) -> bytes:
    return json.dumps(
        [
            {"0020000E": {"vr": "UI", "Value": [f"1.2.{number}"]}}
            for number in range(start, start + count)
        ]
    ).encode()


def paging(
    total: int, cap: int = 10**6, *, offset: bool = True, limit: bool = True, warn: bool = False
):
    """Respond as a node with `total` series that supports only some query parameters."""

    def say(request: Request) -> Iterable[Said]:
        asked = dict(pair.split("=") for pair in request.path.partition("?")[2].split("&"))
        start = int(asked["offset"]) if offset else 0
        most = min(cap, int(asked["limit"]) if limit else cap)
        count = max(min(total - start, most), 0)
        more = (
            {"Warning": '299 X "There are more results"'} if warn and start + count < total else {}
        )
        return answer(200, JSON, listed(count, start), **more)

    return say


@pytest.mark.parametrize(
    ("say", "count", "capped"),
    [
        (paging(250), 250, False),
        (paging(250, cap=40), 250, False),
        (paging(250, cap=40, warn=True), 250, False),
        (paging(250, cap=40, offset=False, warn=True), 40, True),
        (paging(250, offset=False), 100, True),
        (paging(250, offset=False, limit=False), 250, False),
        (paging(250, limit=False), 250, False),
        (paging(100), 100, False),
        (paging(7), 7, False),
        (paging(0), 0, False),
    ],
)
def test_a_search_is_complete_or_marked_as_capped(
    say: Callable[[Request], Iterable[Said]], count: int, capped: bool
) -> None:
    with Liar(say) as liar, closing(liar.node(page_size=100)) as node:
        found = node.find(Query.series_of(STUDY))

        assert len({record.series_uid for record in found}) == count
        assert found.is_capped is capped


@pytest.mark.parametrize(
    "keys",
    [{"PatientName": "Müller^Eva"}, {"SOPInstanceUID": tuple(f"1.2.{n}" for n in range(60))}],
)
def test_each_request_of_a_search_asks_for_the_wanted_attributes_only(
    keys: dict[str, str | tuple[str, ...]],
) -> None:
    asked: list[str] = []

    def say(request: Request) -> Iterable[Said]:
        asked.append(request.path)
        return answer(200, JSON, b"[]")

    with Liar(say) as liar, closing(liar.node()) as node:
        list(node.find(Query(QueryLevel.IMAGE, keys, only=("InstanceNumber",))))

    assert [path.count("includefield=") for path in asked] == [1, 1]


def test_a_search_is_capped_if_the_node_rejects_the_second_page() -> None:
    full, refusal = answer(200, JSON, listed(100)), answer(400)
    with Liar(scripted(full, refusal)) as liar, closing(liar.node(page_size=100)) as node:
        found = node.find(Query.series_of(STUDY))

        assert len(list(found)) == 100
        assert found.is_capped


def test_a_warning_about_a_parameter_does_not_mark_a_search_as_capped() -> None:
    warning = '299 X "The fuzzymatching parameter is not supported."'
    page = answer(200, JSON, listed(3), Warning=warning)
    with Liar(scripted(page)) as liar, closing(liar.node()) as node:
        found = node.find(Query.series_of(STUDY))
        list(found)

    assert not found.is_capped


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 200_000,
        b"[{" + b'"a":{"Value":[' * 100_000,
        b'[{"a": "' + b"x" * 3_000_000 + b'"}]',
        b'[{"a": ' + b"9" * 100_000 + b"}]",
        b"[1, 2]",
        b'["a"]',
        b"{}",
        b"[{}",
        b"[{},",
        b"[{} {}]",
        b"[{}] more",
        b'[{"a": "\xff"}]',
        b"null",
    ],
)
def test_malformed_deeply_nested_or_oversized_json_is_rejected(text: bytes) -> None:
    error = failed(find, scripted(answer(200, JSON, text)))

    assert type(error) is ConnectionLost
    assert "invalid JSON" in str(error)


@pytest.mark.parametrize(
    ("first", "for_ever"),
    [
        (chunk(b"["), chunk(b" " * 65536)),
        (chunk(b"[]"), chunk(b" " * 65536)),
        (chunk(b"[]") + b"0\r\n", b"X-More: to come\r\n" * 4000),
    ],
    ids=["before-an-object", "behind-the-list", "trailers"],
)
def test_an_endless_response_without_more_results_raises_connection_lost(
    first: bytes, for_ever: bytes
) -> None:
    said = itertools.chain([head(200, JSON), first], itertools.repeat(for_ever))

    error = failed(find, scripted(said))

    assert type(error) is ConnectionLost


def test_a_success_without_a_body_is_an_empty_list() -> None:
    nothing = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    with Liar(scripted([nothing])) as liar, closing(liar.node()) as node:
        assert find(node) == []


def test_a_search_is_lazy_and_can_be_closed_early() -> None:
    endless = (chunk(b"," * (n > 0) + listed(1, n)[1:-1]) for n in itertools.count())
    said = itertools.chain([head(200, JSON), chunk(b"[")], endless)
    with Liar(scripted(said)) as liar, closing(liar.node()) as node:
        answers = node.find(Query.series_of(STUDY))
        first = list(itertools.islice(answers, 50))
        answers.close()

    assert len({record.series_uid for record in first}) == 50


def test_an_endless_list_of_the_same_result_is_rejected() -> None:
    same = listed(1)[1:-1]
    said = itertools.chain(
        [head(200, JSON), chunk(b"[" + same)], itertools.repeat(chunk(b"," + same))
    )

    assert "endless list" in str(failed(find, scripted(said)))


def test_json_is_read_from_chunks_of_any_size() -> None:
    text = '[ {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "Ä^B", "Phonetic": "c"}]}} , {}]'
    data = text.encode()
    for size in (1, 2, 7, 1000):
        pieces = [data[i : i + size] for i in range(0, len(data), size)]

        first, second = (
            dicom_json.decode_record(QueryLevel.STUDY, it) for it in dicom_json.read_objects(pieces)
        )

        assert first.patient_name == "Ä^B==c"
        assert not second.values


def test_dicom_json_values_are_decoded_to_text() -> None:
    found = {
        "00080061": {"vr": "CS", "Value": ["CT", "SR"]},
        "00201208": {"vr": "IS", "Value": [12.0]},
        "00080020": {"vr": "DA", "Value": [None]},
        "00101030": {"vr": "DS", "Value": [70.5]},
        "00080050": {"vr": "SH"},
        "0020000d": {"Value": ["1.2.3 "]},
        "00091001": {"vr": "LO", "Value": ["private"]},
        "00081199": {"vr": "SQ", "Value": [{}]},
        "7FE00010": {"vr": "OW", "BulkDataURI": "http://x"},
        "nonsense": {"vr": "LO", "Value": ["x"]},
        "00080060": "nonsense",
        "00081030": {"vr": "LO", "Value": "nonsense"},
    }

    assert dict(dicom_json.decode_record(QueryLevel.STUDY, found).values) == {
        "ModalitiesInStudy": ("CT", "SR"),
        "NumberOfStudyRelatedInstances": "12",
        "StudyDate": "",
        "PatientWeight": "70.5",
        "AccessionNumber": "",
        "StudyInstanceUID": "1.2.3",
    }


def test_status_404_is_an_error_for_studies_and_an_empty_list_for_series() -> None:
    with Liar(scripted(answer(404))) as liar, closing(liar.node()) as node:
        with pytest.raises(NodeRefused, match="check the root URL"):
            list(node.find(Query(QueryLevel.STUDY, {"PatientID": "1"})))

        assert find(node) == []
