"""Assign the images included in pydicom to people who do not exist."""

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from io import BytesIO
from pathlib import Path

import pydicom
from pydicom import Dataset, FileDataset, dcmread, dcmwrite
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID

from adit.demo.pacs_index import write_file
from adit.demo.writing import uid

_IMAGES = Path(pydicom.__file__).parent / "data"


@dataclass(frozen=True)
class Owner:
    """Who gets which files.

    An empty name keeps that of the file, which is made up as well.
    """

    number: int
    files: str
    name: str
    born: str
    sex: str

    @property
    def patient_id(self) -> str:
        return f"PYD-{8200000 + 6151 * self.number:07d}"


_UNUSABLE = frozenset(
    {
        "test_files/SC_rgb_jpeg.dcm",
        "test_files/JPEG-lossy.dcm",
        "test_files/JPEG2000-embedded-sequence-delimiter.dcm",
    }
)
"""Broken on purpose: the first declares explicit VR and contains implicit VR, the others cannot be
decoded.
"""

_OWNERS = tuple(
    Owner(number, *row)
    for number, row in enumerate(
        (
            ("charset_files/chrArab.dcm", "", "19660214", "M"),
            ("charset_files/chrFren*.dcm", "", "19720801", "M"),
            ("charset_files/chrGerm.dcm", "", "19810323", "M"),
            ("charset_files/chrGreek.dcm", "", "19590917", "M"),
            ("charset_files/chrH3[12].dcm", "", "19640405", "M"),
            ("charset_files/chrHbrw.dcm", "", "19870629", "F"),
            ("charset_files/chrI2.dcm", "", "19790111", "M"),
            ("charset_files/chrJapMulti*.dcm", "", "19511020", "M"),
            ("charset_files/chrKoreanMulti.dcm", "", "19620716", "F"),
            ("charset_files/chrRuss.dcm", "", "19480508", "M"),
            ("charset_files/chrX[12].dcm", "", "19950930", "M"),
            ("test_files/CT_small.dcm", "Smallwood^Carl", "19500212", "M"),
            ("test_files/MR_small*.dcm", "Littleton^Mary", "19690918", "F"),
            ("test_files/693_J2KI.dcm", "Plainfield^Nadia", "19830526", "F"),
            ("test_files/J2K_pixelrep_mismatch.dcm", "Mismatch^Paul", "19750707", "M"),
            ("test_files/JP*.dcm", "Bonescan^Nora", "19580103", "F"),
            ("test_files/examples_overlay.dcm", "Overley^Abby", "19440821", "F"),
            ("test_files/examples_[pry]*.dcm", "Echo^Ulla", "19911204", "F"),
            ("test_files/examples_jpeg2k.dcm", "Echo^Ulla", "19911204", "F"),
            ("test_files/liver_*1frame.dcm", "Segal^Livia", "19670613", "F"),
            ("test_files/rtdose*.dcm", "Dosis^Rita", "19550414", "F"),
            ("test_files/SC_*.dcm", "Colour^Scott", "19781109", "M"),
            ("test_files/image_dfl.dcm", "Deflate^Dora", "19860327", "F"),
            ("test_files/ExplVR_BigEnd.dcm", "Endian^Berta", "19930219", "F"),
            ("test_files/dicomdirtests/77654033/*", "Rowe^Archibald", "19460731", "M"),
            ("test_files/dicomdirtests/98892001/*", "Hart^Peter", "19530626", "M"),
            ("test_files/dicomdirtests/98892003/*", "Vessel^Petra", "19610115", "F"),
        ),
        start=1,
    )
)


def write_images(folder: Path) -> Iterator[Path]:
    """Write the images that this version of pydicom can read; yield their paths."""
    for path in sorted(_IMAGES.rglob("*")):
        name = path.relative_to(_IMAGES).as_posix()
        if name in _UNUSABLE:
            continue
        owner = next((one for one in _OWNERS if fnmatch(name, one.files)), None)
        dataset = _image(path) if owner else None
        if owner is not None and dataset is not None:
            _assign_identity(dataset, owner, name)
            yield _write(folder, dataset)


def _image(path: Path) -> FileDataset | None:
    """Return the file as a data set; None if it contains no image as declared."""
    try:
        dataset = dcmread(path)
    except (InvalidDicomError, OSError):
        return None
    has_pixels = "PixelData" in dataset and dataset.get("Rows")
    named = all(
        dataset.get(key) for key in ("SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID")
    )
    as_declared = dataset.original_encoding[0] == dataset.file_meta.TransferSyntaxUID.is_implicit_VR
    return dataset if has_pixels and named and as_declared else None


def _assign_identity(dataset: FileDataset, owner: Owner, name: str) -> None:
    """Set new UIDs that keep study and series together, and an identity if there is none."""
    if not dataset.get("Modality"):
        dataset.Modality = "OT"
    study = uid("real study", owner.patient_id, dataset.StudyInstanceUID)
    syntax = dataset.file_meta.TransferSyntaxUID
    series = uid(
        "real series", owner.patient_id, dataset.SeriesInstanceUID, syntax, dataset.Modality
    )
    dataset.StudyInstanceUID = study
    dataset.SeriesInstanceUID = series
    dataset.SOPInstanceUID = UID(uid("real image", owner.patient_id, name))
    if "FrameOfReferenceUID" in dataset and dataset.FrameOfReferenceUID:
        dataset.FrameOfReferenceUID = uid(
            "real frame", owner.patient_id, dataset.FrameOfReferenceUID
        )
    if owner.name:
        dataset.PatientName = owner.name
    dataset.PatientID = owner.patient_id
    dataset.PatientBirthDate = owner.born
    dataset.PatientSex = owner.sex
    dataset.InstitutionName = "Pydicom Sample Clinic"
    dataset.ReferringPhysicianName = "Sender^Sam^^Dr."
    dataset.AccessionNumber = f"PYD{int(study[5:]) % 10**8:08d}"
    dataset.StudyID = f"P{owner.number:03d}"
    _complete(dataset, owner)


def _complete(dataset: Dataset, owner: Owner) -> None:
    day = (
        f"20{10 + owner.number % 14:02d}{1 + owner.number % 12:02d}{1 + owner.number * 3 % 28:02d}"
    )
    made_up = {
        "StudyDate": day,
        "StudyTime": f"{8 + owner.number % 9:02d}1500",
        "StudyDescription": f"{dataset.Modality} sample images",
        "SeriesDescription": f"{dataset.Modality} {dataset.file_meta.TransferSyntaxUID.name}"[:64],
    }
    for keyword, value in made_up.items():
        if not dataset.get(keyword):
            setattr(dataset, keyword, value)


def _write(folder: Path, dataset: FileDataset) -> Path:
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    out = BytesIO()
    dcmwrite(out, dataset, enforce_file_format=True)
    uids = (str(dataset.StudyInstanceUID), str(dataset.SeriesInstanceUID))
    path = folder.joinpath(*uids, f"{dataset.SOPInstanceUID}.dcm")
    write_file(path, [out.getvalue()])
    return path
