"""Read and write DICOM files (PS3.10 7.1). The preamble and file meta are always newly built."""

import mmap
import os
from collections.abc import Callable, Iterator
from functools import lru_cache
from hashlib import sha256
from io import BufferedReader
from pathlib import Path
from struct import pack, unpack_from

from adit_engine.dicom_file import temp_files
from adit_engine.elements import Buffer, elements, format_tag
from adit_engine.errors import Malformed
from adit_engine.values.instance import Instance

IMPLEMENTATION_UID = "2.25.121488291549119364894667366326857855592"
IMPLEMENTATION_NAME = "ADIT"

MAPPED_FROM_BYTES = 32 * 1024 * 1024

_READ_BYTES = 256 * 1024

META_CLASS = 0x00020002
META_INSTANCE = 0x00020003
META_SYNTAX = 0x00020010
META_TAGS = (META_CLASS, META_INSTANCE, META_SYNTAX)


def file_head(instance: Instance) -> bytes:
    """Return the preamble of zeros, the DICM prefix and the file meta of an instance."""
    before, behind = _encode_around_uid(instance.sop_class_uid, instance.transfer_syntax_uid)
    meta = before + _encode_meta_element(0x0003, b"UI", instance.instance_uid.encode()) + behind
    length = pack("<HH2sHI", 0x0002, 0x0000, b"UL", 4, len(meta))
    return b"\0" * 128 + b"DICM" + length + meta


@lru_cache(maxsize=64)
def _encode_around_uid(sop_class_uid: str, syntax: str) -> tuple[bytes, bytes]:
    """The elements before and after the instance UID, which are the same for a whole series."""
    before = _encode_meta_element(0x0001, b"OB", b"\0\1") + _encode_meta_element(
        0x0002, b"UI", sop_class_uid.encode()
    )
    behind = (
        _encode_meta_element(0x0010, b"UI", syntax.encode()),
        _encode_meta_element(0x0012, b"UI", IMPLEMENTATION_UID.encode()),
        _encode_meta_element(0x0013, b"SH", IMPLEMENTATION_NAME.encode()),
    )
    return before, b"".join(behind)


def file_parts(instance: Instance) -> Iterator[Buffer]:
    """Yield the bytes of the whole file in order, without copying the data set."""
    yield file_head(instance)
    yield from instance.parts()


def read_file(path: Path) -> Instance:
    """Read the object in a file that nobody else changes.

    Large files are memory-mapped. Raises Malformed, OSError.
    """
    # Three system calls. A file object makes a dozen, and each may wait for other threads.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        if size < MAPPED_FROM_BYTES:
            return parse_file(_read_exactly(descriptor, size))
        return parse_file(memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)))
    finally:
        os.close(descriptor)


def read_shared_file(path: Path, owner: str, check: Callable[[], None]) -> Instance:
    """Read the object in a file that others may change.

    Of large files a copy is mapped: a process that reads a mapped page which was truncated is
    killed. For `owner`, `check` and the errors see `temp_files.copy_and_map`.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        if size < MAPPED_FROM_BYTES:
            return parse_file(_read_exactly(descriptor, size))
        return parse_file(temp_files.copy_and_map(descriptor, size, owner, check))
    finally:
        os.close(descriptor)


def _read_exactly(descriptor: int, size: int) -> Buffer:
    """Raises Malformed if fewer bytes can be read."""
    data = os.read(descriptor, size)
    while len(data) < size:
        more = os.read(descriptor, size - len(data))
        if not more:
            raise Malformed("dicom-file.truncated")
        data += more
    return data


def hash_data_set(file: BufferedReader) -> str:
    """Return the hex digest of the data set in an open file, without parsing it.

    Raises Malformed, OSError.
    """
    buffer = bytearray(_READ_BYTES)
    view = memoryview(buffer)
    count = file.readinto(view)
    _, start = parse_file_meta(view[:count])
    digest = sha256(view[start:count])
    while count := file.readinto(view):
        digest.update(view[:count])
    return digest.hexdigest()


def parse_file(data: Buffer) -> Instance:
    """Parse the bytes of a file. Raises Malformed if not a complete Part 10 file."""
    view = memoryview(data)
    return _make_instance(view, *parse_file_meta(view))


def parse_file_without_preamble(data: Buffer) -> Instance:
    """Parse a file that may begin with its file meta at once. Raises Malformed.

    Some programs send such files by STOW-RS.
    """
    view = memoryview(data)
    if len(view) >= 144 and bytes(view[128:132]) == b"DICM":
        return parse_file(data)
    return _make_instance(view, *parse_group2(view, 0))


def _make_instance(view: memoryview, meta: dict[int, str], start: int) -> Instance:
    try:
        sop_class, uid, syntax = (meta[t] for t in META_TAGS)
    except KeyError as missing:
        tag = format_tag(int(missing.args[0]))
        raise Malformed("dicom-file.meta-missing", tag=tag) from None
    return Instance.from_data_set(sop_class, uid, syntax, view[start:])


def parse_file_meta(view: memoryview) -> tuple[dict[int, str], int]:
    """Check the DICM prefix, then parse as `parse_group2` does. Raises Malformed."""
    if len(view) < 144 or bytes(view[128:132]) != b"DICM":
        raise Malformed("dicom-file.no-prefix")
    return parse_group2(view)


def parse_group2(view: memoryview, position: int = 132) -> tuple[dict[int, str], int]:
    """Return the UIDs of group 2 by tag, and the offset of the data set.

    Begins at `position`. The group length may be wrong, so it is not used.
    """
    found: dict[int, str] = {}
    while position + 8 <= len(view) and unpack_from("<H", view, position)[0] == 0x0002:
        try:
            element = next(elements(view, True, position, None))
        except StopIteration:
            break
        if element.vr == "UI":
            value = bytes(view[element.value : element.end]).rstrip(b"\0 ")
            if not value.isascii():
                raise Malformed("dicom-file.meta-uid")
            # If the data set has a group 2 of its own, the elements of the file meta come first.
            found.setdefault(element.tag, value.decode("ascii"))
        position = element.end
    return found, position


def _encode_meta_element(number: int, vr: bytes, value: bytes) -> bytes:
    if len(value) % 2:
        value += b"\0" if vr == b"UI" else b" "
    if vr == b"OB":
        return pack("<HH2sHI", 0x0002, number, vr, 0, len(value)) + value
    return pack("<HH2sH", 0x0002, number, vr, len(value)) + value
