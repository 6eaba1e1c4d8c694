"""The DICOMweb node against Orthanc."""

import dataclasses
from collections.abc import Iterator
from contextlib import closing
from datetime import date

import pytest
from lab import peers, web_peers
from lab.instances import by_uid, compressed, images
from lab.samples import ROOT, ct, instance
from pydicom.uid import JPEG2000Lossless, RLELossless

from adit_engine.bounded_stream import Stop
from adit_engine.cli import node_url
from adit_engine.dicom_file import part10
from adit_engine.errors import NotFound, NotSupported
from adit_engine.nodes.base import Checkable, Grade, Retrievable, Searchable, Storable
from adit_engine.nodes.dicomweb.node import DicomwebNode
from adit_engine.pseudonymize.keys import ProjectKey
from adit_engine.pseudonymize.parameters import ClinicalTrialAttributes, Pseudonymization
from adit_engine.pseudonymize.profile import ConfidentialityProfile
from adit_engine.transfer.study import StudyRequest, transfer
from adit_engine.values.outcome import Completeness, SeriesOutcome
from adit_engine.values.query import DateRange, Query
from adit_engine.values.references import InstanceRef, QueryLevel, SeriesRef, StudyRef

pytestmark = [web_peers.needs_orthanc, pytest.mark.usefixtures("same_threads")]

STUDY = StudyRef(f"{ROOT}.1")
PATIENT = {"first_byte_s": 60.0, "no_progress_s": 60.0}
"""Long timeouts: Orthanc can be slow on a busy machine, and no test here is about timeouts."""
FIRST, SECOND = (SeriesRef(STUDY.study_uid, f"{ROOT}.1.{number}") for number in (1, 2))


@pytest.fixture(scope="module")
def archives(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[peers.Orthanc, peers.Orthanc]]:
    folder = tmp_path_factory.mktemp("dicomweb")
    with web_peers.orthanc(folder / "one", "ONE") as one:
        locked = {"AuthenticationEnabled": True, "RegisteredUsers": {"adit": "geheim:1"}}
        with web_peers.orthanc(folder / "two", "TWO", **locked) as two:
            yield one, two


@pytest.fixture
def node(archives: tuple[peers.Orthanc, peers.Orthanc]) -> Iterator[DicomwebNode]:
    """A node of an empty archive."""
    one = archives[0]
    one.clear()
    made = web_peers.node(one.http_port, **PATIENT)
    yield made
    made.close()


@pytest.fixture
def other(archives: tuple[peers.Orthanc, peers.Orthanc]) -> Iterator[DicomwebNode]:
    """A node of a second archive, which requires a password."""
    sign_in = {"sign_in": "basic", "user": "adit", "password": "geheim:1"}
    made = web_peers.node(archives[1].http_port, **sign_in, **PATIENT)
    yield made
    made.close()


def test_a_dicomweb_node_implements_all_protocols(node: DicomwebNode) -> None:
    assert isinstance(node, Checkable)
    assert isinstance(node, Searchable)
    assert isinstance(node, Retrievable)
    assert isinstance(node, Storable)


def test_check_reports_the_services_of_the_archive(node: DicomwebNode) -> None:
    list(node.store(images(1)))

    secrecy, search, *rest = node.check()

    assert secrecy.grade is Grade.WARNING
    assert "unencrypted" in str(secrecy.what)
    assert search.grade is Grade.GOOD
    assert "QIDO-RS" in str(search.what)
    assert {finding.grade for finding in rest} == {Grade.GOOD}


def test_check_reports_a_wrong_password(archives: tuple[peers.Orthanc, peers.Orthanc]) -> None:
    sign_in = {"sign_in": "basic", "user": "adit", "password": "falsch"}
    with closing(web_peers.node(archives[1].http_port, **sign_in)) as node:
        findings = list(node.check())

    assert "Images and sign-in are transferred unencrypted" in str(findings[0].what)
    assert findings[1].grade is Grade.BAD
    assert "check user and password" in str(findings[1].what)
    assert "falsch" not in str(findings)


def test_stored_images_are_confirmed_and_fetched_byte_for_byte(node: DicomwebNode) -> None:
    sent = images(40) + images(5, series="2")

    stored = list(node.store(sent))

    assert [one.error for one in stored] == [None] * 45
    assert [one.ref for one in stored] == [one.in_header.ref for one in sent]
    assert [one.sha256 for one in stored] == [one.sha256() for one in sent]
    assert set(node.confirm(stored)) == {one.instance_uid for one in sent}
    assert by_uid(list(node.fetch([STUDY]))) == by_uid(sent)


def test_fetch_accepts_series_and_single_instances(node: DicomwebNode) -> None:
    sent = images(3) + images(3, series="2")
    list(node.store(sent))
    single = [one.in_header.ref for one in sent[:2]]
    gone = InstanceRef(STUDY.study_uid, f"{ROOT}.1.1", "1.2.3")

    assert by_uid(list(node.fetch([SECOND]))) == by_uid(sent[3:])
    assert by_uid(list(node.fetch([*single, gone]))) == by_uid(sent[:2])


def test_find_works_at_each_level_and_matches_umlauts(node: DicomwebNode) -> None:
    list(node.store(images(2) + images(2, series="2")))

    studies = list(node.find(Query(QueryLevel.STUDY, {"PatientName": "Mustermann^Änne"})))
    starred = list(node.find(Query(QueryLevel.STUDY, {"PatientName": "muster*nn^?nne"})))
    series = list(node.find(Query.series_of(STUDY)))
    single = list(node.find(Query.instances_of(SECOND)))

    assert [record.patient_name for record in studies] == ["Mustermann^Änne"]
    assert [record.ref for record in starred] == [STUDY]
    assert studies[0].modalities == ("CT",)
    assert studies[0].instance_count == 4
    assert {record.ref for record in series} == {FIRST, SECOND}
    assert {record.instance_count for record in series} == {2}
    assert {record.instance_uid for record in single} == {f"{ROOT}.1.2.{n}" for n in (1, 2)}
    assert {record.sop_class_uid for record in single} == {ct().SOPClassUID}
    with pytest.raises(NotSupported, match="cannot list patients"):
        node.find(Query(QueryLevel.PATIENT, {"PatientID": "1"}))


def test_find_matches_dates_modalities_and_lists_of_uids(node: DicomwebNode) -> None:
    list(node.store([*images(3), instance(ct(1, study="2", StudyDate="20240301", Modality="MR"))]))
    days = DateRange(date(2024, 1, 1), date(2024, 2, 29))
    uids = tuple(f"{ROOT}.1.1.{number}" for number in (1, 3))

    by_date = node.find(Query(QueryLevel.STUDY, {}, days))
    by_modality = node.find(Query(QueryLevel.STUDY, {"ModalitiesInStudy": ("MR", "PT")}))
    by_list = node.find(
        Query(QueryLevel.IMAGE, {**Query.instances_of(FIRST).keys, "SOPInstanceUID": uids})
    )

    assert [record.ref for record in by_date] == [STUDY]
    assert [record.study_uid for record in by_modality] == [f"{ROOT}.2"]
    assert sorted(record.instance_uid for record in by_list) == list(uids)


def test_a_japanese_patient_name_is_decoded(node: DicomwebNode) -> None:
    name = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    list(node.store([instance(ct(SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientName=name))]))

    (record,) = node.find(Query.study(STUDY))

    assert record.patient_name == name


def test_long_lists_are_read_by_page_and_report_a_reached_cap(
    archives: tuple[peers.Orthanc, peers.Orthanc], node: DicomwebNode
) -> None:
    list(node.store(images(25)))
    port = archives[0].http_port
    query = Query.instances_of(FIRST)
    with (
        closing(web_peers.node(port, page_size=10)) as by_pages,
        closing(web_peers.node(port, result_cap=20)) as with_cap,
    ):
        paged, cut = by_pages.find(query), with_cap.find(query)

        assert len({record.instance_uid for record in paged}) == 25
        assert not paged.is_capped
        assert len(list(cut)) == 20
        assert cut.is_capped


def test_find_accepts_more_uids_than_fit_into_one_url(node: DicomwebNode) -> None:
    list(node.store(images(3)))
    uids = (*(f"1.2.3.{number}" for number in range(300)), f"{ROOT}.1.1.2")

    (record,) = node.find(
        Query(QueryLevel.IMAGE, {**Query.instances_of(FIRST).keys, "SOPInstanceUID": uids})
    )

    assert record.instance_uid == uids[-1]


def test_an_unknown_study_is_not_found(node: DicomwebNode) -> None:
    assert list(node.find(Query.series_of(StudyRef("1.2.3")))) == []
    with pytest.raises(NotFound, match="no longer has this study"):
        list(node.fetch([StudyRef("1.2.3")]))


def test_confirm_returns_only_images_that_the_archive_has(node: DicomwebNode) -> None:
    (kept,) = node.store(images(1))
    lost = dataclasses.replace(kept, ref=InstanceRef(STUDY.study_uid, f"{ROOT}.1.1", "1.2.3"))

    assert list(node.confirm([kept, lost])) == [kept.ref.instance_uid]


def test_storing_images_twice_changes_nothing(node: DicomwebNode) -> None:
    first = list(node.store(images(3)))
    second = list(node.store(images(3)))

    assert [one.is_stored for one in second] == [True] * 3
    assert len(set(node.confirm(first))) == 3
    assert len(list(node.fetch([STUDY]))) == 3


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_compressed_images_are_fetched_without_transcoding(node: DicomwebNode, syntax: str) -> None:
    large = ct(1, Rows=64, Columns=64, PixelData=bytes(range(64)) * 128)
    sent = [compressed(large, syntax), instance(ct(2)), instance(ct(3), explicit=False)]
    stored = list(node.store(sent))

    assert [one.error for one in stored] == [None] * 3
    assert by_uid(list(node.fetch([STUDY]))) == by_uid(sent)


def test_an_image_above_the_mapping_limit_is_fetched_unchanged(node: DicomwebNode) -> None:
    frames = 20
    big = ct(Rows=1024, Columns=1024, PixelData=bytes(1024 * 1024 * 2 * frames))
    big.NumberOfFrames = frames
    sent = instance(big)
    list(node.store([sent]))

    (fetched,) = node.fetch([STUDY])

    assert fetched.size_bytes > part10.MAPPED_FROM_BYTES
    assert fetched.sha256() == sent.sha256()


def test_a_study_is_transferred_pseudonymized_between_archives(
    node: DicomwebNode, other: DicomwebNode
) -> None:
    list(node.store(images(40) + images(3, series="2")))
    stamp = ClinicalTrialAttributes("University Hospital", "LUNG", "Lung Study")
    change = Pseudonymization(
        ConfidentialityProfile.default(), "LUNG-0001", ProjectKey(b"k" * 32), stamp
    )
    order = StudyRequest(STUDY, "PID-4711-0815")

    told = list(transfer(order, node, other, change, {}, Stop()))

    outcomes = [one for one in told if isinstance(one, SeriesOutcome)]
    assert [one.completeness for one in outcomes] == [Completeness.COMPLETE] * 2
    assert [one.delivered for one in outcomes] == [40, 3]
    (study,) = other.find(Query(QueryLevel.STUDY, {"PatientID": "LUNG-0001"}))
    assert study.instance_count == 43
    arrived = list(other.fetch([StudyRef(study.study_uid)]))
    assert all(b"Mustermann" not in bytes(one.header) for one in arrived)
    assert len({one.instance_uid for one in arrived}) == 43


def test_a_node_can_be_opened_by_its_url(
    archives: tuple[peers.Orthanc, peers.Orthanc], node: DicomwebNode
) -> None:
    list(node.store(images(2)))
    url = f"dicomweb+http://localhost:{archives[0].http_port}/dicom-web?page_size=1"

    with node_url.open_url(url) as opened:
        assert len(list(opened.fetch([STUDY]))) == 2
