"""CT, MR and PET series, slice by slice. Used by `demo.patients`."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sequence import Sequence

from adit.demo import anatomy, scanning
from adit.demo.anatomy import Anatomy
from adit.demo.examination import Examination
from adit.demo.headers import CT, MR, PET, PRIMARY, Scan, code, item
from adit.demo.marks import make_icon, make_overlay
from adit.demo.phantoms import Grid, Tissue
from adit.demo.stack import Stack, image_module
from adit.demo.writing import Slice, uid


def ct(
    examination: Examination,
    number: int,
    description: str,
    part: Anatomy,
    stack: Stack,
    *,
    kernel: str = "Br40d",
    contrast: bool = True,
    marked: bool = False,
) -> None:
    sharp = kernel.startswith(("Bl", "Hr", "BONE", "LUNG"))
    window = _window(part, kernel)
    seen = scanning.ENHANCED if contrast else scanning.HOUNSFIELD
    body = stack.body(part, examination.visit.person.number)
    layers = stack.layers(scanning.scan(body, seen, 26 if sharp else 11, number))
    values: dict[str, Any] = {
        **image_module(stack.matrix, stack.matrix, 12),
        "RescaleIntercept": "-1024", "RescaleSlope": "1", "RescaleType": "HU",
        "WindowCenter": window[0], "WindowWidth": window[1],
        "PixelSpacing": [f"{stack.spacing:.6f}"] * 2, "SliceThickness": f"{stack.step_mm:.2f}",
        "KVP": "120", "DataCollectionDiameter": "500", "ReconstructionDiameter": f"{stack.view_mm:.0f}",
        "GantryDetectorTilt": "0", "TableHeight": "134", "RotationDirection": "CW",
        "ExposureTime": "500", "XRayTubeCurrent": "210", "Exposure": "105", "FilterType": "FLAT",
        "ConvolutionKernel": kernel, "AcquisitionNumber": "1", "ScanOptions": "HELICAL MODE",
        "CTDIvol": 7.42, "SpiralPitchFactor": 0.9, "SingleCollimationWidth": 0.6,
        "ImageComments": f"{examination.visit.person.plain_name} {description}",
    }  # fmt: skip
    values["ReferencedImageSequence"] = Sequence([_named_localizer(examination)])
    if contrast:
        values["ContrastBolusAgent"] = "Sample agent 300"
    kind = "AXIAL" if stack.plane == "axial" else "MPR"
    types = (*PRIMARY, kind) if kind == "AXIAL" else ("DERIVED", "SECONDARY", kind)
    scan = Scan(number, "CT", CT, description, types, values)
    stored = np.clip(layers + 1024, 0, 4095).astype(np.uint16)
    slices = _slices(examination, stack, stored, 2.0)
    examination.write(scan, _marked(examination, slices, (900, 1300)) if marked else slices)


def _window(part: Anatomy, kernel: str) -> tuple[str, str]:
    """Return the window centre and width in which a radiographer would save it."""
    if kernel.startswith(("Bl", "LUNG")):
        return "-600", "1500"
    if kernel.startswith(("Hr", "BONE")):
        return "500", "2000"
    return "40", "80" if part is anatomy.head else "400"


def _named_localizer(examination: Examination) -> Dataset:
    return item(
        ReferencedSOPClassUID=CT, ReferencedSOPInstanceUID=uid(examination.visit.series_uid(1), 1),
        PurposeOfReferenceCodeSequence=code("121311", "DCM", "Localizer"),
    )  # fmt: skip


def localizer(examination: Examination, part: Anatomy, size: int) -> None:
    """Write the frontal and lateral views that every other series references."""
    scan = Scan(1, "CT", CT, "Topogram", (*PRIMARY, "LOCALIZER"), {
        **image_module(size, size, 12), "RescaleIntercept": "-1024", "RescaleSlope": "1", "KVP": "100",
        "AcquisitionNumber": "", "PixelSpacing": [f"{400 / size:.6f}"] * 2, "SliceThickness": "0.6",
        "WindowCenter": "0", "WindowWidth": "1200",
    })  # fmt: skip
    person, fine, coarse = examination.visit.person.number, 400 / size, 8.0
    views = (
        ("coronal", 1, (fine, coarse, fine), (size, 50, size)),
        ("sagittal", 2, (coarse, fine, fine), (50, size, size)),
    )
    slices = []
    for plane, axis, spacing, counts in views:
        grid = Grid.over((-200, -200, -200), spacing, counts)
        lost = scanning.projected(part(grid, person), axis, coarse)
        pixels = np.clip(lost * 330, 0, 4095).astype(np.uint16)
        place = Stack(plane, 400, size, 0, 1, 1).place(0)
        slices.append(Slice(pixels, {**place, **examination.moments(axis)}))
    examination.write(scan, slices)


def mr(
    examination: Examination,
    number: int,
    description: str,
    stack: Stack,
    signals: Mapping[Tissue, float],
    timing: tuple[float, float, float],
    *,
    b_value: int | None = None,
    marked: bool = False,
) -> None:
    """Write an MR series; `timing` is TR, TE and TI in ms; 0: no inversion."""
    body = stack.body(anatomy.head, examination.visit.person.number)
    layers = stack.layers(scanning.scan(body, signals, 14, number))
    repetition, echo, inversion = timing
    values: dict[str, Any] = {
        **image_module(stack.matrix, stack.matrix, 12), "PixelSpacing": [f"{stack.spacing:.6f}"] * 2,
        "SliceThickness": f"{stack.step_mm * 0.9:.2f}", "SpacingBetweenSlices": f"{stack.step_mm:.2f}",
        "ScanningSequence": "EP" if b_value is not None else ("IR" if inversion else "SE"),
        "SequenceVariant": "SK", "ScanOptions": "", "MRAcquisitionType": "2D",
        "RepetitionTime": f"{repetition:g}", "EchoTime": f"{echo:g}", "EchoTrainLength": "9",
        "FlipAngle": "90", "MagneticFieldStrength": "3", "ImagingFrequency": "123.25",
        "ImagedNucleus": "1H", "NumberOfAverages": "1", "PixelBandwidth": "220", "SAR": "0.6",
        "InPlanePhaseEncodingDirection": "ROW", "ReceiveCoilName": "HeadNeck_20",
        "WindowCenter": "500", "WindowWidth": "1000", "AcquisitionNumber": "1",
        "ImageComments": f"{examination.visit.person.plain_name} {description}",
    }  # fmt: skip
    if inversion:
        values["InversionTime"] = f"{inversion:g}"
    if b_value is not None:
        values["DiffusionBValue"] = float(b_value)
    kind = ("DIFFUSION", "NONE") if b_value is not None else ("M", "ND")
    scan = Scan(number, "MR", MR, description, (*PRIMARY, *kind), values)
    slices = _slices(examination, stack, np.clip(layers, 0, 4095).astype(np.uint16), 40.0)
    examination.write(scan, _marked(examination, slices, (0, 1000)) if marked else slices)


def pet(
    examination: Examination, number: int, description: str, part: Anatomy, stack: Stack
) -> None:
    body = stack.body(part, examination.visit.person.number)
    hundredth = {tissue: 100 * value for tissue, value in scanning.ACTIVITY.items()}
    layers = np.clip(scanning.scan(body, hundredth, 9, number), 0, None).astype(np.int16)
    day = f"{examination.visit.day:%Y%m%d}"
    tracer = item(
        Radiopharmaceutical="Fluorodeoxyglucose", RadiopharmaceuticalStartTime="091200.000000",
        RadiopharmaceuticalStartDateTime=f"{day}091200.000000", RadionuclideTotalDose="310000000",
        RadionuclideHalfLife="6586.2", RadionuclidePositronFraction="0.9673",
        RadionuclideCodeSequence=code("C-111A1", "SRT", "^18^Fluorine"),
        RadiopharmaceuticalCodeSequence=code("C-B1031", "SRT", "Fluorodeoxyglucose F^18^"),
    )  # fmt: skip
    values: dict[str, Any] = {
        **image_module(stack.matrix, stack.matrix, 16, signed=True),
        "RescaleIntercept": "0", "RescaleSlope": "35.6",
        "PixelSpacing": [f"{stack.spacing:.6f}"] * 2, "SliceThickness": f"{stack.step_mm:.2f}",
        "Units": "BQML", "CountsSource": "EMISSION", "SeriesType": ["WHOLE BODY", "IMAGE"],
        "NumberOfSlices": stack.count, "CorrectedImage": ["DECY", "ATTN", "SCAT", "NORM"],
        "DecayCorrection": "START", "ReconstructionMethod": "OSEM3D 4i21s",
        "AttenuationCorrectionMethod": "measured", "ScatterCorrectionMethod": "Model-based",
        "CollimatorType": "NONE", "ActualFrameDuration": "120000", "FrameReferenceTime": "60000",
        "RandomsCorrectionMethod": "DLYD", "RadiopharmaceuticalInformationSequence": Sequence([tracer]),
        "PatientOrientationCodeSequence": code("F-10450", "SRT", "recumbent"),
        "PatientGantryRelationshipCodeSequence": code("F-10470", "SRT", "headfirst"),
        "WindowCenter": "7000", "WindowWidth": "14000", "DecayFactor": "1.47",
        "AcquisitionNumber": "1",
    }  # fmt: skip
    values["PatientOrientationCodeSequence"][0].PatientOrientationModifierCodeSequence = code(
        "F-10340", "SRT", "supine"
    )
    scan = Scan(number, "PT", PET, description, PRIMARY, values)
    examination.write(scan, _counted(_slices(examination, stack, layers, 0.0)))


def _slices(
    examination: Examination, stack: Stack, layers: NDArray[Any], seconds: float
) -> Iterator[Slice]:
    """Yield slices; `seconds` is the duration of the whole series."""
    for index, layer in enumerate(layers):
        when = examination.moments(20 + seconds * index / len(layers))
        yield Slice(layer, {**stack.place(index), **when})


def _marked(
    examination: Examination, slices: Iterable[Slice], window: tuple[float, float]
) -> Iterator[Slice]:
    """The first image gets an icon, and an overlay with the patient's name."""
    for index, one in enumerate(slices):
        if index or one.pixels is None:
            yield one
            continue
        rows, columns = one.pixels.shape
        icon = {"IconImageSequence": make_icon(one.pixels, *window)}
        overlay = make_overlay(examination.visit.person, rows, columns)
        yield Slice(one.pixels, {**one.values, **icon}, overlay)


def _counted(slices: Iterable[Slice]) -> Iterator[Slice]:
    for index, one in enumerate(slices, start=1):
        yield Slice(one.pixels, {**one.values, "ImageIndex": index})
