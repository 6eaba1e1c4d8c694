"""Short leak corpus: no planted value remains in the output."""

import pytest
from deid_auditor import audit_made
from deid_cases import leak_cases
from deid_corpus import MOST, CorpusTotals, made_up, mixable, mixed, real, real_files
from deid_file import NAME, Case, Planted, file, header
from deid_rows import rows

from adit_engine.pseudonymize.profile import ConfidentialityProfile

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def all_totals() -> list[CorpusTotals]:
    return made_up(ConfidentialityProfile.default(), short=True)


def test_no_planted_value_remains(all_totals: list[CorpusTotals]) -> None:
    assert [residue for totals in all_totals for residue in totals.residues] == []
    assert sum(totals.looked_for for totals in all_totals) > 400


def test_over_98_percent_of_the_table_row_objects_are_released(
    all_totals: list[CorpusTotals],
) -> None:
    assert all_totals[0].released > 0.98 * all_totals[0].objects


def test_real_files_keep_no_identity_and_none_fails_verification() -> None:
    totals = real(ConfidentialityProfile.default(), real_files(largest_bytes=1 << 17))
    assert totals.residues == []
    assert not totals.by_verification, totals.by_verification
    assert totals.released > 30


@pytest.mark.parametrize(
    "profile", [ConfidentialityProfile.default(), MOST], ids=lambda one: one.name
)
def test_earlier_images_do_not_affect_the_output(
    profile: ConfidentialityProfile,
) -> None:
    totals = mixed(profile, mixable(short=True), runs=60)
    assert totals.residues == []
    assert totals.released > totals.objects // 2


def test_the_corpus_covers_every_table_row_and_kind_of_leak() -> None:
    assert len(rows()) == 655
    kinds = {case.kind for case in leak_cases()}
    assert kinds >= {
        "overlay", "curve", "icon", "preamble", "behind pixels", "behind", "spare bits", "private",
        "nested", "file meta", "UN", "deflated", "big endian", "charset", "JPEG stream",
        "JPEG-LS stream", "JPEG 2000 stream", "RLE stream", "wrong VR", "wrong value", "code",
    }  # fmt: skip


def test_the_auditor_finds_planted_values() -> None:
    made = header(t00100010=("PN", NAME), t00101010=("AS", b"067Y"))
    case = Case("none", "none", file(made), (Planted(b"zwoelf"), Planted(b"067Y", 0x00101010)))
    _, found = audit_made(case, case.data)
    assert {residue.where for residue in found} == {"the bytes", "00101010", "stamp"}
