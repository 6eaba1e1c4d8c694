"""Files and answers made to break a parser: each is counted or refused, and the node still works."""

import json
import struct
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
from lab import peers
from lab.samples import ROOT, ct, file_bytes
from lab.web_peers import JSON, Liar, answer

from adit_engine.dicom_file import part10
from adit_engine.dicom_ul import identifier
from adit_engine.errors import AditError
from adit_engine.nodes.folder import FolderNode, FolderSettings
from adit_engine.values.query import Query
from adit_engine.values.record import Record
from adit_engine.values.references import QueryLevel, StudyRef

STUDY = StudyRef(f"{ROOT}.1")
GOOD = file_bytes(ct(1))
BEGIN = part10.parse_file_meta(memoryview(GOOD))[1]
META, DATA = GOOD[:BEGIN], GOOD[BEGIN:]
FIND_ANSWER, STUDY_ROOT = 0x8020, "1.2.840.10008.5.1.4.1.2.2.1"
LEVELS = 1000
SEQUENCE = struct.pack("<HH2sHIHHI", 8, 0x1115, b"SQ", 0, 2**32 - 1, 0xFFFE, 0xE000, 2**32 - 1)
IMPLICIT = struct.pack("<HHIHHI", 8, 0x1115, 2**32 - 1, 0xFFFE, 0xE000, 2**32 - 1)
SEQUENCE_END = struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
HUGE_TEXT = struct.pack("<HH2sHI", 8, 0x0005, b"UT", 0, 0xFFFFFFF0)
BIG_ENDIAN = META.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.2\0")

FILES = {
    "nested": META + SEQUENCE * LEVELS + SEQUENCE_END * LEVELS,
    "nested in big endian": BIG_ENDIAN + SEQUENCE * LEVELS,
    "nested in implicit VR": META + IMPLICIT * LEVELS + SEQUENCE_END * LEVELS,
    "value of 4 GB": META + HUGE_TEXT + b"x",
    "unknown VR": META + DATA.replace(b"UI", b"??"),
    "empty": b"",
    "prefix only": bytes(128) + b"DICM",
    "half of the file meta": GOOD[: BEGIN - 30],
    "file meta of 4 GB": GOOD[:132] + struct.pack("<HH2sHI", 2, 1, b"OB", 0, 2**32 - 2),
    "not deflated": META.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")[: BEGIN + 2],
}


def damage(whole: bytes, chance: Random) -> bytes:
    """Change some bytes, VRs or lengths."""
    data = bytearray(whole)
    for _ in range(chance.choice([1, 2, 5, 20])):
        at = chance.randrange(len(data) - 8)
        piece = chance.choice([b"\0", b"\xff\xff", b"\x1b$B", b"SQ", b"UN", b"FD", b"US", b"AT"])
        data[at : at + chance.choice([0, len(piece)])] = piece
    return bytes(data)


def search(node: Any, **keys: str) -> list[Record]:
    return list(node.find(Query(QueryLevel.STUDY, keys or {"PatientID": "PID-4711-0815"})))


def use(record: Record) -> None:
    """Read a record as the pages do: all of it can be stored, and the numbers are small."""
    text = json.dumps(record.to_json(), ensure_ascii=False)
    assert "\\u0000" not in text
    text.encode()
    for keyword in record.values:
        assert abs(record.number(keyword) or 0) < 2**31
    assert record.study_date or record.patient_birth_date or record.modalities is not None
    Query(QueryLevel.STUDY, {"PatientName": "M*", "ModalitiesInStudy": ("CT",)}).matches(record)


@pytest.mark.parametrize("name", FILES)
def test_a_broken_file_is_counted_as_unreadable_and_the_others_are_found(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / "good.dcm").write_bytes(GOOD)
    (tmp_path / "broken.dcm").write_bytes(FILES[name])
    node = FolderNode("Research", FolderSettings(path=str(tmp_path), reserve_mb=0))

    for _ in range(2):
        found = node.find(Query.study(STUDY))
        assert [record.study_uid for record in found] == [STUDY.study_uid]
        assert found.is_capped
        assert "1 file" in str(found.shortfall)
        assert [one.defect for one in node.fetch([STUDY])] == [None]
    (tmp_path / "broken.dcm").unlink()
    assert not node.find(Query.study(STUDY)).is_capped


def test_no_damage_to_a_file_prevents_a_search_or_a_retrieval(tmp_path: Path) -> None:
    chance = Random(5)
    (tmp_path / "good.dcm").write_bytes(GOOD)
    for number in range(200):
        (tmp_path / f"{number}.dcm").write_bytes(damage(GOOD[:1400], chance))
    node = FolderNode("Research", FolderSettings(path=str(tmp_path), reserve_mb=0))

    for record in search(node, PatientID="*"):
        use(record)
        for instance in node.fetch([record.ref]):
            instance.sha256()
    assert STUDY.study_uid in {record.study_uid for record in search(node)}


def test_no_damage_to_a_dimse_answer_raises_anything_but_our_errors() -> None:
    chance = Random(6)
    sets = ("", "ISO_IR 100\\ISO 2022 IR 87", "\\ISO 2022 IR 149", "GB18030", "ISO 2022 IR 6")
    for _ in range(2000):
        term = chance.choice(sets).encode()
        term += b" " * (len(term) % 2)
        data = struct.pack("<HH2sH", 8, 5, b"CS", len(term)) + term + damage(DATA[:700], chance)
        try:
            use(identifier.decode_record(QueryLevel.STUDY, data, True, ""))
        except AditError:
            continue


@pytest.mark.parametrize(
    "identifier_bytes",
    [SEQUENCE * LEVELS, IMPLICIT * LEVELS, HUGE_TEXT, b"\xff" * 64, b""],
    ids=["nested", "nested in implicit VR", "4 GB", "noise", "empty"],
)
def test_a_dimse_node_works_again_after_an_answer_that_breaks_parsers(
    identifier_bytes: bytes,
) -> None:
    def script(talk: peers.Talk) -> None:
        talk.accept()
        talk.hear()
        context = talk.context(STUDY_ROOT)
        if talk.number == 0:
            pending = {0x0100: FIND_ANSWER, 0x0120: 1, 0x0900: 0xFF00}
            talk.say(context, pending, identifier_bytes)
        talk.say(context, {0x0100: FIND_ANSWER, 0x0120: 1, 0x0900: 0})
        talk.until_gone()

    with peers.Scripted(script) as peer, closing(peers.node(peer.port)) as node:
        with suppress(AditError):
            list(node.find(Query.study(STUDY)))
        assert list(node.find(Query.study(STUDY))) == []


def values() -> Iterator[Any]:
    yield from (None, True, -1, 10**30, 1e308, "", "\ud800", "a\0b", "١٢", "²", "9" * 5000)
    yield from ([], {}, {"Alphabetic": 5}, {"Alphabetic": "\ud800"}, [[]], {"Value": [1]})


LISTS: dict[str, Callable[[], bytes]] = {
    "arrays 10,000 deep": lambda: b"[" * 10_000,
    "objects 10,000 deep": lambda: b'[{"0020000D":' + b'{"a":' * 10_000,
    "values 10,000 deep": lambda: b'[{"0020000D":{"vr":"UI","Value":' + b"[" * 10_000,
    "a VR 900 deep": lambda: (
        b'[{"0020000D":{"vr":' + b"[" * 900 + b"]" * 900 + b',"Value":["1.2"]}}]'
    ),
    "an integer of 5,000 digits": lambda: b'[{"0020000D":{"Value":[' + b"1" * 5000 + b"]}}]",
    "not a number": lambda: b"[NaN, Infinity]",
    "another character set": lambda: b"\xff\xfe[\0",
    "wrong types": lambda: json.dumps(
        [
            {tag: {"vr": vr, "Value": held}}
            for tag in ("0020000D", "00100010", "00201208", "ZZZZZZZZ", "0")
            for vr in ("UI", "SQ", 5, None, [])
            for one in values()
            for held in ([one], [one, one], one)
        ]
    ).encode(),
}


@pytest.mark.parametrize("name", LISTS)
def test_a_dicomweb_node_works_again_after_a_list_that_breaks_parsers(name: str) -> None:
    good = json.dumps([{"0020000D": {"vr": "UI", "Value": [STUDY.study_uid]}}]).encode()
    bodies = [LISTS[name]()]

    def say(request: object) -> list[Any]:
        return answer(200, JSON, bodies.pop() if bodies else good)

    with Liar(say) as liar, closing(liar.node()) as node:
        with suppress(AditError):
            for record in node._qido.find_unfiltered(Query.study(STUDY)):
                use(record)
        assert {record.study_uid for record in node.find(Query.study(STUDY))} == {STUDY.study_uid}
