"""Reports on a change: counts without values, the explanation page and the conformance page."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from lab.deid_objects import ROOT, change, encode, header, instance, items

from adit_engine.errors import InstanceWithheld
from adit_engine.pseudonymize.apply import apply
from adit_engine.pseudonymize.explanation import explain_profile
from adit_engine.pseudonymize.pixel_rules import PixelRule
from adit_engine.pseudonymize.profile import ConfidentialityProfile, preset_names
from adit_engine.pseudonymize.statistics import AppliedAction, ChangeStatistics

ROOT_FOLDER = Path(__file__).resolve().parents[3]
NAME = b"Mustermann^Erika"


def tally_of(
    made: dict[int, tuple[str, bytes]], *options: str, behind: bytes = b""
) -> ChangeStatistics:
    tally = ChangeStatistics()
    apply(change(*options), instance(made, behind=behind), tally)
    return tally


def test_each_element_is_counted_by_the_applied_action() -> None:
    inner = encode(0x00081155, "UI", ROOT.encode()) + encode(0x00100010, "PN", NAME)
    tally = tally_of(
        header(
            t00081048=("PN", NAME), t00100030=("DA", b"19560412"), t00180050=("DS", b"1.5 "),
            t00090010=("LO", b"V"), t00091001=("LO", NAME), t00091002=("LO", NAME),
            t00081140=("SQ", items(inner, inner)), t00400275=("SQ", items(inner)),
        )
    )  # fmt: skip
    counts = tally.counts
    assert counts[0x00081048, AppliedAction.REMOVED] == 1
    assert counts[0x00100030, AppliedAction.EMPTIED] == 1
    assert counts[0x00180050, AppliedAction.KEPT] == 1
    assert counts[0x00080020, AppliedAction.DATE_SHIFTED] == 1
    assert counts[0x0020000D, AppliedAction.NEW_UID] == 1
    assert counts[0x00090000, AppliedAction.REMOVED] == 3
    assert counts[0x00081155, AppliedAction.NEW_UID] == 2
    assert counts[0x00100010, AppliedAction.EMPTIED] == 2
    assert counts[0x00120063, AppliedAction.ADDED] == 1
    assert counts[0x00400275, AppliedAction.REMOVED] == 1


def test_counts_include_all_instances_and_elements_after_the_pixels() -> None:
    tally = ChangeStatistics()
    source = instance(header(), behind=encode(0xFFFCFFFC, "OB", NAME))
    for _ in range(3):
        apply(change(), source, tally)
    assert tally.instances == 3
    assert tally.counts[0xFFFCFFFC, AppliedAction.REMOVED] == 3
    assert tally.counts[0x00080016, AppliedAction.KEPT] == 3
    assert tally.counts[0x00080016, AppliedAction.ADDED] == 0


def test_withheld_images_are_not_counted() -> None:
    tally = ChangeStatistics()
    with pytest.raises(InstanceWithheld):
        apply(change(), instance(header(t00280301=("CS", b"YES"))), tally)
    assert not tally.instances


def test_counting_does_not_change_the_output() -> None:
    source = instance(header(t00100010=("PN", NAME)))
    assert apply(change(), source, ChangeStatistics()).sha256() == apply(change(), source).sha256()


def test_report_rows_contain_no_element_values() -> None:
    made = header(t00100010=("PN", NAME), t00091001=("LO", NAME), t00104000=("LT", NAME))
    rows = tally_of(made).rows()
    assert {
        "tag": "(0010,4000)",
        "name": "PatientComments",
        "action": "removed",
        "count": 1,
    } in rows
    assert "Mustermann" not in str(rows)
    assert [row["tag"] for row in rows] == sorted(row["tag"] for row in rows)


def test_report_rows_name_curves_overlays_and_private_elements() -> None:
    made = header(t60000010=("US", b"\4\0"), t50000010=("US", b"\4\0"), t00091001=("LO", NAME))
    names = {row["tag"]: row["name"] for row in tally_of(made).rows()}
    assert names["(6000,0010)"] == "overlay"
    assert names["(5000,0010)"] == "curve"
    assert "" not in names.values()


# Explanation of a profile -------------------------------------------------------------------------


@pytest.mark.parametrize("name", preset_names())
def test_each_preset_is_explained(name: str) -> None:
    text = explain_profile(ConfidentialityProfile.preset(name))
    for heading in (
        "What is removed",
        "What is changed",
        "What is kept",
        "What is withheld",
        "Remaining risks",
    ):
        assert heading in text
    assert ConfidentialityProfile.preset(name).name in text


def test_the_explanation_counts_add_up_and_omit_removed_attributes() -> None:
    described = explain_profile(ConfidentialityProfile.preset("ct-mr-research"))
    [line] = [line for line in described.splitlines() if "possibly identifying" in line]
    total, *parts = map(int, re.findall(r"(?<![\w.])\d+(?= )", line))
    assert total == sum(parts)
    assert "patient comments" not in described
    assert "Patient attributes, if all words are listed: patient breed" in described


def test_the_explanation_describes_the_effect_of_options() -> None:
    default, pet = (
        explain_profile(ConfidentialityProfile.default()),
        explain_profile(ConfidentialityProfile.preset("pet-dose-timing")),
    )
    assert "patient weight" in pet
    assert "patient weight" not in default
    assert "Ages above 90" in pet
    assert "All dates and times." in explain_profile(ConfidentialityProfile.preset("strict"))
    assert "30 to 3649 days" in default
    full = explain_profile(
        ConfidentialityProfile("Full", 1, frozenset({"113106", "113109", "113112", "113110"}))
    )
    for words in (
        "All dates and times, unchanged",
        "Serial number",
        "Name and address",
        "original UIDs",
    ):
        assert words in full


def test_the_explanation_lists_classes_released_by_pixel_rules() -> None:
    rule = PixelRule("1.2.840.10008.5.1.4.1.1.6.1", "Maker", "M", "*", 60, 80, ((0, 0, 80, 10),))
    text = explain_profile(ConfidentialityProfile("Sonography", 1, frozenset({"113101"}), (rule,)))
    assert "Ultrasound Image Storage" in text
    assert "Number of rules: 1." in text


def test_the_conformance_page_matches_the_tables() -> None:
    run = subprocess.run(
        [sys.executable, "scripts/make_conformance.py", "--check"],
        cwd=ROOT_FOLDER,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_blanked_images_are_counted() -> None:
    rule = PixelRule("1.2.840.10008.5.1.4.1.1.2", "Sample Devices", "M", "*", 4, 4, ((0, 0, 4, 1),))
    profile = ConfidentialityProfile("Test", 1, frozenset({"113107", "113101"}), (rule,))
    tally = ChangeStatistics()
    how = change()
    source = instance(header(t00081090=("LO", b"M"), t00280301=("CS", b"YES")))
    apply(replace(how, profile=profile), source, tally)
    assert tally.masked == 1
