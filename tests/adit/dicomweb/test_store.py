"""STOW-RS: images of a program are stored at the node, and each gets its result."""

from collections.abc import Iterable, Iterator
from datetime import date
from typing import Any

import pytest
from django.http import HttpResponse
from lab import samples
from lab.dicomweb_api import Program
from lab.jobs import shelf

from adit.accounts.models import User
from adit.audit.models import AuditEvent
from adit.blocklist.blocking import block_patient
from adit.config.logging_config import LineFormatter
from adit.nodes.models import Node, Slot
from adit_engine.errors import Stopped
from adit_engine.nodes.base import StoreResult
from adit_engine.nodes.memory import MemoryNode
from adit_engine.values.instance import Instance

pytestmark = pytest.mark.django_db

TYPE = 'multipart/related; type="application/dicom"; boundary="{}"'


def encode(*parts: bytes, boundary: str = "bound", kind: str = "application/dicom") -> bytes:
    heads = f"\r\n--{boundary}\r\nContent-Type: {kind}\r\n\r\n".encode()
    return b"".join(heads + part for part in parts) + f"\r\n--{boundary}--\r\n".encode()


def send(program: Program, *parts: bytes, path: str = "stowrs/studies") -> HttpResponse:
    return program.post(path, encode(*parts), TYPE.format("bound"))


def image(number: int = 1, **changes: Any) -> bytes:
    return samples.file_bytes(samples.ct(number, **changes))


def items(answer: HttpResponse, tag: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = answer.json().get(tag, {}).get("Value", [])
    return found


def test_images_are_stored_and_referenced(program: Program, source: Node) -> None:
    answer = send(program, image(1), image(2))

    assert answer.status_code == 200, answer.content
    assert answer["Content-Type"] == "application/dicom+json"
    uids = [one["00081155"]["Value"][0] for one in items(answer, "00081199")]
    assert sorted(uids) == sorted(shelf(source))
    assert items(answer, "00081198") == []
    study = f"{samples.ROOT}.1"
    assert answer.json()["00081190"]["Value"][0].endswith(f"/PACS1/wadors/studies/{study}")
    assert not Slot.objects.exists()
    event = AuditEvent.objects.get(action="dicomweb.stored")
    assert (event.details["stored"], event.details["caller"]) == (2, "API token script")


@pytest.mark.parametrize("boundary", ["bound", '"bound"', '"a b:c/d"'])
def test_boundaries_may_be_quoted(boundary: str, program: Program, source: Node) -> None:
    body = encode(image(), boundary=boundary.strip('"'))
    kind = f"multipart/related; boundary={boundary}; type=application/dicom"

    assert program.post("stowrs/studies", body, kind).status_code == 200


def test_a_file_without_preamble_is_stored(program: Program, source: Node) -> None:
    answer = send(program, image()[132:])

    assert answer.status_code == 200
    assert len(shelf(source)) == 1


def test_an_image_of_another_study_is_a_failure_of_its_own(program: Program, source: Node) -> None:
    study = f"{samples.ROOT}.1"

    answer = send(program, image(1), image(2, study="2"), path=f"stowrs/studies/{study}")

    assert answer.status_code == 202
    (failed,) = items(answer, "00081198")
    assert failed["00081155"]["Value"] == [f"{samples.ROOT}.2.1.2"]
    assert failed["00081197"]["Value"] == [0xA900]
    assert list(shelf(source)) == [f"{study}.1.1"]


def test_parts_that_are_not_dicom_do_not_sink_the_others(program: Program, source: Node) -> None:
    mixed = send(program, image(), b"no image at all")
    none = send(program, b"no image at all")

    assert (mixed.status_code, none.status_code) == (202, 409)
    assert len(items(mixed, "0008119A")) == 1
    assert len(shelf(source)) == 1


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", TYPE.format("bound"), 400),
        (encode(), TYPE.format("bound"), 400),
        (encode(image())[:-40], TYPE.format("bound"), 400),
        (encode(image()), TYPE.format("other"), 400),
        (encode(image()), 'multipart/related; type="application/dicom"', 400),
        (image(), "application/dicom", 415),
        (encode(image()), 'multipart/related; type="image/jpeg"; boundary=bound', 415),
        (encode(image()), "multipart/form-data; boundary=bound", 415),
    ],
)
def test_a_body_that_is_no_set_of_images_stores_nothing(
    body: bytes, kind: str, status: int, program: Program, source: Node
) -> None:
    answer = program.post("stowrs/studies", body, kind)

    assert (answer.status_code, "detail" in answer.json()) == (status, True)
    assert shelf(source) == {}


def test_a_node_that_takes_no_images_is_refused(program: Program, source: Node) -> None:
    source.takes_images = False
    source.save()

    assert send(program, image()).status_code == 403


HEAD = b"\r\n--bound\r\nContent-Type: application/dicom\r\n"


@pytest.mark.parametrize(
    "rest",
    [
        HEAD + b"x" * 20_000 + b"\r\n--bound--\r\n",
        HEAD + b"--bound--\r\n",
        HEAD + b"\r\n" + b"no end--bound--",
    ],
    ids=["no blank line", "only headers", "last boundary within a line"],
)
def test_a_broken_rest_is_one_unreadable_part(rest: bytes, program: Program, source: Node) -> None:
    first = encode(image()).removesuffix(b"\r\n--bound--\r\n")

    mixed = program.post("stowrs/studies", first + rest, TYPE.format("bound"))
    broken = program.post("stowrs/studies", rest, TYPE.format("bound"))

    assert (mixed.status_code, broken.status_code) == (202, 400)
    assert len(items(mixed, "00081199")) == len(shelf(source)) == 1
    assert len(items(mixed, "0008119A")) == 1
    event = AuditEvent.objects.filter(action="dicomweb.stored").earliest("pk")
    assert (event.details["stored"], event.details["failed"]) == (1, 1)


@pytest.mark.parametrize("error", [Stopped("api-token.revoked"), KeyError("a defect")])
def test_what_was_stored_before_an_error_is_recorded(
    error: Exception, program: Program, source: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryNode.store

    def store_one(node: MemoryNode, images: Iterable[Instance]) -> Iterator[StoreResult]:
        yield next(store(node, images))
        raise error

    monkeypatch.setattr(MemoryNode, "store", store_one)
    answer = send(program, image(1), image(2), image(3))

    assert AuditEvent.objects.get(action="dicomweb.stored").details["stored"] == 1
    if isinstance(error, Stopped):
        assert answer.status_code == 202
        assert len(items(answer, "00081199")) == 1
        assert len(items(answer, "00081198")) == 2


def test_no_failed_request_puts_a_study_or_patient_into_the_log(
    program: Program,
    source: Node,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    study = f"{samples.ROOT}.1"
    paths = {"stow": f"stowrs/studies/{study}", "get": f"wadors/studies/{study}"}

    def fail(*_: Any) -> None:
        raise KeyError(samples.ct().PatientName)

    statuses = [
        program.post(paths["get"], b"", TYPE.format("bound")).status_code,
        send(program, b"no image", path=paths["stow"]).status_code,
        program.get(f"{paths['get']}/nothing").status_code,
    ]
    monkeypatch.setattr(MemoryNode, "store", fail)
    answer = send(program, image(), path=paths["stow"])

    assert statuses == [405, 409, 404]
    assert (answer.status_code, answer.json()["code"]) == (500, "dicomweb.internal-error")
    written = "\n".join(LineFormatter().format(one) for one in caplog.records)
    assert "store failed" in written
    assert "KeyError" in written
    assert study not in written
    assert str(samples.ct().PatientName) not in written


def test_text_after_the_last_boundary_is_ignored(program: Program, source: Node) -> None:
    body = encode(image()) + b"y" * 600_000

    assert program.post("stowrs/studies", body, TYPE.format("bound")).status_code == 200


@pytest.mark.parametrize("charset", ["ISO_IR 192", "ISO_IR 144", "\\ISO 2022 IR 144"])
def test_a_blocked_patient_is_refused_in_each_character_set(
    charset: str, program: Program, source: Node, root: User
) -> None:
    block_patient(root, None, "site", "Ж-1", reason="x", withdrawn_on=date.today())
    names = ("PatientName", "ReferringPhysicianName", "InstitutionName")
    plain = dict.fromkeys(names, "A")

    answer = send(program, image(SpecificCharacterSet=charset, PatientID="Ж-1", **plain))

    (failed,) = items(answer, "00081198")
    assert failed["00081197"]["Value"] == [0x0124]
    assert shelf(source) == {}


def test_a_patient_id_that_cannot_be_decoded_is_refused(program: Program, source: Node) -> None:
    sent = image(SpecificCharacterSet="ISO_IR 192", PatientID="Ж-1")
    undeclared = sent.replace(b"ISO_IR 192", b"ISO_IR 6  ")

    answer = send(program, undeclared)

    assert undeclared != sent
    (failed,) = items(answer, "00081198")
    assert failed["00081197"]["Value"] == [0xC000]
    assert shelf(source) == {}
