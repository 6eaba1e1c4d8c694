"""The DIMSE node against Orthanc and dcmtk."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from struct import pack

import pytest
from lab import peers
from lab.instances import by_uid, compressed, images, instance_with
from lab.samples import ROOT, ct, instance
from lab.wire import Wire
from pydicom import dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    HEVCMP51,
    MPEG2MPML,
    MPEG4HP41,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from adit_engine.dicom_file import part10
from adit_engine.dicom_ul.association import ClientAssociation
from adit_engine.errors import InvalidInput, NotFound, NotSupported
from adit_engine.nodes.base import Grade
from adit_engine.nodes.dimse.c_find import CFind
from adit_engine.values.query import Query
from adit_engine.values.record import Record
from adit_engine.values.references import InstanceRef, QueryLevel, SeriesRef, StudyRef

STUDY = StudyRef(f"{ROOT}.1")


def test_check_reports_the_services_of_the_archive(archive: peers.Orthanc) -> None:
    list(archive.node().store(images(2)))

    findings = list(archive.node().check())

    assert {finding.grade for finding in findings} == {Grade.GOOD}
    assert "C-ECHO" in str(findings[0].what)


def test_stored_images_are_confirmed_and_fetched_byte_for_byte(
    archive: peers.Orthanc, same_threads: None
) -> None:
    node = archive.node()
    sent = images(5) + images(5, series="2")

    stored = list(node.store(sent))

    assert [one.error for one in stored] == [None] * 10
    assert [one.ref for one in stored] == [one.in_header.ref for one in sent]
    assert [one.sha256 for one in stored] == [one.sha256() for one in sent]
    assert set(node.confirm(stored)) == {one.instance_uid for one in sent}
    assert by_uid(list(node.fetch([STUDY]))) == by_uid(sent)


def test_fetch_accepts_series_and_single_instances(archive: peers.Orthanc) -> None:
    node = archive.node()
    sent = images(3) + images(3, series="2")
    list(node.store(sent))
    series = SeriesRef(STUDY.study_uid, f"{ROOT}.1.2")
    single = [one.in_header.ref for one in sent if one.in_header.ref.series != series][:2]

    fetched = list(archive.node().fetch([series]))
    picked = list(archive.node().fetch(single))

    assert by_uid(fetched) == by_uid(sent[3:])
    assert {one.instance_uid for one in picked} == {ref.instance_uid for ref in single}


def test_fetch_after_a_list_query_needs_no_second_query(archive: peers.Orthanc) -> None:
    list(archive.node().store(images(3)))
    with Wire(archive.port, after_bytes=10**9, how="cut") as wire:
        node = peers.node(wire.port, "ONE")
        series = SeriesRef(STUDY.study_uid, f"{ROOT}.1.1")
        assert len(list(node.find(Query.instances_of(series)))) == 3

        assert len(list(node.fetch([series]))) == 3

    assert wire.connections == 2


def test_find_works_at_each_level_and_matches_umlauts(archive: peers.Orthanc) -> None:
    node = archive.node()
    list(node.store(images(2) + images(2, series="2")))

    patients = list(node.find(Query(QueryLevel.PATIENT, {"PatientID": "PID-4711-0815"})))
    studies = list(node.find(Query(QueryLevel.STUDY, {"PatientName": "mustermann^änne"})))
    series = list(node.find(Query.series_of(STUDY)))
    single = list(node.find(Query.instances_of(SeriesRef(STUDY.study_uid, f"{ROOT}.1.2"))))

    assert [record.patient_name for record in patients] == ["Mustermann^Änne"]
    assert [record.patient_name for record in studies] == ["Mustermann^Änne"]
    assert studies[0].ref == STUDY
    assert studies[0].modalities == ("CT",)
    assert studies[0].instance_count == 4
    assert {record.ref for record in series} == {
        SeriesRef(STUDY.study_uid, f"{ROOT}.1.{number}") for number in (1, 2)
    }
    assert {record.instance_uid for record in single} == {f"{ROOT}.1.2.{n}" for n in (1, 2)}
    assert {record.sop_class_uid for record in single} == {ct().SOPClassUID}


def test_a_japanese_patient_name_is_decoded(
    orthancs: tuple[peers.Orthanc, peers.Orthanc],
) -> None:
    archive = orthancs[1]
    name = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    dataset = ct(SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientName=name)
    list(archive.node().store([instance(dataset)]))

    (record,) = archive.node().find(Query.study(STUDY))

    assert record.patient_name == name


def test_find_reports_that_the_result_cap_was_reached(archive: peers.Orthanc) -> None:
    list(archive.node().store(images(5)))
    query = Query.instances_of(SeriesRef(STUDY.study_uid, f"{ROOT}.1.1"))

    cut = archive.node(result_cap=3).find(query)
    whole = archive.node(result_cap=6).find(query)

    assert len(list(cut)) == 3
    assert cut.is_capped
    assert len(list(whole)) == 5
    assert not whole.is_capped


def test_fetching_an_unknown_study_or_series_raises_not_found(archive: peers.Orthanc) -> None:
    with pytest.raises(NotFound, match="no longer has this study"):
        list(archive.node().fetch([STUDY]))
    with pytest.raises(NotFound, match="no longer has this series"):
        list(archive.node().fetch([SeriesRef("1.2.3", "1.2.3.4")]))


def test_confirm_returns_only_images_that_the_archive_has(archive: peers.Orthanc) -> None:
    node = archive.node()
    (kept,) = node.store(images(1))
    lost = dataclasses.replace(kept, ref=InstanceRef(STUDY.study_uid, f"{ROOT}.1.1", "1.2.3"))

    assert list(node.confirm([kept, lost])) == [kept.ref.instance_uid]


def test_thirty_images_are_transferred_unchanged_between_archives(
    orthancs: tuple[peers.Orthanc, peers.Orthanc], same_threads: None
) -> None:
    source, destination = orthancs
    sent = images(30)
    list(source.node().store(sent))

    stored = list(destination.node().store(source.node().fetch([STUDY])))

    assert len(set(destination.node().confirm(stored))) == 30
    assert by_uid(list(destination.node().fetch([STUDY]))) == by_uid(sent)


def test_storing_images_twice_changes_nothing(archive: peers.Orthanc) -> None:
    node = archive.node()
    first = list(node.store(images(3)))
    second = list(node.store(images(3)))

    assert [one.is_stored for one in second] == [True] * 3
    assert set(node.confirm(second)) == {one.ref.instance_uid for one in first}
    assert archive.count() == 3


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_compressed_images_are_fetched_without_transcoding(
    archive: peers.Orthanc, syntax: str
) -> None:
    large = ct(1, Rows=64, Columns=64, PixelData=bytes(range(64)) * 128)
    sent = [compressed(large, syntax), instance(ct(2)), instance(ct(3), explicit=False)]
    stored = list(archive.node().store(sent))

    assert [one.error for one in stored] == [None] * 3
    assert by_uid(list(archive.node().fetch([STUDY]))) == by_uid(sent)


@pytest.mark.parametrize("syntax", [MPEG2MPML, MPEG4HP41, HEVCMP51])
def test_videos_are_fetched_without_transcoding(archive: peers.Orthanc, syntax: str) -> None:
    # The stream is never decoded, so it need not be valid.
    film = ct(1, Rows=64, Columns=64, BitsAllocated=8, BitsStored=8, HighBit=7)
    film.PixelData = encapsulate([bytes(range(250))])
    film.file_meta = FileMetaDataset()
    sent = instance_with(film, syntax)
    stored = list(archive.node().store([sent]))

    assert [one.error for one in stored] == [None]
    assert by_uid(list(archive.node().fetch([STUDY]))) == by_uid([sent])


def test_a_study_with_more_sop_classes_than_one_association_is_fetched(
    archive: peers.Orthanc,
) -> None:
    ends = ("1", "2", "4", "7", "20", "128", "481.1", "1.1", "1.2", "1.3", "12.1", "12.2", "6.1")
    sent = [
        instance(ct(1, series=str(number), SOPClassUID=f"1.2.840.10008.5.1.4.1.1.{end}"))
        for number, end in enumerate(ends, 1)
    ]
    sent.append(compressed(ct(1, series="99"), RLELossless))
    stored = list(archive.node().store(sent))
    assert [one.error for one in stored] == [None] * len(sent)

    assert by_uid(list(archive.node().fetch([STUDY]))) == by_uid(sent)


def test_an_image_above_the_mapping_limit_is_fetched_unchanged(archive: peers.Orthanc) -> None:
    frames = 40 * 1024 * 1024 // (1024 * 1024 * 2)
    big = ct(Rows=1024, Columns=1024, PixelData=bytes(1024 * 1024 * 2 * frames))
    big.NumberOfFrames = frames
    sent = instance(big)
    list(archive.node().store([sent]))

    (fetched,) = archive.node().fetch([STUDY])

    assert fetched.size_bytes > part10.MAPPED_FROM_BYTES
    assert fetched.sha256() == sent.sha256()


@peers.needs_dcmtk
def test_a_patient_root_archive_can_be_searched_and_fetched_from(tmp_path: Path) -> None:
    sent = images(4)
    with peers.dcmqrscp(tmp_path / "qr") as port:
        node = peers.node(port, "QR", query_root="patient")
        stored = list(node.store(sent))
        assert [one.error for one in stored] == [None] * 4

        (study,) = node.find(Query.study(STUDY, "PID-4711-0815"))
        fetched = list(node.fetch([STUDY], patient_id="PID-4711-0815"))

        assert study.ref == STUDY
        assert by_uid(fetched) == by_uid(sent)
        with pytest.raises(InvalidInput, match="patient root"):
            node.fetch([STUDY])


@peers.needs_dcmtk
def test_images_in_dcmqrscp_are_confirmed_and_fetched_by_study_root(tmp_path: Path) -> None:
    sent = images(3) + images(2, series="2")
    with peers.dcmqrscp(tmp_path / "qr") as port:
        node = peers.node(port, "QR")
        stored = list(node.store(sent))

        assert set(node.confirm(stored)) == {one.instance_uid for one in sent}
        assert by_uid(list(node.fetch([STUDY]))) == by_uid(sent)


@peers.needs_dcmtk
def test_dcmqrscp_with_one_association_stores_confirms_and_sends_images(tmp_path: Path) -> None:
    """It still counts the previous association when the next one is requested."""
    sent = images(3)
    with peers.dcmqrscp(tmp_path / "qr", most=1) as port:
        node = peers.node(port, "QR")

        stored = list(node.store(sent))
        kept = set(node.confirm(stored))

        assert [one.error for one in stored] == [None] * 3
        assert kept == {one.instance_uid for one in sent}
        assert by_uid(list(node.fetch([STUDY]))) == by_uid(sent)


@peers.needs_dcmtk
def test_images_with_a_rejected_encoding_are_reencoded_without_loss(tmp_path: Path) -> None:
    source = [instance(ct(1)), compressed(ct(2), RLELossless)]
    with peers.storescp(tmp_path / "taken", "+xi") as port:
        stored = list(peers.node(port).store(source))

    taken = {
        part10.read_file(path).instance_uid: path for path in (tmp_path / "taken").glob("*.dcm")
    }
    assert [one.error for one in stored] == [None, None]
    assert all("re-encoded without loss as Implicit VR" in str(one.warning) for one in stored)
    assert [part10.read_file(taken[one.ref.instance_uid]).sha256() for one in stored] == [
        one.sha256 for one in stored
    ]
    for number, one in enumerate(stored, 1):
        there, here = dcmread(taken[one.ref.instance_uid]), ct(number)
        assert there.PixelData == here.PixelData
        assert there.PatientName == here.PatientName
        assert {e.tag for e in there} == {e.tag for e in here}


@peers.needs_dcmtk
def test_a_big_endian_image_keeps_its_values_at_the_destination(tmp_path: Path) -> None:
    """ADIT converts the byte order, because it does not propose big endian."""
    words = [3 * number for number in range(256)]
    image = ct(1, PixelData=pack(">256H", *words))
    image.add_new(0x00283006, "OW", pack(">4H", 1, 2, 3, 4))
    image.file_meta = FileMetaDataset()
    with peers.storescp(tmp_path / "taken") as port:
        (stored,) = peers.node(port).store([instance_with(image, ExplicitVRBigEndian)])

    (path,) = (tmp_path / "taken").glob("*.dcm")
    there = dcmread(path)
    assert stored.is_stored
    assert there.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert there.PixelData == pack("<256H", *words)
    assert there[0x00283006].value == pack("<4H", 1, 2, 3, 4)


@peers.needs_dcmtk
def test_confirm_raises_not_supported_if_the_destination_has_no_c_find(tmp_path: Path) -> None:
    with peers.storescp(tmp_path / "taken") as port:
        node = peers.node(port)
        stored = list(node.store(images(2)))

        assert [one.is_stored for one in stored] == [True, True]
        with pytest.raises(NotSupported, match="C-FIND"):
            list(node.confirm(stored))
        warnings = [str(one.what) for one in node.check() if one.grade is Grade.WARNING]

    assert len(warnings) == 3
    assert "not allow searches" in warnings[0]
    assert "not allow retrieval" in warnings[1]
    assert "cannot be verified" in warnings[2]


@pytest.mark.parametrize("knows_uid_lists", [True, False])
def test_few_images_are_confirmed_by_uid_or_else_by_the_whole_list(
    archive: peers.Orthanc, monkeypatch: pytest.MonkeyPatch, knows_uid_lists: bool
) -> None:
    node = archive.node()
    stored = list(node.store([instance(ct(number)) for number in range(1, 13)]))
    lost = dataclasses.replace(
        stored[0], ref=dataclasses.replace(stored[0].ref, instance_uid=f"{ROOT}.999")
    )
    asked: list[object] = []
    ask = CFind.search

    def noted(self: CFind, association: ClientAssociation, query: Query) -> Iterator[Record]:
        asked.append(query.keys.get("SOPInstanceUID"))
        answers = ask(self, association, query)
        return answers if knows_uid_lists or asked[-1] is None else iter(())

    monkeypatch.setattr(CFind, "search", noted)

    assert len(list(node.confirm(stored[:9]))) == 9
    assert asked == [None]
    asked.clear()
    proven = list(node.confirm([*stored[9:], lost]))

    assert sorted(proven) == sorted(one.ref.instance_uid for one in stored[9:])
    assert asked[0] is not None
    assert asked[-1] is None  # the lost image is searched for in the whole list, too
