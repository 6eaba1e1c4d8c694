"""Re-encoding: the same object in another transfer syntax, without loss, for a choosy node."""

import threading
import warnings
from collections.abc import Sequence
from io import BytesIO
from struct import error as StructError

from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import UID

from adit_engine.dicom_file import part10
from adit_engine.dicom_file.transcode import to_little_endian
from adit_engine.errors import AditError, Malformed
from adit_engine.values.instance import (
    DEFLATED_LE,
    EXPLICIT_LE,
    IMPLICIT_LE,
    Instance,
    inflate_data_set,
)

_WARNINGS_LOCK = threading.Lock()

# What pydicom and its decoders were seen to raise for pixels or values they cannot read.
_UNREADABLE = (
    AditError,
    ArithmeticError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    StructError,
    TypeError,
    ValueError,
)


def reencode(instance: Instance, syntaxes: Sequence[str]) -> Instance | None:
    """The instance in an uncompressed syntax out of `syntaxes`; None where that cannot be done.

    Compressed pixel data are decompressed as they are: values, colours and UIDs stay.
    """
    target = next((s for s in (EXPLICIT_LE, IMPLICIT_LE) if s in syntaxes), None)
    if target is None:
        return None
    # pydicom's warnings quote values, and the filter is one for all threads.
    with _WARNINGS_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _reencode_to(instance, target)
        except _UNREADABLE:
            return None


def _reencode_to(instance: Instance, target: str) -> Instance:
    if instance.transfer_syntax_uid == DEFLATED_LE:
        kind, uid, data = instance.sop_class_uid, instance.instance_uid, b"".join(instance.parts())
        instance = Instance.of(kind, uid, EXPLICIT_LE, inflate_data_set(data))
    # pydicom would leave the words of pixel data as they are.
    instance = to_little_endian(instance)
    whole = b"".join(part10.file_parts(instance))
    dataset: FileDataset = dcmread(BytesIO(whole))
    if UID(instance.transfer_syntax_uid).is_compressed and "PixelData" in dataset:
        dataset.decompress(as_rgb=False, generate_instance_uid=False)
    out = DicomBytesIO()
    out.is_little_endian = True
    out.is_implicit_VR = target == IMPLICIT_LE
    del dataset.file_meta
    write_dataset(out, dataset)
    written = Instance.of(instance.sop_class_uid, instance.instance_uid, target, out.getvalue())
    if written.in_header.ref != instance.in_header.ref:
        raise Malformed("Re-encoding changed a UID.")
    return written
