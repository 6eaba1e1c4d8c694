"""Parts of the DIMSE node: settings, batches of requests, command sets, identifiers."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from adit_engine.dicom_ul import identifier
from adit_engine.dicom_ul.command_set import CommandSet, Operation, make_request
from adit_engine.dicom_ul.pdu import (
    MAX_CONTEXTS,
    AssociateRequest,
    NegotiatedAssociation,
    PresentationContext,
)
from adit_engine.errors import InvalidInput, Malformed
from adit_engine.nodes.dimse.c_get import (
    CLASSES_PER_ASSOCIATION,
    RetrieveRequest,
    batch_requests,
    make_requests,
)
from adit_engine.nodes.dimse.settings import DimseSettings
from adit_engine.values.query import Query
from adit_engine.values.references import InstanceRef, QueryLevel, SeriesRef, StudyRef

GOOD: dict[str, Any] = {"called_ae_title": "PACS", "host": "10.0.0.5", "port": 104}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"called_ae_title": ""}, "Called AE title"),
        ({"called_ae_title": "A" * 17}, "Called AE title"),
        ({"calling_ae_title": "A\\B"}, "Our AE title"),
        ({"host": ""}, "Host"),
        ({"host": "a b"}, "Host"),
        ({"port": 0}, "Port"),
        ({"port": 70000}, "Port"),
        ({"query_root": "worklist"}, "Query root"),
        ({"retrieve": "wado"}, "Retrieve by"),
        ({"result_cap": 0}, "Result limit"),
        ({"character_set_fallback": "klingon"}, "Default character set"),
        ({"max_pdu": 10}, "PDU"),
        ({"no_progress_s": 0.0}, "Time limits"),
        ({"total_s": -1.0}, "Seconds for one retrieval"),
    ],
)
def test_an_invalid_setting_is_named_in_the_error(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        DimseSettings(**{**GOOD, **wrong})


def test_padding_is_removed_from_ae_titles() -> None:
    assert DimseSettings(**{**GOOD, "called_ae_title": " PACS  "}).called_ae_title == "PACS"


def test_instances_of_one_series_share_requests_of_bounded_length() -> None:
    refs = [InstanceRef("1.2", "1.3", f"1.4.{number}") for number in range(600)]

    wishes = make_requests([StudyRef("1.9"), SeriesRef("1.2", "1.5"), *refs, refs[0]], "")

    assert [wish.level for wish in wishes] == [
        QueryLevel.STUDY,
        QueryLevel.SERIES,
        QueryLevel.IMAGE,
        QueryLevel.IMAGE,
        QueryLevel.IMAGE,
    ]
    asked = [uid for wish in wishes for uid in wish.instance_uids]
    assert asked == [ref.instance_uid for ref in refs]


@given(st.lists(st.frozensets(st.integers(1, 40), min_size=1, max_size=9), max_size=12))
def test_no_batch_exceeds_the_sop_classes_of_one_association(sets: list[frozenset[int]]) -> None:
    wishes = [
        (RetrieveRequest("1.2", f"1.3.{number}"), frozenset(f"1.4.{c}" for c in classes))
        for number, classes in enumerate(sets)
    ]

    loads = batch_requests(wishes)

    assert [wish for load in loads for wish in load.requests] == [wish for wish, _ in wishes]
    assert all(len(load.classes) <= CLASSES_PER_ASSOCIATION for load in loads)
    needed = dict(wishes)
    assert all(needed[wish] <= set(load.classes) for load in loads for wish in load.requests)


def test_an_encoded_command_set_is_decoded_unchanged() -> None:
    sent = make_request(Operation.STORE, 7, "1.2.840.10008.1.1", data=True, instance_uid="1.2.3")

    read = CommandSet.decode(sent.encode())

    assert read.encode() == sent.encode()
    assert (read.message_id, read.has_data, read.status) == (7, True, None)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_decode_to_a_command_set_or_raise_malformed(data: bytes) -> None:
    with contextlib.suppress(Malformed):
        CommandSet.decode(data)


@given(st.binary(max_size=400))
def test_arbitrary_bytes_decode_to_a_negotiation_or_raise_malformed(data: bytes) -> None:
    proposal = AssociateRequest(
        "A", "B", (PresentationContext("1.2", ("1.2.840.10008.1.2",), scp_role=True),), 16384
    )
    for body in (
        data,
        bytes(68) + data,
        bytes(68) + b"\x50\x00" + data,
        bytes(68) + b"\x21" + data,
    ):
        with contextlib.suppress(Malformed):
            NegotiatedAssociation.decode(body, proposal)


def test_a_context_is_unusable_if_its_scp_role_is_not_granted() -> None:
    contexts = (PresentationContext("1.2.3", ("1.2.840.10008.1.2",), scp_role=True),)
    answer = bytes(68) + b"\x21\x00\x00\x19\x01\x00\x00\x00\x40\x00\x00\x111.2.840.10008.1.2"
    role = b"\x50\x00\x00\x0d\x54\x00\x00\x09\x00\x051.2.3\x00\x01"

    without = NegotiatedAssociation.decode(answer, AssociateRequest("A", "B", contexts, 16384))
    granted = NegotiatedAssociation.decode(
        answer + role, AssociateRequest("A", "B", contexts, 16384)
    )

    assert without.context_of("1.2.3") is None
    assert granted.context_of("1.2.3") == 1


def test_a_request_with_more_than_128_contexts_cannot_be_encoded() -> None:
    contexts = tuple(
        PresentationContext(f"1.2.{n}", ("1.2.840.10008.1.2",)) for n in range(MAX_CONTEXTS + 1)
    )
    with pytest.raises(ValueError, match="128"):
        AssociateRequest("A", "B", contexts, 16384).encode()


def record_of(name: bytes, character_set: str = "", fallback: str = "") -> str:
    data = b""
    if character_set:
        raw = character_set.encode()
        raw += b" " * (len(raw) % 2)
        data += b"\x08\x00\x05\x00" + len(raw).to_bytes(4, "little") + raw
    name += b" " * (len(name) % 2)
    data += b"\x10\x00\x10\x00" + len(name).to_bytes(4, "little") + name
    return identifier.decode_record(QueryLevel.STUDY, data, False, fallback).patient_name


@pytest.mark.parametrize(
    ("raw", "character_set", "fallback", "name"),
    [
        ("Äh".encode("latin-1"), "ISO_IR 100", "", "Äh"),
        ("Äh".encode(), "ISO_IR 192", "", "Äh"),
        ("Äh".encode(), "", "", "Äh"),
        ("Äh".encode("latin-1"), "", "", "Äh"),
        ("Żó".encode("iso8859_2"), "", "ISO_IR 101", "Żó"),
        ("Äh".encode("latin-1"), "ISO_IR 192", "", "Äh"),
        ("Äh".encode(), "ISO_IR 6", "", "Äh"),
        ("王^小".encode("gb18030"), "GB18030", "", "王^小"),
        (
            b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B",
            "\\ISO 2022 IR 87",
            "",
            "Yamada^Tarou=山田^太郎",
        ),
    ],
)
def test_names_are_decoded_even_if_the_character_set_is_missing_or_wrong(
    raw: bytes, character_set: str, fallback: str, name: str
) -> None:
    assert record_of(raw, character_set, fallback) == name


@pytest.mark.parametrize("explicit", [True, False])
def test_an_encoded_identifier_is_decoded_to_a_record(explicit: bool) -> None:
    asked = Dataset()
    asked.PatientName = "Mustermann^Max"
    asked.ModalitiesInStudy = ["CT", "MR"]
    asked.NumberOfStudyRelatedInstances = 12
    asked.Rows = 512
    asked.add_new(0x00091001, "LO", "private")

    record = identifier.decode_record(
        QueryLevel.STUDY, identifier.encode_identifier(asked, explicit), explicit, ""
    )

    assert record.values == {
        "PatientName": "Mustermann^Max",
        "ModalitiesInStudy": ("CT", "MR"),
        "NumberOfStudyRelatedInstances": "12",
        "Rows": "512",
    }


@pytest.mark.parametrize(
    "keys",
    [
        *({"Rows": text} for text in ("abc", "70000", "-1")),
        {"DiffusionBValue": "x"},
        {"SimpleFrameList": "1e5"},
        {"StudyDescription": "x" * 70_000},
    ],
)
def test_a_value_that_an_identifier_cannot_hold_is_invalid(keys: dict[str, str]) -> None:
    with pytest.raises(InvalidInput) as refused:
        identifier.encode_identifier(keys, explicit=True)

    assert refused.value.message.code == "identifier.invalid-value"


@pytest.mark.parametrize(
    "keyword",
    ["", "QueryRetrieveLevel", "SpecificCharacterSet", "CommandField", "TransferSyntaxUID"],
)
def test_a_query_matches_only_attributes_of_images(keyword: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        Query(QueryLevel.STUDY, {keyword: "1"})

    assert refused.value.message.code == "query.not-a-search-key"


@given(st.binary(max_size=300), st.booleans())
def test_arbitrary_bytes_decode_to_a_record_or_raise_malformed(data: bytes, explicit: bool) -> None:
    with contextlib.suppress(Malformed):
        identifier.decode_record(QueryLevel.STUDY, data, explicit, "ISO_IR 100")
