"""Derived objects created and read with highdicom: segmentations, maps, converted series."""

import gc
from collections.abc import Iterator
from io import BytesIO

import numpy as np
import pytest
from lab.deid_objects import KEY, change
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from adit_engine.dicom_file import part10
from adit_engine.pseudonymize.apply import apply
from adit_engine.pseudonymize.parameters import Pseudonymization
from adit_engine.pseudonymize.profile import CLEAN_STRUCTURE
from adit_engine.pseudonymize.verify.verifier import verify
from adit_engine.values.instance import Instance

highdicom = pytest.importorskip("highdicom", reason="highdicom is in the full environment only")

pytestmark = pytest.mark.filterwarnings("ignore")
ROOT = "1.2.826.0.1.3680043.8.498.4712"


@pytest.fixture(autouse=True)
def _rid_of_what_it_leaves_open() -> Iterator[None]:
    """Collect unclosed in-memory databases of highdicom; their warnings would fail later tests."""
    yield
    gc.collect()


def ct_series() -> list[Dataset]:
    slices = []
    for number in range(1, 4):
        ds = dcmread(get_testdata_file("CT_small.dcm"))
        ds.PatientName, ds.PatientID, ds.PatientBirthDate = (
            "Mustermann^Erika",
            "PID-0815",
            "19560412",
        )
        ds.StudyInstanceUID, ds.SeriesInstanceUID = f"{ROOT}.1", f"{ROOT}.2"
        ds.FrameOfReferenceUID = f"{ROOT}.3"
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{ROOT}.2.{number}"
        ds.InstanceNumber = number
        ds.ImagePositionPatient = ["0", "0", str(number * 5)]
        slices.append(ds)
    return slices


def released(ds: Dataset, how: Pseudonymization | None = None) -> Dataset:
    how = how or change()
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    source: Instance = part10.parse_file(buffer.getvalue())
    out = apply(how, source)
    verify(source, out, how)
    made = dcmread(BytesIO(b"".join(bytes(part) for part in part10.file_parts(out))))
    assert "Mustermann" not in str(made)
    return made


def equipment() -> dict[str, object]:
    return {
        "series_instance_uid": generate_uid(),
        "series_number": 100,
        "sop_instance_uid": generate_uid(),
        "instance_number": 1,
        "manufacturer": "Sample Devices",
        "manufacturer_model_name": "Segmenter",
        "software_versions": "1.0",
        "device_serial_number": "SN-4711",
    }


def segmentation(kind: str) -> Dataset:
    segments = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=label,
            segmented_property_category=codes.SCT.Organ,
            segmented_property_type=code,
            algorithm_type="AUTOMATIC",
            algorithm_identification=highdicom.AlgorithmIdentificationSequence(
                name="Segmenter", family=codes.DCM.ArtificialIntelligence, version="1.0"
            ),
        )
        for number, label, code in ((1, "liver", codes.SCT.Liver), (2, "spleen", codes.SCT.Spleen))
    ]
    mask = np.zeros((3, 128, 128), np.uint8)
    mask[:, 10:40, 10:40], mask[:, 60:70, 60:90] = 1, 2
    return highdicom.seg.Segmentation(
        source_images=ct_series(),
        pixel_array=mask,
        segmentation_type=kind,
        segment_descriptions=segments,
        content_creator_name="Doktor^Anna",
        **equipment(),
    )


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
def test_a_segmentation_still_references_its_images(kind: str) -> None:
    images = [released(ds) for ds in ct_series()]
    before = segmentation(kind)
    made = highdicom.seg.Segmentation.from_dataset(released(before))
    assert [uids[2] for uids in made.get_source_image_uids()] == [i.SOPInstanceUID for i in images]
    assert made.FrameOfReferenceUID == images[0].FrameOfReferenceUID
    labels = {made.get_segment_description(n).segment_label for n in made.segment_numbers if n}
    assert labels == {"liver", "spleen"}
    assert made.get_segment_description(1).segmented_property_type == codes.SCT.Liver
    masks = made.get_pixels_by_source_instance(
        [i.SOPInstanceUID for i in images], combine_segments=True
    )
    assert masks.shape == (3, 128, 128)
    assert set(np.unique(masks)) == {0, 1, 2}
    assert int((masks == 1).sum()) == 3 * 900
    creator = made.get("ContentCreatorName")
    assert not creator


def test_a_parametric_map_keeps_its_real_world_values_and_references() -> None:
    numbers = np.linspace(0, 1, 3 * 128 * 128, dtype=np.float32).reshape(3, 128, 128)
    mapping = highdicom.pm.RealWorldValueMapping(
        lut_label="ADC",
        lut_explanation="for Mustermann",
        unit=codes.UCUM.NoUnits,
        value_range=(0.0, 1.0),
        slope=1.0,
        intercept=0.0,
    )
    made = released(
        highdicom.pm.ParametricMap(
            source_images=ct_series(),
            pixel_array=numbers,
            contains_recognizable_visual_features=False,
            real_world_value_mappings=[mapping],
            window_center=0.5,
            window_width=1.0,
            **equipment(),
        )
    )
    image = highdicom.Image.from_dataset(made)
    frames = image.get_frames(apply_real_world_transform=True)
    assert np.allclose(np.sort(frames.ravel()), np.sort(numbers.ravel()))
    assert made.ReferencedSeriesSequence[0].SeriesInstanceUID == KEY.uid(f"{ROOT}.2")


def test_a_converted_series_is_still_a_volume() -> None:
    given = {"sop_instance_uid": generate_uid(), "instance_number": 1}
    converted = highdicom.legacy.LegacyConvertedEnhancedCTImage(
        ct_series(), series_instance_uid=generate_uid(), series_number=7, **given
    )
    made = released(converted)
    image = highdicom.Image.from_dataset(made)
    volume = image.get_volume()
    assert volume.spatial_shape == (3, 128, 128)
    assert volume.spacing[0] == 5
    sources = [
        group.ConversionSourceAttributesSequence[0].ReferencedSOPInstanceUID
        for group in made.PerFrameFunctionalGroupsSequence
    ]
    assert sorted(sources) == sorted(KEY.uid(f"{ROOT}.2.{number}") for number in (1, 2, 3))


def test_a_measurement_report_keeps_its_measurements_and_regions() -> None:
    """TID 1500, created and read with highdicom."""
    slices, sr = ct_series(), highdicom.sr
    observer = sr.ObserverContext(
        observer_type=codes.DCM.Person,
        observer_identifying_attributes=sr.PersonObserverIdentifyingAttributes(
            name="Kimble^Richard"
        ),
    )
    tracking = sr.TrackingIdentifier(uid=generate_uid(), identifier="Lesion of Mrs. Mustermann")
    where = sr.ImageRegion(
        graphic_type=sr.GraphicTypeValues.CIRCLE,
        graphic_data=np.array([[10.0, 10.0], [10.0, 20.0]]),
        source_image=sr.SourceImageForRegion(slices[1].SOPClassUID, slices[1].SOPInstanceUID, []),
    )
    area = sr.Measurement(name=codes.SCT.Area, value=78.5, unit=codes.UCUM.SquareMillimeter)
    group = sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracking,
        referenced_region=where,
        finding_type=codes.SCT.Neoplasm,
        measurements=[area],
    )
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_person_context=observer),
        procedure_reported=codes.LN.CTUnspecifiedBodyRegion,
        imaging_measurements=[group],
        title=codes.DCM.ImagingMeasurementReport,
    )
    made = sr.Comprehensive3DSR(
        evidence=slices,
        content=content[0],
        series_instance_uid=f"{ROOT}.9",
        series_number=9,
        sop_instance_uid=f"{ROOT}.9.1",
        instance_number=1,
        manufacturer="Maker",
        is_complete=True,
        is_verified=True,
        verifying_observer_name="Kimble^Richard",
        verifying_organization="Hospital of St. Mary",
    )

    left = released(made, change("113107", CLEAN_STRUCTURE))

    for word in ("Kimble", "Mary", "Lesion", "0815"):
        assert word not in str(left)
    read = sr.Comprehensive3DSR.from_dataset(left)
    (found,) = read.content.get_planar_roi_measurement_groups()
    assert [(one.name, one.value) for one in found.get_measurements()] == [(codes.SCT.Area, 78.5)]
    assert (found.roi.value == where.value).all()
    (evidence,) = left.CurrentRequestedProcedureEvidenceSequence
    image = evidence.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert found.roi.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID in {
        one.ReferencedSOPInstanceUID
        for one in evidence.ReferencedSeriesSequence[0].ReferencedSOPSequence
    }
    assert image.ReferencedSOPInstanceUID == released(slices[0]).SOPInstanceUID
