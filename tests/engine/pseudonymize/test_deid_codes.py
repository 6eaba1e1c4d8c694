"""Codes and labels: free text in coded items and labels is removed."""

import pytest
from lab.deid_objects import change, encode, header, instance, items, read, result
from pydicom.sr._concepts_dict import concepts
from pydicom.sr._snomed_dict import mapping

from adit_engine.pseudonymize import safe_text, tables
from adit_engine.pseudonymize.actions import ActionContext
from adit_engine.pseudonymize.apply import apply
from adit_engine.pseudonymize.keys import ProjectKey
from adit_engine.pseudonymize.verify.verifier import verify

MG = "1.2.840.10008.5.1.4.1.1.1.2"


def coded(value: bytes, scheme: bytes, meaning: bytes, version: bytes = b"") -> bytes:
    made = encode(0x00080100, "SH", value) + encode(0x00080102, "SH", scheme)
    if version:
        made += encode(0x00080103, "SH", version)
    return made + encode(0x00080104, "LO", meaning)


def region(value: bytes, scheme: bytes, meaning: bytes, version: bytes = b""):
    made = header(t00082218=("SQ", items(coded(value, scheme, meaning, version))))
    return result(instance(made)).get("AnatomicRegionSequence")


@pytest.mark.parametrize(
    "meaning",
    [
        "Chest, Dr. Ostermeyer",
        "St. Josefs Hospital, ward 7",
        "Chest 4711234",
        "Chest 12.03.1961",
        "Chest 26ed448",
        "Brust von Frau Müller",
    ],
)
def test_free_text_in_a_code_meaning_is_replaced_and_the_code_is_kept(
    meaning: str,
) -> None:
    (code,) = region(b"51185008", b"SCT", meaning.encode("latin-1"))
    assert (code.CodeValue, code.CodingSchemeDesignator) == ("51185008", "SCT")
    assert code.CodeMeaning == "REMOVED"


@pytest.mark.parametrize(
    "meaning",
    [
        "Chest",
        "Entire left upper lobe (body structure)",
        "^18^Fluorine",
        "4-chamber view",
        "LAO 30",
    ],
)
def test_a_code_meaning_of_standard_words_is_kept(meaning: str) -> None:
    (code,) = region(b"51185008", b"SCT", meaning.encode())
    assert code.CodeMeaning == meaning


def test_a_code_meaning_with_the_patient_name_is_replaced_even_if_standard() -> None:
    made = header(
        t00100010=("PN", b"Chest^Miller"),
        t00082218=("SQ", items(coded(b"51185008", b"SCT", b"Chest of Miller"))),
    )
    (code,) = result(instance(made)).AnatomicRegionSequence
    assert code.CodeMeaning == "REMOVED"


@pytest.mark.parametrize(
    ("value", "scheme"),
    [
        (b"OSTERMEYER", b"SCT"),
        (b"4711234", b"SCT"),
        (b"19610312", b"SCT"),
        (b"51185009", b"SCT"),  # its check digit is wrong
        (b"OSTERMEYER", b"SRT"),
        (b"OSTERMEYER", b"DCM"),
        (b"19610312", b"DCM"),
        (b"19610312", b"FMA"),
        (b"OSTERMEYER", b"LN"),
        (b"{ostermeyer}", b"UCUM"),
        (b"19610312", b"UCUM"),
        (b"OSTERMEYER", b"ISO3166_1"),
        (b"19610312", b"UMLS"),
    ],
)
def test_an_item_with_a_malformed_code_value_is_removed(value: bytes, scheme: bytes) -> None:
    assert region(value, scheme, b"Chest") is None


def test_an_item_with_an_invalid_long_code_value_is_removed() -> None:
    item = coded(b"51185008", b"SCT", b"Chest") + encode(0x00080119, "UC", b"Ostermeyer")
    made = header(t00082218=("SQ", items(item)))
    assert "AnatomicRegionSequence" not in result(instance(made))


@pytest.mark.parametrize(("version", "stays"), [(b"20030108", True), (b"Ostermeyer", False)])
def test_a_coding_scheme_version_is_kept_only_if_numeric(version: bytes, stays: bool) -> None:
    (code,) = region(b"51185008", b"SCT", b"Chest", version)
    assert ("CodingSchemeVersion" in code) is stays


def test_nearly_all_standard_codes_and_meanings_are_accepted() -> None:
    work = ActionContext(ProjectKey(bytes(32)), 0)
    keep = safe_text.vocabulary_action("LO")
    strange, lost, all_of_them = [], [], 0
    for scheme in concepts.keys() & {name.decode() for name in tables.code_schemes()}:
        for known in concepts[scheme].values():
            for value, (meaning, _) in known.items():
                all_of_them += 1
                if not safe_text.is_standard_code(value.encode(), scheme.encode()):
                    strange.append(value)
                fits = len(meaning) <= 64 and "breed" not in meaning
                if fits and keep(meaning.encode(), work) is None:
                    lost.append(meaning)
    strange += [
        value for value in mapping["SRT"] if not safe_text.is_standard_code(value.encode(), b"SRT")
    ]
    assert all_of_them > 18000
    assert len(strange) < 10, strange
    assert len(lost) < all_of_them * 0.03, lost


@pytest.mark.parametrize(
    ("label", "left"),
    [
        ("Tumor of Ostermeyer", "REMOVED"),
        ("seen 12.03.1961", "REMOVED"),
        ("GTV primary lesion 2", "GTV primary lesion 2"),
        ("kidney_left", "kidney_left"),
        ("Segment 12", "Segment 12"),
    ],
)
def test_a_segment_label_is_kept_only_if_all_words_are_known(label: str, left: str) -> None:
    segment = encode(0x00620004, "US", b"\1\0") + encode(0x00620005, "LO", label.encode())
    made = header(
        t00080016=("UI", b"1.2.840.10008.5.1.4.1.1.66.4"),
        t00080060=("CS", b"SEG"),
        t00620002=("SQ", items(segment)),
    )
    (kept,) = result(instance(made), change()).SegmentSequence
    assert kept.SegmentLabel == left


@pytest.mark.parametrize(
    ("part", "left"),
    [
        ("Chest", "Chest"),
        ("Head-Neck", "Head-Neck"),
        ("C-SPINE", "C-SPINE"),
        ("Ostermeyer", None),
        ("Chest 19610312", None),
        ("Chest and abdomen", None),  # too long
    ],
)
def test_a_mixed_case_code_string_is_kept_only_if_all_words_are_known(
    part: str, left: str | None
) -> None:
    source = instance(header(t00180015=("CS", part.encode())))
    out = apply(change(), source)
    verify(source, out, change())
    assert read(out).get("BodyPartExamined") == left


def test_a_private_code_is_replaced_and_its_nested_modifiers_are_kept() -> None:
    craniocaudal = encode(0x00540222, "SQ", items(coded(b"399161006", b"SCT", b"Cleavage")))
    view = coded(b"RCC", b"99KLINIK", b"View of Ostermeyer") + craniocaudal
    made = header(MG, t00540220=("SQ", items(view)))
    source = instance(made)
    out = apply(change(), source)
    verify(source, out, change())
    (kept,) = read(out).ViewCodeSequence
    assert (kept.CodeValue, kept.CodingSchemeDesignator) == ("REMOVED", "99ADIT")
    assert kept.ViewModifierCodeSequence[0].CodeMeaning == "Cleavage"


@pytest.mark.parametrize(
    ("group", "left"), [("Hispanic/Latino", "Hispanic/Latino"), ("Ostermeyer", None)]
)
def test_an_ethnic_group_is_kept_only_if_all_words_are_known(group: str, left: str | None) -> None:
    made = header(t00102160=("SH", group.encode()))
    source, how = instance(made), change("113107", "113108")
    out = apply(how, source)
    verify(source, out, how)
    assert read(out).get("EthnicGroup") == left


@pytest.mark.parametrize(
    ("label", "left"), [("LIVER_TUMOR 2", "LIVER_TUMOR 2"), ("OSTERMEYER", "UNKNOWN")]
)
def test_a_content_label_is_kept_only_if_all_words_are_known(label: str, left: str) -> None:
    made = header(
        t00080016=("UI", b"1.2.840.10008.5.1.4.1.1.66.4"),
        t00080060=("CS", b"SEG"),
        t00700080=("CS", label.encode()),
    )
    assert result(instance(made)).ContentLabel == left
