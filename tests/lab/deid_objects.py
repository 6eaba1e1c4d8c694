"""Synthetic objects for tests of pseudonymization, encoded by hand to permit any content."""

from collections.abc import Iterator
from io import BytesIO
from struct import pack

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from adit_engine.pseudonymize.apply import apply
from adit_engine.pseudonymize.face_risk import RiskDecision
from adit_engine.pseudonymize.keys import ProjectKey
from adit_engine.pseudonymize.parameters import (
    ClinicalTrialAttributes,
    Pseudonymization,
)
from adit_engine.pseudonymize.profile import ConfidentialityProfile
from adit_engine.values.instance import EXPLICIT_LE, IMPLICIT_LE, Instance

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
PET = "1.2.840.10008.5.1.4.1.1.128"
CR = "1.2.840.10008.5.1.4.1.1.1"
DX = "1.2.840.10008.5.1.4.1.1.1.1"
ROOT = "1.2.826.0.1.3680043.8.498.4711"

LONG = {"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"}
KEY = ProjectKey(b"0123456789abcdef0123456789abcdef")
TRIAL = ClinicalTrialAttributes("Sponsor AG", "EUDRA-1", "A trial", "Site", "S1")

Header = dict[int, tuple[str, bytes]]
"""Tag to VR and value; a value is padded when it is encoded."""


def change(*options: str, key: ProjectKey = KEY, pseudonym: str = "LUNG-0001") -> Pseudonymization:
    profile = (
        ConfidentialityProfile("Test", 1, frozenset(options))
        if options
        else ConfidentialityProfile.default()
    )
    return Pseudonymization(
        profile, pseudonym, key, TRIAL, RiskDecision.ACCEPT, RiskDecision.ACCEPT
    )


def header(sop_class: str = CT, **more: tuple[str, bytes]) -> Header:
    """Return a complete header of a 4 x 4 image. `more` as in t00100010=("PN", b"A^B")."""
    made: Header = {
        0x00080005: ("CS", b"ISO_IR 100"),
        0x00080008: ("CS", b"ORIGINAL\\PRIMARY\\AXIAL"),
        0x00080016: ("UI", sop_class.encode()),
        0x00080018: ("UI", f"{ROOT}.1.1.1".encode()),
        0x00080020: ("DA", b"20240229"),
        0x00080030: ("TM", b"101500"),
        0x00080060: ("CS", b"CT"),
        0x00080070: ("LO", b"Sample Devices"),
        0x0020000D: ("UI", f"{ROOT}.1".encode()),
        0x0020000E: ("UI", f"{ROOT}.1.1".encode()),
        0x00280002: ("US", pack("<H", 1)),
        0x00280004: ("CS", b"MONOCHROME2"),
        0x00280010: ("US", pack("<H", 4)),
        0x00280011: ("US", pack("<H", 4)),
        0x00280100: ("US", pack("<H", 16)),
        0x00280101: ("US", pack("<H", 12)),
        0x00280102: ("US", pack("<H", 11)),
        0x00280103: ("US", pack("<H", 0)),
        0x00280301: ("CS", b"NO"),
        0x7FE00010: ("OW", bytes(32)),
    }
    return made | {int(name[1:], 16): element for name, element in more.items()}


def encode(tag: int, vr: str, value: bytes, explicit: bool = True) -> bytes:
    if len(value) & 1:
        value += b"\0" if vr in ("UI", "OB", "UN") else b" "
    group, number = tag >> 16, tag & 0xFFFF
    if not explicit:
        return pack("<HHI", group, number, len(value)) + value
    if vr in LONG:
        return pack("<HH2sHI", group, number, vr.encode(), 0, len(value)) + value
    return pack("<HH2sH", group, number, vr.encode(), len(value)) + value


def items(*contents: bytes) -> bytes:
    return b"".join(pack("<HHI", 0xFFFE, 0xE000, len(content)) + content for content in contents)


def endless(tag: int, *contents: bytes, vr: str = "SQ", explicit: bool = True) -> bytes:
    """Encode a sequence of undefined length whose items have undefined length too."""
    head = pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr.encode(), 0, 0xFFFFFFFF)
    if not explicit:
        head = pack("<HHI", tag >> 16, tag & 0xFFFF, 0xFFFFFFFF)
    inner = b"".join(
        pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + content + pack("<HHI", 0xFFFE, 0xE00D, 0)
        for content in contents
    )
    return head + inner + pack("<HHI", 0xFFFE, 0xE0DD, 0)


def encoded(made: Header, explicit: bool = True) -> bytes:
    return b"".join(encode(tag, *made[tag], explicit) for tag in sorted(made))


def instance(
    made: Header, *, explicit: bool = True, extra: bytes = b"", behind: bytes = b""
) -> Instance:
    """Encode with `extra` before the pixel data (use high tags) and `behind` after them."""
    front = encoded({t: e for t, e in made.items() if t < 0x7FE00010}, explicit)
    back = encoded({t: e for t, e in made.items() if t >= 0x7FE00010}, explicit)
    syntax = EXPLICIT_LE if explicit else IMPLICIT_LE
    data = front + extra + back + behind
    return Instance.from_data_set(
        made[0x00080016][1].decode(), made[0x00080018][1].decode(), syntax, data
    )


def out_bytes(made: Instance, how: Pseudonymization | None = None) -> bytes:
    return b"".join(bytes(part) for part in apply(how or change(), made).parts())


def read(made: Instance) -> Dataset:
    """Read with pydicom and decode every value."""
    data = b"".join(bytes(part) for part in made.parts())
    ds = read_dataset(BytesIO(data), made.transfer_syntax_uid == IMPLICIT_LE, True)
    ds.decode()
    return ds


def result(made: Instance, how: Pseudonymization | None = None) -> Dataset:
    return read(apply(how or change(), made))


def elements_of(ds: Dataset) -> Iterator[tuple[int, object]]:
    """Yield tag and element at every nesting level."""
    for element in ds.iterall():
        yield int(element.tag), element
