"""Verification finds identifying values that pseudonymization missed, anywhere in an object."""

import re
import zlib
from collections.abc import Callable
from dataclasses import replace

import pytest
from lab.verify_pairs import (
    change,
    code,
    encoded,
    instance,
    original,
    pseudonymized,
)
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from adit_engine.errors import InstanceWithheld
from adit_engine.pseudonymize.parameters import Pseudonymization
from adit_engine.pseudonymize.verify.verifier import Verifier, verify
from adit_engine.values.instance import DEFLATED_LE, EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE, Instance

Plant = Callable[[Dataset], object]


def withheld(
    source: Instance, output: Instance, by: Pseudonymization | None = None
) -> InstanceWithheld:
    with pytest.raises(InstanceWithheld) as caught:
        verify(source, output, by or change())
    return caught.value


def planted(plant: Plant, syntax: str = EXPLICIT_LE) -> InstanceWithheld:
    source = original()
    output = pseudonymized(source)
    verify(instance(source, syntax), instance(output, syntax), change())
    plant(output)
    return withheld(instance(source, syntax), instance(output, syntax))


def says(text: str) -> Plant:
    """Put a text into an attribute that may hold text."""
    return lambda ds: setattr(ds, "SoftwareVersions", text)


def nested(text: str) -> Plant:
    def plant(ds: Dataset) -> None:
        item = code("11", text)
        for keyword in ("AnatomicRegionSequence", "ViewCodeSequence", "ConceptCodeSequence"):
            outer = Dataset()
            setattr(outer, keyword, Sequence([item]))
            item = outer
        ds.SourceImageSequence[0].PurposeOfReferenceCodeSequence = Sequence([item])

    return plant


def raw(tag: int, vr: str, value: bytes) -> Plant:
    """Put an element with exactly these bytes, legal or not."""
    return lambda ds: ds.__setitem__(
        tag, RawDataElement(Tag(tag), vr, len(value), value, 0, False, True)
    )


@pytest.mark.parametrize("syntax", [EXPLICIT_LE, IMPLICIT_LE, EXPLICIT_BE])
def test_correct_output_passes(syntax: str) -> None:
    verify(instance(original(), syntax), instance(pseudonymized(original()), syntax), change())


@pytest.mark.parametrize("options", [("113106",), ("113107",), ("113107", "113108")])
def test_correct_output_of_other_profiles_passes(options: tuple[str, ...]) -> None:
    output = pseudonymized(original(), *options)
    verify(instance(original()), instance(output), change(*options))


def test_correct_output_without_trial_or_dates_passes() -> None:
    output = pseudonymized(original(), "113108")
    for keyword in ("Sponsor", "Protocol", "Site", "Subject"):
        for element in [e for e in output if e.keyword.startswith(f"ClinicalTrial{keyword}")]:
            del output[element.tag]
    verify(instance(original()), instance(output), change("113108", stamped=False))


@pytest.mark.parametrize(
    "text",
    [
        "MÜLLER", "mueller", "Muller", "scan of Lüdenscheidt", "HANS", "hans_peter", "Peter2",
        "Zweistein", "by okonkwo.", "CHIDI", "Brown", "Gertrude", "Aliasson,A", "x AGNES x",
    ],
)  # fmt: skip
def test_name_in_a_text_is_found(text: str) -> None:
    assert planted(says(text)).message.category == "verify-name"
    assert planted(nested(text)).message.category == "verify-name"
    assert planted(nested(text), IMPLICIT_LE).message.category == "verify-name"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("ID 98765432", "id"), ("A98765432B", "id"), ("9876-5432", "id"), ("KH-554433", "id"),
        ("kh554433", "id"), ("acc4711x", "id"), ("RP889900", "id"), ("77001", "id"),
        ("born 02.01.1970", "birth-date"), ("1970-01-02", "birth-date"), ("2.1.1970", "birth-date"),
        ("19700102", "birth-date"), ("01/02/1970", "birth-date"), ("02011970", "birth-date"),
        ("scanned 19.01.2004", "date"), ("2004-01-19", "date"), ("20040119", "date"), ("19 Jan 2004", "date"),
        ("January 2, 1970", "birth-date"),
        ("st. elsewhere hospital", "institution"), ("in Heidelberg", "institution"),
        ("Rosengasse 12", "institution"), ("Lindenallee 5", "address"), ("Wiesenthal", "address"),
        ("+49 6221 560-77", "address"), ("4962215607 7", "address"), ("49622156077", "address"),
        ("CTROOM07", "device"), ("sn443322", "device"), ("plays the cello in town", "text"),
    ],
)  # fmt: skip
def test_other_identifying_values_in_a_text_are_found(text: str, kind: str | None) -> None:
    if kind is None:
        output = pseudonymized(original())
        says(text)(output)
        verify(instance(original()), instance(output), change())
    else:
        assert planted(says(text)).message.category == f"verify-{kind}"
        assert planted(nested(text)).message.category == f"verify-{kind}"


SPELLED = {
    "name": """Brücken-Müller|Brücken Müller|brueckenmuellers|ABrueckenmueller|FrauBrueckenmueller
        AnnelieseBrueckenmueller|BruckenmullerAnneliese|AnnelieseMaria|relleumnekceurB
        B r u e c k e n m u e l l e r|Br%C3%BCckenm%C3%BCller|Br&uuml;ckenm&uuml;ller|Brueckenm
        Brückenmue11er|x-anneliese-x|annelieseX|SCANBRÜCKENMÜLLERS|Scan Ｂrückenmüllers""",
    "birth-date": """12.03.61|12.3.61|3/12/61|61-03-12|610312|120361|12_03_61|12. März 1961|12MAR1961
        12-Mar-61|Mar. 12, 1961|March 12th, 1961|12th of March 1961|1961 Mar 12|12 . 03 . 1961
        12:03:1961|1961-3-12|12.-03.-1961|12, 3, 1961|born19610312x""",
    "id": "QK/7734519|q k 7 7 3 4 5 1 9|7734519|07734519|A-00-24417|xQK7734519x",
    "address": """06221 5634567|0049/6221/5634567|6221-5634567|Lindenallee|OBERHINTERWALD|69998
        ann.b@web-mail.example|ann.b (at) web-mail.example|ann.b""",
    "institution": "KlinikumVorderberg|KH Vorderberg|Vorderbergs CT",
    "device": "SN88231X|SN 88231 X",
}


@pytest.mark.parametrize(
    ("kind", "text"),
    [(kind, text.strip()) for kind, all_ in SPELLED.items() for text in re.split(r"[|\n]", all_)],
)
def test_other_spellings_of_identifying_values_are_found(kind: str, text: str) -> None:
    source = original()
    for keyword, value in {
        "SpecificCharacterSet": "ISO_IR 192",
        "PatientName": "Brückenmüller^Anneliese Maria^^Prof. Dr.",
        "PatientBirthDate": "19610312",
        "PatientID": "QK-7734519",
        "AccessionNumber": "A0024417",
        "PatientAddress": "Lindenallee 44b^69998 Oberhinterwald",
        "PatientTelephoneNumbers": "+49 6221 5634567",
        "PatientTelecomInformation": "mailto:ann.b@web-mail.example",
        "InstitutionName": "Klinikum Vorderberg",
        "DeviceSerialNumber": "SN-88231-X",
    }.items():
        setattr(source, keyword, value)
    output = pseudonymized(source)
    verify(instance(source), instance(output), change())
    says(text)(output)
    assert withheld(instance(source), instance(output)).message.category == f"verify-{kind}"


@pytest.mark.parametrize(
    ("keyword", "value", "text"),
    [
        ("PatientName", "Philip^Anna", "Philips Achieva"),
        ("PatientName", "Compressor^Al", "Uncompressed predecessor"),
        ("PatientBirthDate", "20030201", "VA 1.1.2.03"),
        ("PatientBirthDate", "20030201", "1.2.03.4"),
        ("PatientID", "123456", "12.34.56"),
        ("InstitutionName", "Universitätsklinikum Radiologie", "Radiology University"),
    ],
)
def test_text_that_only_resembles_another_spelling_passes(
    keyword: str, value: str, text: str
) -> None:
    source = original()
    source.SpecificCharacterSet = "ISO_IR 192"
    setattr(source, keyword, value)
    output = pseudonymized(source)
    says(text)(output)
    verify(instance(source), instance(output), change())


@pytest.mark.parametrize(
    ("plant", "kind"),
    [
        (raw(0x00290010, "LO", b"ACME HEADER "), "private"),
        (raw(0x00280A0A, "UN", b"seen by Okonkwo "), "name"),
        (raw(0x00281201, "OW", b"\1\2Okonkwo\3"), "name"),
        (raw(0x00281201, "OW", b"xxOkonkwo1"), "name"),
        (raw(0x00180050, "DS", b"98765432"), "id"),
        (raw(0x00080032, "TM", b"19700102"), "birth-date"),
        (raw(0x00180015, "CS", b"OKONKWO "), "name"),
        (lambda ds: setattr(ds, "PatientName", "Somebody^Else"), "person"),
        (lambda ds: setattr(ds, "OperatorsName", "Nobody^New"), "person"),
        (lambda ds: setattr(ds.SourceImageSequence[0], "PatientID", "12"), "id"),
        (lambda ds: setattr(ds, "PatientID", "12"), "id"),
        (lambda ds: setattr(ds, "AccessionNumber", "0"), "element"),
        (lambda ds: setattr(ds, "PatientBirthDate", "19000101"), "element"),
        (lambda ds: setattr(ds, "PatientSex", "M"), "element"),
        (lambda ds: setattr(ds, "StationName", "CTROOM07"), "element"),
        (lambda ds: setattr(ds, "StudyDescription", "anything"), "element"),
        (lambda ds: setattr(ds, "RequestAttributesSequence", [Dataset()]), "element"),
        (lambda ds: setattr(ds, "IconImageSequence", [Dataset()]), "element"),
        (lambda ds: setattr(ds, "InstanceCreationDate", "20040119"), "date"),
        (raw(0x00080012, "DA", b"2003"), "date"),
        (lambda ds: setattr(ds, "AcquisitionDateTime", "20040119072731"), "date"),
        (lambda ds: setattr(ds, "StudyInstanceUID", "1.2.840.99999.1.20040119.1"), "uid"),
        (lambda ds: setattr(ds, "StudyInstanceUID", "1.2.840.99999.5"), "uid"),
        (raw(0x00181002, "UI", b"1.2.840.99999.1.20040119.77"), "uid"),
        (says("from 1.2.840.99999.1.20040119.9"), "uid"),
        (says("1.2.840.99999.1.20040119.9.1.dcm"), "uid"),
        (nested("1.2.840.99999.1.20040119.8"), "uid"),
        (raw(0x60003000, "OW", b"\0\0"), "group"),
        (raw(0x50000010, "US", b"\1\0"), "group"),
        (lambda ds: setattr(ds, "PatientIdentityRemoved", "NO"), "stamp"),
        (lambda ds: setattr(ds, "DeidentificationMethod", "Someone"), "stamp"),
        (lambda ds: setattr(ds, "DeidentificationMethodCodeSequence", [code("113107")]), "stamp"),
        (lambda ds: ds.DeidentificationMethodCodeSequence.append(code("113101")), "stamp"),
        (lambda ds: setattr(ds, "LongitudinalTemporalInformationModified", "REMOVED"), "stamp"),
        (lambda ds: setattr(ds, "ClinicalTrialSponsorName", "Other"), "stamp"),
        (lambda ds: setattr(ds, "ClinicalTrialSubjectID", "Other"), "stamp"),
        (lambda ds: setattr(ds, "ClinicalTrialSeriesID", "old"), "element"),
        (lambda ds: setattr(ds.SourceImageSequence[0], "PatientIdentityRemoved", "YES"), "stamp"),
        (lambda ds: setattr(ds, "SpecificCharacterSet", "ISO_IR 100"), "meta"),
        (lambda ds: setattr(ds, "BitsStored", 16), "pixel"),
        (lambda ds: delattr(ds, "RescaleIntercept"), "pixel"),
        (lambda ds: delattr(ds, "PixelData"), "pixel"),
        (lambda ds: setattr(ds, "PixelData", b"\1" + ds.PixelData[1:]), "pixel"),
        (lambda ds: setattr(ds, "PixelData", ds.PixelData[:-2]), "pixel"),
        (lambda ds: setattr(ds, "PixelData", ds.PixelData + b"Mueller "), "pixel"),
        (lambda ds: setattr(ds, "DataSetTrailingPadding", b"\0\0"), "group"),
        (raw(0x7FF00010, "LO", b"Okonkwo "), "name"),
    ],
)  # fmt: skip
def test_each_kind_of_leak_is_found(plant: Plant, kind: str) -> None:
    assert planted(plant).message.category == f"verify-{kind}"


@pytest.mark.parametrize(
    "text", ["山田", "ヤマダ", "太郎さん", "1 山田^太郎 1", "yamada", "TAROU"]
)  # fmt: skip
@pytest.mark.parametrize("charset", [["", "ISO 2022 IR 87"], "ISO_IR 192", "GB18030"])
def test_japanese_name_is_found(text: str, charset: str | list[str]) -> None:
    source = original()
    source.SpecificCharacterSet = charset
    for element in ("InstitutionAddress", "PatientAddress"):
        delattr(source, element)
    source.PatientName = "Yamada^Tarou=山田^太郎=ヤマダ^タロウ"
    output = pseudonymized(source)
    verify(instance(source), instance(output), change())
    output.SoftwareVersions = text
    assert withheld(instance(source), instance(output)).message.category == "verify-name"


def test_name_in_its_original_encoding_is_found() -> None:
    source = original()
    source.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    source.PatientName = "Yamada^Tarou=山田^太郎"
    output = pseudonymized(source)
    bytes_of_name = "山田".encode("iso2022_jp")
    output.add(DataElement(0x00280A0A, "UN", b"x" + bytes_of_name + b"y"))
    assert withheld(instance(source), instance(output)).message.category == "verify-name"


def test_korean_name_is_found() -> None:
    source = original()
    source.SpecificCharacterSet = ["", "ISO 2022 IR 149"]
    source.PatientName = "Hong^Gildong=洪^吉洞=홍^길동"
    output = pseudonymized(source)
    output.SoftwareVersions = "길동"
    assert withheld(instance(source), instance(output)).message.category == "verify-name"


def test_name_in_a_source_with_a_wrong_character_set_is_found() -> None:
    source = original()
    data = encoded(source).replace("Müller".encode("latin-1"), "Müle".encode() + b"r")
    mislabelled = Instance.from_data_set(
        str(source.SOPClassUID), str(source.SOPInstanceUID), EXPLICIT_LE, data
    )
    output = pseudonymized(source)
    output.SoftwareVersions = "Müler"
    assert withheld(mislabelled, instance(output)).message.category == "verify-name"


@pytest.mark.parametrize("text", ["O'BRIEN", "obrien", "o’brien", "Mr. O Brien"])
def test_name_with_an_apostrophe_is_found(text: str) -> None:
    source = original()
    source.PatientName = "O'Brien^Ea"
    output = pseudonymized(source)
    output.SpecificCharacterSet = "ISO_IR 192"
    output.SoftwareVersions = text
    assert withheld(instance(source), instance(output)).message.category == "verify-name"


def test_short_name_is_found_as_a_whole_value_and_as_a_full_name() -> None:
    source = original()
    source.PatientName = "Li^Bo"
    for text, code_ in (("LI", "verify-name"), ("seen bo, li", "verify-name"), ("Bolide", None)):
        output = pseudonymized(source)
        output.SoftwareVersions = text
        if code_ is None:
            verify(instance(source), instance(output), change())
        else:
            assert withheld(instance(source), instance(output)).message.category == code_


def test_name_in_a_un_element_of_the_source_is_collected() -> None:
    source = original()
    item = Dataset()
    item.PatientName = "Hidden^Person"
    data = encoded(item, IMPLICIT_LE)
    body = b"\xfe\xff\x00\xe0" + len(data).to_bytes(4, "little") + data
    source.add(DataElement(0x00281A0A, "UN", body))
    output = pseudonymized(original())
    output.SoftwareVersions = "Hidden"
    assert withheld(instance(source), instance(output)).message.category == "verify-name"


@pytest.mark.parametrize(
    ("behind", "kind"),
    [
        (b"\xf0\x7f\x10\x00LO\x08\x00Okonkwo ", "name"),
        (b"\xf1\x7f\x10\x00LO\x04\x00ACME", "private"),
        (b"Okonkwo ", "not-understood"),
        (b"\0" * 16, "not-understood"),
    ],
)  # fmt: skip
def test_data_after_the_pixels_is_found(behind: bytes, kind: str) -> None:
    output = instance(pseudonymized(original()), behind=behind)
    assert withheld(instance(original()), output).message.category == f"verify-{kind}"


def test_outputs_in_several_buffers_are_read_as_one() -> None:
    output = instance(pseudonymized(original()))
    (rest,) = output.rest
    pieces = (rest[:5], rest[5:12], rest[12:100], rest[100:])
    verify(instance(original()), replace(output, rest=pieces), change())
    pieces = (*pieces, b"\xf0\x7f\x10\x00LO\x08", b"\x00Okonkwo ")
    assert (
        withheld(instance(original()), replace(output, rest=pieces)).message.category
        == "verify-name"
    )


@pytest.mark.parametrize(
    "element", [b"\x20\0\x11\0IS\x08\0Okonkwo ", b"\x18\0\x10\x12SH\x06\0M\xfcller"]
)
def test_name_in_an_invalid_element_value_is_found(element: bytes) -> None:
    output = instance(pseudonymized(original()))
    output = replace(output, header=bytes(output.header) + element)
    assert withheld(instance(original()), output).message.category == "verify-name"


def test_group_length_is_found() -> None:
    output = instance(pseudonymized(original()))
    header = b"\x08\0\0\0UL\4\0\0\0\0\0" + bytes(output.header)
    assert (
        withheld(instance(original()), replace(output, header=header)).message.category
        == "verify-group"
    )


@pytest.mark.parametrize("syntax", [DEFLATED_LE, EXPLICIT_BE])
def test_deflated_and_big_endian_sources_are_read(syntax: str) -> None:
    source = instance(original(), EXPLICIT_BE)
    if syntax == DEFLATED_LE:
        packer = zlib.compressobj(wbits=-15)
        data = packer.compress(encoded(original())) + packer.flush()
        source = replace(source, transfer_syntax_uid=syntax, header=data)
    output = pseudonymized(original())
    if syntax == EXPLICIT_BE:  # the output is little endian, so its bytes are swapped
        pixels = bytearray(output.PixelData)
        pixels[0::2], pixels[1::2] = pixels[1::2], pixels[0::2]
        output.PixelData = bytes(pixels)
    verify(source, instance(output), change())
    output.SoftwareVersions = "Okonkwo"
    assert withheld(source, instance(output)).message.category == "verify-name"


def test_inconsistent_meta_information_is_found() -> None:
    source, output = instance(original()), instance(pseudonymized(original()))
    assert (
        withheld(source, replace(output, instance_uid="2.25.1")).message.category == "verify-meta"
    )
    assert withheld(source, replace(output, sop_class_uid="1.2")).message.category == "verify-meta"


def test_attribute_of_an_earlier_trial_is_found() -> None:
    source = original()
    source.ClinicalTrialTimePointID = "first visit"
    found = withheld(instance(source), instance(pseudonymized(source)))
    assert found.message.category == "verify-stamp"

    output, item = pseudonymized(original()), Dataset()
    item.ClinicalTrialTimePointDescription = "first visit"
    output.RequestAttributesSequence = [item]
    found = withheld(instance(original()), instance(output))
    assert found.message.category == "verify-element"


def test_pseudonym_that_identifies_the_patient_is_refused() -> None:
    for pseudonym in ("98765432", "LUNG-98765432", "okonkwo", "X-19700102"):
        output = pseudonymized(original(), pseudonym=pseudonym)
        verifier = Verifier(change(pseudonym=pseudonym))
        for _ in range(2):
            with pytest.raises(InstanceWithheld) as found:
                verifier.check(instance(original()), instance(output))
            assert found.value.message.code == "verify-pseudonym.identifies"


def test_reason_contains_no_element_value() -> None:
    found = planted(says("Okonkwo 98765432"))
    told = str(found.message.to_json())
    assert "konkwo" not in told.lower()
    assert "9876" not in told
    assert "(0018,1020)" in str(found)
    assert found.__cause__ is None


def test_deeply_nested_invalid_data_in_a_un_element_of_the_source_passes() -> None:
    value = b""
    for _ in range(55):
        inside = b"\x28\0\x0a\x0a" + len(value).to_bytes(4, "little") + value + b"\1\2\3"
        value = b"\xfe\xff\x00\xe0" + len(inside).to_bytes(4, "little") + inside
    source = original()
    source.add(DataElement(0x00280A0A, "UN", value))
    verify(instance(source), instance(pseudonymized(original())), change())


def test_source_that_cannot_be_read_is_withheld() -> None:
    source, output = instance(original()), instance(pseudonymized(original()))
    cut = replace(source, header=bytes(source.header)[:-3])
    assert withheld(cut, output).message.category == "verify-not-understood"


def test_one_verifier_checks_images_of_several_patients() -> None:
    verifier = Verifier(change())
    output = pseudonymized(original())
    output.SoftwareVersions = "Armstrong"
    verifier.check(instance(original()), instance(output))
    other = original()
    other.PatientName = "Armstrong^Louis"
    with pytest.raises(InstanceWithheld) as found:
        verifier.check(instance(other), instance(output))
    assert found.value.message.code == "verify-name.found"


def test_a_kept_institution_name_is_allowed_only_in_its_own_images() -> None:
    """The patient's address is in Lindenallee; option 113112 keeps the institution name."""
    options = ("113107", "113112")
    verifier = Verifier(change(*options))

    def pair(place: str) -> tuple[Instance, Instance]:
        source = original()
        source.InstitutionName = place
        output = pseudonymized(source, *options)
        output.InstitutionName = place
        output.SoftwareVersions = "LindenalleeXY"
        return instance(source), instance(output)

    verifier.check(*pair("Lindenallee Klinik"))
    with pytest.raises(InstanceWithheld) as found:
        verifier.check(*pair("Klinik am Berg"))
    assert found.value.message.code == "verify-address.found"
    verifier.check(*pair("Lindenallee Klinik"))


def test_different_pixels_in_a_shared_buffer_are_found() -> None:
    """Pixels passed on uncopied need no comparison; another range of the same buffer does."""
    made = instance(original())
    head, pixels = bytes(b"".join(made.rest)[:12]), b"".join(made.rest)[12:]
    memory = bytearray(pixels + bytes(2))
    source = replace(made, rest=(head, memoryview(memory)[: len(pixels)]))
    output = instance(pseudonymized(original()))
    shared = memoryview(memory)
    verify(source, replace(output, rest=source.rest), change())
    verify(source, replace(output, rest=(head, shared[: len(pixels)])), change())
    beside = replace(output, rest=(head, shared[2:]))
    assert withheld(source, beside).message.category == "verify-pixel"
    one = head + pixels + bytes(2)
    before, after = (
        replace(made, rest=(one[:-2],)),
        replace(output, rest=(head + pixels[2:], bytes(2))),
    )
    assert withheld(before, after).message.category == "verify-pixel"
