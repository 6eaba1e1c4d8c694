"""Research use: values computed from the images are the same as before."""

from datetime import date
from itertools import pairwise
from struct import pack

import numpy as np
import pytest
from lab.deid_objects import (
    KEY,
    MR,
    PET,
    ROOT,
    Header,
    change,
    encode,
    header,
    instance,
    items,
    read,
)
from pydicom.dataset import Dataset

from adit_engine.pseudonymize.apply import apply
from adit_engine.pseudonymize.face_risk import RiskDecision
from adit_engine.pseudonymize.parameters import Pseudonymization
from adit_engine.pseudonymize.profile import ConfidentialityProfile
from adit_engine.pseudonymize.verify.verifier import verify
from adit_engine.values.instance import Instance

SAFE_PRIVATE = ("113107", "113111")


def released(
    made: Header, *options: str, how: Pseudonymization | None = None, explicit: bool = True
) -> Dataset:
    how, source = how or change(*options), instance(made, explicit=explicit)
    out: Instance = apply(how, source)
    verify(source, out, how)
    return read(out)


def preset(name: str, pseudonym: str = "LUNG-0001") -> Pseudonymization:
    return Pseudonymization(
        ConfidentialityProfile.preset(name),
        pseudonym,
        KEY,
        None,
        RiskDecision.ACCEPT,
        RiskDecision.ACCEPT,
    )


def philips(vr: str = "FL") -> Header:
    """Return an MR image whose true values need the private Philips scale and the rescale slope."""
    pixels = pack("<16H", *range(100, 116))
    return header(
        MR, t00281052=("DS", b"-5.5"), t00281053=("DS", b"2.75"), t00281054=("LO", b"normalized"),
        t20050010=("LO", b"Philips MR Imaging DD 001"), t2005100d=(vr, pack("<f", 0.0)),
        t2005100e=(vr, pack("<f", 0.0125)), t7fe00010=("OW", pixels),
    )  # fmt: skip


@pytest.mark.parametrize("vr", ["FL", "UN"])
@pytest.mark.parametrize("explicit", [True, False])
def test_true_values_of_philips_mr_are_unchanged(vr: str, explicit: bool) -> None:
    """Displayed and true value: DV = PV * RS + RI, FP = DV / (RS * SS)."""
    ds = released(philips(vr), *SAFE_PRIVATE, explicit=explicit)
    block = ds.private_block(0x2005, "Philips MR Imaging DD 001")
    stored = np.frombuffer(ds.PixelData, "<u2")
    shown = stored * float(ds.RescaleSlope) + float(ds.RescaleIntercept)
    slope = block[0x0E].value
    slope = slope if isinstance(slope, float) else np.frombuffer(slope, "<f4")[0]
    true = shown / (float(ds.RescaleSlope) * float(slope))
    expected = (np.arange(100, 116) * 2.75 - 5.5) / (2.75 * np.float32(0.0125))
    assert np.allclose(true, expected)
    assert ds.RescaleType == "normalized"


def test_only_the_standard_rescale_is_kept_without_the_option() -> None:
    ds = released(philips())
    assert (ds.RescaleSlope, ds.RescaleIntercept) == (2.75, -5.5)
    assert not [element for element in ds if element.tag.is_private]


DIFFUSION = {
    "SIEMENS MR HEADER": (0x0019, {0x0C: ("IS", b"1000"), 0x0E: ("FD", pack("<3d", 0.6, 0.0, 0.8)),
                                   0x27: ("FD", pack("<6d", 1, 2, 3, 4, 5, 6))}),
    "GEMS_PARM_01": (0x0043, {0x39: ("IS", b"1000\\8\\0\\0")}),
    "GEMS_ACQU_01": (0x0019, {0x24: ("DS", b"16")}),
    "Philips Imaging DD 001": (0x2001, {0x03: ("FL", pack("<f", 1000)), 0x04: ("CS", b"S")}),
}  # fmt: skip


@pytest.mark.parametrize("creator", DIFFUSION)
@pytest.mark.parametrize("explicit", [True, False])
def test_vendor_diffusion_values_are_kept_with_the_option(creator: str, explicit: bool) -> None:
    group, values = DIFFUSION[creator]
    made = header(
        MR, t00189087=("FD", pack("<d", 1000.0)), t00189089=("FD", pack("<3d", 0.6, 0, 0.8))
    )
    made[group << 16 | 0x10] = ("LO", creator.encode())
    made |= {group << 16 | 0x1000 | number: value for number, value in values.items()}
    made[group << 16 | 0x10F7] = ("LO", b"not on the list")
    ds = released(made, *SAFE_PRIVATE, explicit=explicit)
    block = ds.private_block(group, creator)
    before = read(instance(made, explicit=True)).private_block(group, creator)
    for number in values:
        assert block[number].value == before[number].value
    assert 0xF7 not in block
    assert (ds.DiffusionBValue, ds.DiffusionGradientOrientation) == (1000, [0.6, 0, 0.8])


def pet(day: str, injected: str) -> Header:
    dose = encode(0x00181072, "TM", b"093000") + encode(0x00181074, "DS", b"370000000")
    dose += encode(0x00181075, "DS", b"6586.2") + encode(0x00181076, "DS", b"0.967")
    dose += encode(0x00181078, "DT", injected.encode())
    return header(
        PET, t00100010=("PN", b"Mustermann^Erika"), t00100030=("DA", b"19560412"),
        t00101030=("DS", b"72.5"), t00101020=("DS", b"1.68"), t00100040=("CS", b"F"),
        t00080020=("DA", day.encode()), t00080021=("DA", day.encode()), t00080031=("TM", b"103000"),
        t00080022=("DA", day.encode()), t00080032=("TM", b"103012.5"), t00541001=("CS", b"BQML"),
        t00541102=("CS", b"START"), t00280051=("CS", b"ATTN\\DECY"), t00540016=("SQ", items(dose)),
        t00281052=("DS", b"0"), t00281053=("DS", b"1.7"), t00541300=("DS", b"12500"),
    )  # fmt: skip


def suv_factor(ds: Dataset) -> float:
    """Return body weight in g divided by the dose in Bq left at the series start (QIBA)."""
    dose = ds.RadiopharmaceuticalInformationSequence[0]

    def seconds(text: str) -> float:
        return int(text[:2]) * 3600 + int(text[2:4]) * 60 + float(text[4:])

    elapsed = seconds(str(ds.SeriesTime)) - seconds(str(dose.RadiopharmaceuticalStartTime))
    left = float(dose.RadionuclideTotalDose) * 2 ** (-elapsed / float(dose.RadionuclideHalfLife))
    return float(ds.PatientWeight) * 1000 / left


def test_suv_is_unchanged_and_injection_and_scan_are_shifted_equally() -> None:
    before = read(instance(pet("20240229", "20240229093000")))
    ds = released(pet("20240229", "20240229093000"), how=preset("pet-dose-timing"))
    assert suv_factor(ds) == suv_factor(before)
    injected = ds.RadiopharmaceuticalInformationSequence[0].RadiopharmaceuticalStartDateTime
    assert str(injected) == f"{ds.SeriesDate}093000"
    assert ds.SeriesDate != "20240229"
    assert (ds.Units, list(ds.CorrectedImage), ds.PatientAge) == ("BQML", ["ATTN", "DECY"], "067Y")


def test_intervals_are_kept_and_dates_are_shifted_per_patient() -> None:
    days = ["20220131", "20240229", "20240301"]

    def moved(pseudonym: str) -> list[date]:
        how = preset("ct-mr-research", pseudonym)
        texts = [
            str(released(header(t00080020=("DA", d.encode())), how=how).StudyDate) for d in days
        ]
        return [date(int(text[:4]), int(text[4:6]), int(text[6:])) for text in texts]

    one, other = moved("LUNG-0001"), moved("LUNG-0002")
    assert [(b - a).days for a, b in pairwise(one)] == [759, 1]
    assert [(b - a).days for a, b in pairwise(other)] == [759, 1]
    assert one != other


def test_objects_of_one_study_still_reference_each_other_at_any_depth() -> None:
    """A segmentation references an image by series, by source image and by frame of reference."""
    image = released(header(t00200052=("UI", f"{ROOT}.5".encode())))
    refer = encode(0x00081150, "UI", b"1.2.840.10008.5.1.4.1.1.2")
    refer += encode(0x00081155, "UI", f"{ROOT}.1.1.1".encode())
    series = encode(0x0008114A, "SQ", items(refer)) + encode(
        0x0020000E, "UI", f"{ROOT}.1.1".encode()
    )
    frame = encode(0x00089124, "SQ", items(encode(0x00082112, "SQ", items(refer))))
    made = header(
        "1.2.840.10008.5.1.4.1.1.66.4", t00080018=("UI", f"{ROOT}.1.2.1".encode()),
        t0020000e=("UI", f"{ROOT}.1.2".encode()), t00200052=("UI", f"{ROOT}.5".encode()),
        t00081115=("SQ", items(series)), t52009230=("SQ", items(frame)),
        t00280100=("US", b"\1\0"), t00280101=("US", b"\1\0"), t00280102=("US", b"\0\0"),
        t7fe00010=("OB", b"\x0f\0"),
    )  # fmt: skip
    mask = released(made)
    referred = mask.ReferencedSeriesSequence[0]
    source = (
        mask.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence[0]
    )
    assert referred.SeriesInstanceUID == image.SeriesInstanceUID
    assert referred.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == image.SOPInstanceUID
    assert source.ReferencedSOPInstanceUID == image.SOPInstanceUID
    assert source.ReferencedSOPClassUID == image.SOPClassUID
    assert mask.FrameOfReferenceUID == image.FrameOfReferenceUID
    assert mask.StudyInstanceUID == image.StudyInstanceUID
    assert mask.SeriesInstanceUID != image.SeriesInstanceUID
