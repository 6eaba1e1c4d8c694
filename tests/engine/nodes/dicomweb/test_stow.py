"""STOW-RS uploads to a node that misbehaves: every image gets its own result."""

import json
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from lab import web_peers
from lab.instances import compressed, images
from lab.samples import ROOT, ct, instance
from lab.web_peers import CLOSE, JSON, Liar, Request, Said, answer, failed, scripted, store
from pydicom.uid import RLELossless

from adit_engine.errors import (
    ConnectionLost,
    NodeBusy,
)
from adit_engine.messages import Message
from adit_engine.nodes.base import StoreResult
from adit_engine.nodes.dicomweb.http import DicomwebClient, DicomwebRequest

nothing_left = web_peers.nothing_left


def items(*uids: str, reason: int | None = None) -> dict[str, object]:
    made: list[dict[str, object]] = []
    for uid in uids:
        item: dict[str, object] = {"00081155": {"vr": "UI", "Value": [uid]}}
        if reason is not None:
            for tag in ("00081196", "00081197"):
                item[tag] = {"vr": "US", "Value": [reason]}
        made.append(item)
    return {"vr": "SQ", "Value": made}


def uids(*numbers: int) -> list[str]:
    return [f"{ROOT}.1.1.{number}" for number in numbers]


def stow(status: int, **sequences: dict[str, object]) -> list[Said]:
    tags = {"kept": "00081199", "failed": "00081198"}
    body = json.dumps({tags[name]: value for name, value in sequences.items()}).encode()
    return answer(status, JSON, body)


def stored(*answers: Iterable[Said]) -> list[StoreResult]:
    with Liar(scripted(*answers)) as liar, closing(liar.node()) as node:
        return store(node)


def test_each_instance_gets_its_own_result() -> None:
    first, second, third = stored(
        stow(202, kept=items(*uids(1, 2), reason=0xB000), failed=items(*uids(3), reason=0xA700))
    )

    assert first.is_stored
    assert "changed or removed elements" in str(first.warning)
    assert second.is_stored
    assert not third.is_stored
    assert third.status == 0xA700
    assert "out of resources" in str(third.error)


def test_an_instance_that_already_exists_counts_as_stored() -> None:
    answers = stored(stow(409, failed=items(*uids(1, 2, 3), reason=0x0111)))

    assert [one.warning for one in answers] == [Message("warning.already-stored")] * 3


@pytest.mark.parametrize(
    ("status", "body"), [(200, b""), (200, b"thanks"), (200, b"[]"), (201, b"{}"), (204, b"")]
)
def test_a_success_that_lists_no_instances_is_verified_by_a_query(status: int, body: bytes) -> None:
    def say(request: Request) -> Iterable[Said]:
        if request.method == "POST":
            return answer(status, JSON, body)
        return answer(200, JSON, json.dumps([{"00080018": {"Value": uids(2)}}]).encode())

    with Liar(say) as liar, closing(liar.node()) as node:
        answers = store(node)

    assert [one.is_stored for one in answers] == [False, True, False]
    assert "a query does not find it" in str(answers[0].error)
    assert "but a query finds it" in str(answers[1].warning)


@pytest.mark.parametrize("status", [400, 413, 500])
def test_one_rejected_instance_does_not_affect_the_others(status: int) -> None:
    def say(request: Request) -> Iterable[Said]:
        sent = [uid for uid in uids(1, 2, 3) if uid.encode() in request.body]
        bad = uids(2)[0] in sent
        return answer(status) if bad else stow(200, kept=items(*sent))

    with Liar(say) as liar, closing(liar.node()) as node:
        answers = store(node)

    assert [one.is_stored for one in answers] == [True, False, True]
    assert len(liar.requests) == 4


def test_a_node_that_rejects_every_upload_gets_only_a_few_requests() -> None:
    with (
        Liar(scripted(answer(500))) as liar,
        closing(liar.node()) as node,
        pytest.raises(NodeBusy, match="check its log"),
    ):
        list(node.store(images(20)))

    assert len(liar.requests) < 6


def test_a_rejection_during_an_upload_is_read() -> None:
    big = instance(ct(Rows=2048, Columns=2048, PixelData=bytes(2048 * 2048 * 2)))

    class Hasty(Liar):
        def _read(self, file: object) -> Request | None:
            line = file.readline()  # type: ignore[attr-defined]
            return Request(0, "POST", "", {}, b"") if line else None

    with Hasty(scripted([*answer(413), 0.3, CLOSE])) as liar, closing(liar.node()) as node:
        (answered,) = node.store([big])

    assert not answered.is_stored
    assert "too large" in str(answered.error)


class Chunks(Liar):
    """Reads request bodies with chunked transfer encoding."""

    def _read(self, file: Any) -> Request | None:
        request = super()._read(file)
        if request is None:
            return None
        body = b""
        while size := int(file.readline(), 16):
            body += file.read(size)
            file.readline()
        file.readline()
        return replace(request, body=body)


def _upload(liar: Liar, body: Iterable[bytes]) -> int:
    settings = liar.node().settings
    client = DicomwebClient(settings.server("PACS1"), total_s=60)
    request = DicomwebRequest("POST", "/studies", JSON, "the upload", 1, body, "application/dicom")
    with closing(client), client.send(request) as response:
        return response.status


def test_a_body_of_unknown_length_is_sent_chunked() -> None:
    with Chunks(scripted(answer(200))) as liar:
        assert _upload(liar, iter([b"abc", b"def"])) == 200

    assert [request.body for request in liar.requests] == [b"abcdef"]
    assert liar.requests[0].headers["transfer-encoding"] == "chunked"


def test_a_body_that_can_be_read_only_once_is_not_sent_again() -> None:
    """The node responds 503. A retry could send an incomplete body as a complete one."""
    with (
        Chunks(scripted(answer(503, Retry_After="0"), answer(200))) as liar,
        pytest.raises(NodeBusy),
    ):
        _upload(liar, iter([b"abc"]))

    assert len(liar.requests) == 1


def test_an_image_whose_encoding_is_rejected_is_sent_uncompressed() -> None:
    rle = compressed(ct(1), RLELossless)

    def say(request: Request) -> Iterable[Said]:
        if RLELossless.encode() in request.body:
            return stow(409, failed=items(*uids(1), reason=0xC122))
        return stow(200, kept=items(*uids(1)))

    with Liar(say) as liar, closing(liar.node()) as node:
        (answered,) = node.store([rle])

    assert answered.is_stored
    assert "re-encoded without loss" in str(answered.warning)
    assert answered.sha256 != rle.sha256()


def test_uploads_contain_at_most_32_images_and_keep_the_order() -> None:
    pulled: list[int] = []

    def source() -> Iterator[object]:
        for number in range(1, 81):
            pulled.append(number)
            yield instance(ct(number))

    def say(request: Request) -> Iterable[Said]:
        counts.append(request.body.count(b"Content-Type"))
        return stow(200, kept=items(*uids(*range(1, 81))))

    counts: list[int] = []
    with Liar(say) as liar, closing(liar.node()) as node:
        answers = node.store(source())  # type: ignore[arg-type]
        first = next(answers)
        assert len(pulled) == 33
        rest = list(answers)

    assert counts == [32, 32, 16]
    assert [one.ref.instance_uid for one in (first, *rest)] == uids(*range(1, 81))


def test_an_upload_without_a_response_raises_connection_lost() -> None:
    assert type(failed(store, scripted([CLOSE]))) is ConnectionLost
