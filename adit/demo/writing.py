"""Write many slices with a common header, one file each."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from struct import pack
from typing import Any
from uuid import UUID, uuid5

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from adit.demo.pacs_index import write_file
from adit_engine.dicom_file.part10 import file_parts
from adit_engine.elements import elements
from adit_engine.values.instance import EXPLICIT_LE, IMPLICIT_LE, Instance

_NAMESPACE = UUID("5f0e2c9a-7a5b-4d1c-9a52-0d3b1f8e6c47")


def uid(*names: object) -> str:
    """Return a UID that is always the same for the same names (PS3.5 B.2)."""
    return f"2.25.{uuid5(_NAMESPACE, '/'.join(str(name) for name in names)).int}"


@dataclass(frozen=True)
class Slice:
    """One image: its samples, and the elements that differ from its series.

    `extra` contains repeating groups, which have no keyword: VR and value by tag.
    """

    pixels: NDArray[Any] | None
    values: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[int, tuple[str, Any]] = field(default_factory=dict)


def write_series(
    folder: Path, header: Dataset, slices: Iterable[Slice], syntax: str = EXPLICIT_LE
) -> list[Path]:
    """Write one file per slice; return their paths.

    `header` has the common elements, including study and series UID.
    """
    place = folder / header.StudyInstanceUID / header.SeriesInstanceUID
    shared = _encoded(header, syntax)
    written: list[Path] = []
    for number, one in enumerate(slices, start=1):
        instance_uid = uid(header.SeriesInstanceUID, number)
        path = place / f"{instance_uid}.dcm"
        own = Dataset()
        own.SpecificCharacterSet = header.SpecificCharacterSet
        own.SOPInstanceUID = instance_uid
        own.InstanceNumber = number
        for keyword, value in one.values.items():
            setattr(own, keyword, value)
        for tag, (vr, value) in one.extra.items():
            own.add_new(tag, vr, value)
        parts = {**shared, **_encoded(own, syntax)}
        data = b"".join(parts[tag] for tag in sorted(parts)) + _pixel_element(one.pixels, syntax)
        write_file(path, file_parts(Instance(header.SOPClassUID, instance_uid, syntax, data)))
        written.append(path)
    return written


def _encoded(dataset: Dataset, syntax: str) -> dict[int, bytes]:
    """Return each encoded top level element by its tag."""
    out = DicomBytesIO()
    out.is_little_endian = True
    out.is_implicit_VR = syntax == IMPLICIT_LE
    write_dataset(out, dataset)
    data = out.getvalue()
    return {one.tag: data[one.start : one.end] for one in elements(data, syntax != IMPLICIT_LE)}


def _pixel_element(pixels: NDArray[Any] | None, syntax: str) -> bytes:
    if pixels is None:
        return b""
    data = np.ascontiguousarray(pixels).tobytes()
    data += b"\0" * (len(data) % 2)
    if syntax == IMPLICIT_LE:
        return pack("<HHI", 0x7FE0, 0x0010, len(data)) + data
    vr = b"OW" if pixels.dtype.itemsize == 2 else b"OB"
    return pack("<HH2sHI", 0x7FE0, 0x0010, vr, 0, len(data)) + data
