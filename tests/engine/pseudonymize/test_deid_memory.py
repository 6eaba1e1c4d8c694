"""The element cache never affects the output: earlier images do not change later ones."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
from lab.deid_objects import CT, MR, ROOT, change, encode, header, instance, items
from test_deid_real_files import leaving  # noqa: F401 - a fixture

from adit_engine.errors import InstanceWithheld
from adit_engine.pseudonymize.apply import apply
from adit_engine.pseudonymize.parameters import Pseudonymization
from adit_engine.pseudonymize.profile import ConfidentialityProfile, preset_names
from adit_engine.pseudonymize.rewrite import MAX_CACHED_BYTES, ElementCache
from adit_engine.pseudonymize.statistics import ChangeStatistics
from adit_engine.values.instance import Instance

UMLAUT = "Haus der \u00c4rzte".encode("latin-1")


def referenced(number: int) -> bytes:
    return items(encode(0x00081150, "UI", CT.encode()) + encode(0x00081155, "UI", uid(number)))


def uid(number: int) -> bytes:
    return f"{ROOT}.{number}".encode()


SERIES = [
    header(t00200013=("IS", b"1 "), t00180015=("CS", b"HEAD")),
    header(t00200013=("IS", b"2 "), t00180015=("CS", b"HEAD")),
    header(t00080020=("DA", b"20200101"), t00080023=("DA", b"20200102")),
    header(t00080020=("DA", b"20200101"), t00080023=("DA", b"someday ")),
    header(t00081140=("SQ", referenced(1))),
    header(t00081140=("SQ", referenced(2))),
    header(t00081140=("SQ", referenced(2)[:-1] + b"\0")),
    header(t00080005=("CS", b"ISO_IR 100"), t0008103E=("LO", UMLAUT)),
    header(t00080005=("CS", b"ISO_IR 192"), t0008103E=("LO", UMLAUT)),
    header(t0008103E=("LO", UMLAUT)),
    header(t00100010=("PN", b"Head^Erika"), t0008103E=("LO", b"CT HEAD ")),
    header(t00100010=("PN", b"Muster^Erika"), t0008103E=("LO", b"CT HEAD ")),
    # An illegal trigger time is removed in CT and emptied in MR.
    header(t00181060=("DS", b"soon")),
    header(MR, t00181060=("DS", b"soon")),
    header(MR, t0008103E=("LO", b"CT HEAD ")),
    header(t00080008=("CS", b"ORIGINAL\\PRIMARY\\AXIAL ")),
    header(t00081140=("SQ", b"".join(referenced(n) for n in range(MAX_CACHED_BYTES // 64)))),
]
"""Images that differ in one aspect each: value, character set, patient or class."""


def told(how: Pseudonymization, source: Instance, memory: ElementCache | None) -> object:
    tally = ChangeStatistics()
    try:
        out = apply(how, source, tally, memory)
    except InstanceWithheld as held:
        return held.message
    return out.sha256(), out.instance_uid, dict(tally.changes)


@pytest.mark.parametrize("name", preset_names())
def test_output_and_counts_do_not_depend_on_earlier_images(name: str) -> None:
    how = replace(change(), profile=ConfidentialityProfile.preset(name))
    sources = [instance(made, explicit=explicit) for made in SERIES for explicit in (True, False)]
    alone = [told(how, source, None) for source in sources]
    memory, order = ElementCache(how), random.Random(7)
    for _ in range(12):
        for place in order.sample(range(len(sources)), len(sources)):
            assert told(how, sources[place], memory) == alone[place], place
            assert told(how, sources[place], memory) == alone[place], place
    assert len({one[0] for one in alone if isinstance(one, tuple)}) > len(SERIES) // 2


def test_identical_bytes_are_decoded_in_their_own_character_set() -> None:
    how = change("113112")
    memory = ElementCache(how)
    made = [
        instance(header(t00080005=("CS", charset), t00080080=("LO", UMLAUT)))
        for charset in (b"ISO_IR 100", b"ISO_IR 192", b"ISO_IR 144")
    ]
    alone = [told(how, source, None) for source in made]
    assert len(set(map(str, alone))) == len(made)
    for source, expected in (*zip(made, alone, strict=True), (made[0], alone[0])):
        assert told(how, source, memory) == expected


def test_cached_elements_of_another_change_are_not_reused() -> None:
    source, memory = instance(SERIES[0]), ElementCache(change())
    apply(change(), source, None, memory)
    other = change(pseudonym="HEART-0009")
    assert apply(other, source, None, memory).sha256() == apply(other, source).sha256()


def test_a_burned_in_image_is_withheld_after_a_released_image() -> None:
    how = change()
    memory = ElementCache(how)
    apply(how, instance(header()), None, memory)
    for _ in range(2):
        with pytest.raises(InstanceWithheld):
            apply(how, instance(header(t00280301=("CS", b"YES"))), None, memory)


def test_long_elements_are_not_cached_and_the_cache_stays_small() -> None:
    how = change()
    memory = ElementCache(how)
    apply(how, instance(SERIES[-1]), None, memory)
    kept = [known for context in memory.iter_contexts() for known in context.values()]
    assert kept
    assert all(len(known.raw) <= MAX_CACHED_BYTES for known in kept)
    for number in range(40):
        name = ("PN", f"Name{number}^Erika".encode().ljust(14))
        apply(how, instance(header(t00100010=name)), None, memory)
    assert len(list(memory.iter_contexts())) <= 8


def test_the_output_of_real_files_does_not_depend_on_their_order(
    leaving: list[tuple[Path, Instance, Instance]],  # noqa: F811
) -> None:
    how, order = change(), random.Random(11)
    memory = ElementCache(how)
    for _ in range(3):
        for path, source, out in order.sample(leaving, len(leaving)):
            assert apply(how, source, None, memory).sha256() == out.sha256(), path.name
