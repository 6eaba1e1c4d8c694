"""Re-encode an object losslessly in a transfer syntax that a node accepts.

Used by C-STORE and STOW-RS.
"""

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

# What pydicom and its decoders were seen to raise for unreadable pixels or values.
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
    """Return the instance in an uncompressed syntax of `syntaxes`; None if impossible.

    Compressed pixel data are only decompressed: values, colours and UIDs stay the same.
    """
    target = next((s for s in (EXPLICIT_LE, IMPLICIT_LE) if s in syntaxes), None)
    if target is None:
        return None
    # Warnings of pydicom quote values, and the warning filter is shared by all threads.
    with _WARNINGS_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _reencode_to(instance, target)
        except _UNREADABLE:
            return None


def _reencode_to(instance: Instance, target: str) -> Instance:
    if instance.transfer_syntax_uid == DEFLATED_LE:
        kind, uid, data = instance.sop_class_uid, instance.instance_uid, b"".join(instance.parts())
        instance = Instance.from_data_set(kind, uid, EXPLICIT_LE, inflate_data_set(data))
    # pydicom would not swap the words of pixel data.
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
    written = Instance.from_data_set(
        instance.sop_class_uid, instance.instance_uid, target, out.getvalue()
    )
    if written.in_header.ref != instance.in_header.ref:
        raise Malformed("re-encoding.uid-changed")
    return written
