"""Mixed series: previous objects must not change the result for an object.

Elements of one object are put into another, so that the images of a series differ in few elements.
Used by `deid_corpus`.
"""

import random
from collections.abc import Iterator, Sequence
from io import BytesIO

from pydicom import Dataset, dcmread

from adit_engine.dicom_file import part10
from adit_engine.errors import InstanceWithheld, Malformed
from adit_engine.pseudonymize.instance_pseudonymizer import InstancePseudonymizer
from adit_engine.pseudonymize.parameters import Pseudonymization

_MOST_MIXED, _MOST_TAKEN = 6, 6
_LIKELY = 0.3
_READ_BY_OTHERS = (0x00080005, 0x00100010)
"""Character set and patient name: they determine how other elements are read."""
_OWN = frozenset({0x00080016, 0x00080018, 0x7FE00010})
"""SOP class, SOP instance UID and pixels."""


def series(objects: Sequence[bytes], chance: random.Random) -> Iterator[bytes]:
    """Yield files of one series in a random order, some of them more than once."""
    first = chance.choice(objects)
    made = [first]
    for _ in range(chance.randint(1, _MOST_MIXED)):
        other = first if chance.random() < 0.4 else chance.choice(objects)
        mixed = _mixed(chance.choice(made), other, chance)
        if mixed is not None:
            made.append(mixed)
    made += [first, *made[:2]]
    yield from chance.sample(made, len(made))


def became(deidentifier: InstancePseudonymizer, data: bytes) -> tuple[object, ...]:
    """Return the result and its record of changes; otherwise why it was withheld."""
    try:
        source = part10.parse_file(data)
        made, treatment = deidentifier.prepare_outgoing(source)
    except Malformed as fault:
        return ("malformed", fault.message)
    except InstanceWithheld as held:
        return ("withheld", held.message)
    left = b"".join(bytes(part) for part in part10.file_parts(made))
    return ("left", left, treatment and treatment.digest)


def alone(change: Pseudonymization, data: bytes) -> tuple[object, ...]:
    """Return the result for an object without previous ones."""
    return became(InstancePseudonymizer(change), data)


def _mixed(into: bytes, of: bytes, chance: random.Random) -> bytes | None:
    """Return None if pydicom cannot write the result."""
    try:
        target, giver = (dcmread(BytesIO(data), force=True) for data in (into, of))
        for name in chance.sample(names := _names(giver), min(len(names), _MOST_TAKEN)):
            target[name] = giver[name]
        if chance.random() < _LIKELY:
            target.update({tag: giver[tag] for tag in _READ_BY_OTHERS if tag in giver})
        out = BytesIO()
        target.save_as(out, enforce_file_format=False)
    except Exception:  # noqa: BLE001 - objects that are broken on purpose break pydicom in many ways
        return None
    return out.getvalue()


def _names(ds: Dataset) -> list[int]:
    return [int(tag) for tag in ds.keys() if tag not in _OWN]  # noqa: SIM118 - its items are read
