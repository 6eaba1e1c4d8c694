"""Confidentiality tables are complete, of one edition, and name only standard attributes."""

from pathlib import Path

import pynetdicom
import pytest
from pydicom.uid import UID_dictionary

from adit_engine.pseudonymize import tables
from adit_engine.pseudonymize.profile import SUPPORTED_OPTIONS, ConfidentialityProfile
from adit_engine.pseudonymize.rules import compile_rules

FOLDER = Path(tables.__file__).parent


def test_the_table_has_all_rows_of_its_edition() -> None:
    head = (FOLDER / "confidentiality.tsv").read_text(encoding="utf-8").splitlines()[0]
    assert head.endswith(tables.EDITION)
    # Row 656, for private attributes, is implemented as a separate rule.
    assert len(tables.confidentiality()) == 655


@pytest.mark.parametrize(
    ("tag", "basic", "options"),
    [
        (0x00100010, "Z", {}),
        (0x00100020, "Z/D", {}),
        (0x00080020, "Z", {"113106": "K", "113107": "C"}),
        (0x00181000, "X/Z/D", {"113109": "K"}),
        (0x00101030, "X", {"113108": "K"}),
        (0x00080080, "X/Z/D", {"113112": "K"}),
        (0x0008103E, "X", {"113105": "C"}),
        (0x00082112, "X/Z/U*", {"113110": "K"}),
        (0x0040E012, "X", {}),
    ],
)
def test_selected_rows_match_a_manual_check(tag: int, basic: str, options: dict[str, str]) -> None:
    row = tables.confidentiality()[tag]
    assert (row.basic, row.options) == (basic, options)


def test_reviewed_tables_name_known_attributes_and_give_reasons() -> None:
    for name, columns in (("safe_text.tsv", 2), ("reviewed.tsv", 3), ("code_schemes.tsv", 3)):
        for line in (FOLDER / name).read_text(encoding="utf-8").splitlines():
            if not line.startswith("#"):
                cells = line.split("\t")
                assert len(cells) == columns, line
                assert all(cells), line
                assert name == "code_schemes.tsv" or cells[0] in tables.keywords(), line


def test_no_safe_text_attribute_is_in_the_confidentiality_table() -> None:
    assert not tables.safe_text_tags() & tables.confidentiality().keys()


def test_well_known_uids_are_exactly_those_of_the_registry() -> None:
    assert pynetdicom.__version__  # its import adds the newest UIDs to the registry
    assert {uid.decode() for uid in tables.well_known_uids()} == set(UID_dictionary)


@pytest.mark.parametrize("iod", sorted({one.iod for one in tables.admitted_sop_classes().values()}))
def test_no_compiled_rule_keeps_identifying_vrs_without_their_option(iod: str) -> None:
    available = SUPPORTED_OPTIONS - {"113101"}  # concerns pixels only
    for options in (frozenset(), available - {"113106"}, available - {"113107"}):
        book = compile_rules(ConfidentialityProfile("Test", 1, options), iod)
        places = [book.top, *(book.level(n) for n in range(len(book._levels)))]
        for rules in (place.rules for place in places):
            for tag, rule in rules.items():
                if rule.vrs[0] in ("PN", "AE", "UR", "UN"):
                    assert rule.action is None, f"{tag:08x}"
                if rule.vrs[0] in ("DA", "DT", "TM") and not options:
                    assert rule.action is None, f"{tag:08x}"
                if rule.vrs[0] == "AS" and "113108" not in options:
                    assert rule.action is None, f"{tag:08x}"
                assert not tag >> 16 & 1
