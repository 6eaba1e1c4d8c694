"""Attacks: objects crafted to leak a person's data are released without it or withheld."""

import time
from struct import pack

import pytest
from deid_corpus import MOST, CorpusTotals, Deidentifier, attacked, attacks
from deid_file import IMPLICIT, file
from deid_victim import BIRTH, GIVEN, NAME, NUMBER, REMARK, base, left_in

from adit_engine.pseudonymize.profile import ConfidentialityProfile, preset_names

ALL = list(attacks())


@pytest.mark.parametrize(
    ("profile", "every"),
    [
        (ConfidentialityProfile.default(), 1),
        (MOST, 1),
        *((ConfidentialityProfile.preset(name), 5) for name in preset_names() if name != "default"),
    ],
    ids=lambda given: getattr(given, "name", given),
)
def test_no_attack_leaves_identifying_data_in_output_or_reasons(
    profile: ConfidentialityProfile, every: int
) -> None:
    totals = attacked(profile, ALL[::every])
    assert totals.residues == []
    assert totals.released > 0.75 * totals.objects


def test_the_attacks_cover_all_kinds_and_contain_identifying_data() -> None:
    kinds = {attack.kind for attack in ALL}
    assert len(ALL) > 2500
    assert kinds == {
        "typed in", "spelling", "date", "binary number", "UID", "VR", "private", "shape", "charset",
        "history", "description", "reference", "code", "table", "pixels", "container", "class",
        "syntax",
    }  # fmt: skip
    for attack in ALL[::50]:
        if attack.kind != "syntax":
            assert left_in(attack.data), attack.name


@pytest.mark.parametrize(
    "trace",
    [
        GIVEN.upper().encode(), NAME.encode(), NAME.encode("utf-16-be"), BIRTH.encode(),
        b"12.04.1956", b"April 12, 1956", pack("<I", NUMBER), pack(">d", int(BIRTH)), GIVEN[::-1].encode(),
    ],
)  # fmt: skip
def test_the_search_finds_identifying_data_in_several_encodings(trace: bytes) -> None:
    assert left_in(b"some bytes " + trace + b" and more")
    assert not left_in(b"some bytes and more")


@pytest.mark.parametrize(
    "where", [(0x00104000, "UT"), (0x00181020, "UT"), (0x00091001, "UN"), (0x00100010, "UT")]
)
def test_a_text_of_100_mb_is_processed_in_20_seconds_of_cpu_time(where: tuple[int, str]) -> None:
    tag, vr = where
    long = (REMARK + " ").encode() * (100_000_000 // (len(REMARK) + 1))
    deidentifier, began = Deidentifier(ConfidentialityProfile.default()), time.process_time()
    out = deidentifier.process(
        file(base() | {tag: ("UT", long)}, IMPLICIT), CorpusTotals("long text")
    )
    assert out is None or not left_in(out)
    assert time.process_time() - began < 20
