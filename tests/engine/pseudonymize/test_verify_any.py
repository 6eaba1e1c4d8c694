"""Verification finds random words anywhere and never crashes on damaged output."""

import string
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from lab.verify_pairs import change, code, instance, original, pseudonymized
from pydicom._dicom_dict import DicomDictionary
from pydicom.dataset import Dataset

from adit_engine.errors import InstanceWithheld
from adit_engine.pseudonymize.verify.reader import _implicit_vr
from adit_engine.pseudonymize.verify.stopwords import (
    MODELS,
    NON_NAMES,
    OWN_ATTRIBUTE_TEXT,
    VENDORS,
    VOCABULARY,
)
from adit_engine.pseudonymize.verify.verifier import Verifier
from adit_engine.values.instance import EXPLICIT_LE, IMPLICIT_LE

VERIFIER = Verifier(change())
SOURCE, OUTPUT = instance(original()), instance(pseudonymized(original()))
NO_EVIDENCE = VOCABULARY | VENDORS | MODELS | NON_NAMES | {OWN_ATTRIBUTE_TEXT}

TEXTS = {
    "SoftwareVersions": 64,
    "ConvolutionKernel": 16,
    "FilterType": 16,
    "ProtocolName": 64,
    "ContrastBolusAgent": 64,
    "PositionReferenceIndicator": 64,
    "CoordinateSystemAxisDescription": 64,
    "RescaleType": 16,
    "ManufacturerModelName": 64,
    "UnformattedTextValue": 64,
}
SEQUENCES = ["ProcedureCodeSequence", "AnatomicRegionSequence", "ViewCodeSequence"]

names = st.text(string.ascii_letters + "äöüßéèñøčłğ", min_size=4, max_size=12)
numbers = st.text(string.digits, min_size=4, max_size=12)
joints = st.sampled_from(["", " ", "_", "-", "^", ",", ".", "/", "(", ")"])


def told(word: str) -> bool:
    word_bytes = word.lower().encode()
    return word_bytes not in NO_EVIDENCE and word_bytes not in OWN_ATTRIBUTE_TEXT.lower()


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
@settings(max_examples=150)
@given(
    word=st.one_of(names, numbers),
    keyword=st.sampled_from(sorted(TEXTS)),
    around=st.tuples(joints, joints),
    style=st.sampled_from([str, str.upper, str.lower, str.title]),
    depth=st.integers(0, 3),
    syntax=st.sampled_from([EXPLICIT_LE, IMPLICIT_LE]),
)
def test_planted_word_is_always_found(word, keyword, around, style, depth, syntax) -> None:  # type: ignore[no-untyped-def]
    assume(told(word) and word.strip("0"))
    source = original()
    if word.isdigit():
        source.AccessionNumber = word
    else:
        source.SpecificCharacterSet = "ISO_IR 192"
        source.PatientName = f"{word}^Xy"
    source.SoftwareVersions = None
    output = pseudonymized(source)
    assume(word.lower() not in "lung-0001")
    value = around[0] + style(word) + around[1]
    assume(len(value) <= TEXTS[keyword])
    place = output
    for number in range(depth):
        item = Dataset()
        setattr(place, SEQUENCES[number], [item])
        place = item
    setattr(place, keyword, value)
    with pytest.raises(InstanceWithheld):
        VERIFIER.check(instance(source, syntax), instance(output, syntax))


def answer(header: bytes) -> str:
    """Return the category of the refusal, or "verify-passed": some damage is harmless."""
    try:
        VERIFIER.check(SOURCE, replace(OUTPUT, header=header))
    except InstanceWithheld as found:
        return found.message.category
    return "verify-passed"


@settings(max_examples=300)
@given(data=st.data())
def test_damaged_output_passes_or_is_withheld_without_other_errors(data: st.DataObject) -> None:
    header = bytearray(OUTPUT.header)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(header) - 1))
        header[at] = data.draw(st.integers(0, 255))
    assert answer(bytes(header)).startswith("verify-")


@settings(max_examples=200)
@given(at=st.integers(1, len(OUTPUT.header) - 1), noise=st.binary(max_size=40))
def test_truncated_output_is_withheld_and_inserted_bytes_never_crash(at: int, noise: bytes) -> None:
    header = bytes(OUTPUT.header)
    with pytest.raises(InstanceWithheld, match=r"."):
        VERIFIER.check(SOURCE, replace(OUTPUT, header=header[:at]))
    assert answer(header[:at] + noise + header[at:]).startswith("verify-")


@settings(max_examples=60)
@given(st.from_regex(r"2\.25\.[1-9][0-9]{20,36}|1\.[23](\.[1-9][0-9]{0,5}){1,6}", fullmatch=True))
def test_original_uid_in_a_nested_sequence_is_found(uid: str) -> None:
    source = original()
    source.FrameOfReferenceUID = uid
    output = pseudonymized(source)
    output.SourceImageSequence[0].PurposeOfReferenceCodeSequence = [code("11", "x")]
    item = output.SourceImageSequence[0].PurposeOfReferenceCodeSequence[0]
    item.ReferencedSOPInstanceUID = uid
    with pytest.raises(InstanceWithheld) as found:
        VERIFIER.check(instance(source), instance(output))
    assert found.value.message.category == "verify-uid"


def test_verification_knows_the_vr_of_every_attribute_with_a_keyword() -> None:
    named = {
        tag: row[0][:2].encode()
        for tag, row in DicomDictionary.items()
        if row[4] and 0x00030000 <= tag < 0xFFFE0000
    }

    wrong = {f"{tag:08x}" for tag, vr in named.items() if _implicit_vr(tag) != vr}

    assert len(named) > 4500
    assert not wrong
