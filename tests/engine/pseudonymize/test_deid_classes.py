"""Classes other than CT and MR keep the values and references that research needs."""

from struct import pack

import numpy as np
import pytest
from lab.deid_objects import CT, KEY, ROOT, change, header, instance, read, result
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

from adit_engine.errors import InstanceWithheld
from adit_engine.pseudonymize.apply import apply
from adit_engine.pseudonymize.verify.verifier import verify
from adit_engine.values.instance import EXPLICIT_LE, Instance

RT = "1.2.840.10008.5.1.4.1.1.481"
MR_ENHANCED = "1.2.840.10008.5.1.4.1.1.4.1"
PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.30"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
FRAME_OF_REFERENCE = f"{ROOT}.7.7"


def item(**values: object) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        many = isinstance(value, list) and value and isinstance(value[0], Dataset)
        setattr(made, keyword, Sequence(value) if many else value)
    return made


def basic(sop_class: str, number: int, **values: object) -> Dataset:
    """Return a synthetic object of one study, without pixels."""
    return item(
        SpecificCharacterSet="ISO_IR 100",
        SOPClassUID=sop_class,
        SOPInstanceUID=f"{ROOT}.{number}",
        StudyDate="20240229",
        StudyTime="101500",
        AccessionNumber="ACC4711X",
        Manufacturer="Sample Devices",
        StationName="LINAC-ROOM-3",
        OperatorsName="Meier^Ottokar",
        PatientName="Mustermann^Erika",
        PatientID="PID-0815",
        PatientBirthDate="19560412",
        PatientSex="F",
        StudyInstanceUID=f"{ROOT}.1",
        SeriesInstanceUID=f"{ROOT}.1.{number}",
        FrameOfReferenceUID=FRAME_OF_REFERENCE,
        **values,
    )


def as_instance(ds: Dataset) -> Instance:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, ds)
    return Instance.from_data_set(ds.SOPClassUID, ds.SOPInstanceUID, EXPLICIT_LE, buffer.getvalue())


def released(ds: Dataset, *options: str) -> Dataset:
    how, source = change(*options), as_instance(ds)
    made = apply(how, source)
    verify(source, made, how)
    return read(made)


def structure_set() -> Dataset:
    contour = item(
        ContourImageSequence=[
            item(ReferencedSOPClassUID=CT, ReferencedSOPInstanceUID=f"{ROOT}.90.1")
        ],
        ContourGeometricType="CLOSED_PLANAR",
        NumberOfContourPoints="3",
        ContourData=["0", "0", "1.5", "10", "0", "1.5", "10", "10", "1.5"],
    )
    series = item(
        SeriesInstanceUID=f"{ROOT}.90",
        ContourImageSequence=[
            item(ReferencedSOPClassUID=CT, ReferencedSOPInstanceUID=f"{ROOT}.90.1")
        ],
    )
    return basic(
        f"{RT}.3", 3, Modality="RTSTRUCT",
        StructureSetLabel="Mustermann", StructureSetDate="20240301", StructureSetTime="101112",
        ReferencedFrameOfReferenceSequence=[item(
            FrameOfReferenceUID=FRAME_OF_REFERENCE,
            RTReferencedStudySequence=[item(
                ReferencedSOPClassUID="1.2.840.10008.3.1.2.3.1",
                ReferencedSOPInstanceUID=f"{ROOT}.1",
                RTReferencedSeriesSequence=[series],
            )],
        )],
        StructureSetROISequence=[item(
            ROINumber="1", ReferencedFrameOfReferenceUID=FRAME_OF_REFERENCE,
            ROIName="GTV Mustermann", ROIGenerationAlgorithm="MANUAL",
        )],
        ROIContourSequence=[item(
            ROIDisplayColor=["255", "0", "0"], ContourSequence=[contour], ReferencedROINumber="1",
        )],
        RTROIObservationsSequence=[item(
            ObservationNumber="1", ReferencedROINumber="1", RTROIInterpretedType="GTV",
            ROIInterpreter="Doktor^Anna",
        )],
        ApprovalStatus="APPROVED", ReviewDate="20240302", ReviewTime="08", ReviewerName="Chef^Rita",
    )  # fmt: skip


def plan() -> Dataset:
    point = item(
        ControlPointIndex="0", NominalBeamEnergy="6", GantryAngle="270.5",
        GantryRotationDirection="NONE", CumulativeMetersetWeight="0",
        BeamLimitingDevicePositionSequence=[
            item(RTBeamLimitingDeviceType="ASYMX", LeafJawPositions=["-50", "50"])
        ],
    )  # fmt: skip
    beam = item(
        TreatmentMachineName="LINAC-ROOM-3", SourceAxisDistance="1000", BeamNumber="1",
        BeamName="Mustermann 1", BeamType="STATIC", RadiationType="PHOTON",
        TreatmentDeliveryType="TREATMENT", NumberOfWedges="0", NumberOfCompensators="0",
        NumberOfBoli="0", NumberOfBlocks="0", FinalCumulativeMetersetWeight="1",
        NumberOfControlPoints="1", ControlPointSequence=[point],
        BeamLimitingDeviceSequence=[
            item(RTBeamLimitingDeviceType="ASYMX", NumberOfLeafJawPairs="1")
        ],
    )  # fmt: skip
    return basic(
        f"{RT}.5", 5, Modality="RTPLAN", RTPlanLabel="Mustermann", RTPlanDate="20240303",
        RTPlanTime="1200", RTPlanGeometry="PATIENT",
        FractionGroupSequence=[item(
            FractionGroupNumber="1", NumberOfFractionsPlanned="30", NumberOfBeams="1",
            NumberOfBrachyApplicationSetups="0",
            ReferencedBeamSequence=[item(BeamDose="2.0", BeamMeterset="117.5",
                                         ReferencedBeamNumber="1")],
        )],
        BeamSequence=[beam],
        ReferencedStructureSetSequence=[
            item(ReferencedSOPClassUID=f"{RT}.3", ReferencedSOPInstanceUID=f"{ROOT}.3")
        ],
    )  # fmt: skip


def dose() -> Dataset:
    made = basic(
        f"{RT}.2", 2, Modality="RTDOSE", Rows=2, Columns=2, BitsAllocated=32, BitsStored=32,
        HighBit=31, PixelRepresentation=0, SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2", NumberOfFrames="3",
        FrameIncrementPointer=0x3004000C, GridFrameOffsetVector=["0", "3", "6"],
        ImagePositionPatient=["0", "0", "0"], ImageOrientationPatient=["1", "0", "0", "0", "1", "0"],
        PixelSpacing=["2", "2"], DoseUnits="GY", DoseType="PHYSICAL", DoseSummationType="PLAN",
        DoseGridScaling="0.0001", DoseComment="for Mustermann",
        ReferencedRTPlanSequence=[
            item(ReferencedSOPClassUID=f"{RT}.5", ReferencedSOPInstanceUID=f"{ROOT}.5")
        ],
    )  # fmt: skip
    made.PixelData = np.arange(12, dtype="<u4").tobytes()
    made["PixelData"].VR = "OW"
    return made


def test_rt_structures_plan_and_dose_still_reference_each_other() -> None:
    struct, planned, dosed = (released(ds) for ds in (structure_set(), plan(), dose()))
    structures_of_plan = planned.ReferencedStructureSetSequence[0].ReferencedSOPInstanceUID
    assert structures_of_plan == struct.SOPInstanceUID
    assert dosed.ReferencedRTPlanSequence[0].ReferencedSOPInstanceUID == planned.SOPInstanceUID
    frame = struct.ReferencedFrameOfReferenceSequence[0]
    roi = struct.StructureSetROISequence[0]
    assert (
        frame.FrameOfReferenceUID
        == roi.ReferencedFrameOfReferenceUID
        == dosed.FrameOfReferenceUID
        == KEY.uid(FRAME_OF_REFERENCE)
    )
    study = frame.RTReferencedStudySequence[0]
    assert study.ReferencedSOPInstanceUID == struct.StudyInstanceUID
    series = study.RTReferencedSeriesSequence[0]
    assert series.SeriesInstanceUID == KEY.uid(f"{ROOT}.90")
    (image,) = series.ContourImageSequence
    assert image.ReferencedSOPInstanceUID == KEY.uid(f"{ROOT}.90.1")


def test_radiotherapy_values_are_kept() -> None:
    struct, planned, dosed = (released(ds) for ds in (structure_set(), plan(), dose()))
    contour = struct.ROIContourSequence[0].ContourSequence[0]
    assert contour.ContourData == [0, 0, 1.5, 10, 0, 1.5, 10, 10, 1.5]
    assert struct.RTROIObservationsSequence[0].RTROIInterpretedType == "GTV"
    beam = planned.BeamSequence[0]
    assert beam.ControlPointSequence[0].GantryAngle == 270.5
    assert planned.FractionGroupSequence[0].ReferencedBeamSequence[0].BeamMeterset == 117.5
    assert dosed.DoseGridScaling == 0.0001
    assert dosed.FrameIncrementPointer == 0x3004000C
    assert dosed.GridFrameOffsetVector == [0, 3, 6]
    assert dosed.PixelData == dose().PixelData


def test_names_in_radiotherapy_objects_are_removed() -> None:
    struct, planned, dosed = (released(ds) for ds in (structure_set(), plan(), dose()))
    for made in (struct, planned, dosed):
        text = str(made)
        for word in ("Mustermann", "Doktor", "Chef", "Meier", "LINAC-ROOM", "20240301", "20240303"):
            assert word not in text, word
    assert struct.StructureSetROISequence[0].ROIName == ""


def test_a_truncated_plan_is_withheld() -> None:
    whole = as_instance(plan())
    for cut in (1, 7, 40, 200):
        broken = Instance(
            whole.sop_class_uid, whole.instance_uid, EXPLICIT_LE, bytes(whole.header)[:-cut]
        )
        with pytest.raises(InstanceWithheld) as caught:
            apply(change(), broken)
        assert caught.value.message.category == "malformed"


def test_a_damaged_sequence_is_withheld_even_if_it_would_be_removed() -> None:
    """No later check would detect damage in an element that is removed."""
    inner = pack("<HHI", 0xFFFE, 0xE000, 400) + b"LO" * 20
    with pytest.raises(InstanceWithheld) as caught:
        apply(change(), instance(header(t00400275=("SQ", inner), t00081120=("SQ", inner))))
    assert caught.value.message.category == "malformed"


def enhanced(frames: int = 3) -> Dataset:
    """Return an enhanced MR image with two dimensions and diffusion in each frame."""
    stack, position = 0x00209056, 0x00209057
    contents = [
        item(
            FrameContentSequence=[item(
                FrameReferenceDateTime="20240229101500.5", FrameAcquisitionDateTime="20240229101501",
                FrameAcquisitionDuration=12.5, StackID="1", InStackPositionNumber=number,
                DimensionIndexValues=[1, number], FrameComments="Mustermann moved",
            )],
            PlanePositionSequence=[item(ImagePositionPatient=["0", "0", str(number * 1.5)])],
            MRDiffusionSequence=[item(
                DiffusionBValue=number * 500.0, DiffusionDirectionality="DIRECTIONAL",
                DiffusionGradientDirectionSequence=[
                    item(DiffusionGradientOrientation=[0.0, 0.6, 0.8])
                ],
            )],
        )
        for number in range(1, frames + 1)
    ]  # fmt: skip
    shared = item(
        PixelMeasuresSequence=[item(SliceThickness="1.5", PixelSpacing=["0.5", "0.5"])],
        PlaneOrientationSequence=[item(ImageOrientationPatient=["1", "0", "0", "0", "1", "0"])],
        PixelValueTransformationSequence=[
            item(RescaleIntercept="-5", RescaleSlope="0.25", RescaleType="US")
        ],
        ReferencedImageSequence=[item(
            ReferencedSOPClassUID=MR_ENHANCED, ReferencedSOPInstanceUID=f"{ROOT}.77",
            PurposeOfReferenceCodeSequence=[
                item(CodeValue="121311", CodingSchemeDesignator="DCM", CodeMeaning="Localizer")
            ],
        )],
    )  # fmt: skip
    organization = f"{ROOT}.8.8"
    made = basic(
        MR_ENHANCED, 8, Modality="MR", ImageType=["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE"],
        ContentDate="20240229", ContentTime="101600", AcquisitionDateTime="20240229101500",
        InstanceNumber="1", NumberOfFrames=str(frames), Rows=4, Columns=4, SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2", BitsAllocated=16, BitsStored=12, HighBit=11,
        PixelRepresentation=0, PresentationLUTShape="IDENTITY", BurnedInAnnotation="NO",
        DimensionOrganizationSequence=[item(DimensionOrganizationUID=organization)],
        DimensionIndexSequence=[
            item(
                DimensionOrganizationUID=organization, DimensionIndexPointer=pointer,
                FunctionalGroupPointer=0x00209111,
            )
            for pointer in (stack, position)
        ],
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=contents,
    )  # fmt: skip
    made.PixelData = np.arange(16 * frames, dtype="<u2").tobytes()
    made["PixelData"].VR = "OW"
    return made


def test_functional_groups_are_kept_for_each_frame() -> None:
    ds = released(enhanced())
    assert [
        group.FrameContentSequence[0].DimensionIndexValues
        for group in ds.PerFrameFunctionalGroupsSequence
    ] == [[1, 1], [1, 2], [1, 3]]
    for number, group in enumerate(ds.PerFrameFunctionalGroupsSequence, 1):
        assert group.PlanePositionSequence[0].ImagePositionPatient == [0, 0, number * 1.5]
        diffusion = group.MRDiffusionSequence[0]
        assert diffusion.DiffusionBValue == number * 500
        (direction,) = diffusion.DiffusionGradientDirectionSequence
        assert direction.DiffusionGradientOrientation == [0, 0.6, 0.8]
        assert "FrameComments" not in group.FrameContentSequence[0]
        assert group.FrameContentSequence[0].StackID == "1"
    (shared,) = ds.SharedFunctionalGroupsSequence
    values = shared.PixelValueTransformationSequence[0]
    assert (values.RescaleIntercept, values.RescaleSlope, values.RescaleType) == (-5, 0.25, "US")
    (reference,) = shared.ReferencedImageSequence
    assert reference.ReferencedSOPInstanceUID == KEY.uid(f"{ROOT}.77")
    assert reference.PurposeOfReferenceCodeSequence[0].CodeValue == "121311"


def test_dimension_indexes_point_to_existing_elements() -> None:
    ds = released(enhanced())
    organization = ds.DimensionOrganizationSequence[0].DimensionOrganizationUID
    assert organization == KEY.uid(f"{ROOT}.8.8")
    for index in ds.DimensionIndexSequence:
        assert index.DimensionOrganizationUID == organization
        for group in ds.PerFrameFunctionalGroupsSequence:
            assert index.DimensionIndexPointer in group[index.FunctionalGroupPointer][0]


def test_frame_dates_are_shifted_with_the_study_date() -> None:
    ds = released(enhanced())
    day = ds.StudyDate
    assert day != "20240229"
    content = ds.PerFrameFunctionalGroupsSequence[1].FrameContentSequence[0]
    assert content.FrameReferenceDateTime == f"{day}101500.5"
    assert content.FrameAcquisitionDateTime == f"{day}101501"
    assert ds.AcquisitionDateTime == f"{day}101500"


def test_one_bit_segmentations_are_kept_without_trailing_bytes() -> None:
    one = ("US", b"\1\0")
    made = header(SEGMENTATION, t00280100=one, t00280101=one, t00280102=("US", b"\0\0"))
    made[0x00280008] = ("IS", b"3")
    made[0x7FE00010] = ("OB", b"\xa5\x5a\xc3\x3c\x99\x66" + b"Mustermann")
    out = apply(change(), instance(made))
    assert read(out).PixelData == b"\xa5\x5a\xc3\x3c\x99\x66"


@pytest.mark.parametrize(
    ("tag", "vr", "kind"), [(0x7FE00008, "OF", "<f4"), (0x7FE00009, "OD", "<f8")]
)
def test_float_pixels_are_kept_only_in_complete_parametric_maps(
    tag: int, vr: str, kind: str
) -> None:
    numbers = np.linspace(-1, 1, 16).astype(kind)
    made = header(PARAMETRIC_MAP, t00280100=("US", pack("<H", numbers.itemsize * 8)))
    for unused in (0x00280101, 0x00280102, 0x00280103, 0x7FE00010):
        del made[unused]
    source = instance(made | {tag: (vr, numbers.tobytes())})
    out = apply(change(), source)
    verify(source, out, change())
    assert read(out)[tag].value == numbers.tobytes()
    with pytest.raises(InstanceWithheld) as caught:
        apply(change(), instance(made | {tag: (vr, numbers.tobytes()[:-8])}))
    assert caught.value.message.category == "pixel-length"
    with pytest.raises(InstanceWithheld) as caught:
        apply(
            change(),
            instance(made | {tag: (vr, numbers.tobytes()), 0x00080016: ("UI", CT.encode())}),
        )
    assert caught.value.message.category == "pixel-format"


def test_values_of_vr_un_are_read_by_the_dictionary() -> None:
    ds = result(instance(header(t00200032=("UN", b"1\\2\\3"), t00104000=("UN", b"Erika"))))
    assert ds.ImagePositionPatient == [1, 2, 3]
    assert "PatientComments" not in ds


@pytest.mark.parametrize(
    "groups",
    ["PixelValueTransformationSequence", "PixelMeasuresSequence", "PlanePositionSequence"],
)
def test_frames_with_functional_groups_outside_their_iod_are_withheld(
    groups: str,
) -> None:
    """The Enhanced XA IOD lists none of these groups; without them pixels would be misread."""
    made = enhanced()
    made.SOPClassUID, made.Modality = "1.2.840.10008.5.1.4.1.1.12.1.1", "XA"
    for group in (*made.SharedFunctionalGroupsSequence, *made.PerFrameFunctionalGroupsSequence):
        for keyword in [e.keyword for e in group]:
            if keyword not in ("FrameContentSequence", groups):
                delattr(group, keyword)
    made.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence = [
        item(WindowCenter="40", WindowWidth="400")
    ]
    with pytest.raises(InstanceWithheld) as held:
        released(made)
    assert held.value.message.category == "pixel-meaning"
