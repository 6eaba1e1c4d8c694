"""What clients may write in headers and queries, and which answer they get (PS3.18 8)."""

import gzip
import json
from collections.abc import Callable
from itertools import product
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from lab import samples
from lab.dicomweb_api import Program
from lab.jobs import put_study, shelf

from adit.accounts.models import User
from adit.dicomweb.models import Retrieval
from adit.nodes.models import Node, Slot

pytestmark = pytest.mark.django_db

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
JPEG_2000 = "1.2.840.10008.1.2.4.90"
PARTS = 'multipart/related; type="application/dicom"'
ASKED = {"PatientID": "PID-4711-0815"}


@pytest.fixture
def program(make_program: Callable[..., Program], root: User) -> Program:
    """A program that may do everything, also with identified data."""
    root.user_permissions.add(Permission.objects.get(codename="transfer_identified"))
    return make_program("query", "retrieve", "store", "identified", user=root)


@pytest.fixture
def image(source: Node) -> str:
    study = put_study(source, images=2)
    return f"wadors/studies/{study}/series/{study}.1/instances/{study}.1.1"


def call(program: Program, method: str, path: str, **headers: str) -> Any:
    """Return the answer to a request, whose body was read to its end."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    address = f"{program.root}/{path}"
    return finish(Client().generic(method, address, headers={**program.headers, **names}))


def call_by_link(program: Program, path: str, **parameters: str) -> Any:
    """Like a browser that opens a link: its own header Accept says nothing about images."""
    return call(program, "GET", f"{path}?{urlencode(parameters)}", Accept="text/html")


def finish(answer: Any) -> Any:
    """Read a streamed body: until then, the retrieval goes on."""
    answer.body = b"".join(answer) if answer.streaming else answer.content
    return answer


PICTURES = [
    ("", "image/jpeg"),
    ("*/*", "image/jpeg"),
    ("image/*", "image/jpeg"),
    ("image/png", "image/png"),
    ("image/gif", "image/gif"),
    ("text/html, image/png;q=0.9, image/jpeg;q=0.8", "image/png"),
    ("image/jpeg;q=0.2, image/png;q=0.7, */*;q=0.1", "image/png"),
    ("image/jpeg;q=0, image/*", "image/png"),
    ("*/*, image/jpeg;q=0.3", "image/png"),
    ("image/jpeg; Q=0.5, IMAGE/PNG", "image/png"),
    ("image/png;q=high, image/jpeg;q=0.5", "image/png"),
    ('multipart/related; type="image/jpeg"', 'multipart/related; type="image/jpeg"'),
]


def test_the_preferred_picture_is_sent(program: Program, image: str) -> None:
    for accept, kind in PICTURES:
        answer = call(program, "GET", f"{image}/rendered", Accept=accept)
        in_query = call_by_link(program, f"{image}/rendered", accept=accept or "image/jpeg")

        assert answer["Content-Type"].startswith(kind), accept
        assert in_query["Content-Type"].startswith(kind), accept
    for accept in ("image/jp2", "image/png;q=0", "text/*", "video/*"):
        refused = call(program, "GET", f"{image}/rendered", Accept=accept)
        assert (refused.status_code, refused.json()["code"]) == (406, "dicomweb.only-pictures")


IMAGES = [
    (f"{PARTS}; transfer-syntax=*", PARTS),
    ('multipart/related; type="application/dicom";transfer-syntax=*', PARTS),
    (f"application/dicom;q=0.5, {PARTS}", PARTS),
    (f"{PARTS};q=0.5, application/dicom", "application/dicom"),
    (
        "multipart/related; type=application/octet-stream, application/dicom",
        "application/dicom",
    ),
    (f"{PARTS}; transfer-syntax={JPEG_2000}, {PARTS}; transfer-syntax={EXPLICIT};q=0.5", PARTS),
    (f"{PARTS}; transfer-syntax={JPEG_2000}, {PARTS}; transfer-syntax=*;q=0.1", PARTS),
    ("application/dicom; transfer-syntax=1.2.840.10008.1.2.1", "application/dicom"),
]


def test_images_are_sent_in_the_preferred_of_several_forms(program: Program, image: str) -> None:
    for accept, kind in IMAGES:
        answer = call(program, "GET", image, Accept=accept)

        assert answer.status_code == 200, accept
        assert answer["Content-Type"].partition("; boundary")[0] == kind, accept
    for accept in (f"{PARTS};q=0", f"{PARTS}; transfer-syntax={JPEG_2000}"):
        assert call(program, "GET", image, Accept=accept).status_code == 406, accept


def test_accept_as_a_parameter_does_not_stand_for_a_pseudonym(
    make_program: Callable[..., Program], program: Program, image: str
) -> None:
    """A link with nothing but `accept` asks for identified images."""
    narrow = make_program("retrieve")
    link = {"accept": "application/dicom", "charset": "UTF-8"}

    assert call_by_link(narrow, image, **link).status_code == 400
    assert call_by_link(program, image, **link)["Content-Type"] == "application/dicom"
    assert call_by_link(program, image, accept="*/*", charset="latin-1").status_code == 400
    assert call_by_link(program, f"{image}/metadata", accept="x/y").status_code == 406
    pseudonymized = call_by_link(program, image, pseudonym="WEB-1", **link)
    assert b"WEB-1" in pseudonymized.body
    assert b"PID-4711-0815" not in pseudonymized.body


JSON = [
    ("", 200),
    ("application/dicom+json", 200),
    ("application/dicom+json; charset=utf-8", 200),
    ("application/json", 200),
    ("application/dicom+xml;q=1, application/json;q=0.1", 200),
    ("application/*", 200),
    ("application/dicom+json;q=0, application/json;q=0", 406),
    ("text/html", 406),
]


def test_searches_and_metadata_are_json_where_that_is_accepted(
    program: Program, image: str
) -> None:
    paths = ("qidors/studies?PatientID=PID-4711-0815", f"{image}/metadata")
    for (accept, status), path in product(JSON, paths):
        answer = call(program, "GET", path, Accept=accept)
        assert answer.status_code == status, (accept, path)
        if status == 200:
            assert answer["Content-Type"] == "application/dicom+json"


def test_head_is_a_get_without_body(program: Program, image: str, source: Node) -> None:
    for path in ("qidors/studies?PatientID=PID-4711-0815", f"{image}/rendered", image):
        head, get = (call(program, method, path) for method in ("HEAD", "GET"))
        assert (head.status_code, head.body) == (200, b"")
        kinds = [one["Content-Type"].partition(";")[0] for one in (head, get)]
        assert kinds[0] == kinds[1], path
        if not get.streaming:
            assert head["Content-Length"] == str(len(get.content))
    assert not Slot.objects.exists()
    assert Retrieval.objects.filter(ended_at=None).count() == 0
    missing = call(program, "HEAD", image.replace("studies/", "studies/9"))
    assert (missing.status_code, missing.body) == (404, b"")


def test_other_methods_are_refused_with_those_that_are_allowed(
    program: Program, image: str
) -> None:
    for method in ("PUT", "DELETE", "PATCH", "TRACE", "POST"):
        answer = call(program, method, f"{image}/metadata")
        assert (answer.status_code, answer["Allow"]) == (405, "GET, HEAD, OPTIONS"), method
    assert call(program, "OPTIONS", "stowrs/studies")["Allow"] == "POST, OPTIONS"


def test_headers_of_other_purposes_change_nothing(program: Program, image: str) -> None:
    plain = call(program, "GET", f"{image}/rendered")

    for headers in (
        {"If_None_Match": "*"},
        {"If_None_Match": '"abc", W/"x"', "If_Modified_Since": "Tue, 01 Dec 2099 00:00:00 GMT"},
        {"Range": "bytes=0-10", "Accept_Charset": "iso-8859-1", "Accept_Language": "tlh"},
    ):
        answer = call(program, "GET", f"{image}/rendered", **headers)
        assert (answer.status_code, answer.content) == (200, plain.content)


ENCODINGS = [
    ("gzip", True),
    ("br, gzip;q=0.5", True),
    ("*", True),
    ("gzip;q=0", False),
    ("identity, *;q=0", False),
    ("x-gzipped", False),
    ("", False),
]


def test_headers_are_compressed_only_where_the_client_accepts_it(
    program: Program, image: str
) -> None:
    series = image.partition("/instances/")[0]

    for encodings, is_compressed in ENCODINGS:
        answer = call(program, "GET", f"{series}/metadata", Accept_Encoding=encodings)
        assert ("Content-Encoding" in answer) == is_compressed, encodings
        text = gzip.decompress(answer.content) if is_compressed else answer.content
        assert len(json.loads(text)) == 2
        assert answer["Vary"].startswith("Accept-Encoding")


def test_an_allowed_origin_does_not_hide_that_answers_vary(
    program: Program, image: str, settings: Any
) -> None:
    settings.API_ORIGINS = ["https://viewer.example.org"]
    series = image.partition("/instances/")[0]

    answer = call(program, "GET", f"{series}/metadata", Origin="https://viewer.example.org")

    assert answer["Vary"].startswith("Accept-Encoding, Origin")


def test_addresses_in_answers_have_the_host_of_the_request(
    program: Program, image: str, settings: Any
) -> None:
    path = "qidors/studies?PatientID=PID-4711-0815"

    for host in ("localhost", "127.0.0.1:8001", "[::1]:8001"):
        (study,) = call(program, "GET", path, Host=host).json()
        assert study["00081190"]["Value"][0].startswith(f"http://{host}/api/dicom-web/PACS1/")
    assert call(program, "GET", path, Host="evil.example.org").status_code == 400


def test_unknown_addresses_are_answered_by_json(program: Program) -> None:
    for path in ("qidors/patients", "wadors/studies/1.2/rendered", "qidors/studies/", ""):
        answer = call(program, "GET", path)
        assert (answer.status_code, answer["Content-Type"]) == (404, "application/json"), path
        assert "detail" in answer.json()


# Searches ----------------------------------------------------------------------------------------


def test_pages_say_how_many_results_are_left(program: Program, source: Node) -> None:
    for number in range(1, 4):
        put_study(source, str(number))

    first = program.get("qidors/studies", **ASKED, limit=1)
    last = program.get("qidors/studies", **ASKED, limit=2, offset=1)
    none, beyond = (
        program.get("qidors/studies", **ASKED, **edge) for edge in ({"limit": 0}, {"offset": 99})
    )

    assert first["Warning"] == '299 ADIT "There are 2 additional results that can be requested."'
    assert (len(last.json()), "Warning" in last) == (2, False)
    assert (none.json(), beyond.json()) == ([], [])
    huge = program.get("qidors/studies", **ASKED, limit="99999999999")
    assert (huge.status_code, "limit" in huge.json()) == (400, True)


def test_fuzzy_matching_is_declared_unsupported(program: Program, source: Node) -> None:
    put_study(source)

    literal = program.get("qidors/studies", **ASKED, fuzzymatching="false")
    fuzzy = program.get("qidors/studies", **ASKED, fuzzymatching="true")

    assert "Warning" not in literal
    assert fuzzy.json() == literal.json()
    assert "fuzzymatching is not supported" in fuzzy["Warning"]


SEARCHES = [
    "PatientName=M%C3%BCll*",
    "PatientName=m%C3%9Cller^J?rgen",
    "PatientName=Mu%CC%88ller*",
    "%50atientName=*%5EJ%C3%BCrgen",
    "00100010=M%C3%BCller*",
    f"0020000d={samples.ROOT}.1",
    f"0020000D={samples.ROOT}.1%2C1.2.3",
    f"StudyInstanceUID={samples.ROOT}.1&includefield=all&includefield=00081030",
    "PatientID=PID-4711-0815&StudyDate=-20991231&ModalitiesInStudy=MR%2CCT",
]


def test_searches_match_names_tags_and_lists_in_every_spelling(
    program: Program, source: Node
) -> None:
    study = put_study(source, PatientName="Müller^Jürgen")
    put_study(source, "2", PatientName="Schmidt^Eva", PatientID="OTHER-7", StudyDate="21000101")

    for query in SEARCHES:
        answer = call(program, "GET", f"qidors/studies?{query}")
        assert [one["0020000D"]["Value"] for one in answer.json()] == [[study]], query
        assert "Warning" not in answer, query


def test_a_name_in_another_encoding_than_utf_8_is_refused(program: Program) -> None:
    answer = call(program, "GET", "qidors/studies?PatientName=M%FCll*")

    assert (answer.status_code, "PatientName" in answer.json()) == (400, True)


def test_numbers_in_other_spellings_are_no_tags(program: Program, source: Node) -> None:
    put_study(source)

    answer = call(program, "GET", "qidors/studies?PatientID=PID-4711-0815&0x100020=OTHER-7")

    assert len(answer.json()) == 1
    assert "0x100020" in answer["Warning"]


def test_a_search_for_many_studies_is_answered(program: Program, source: Node) -> None:
    study = put_study(source)
    uids = [f"{samples.ROOT}.{number}" for number in range(1000, 1200)]

    answer = program.get("qidors/studies", StudyInstanceUID=",".join([*uids, study]))

    assert [one["0020000D"]["Value"] for one in answer.json()] == [[study]]


# Storing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ('Multipart/Related; Type="Application/DICOM"; Boundary="b=_:?"; charset=utf-8', 200),
        ('multipart/related;type="application/dicom";boundary="b=_:?"', 200),
        ('multipart/related; start="<x>"; type="application/dicom"; boundary="b=_:\\?"', 200),
        ('multipart/related; type="application/dicom+json"; boundary="b=_:?"', 415),
        ("application/json", 415),
    ],
)
def test_the_type_of_a_body_is_read_in_every_spelling(
    kind: str, status: int, program: Program, source: Node
) -> None:
    part = samples.file_bytes(samples.ct(1))
    head = b"--b=_:?\r\ncontent-type: application/dicom; transfer-syntax=1.2.840.10008.1.2.1\r\n"
    body = b"ignored\r\n" + head + b"Content-Location: /x\r\n\r\n" + part + b"\r\n--b=_:?--"

    answer = program.post("stowrs/studies", body, kind)

    assert answer.status_code == status, answer.content
    assert len(shelf(source)) == (status == 200)


def test_a_compressed_body_is_an_unsupported_type(program: Program, source: Node) -> None:
    answer = Client().post(
        f"{program.root}/stowrs/studies",
        gzip.compress(b"--b\r\n\r\nx\r\n--b--"),
        content_type='multipart/related; type="application/dicom"; boundary=b',
        headers={**program.headers, "Content-Encoding": "gzip"},
    )

    assert (answer.status_code, answer.json()["code"]) == (415, "dicomweb.encoded-body")
