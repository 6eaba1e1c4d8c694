"""Profiles as files: read in one way only, or refused with the line."""

from pathlib import Path

import pytest

from adit_engine.errors import ProfileError
from adit_engine.messages import Message
from adit_engine.pseudonymize.pixel_rules import PixelRule, example_rules
from adit_engine.pseudonymize.profile import SUPPORTED_OPTIONS, ConfidentialityProfile, preset_names

RULE = PixelRule("1.2.840.10008.5.1.4.1.1.6.1", "Maker", 'M "1"', "*", 60, 80, ((0, 0, 80, 10),))
TEXT = """name = "PET"
version = 3

[[rules]]
code = "113100"

[[rules]]
code = "113107"

[[rules]]
code = "113108"
"""


def test_a_profile_is_read_and_written_without_loss(tmp_path: Path) -> None:
    profile = ConfidentialityProfile.from_toml(TEXT)
    assert profile == ConfidentialityProfile("PET", 3, frozenset({"113107", "113108"}))
    assert ConfidentialityProfile.from_toml(profile.to_text()) == profile
    (tmp_path / "p.toml").write_text(ConfidentialityProfile.default().to_text(), encoding="utf-8")
    assert ConfidentialityProfile.from_file(tmp_path / "p.toml") == ConfidentialityProfile.default()


@pytest.mark.parametrize("code", sorted(SUPPORTED_OPTIONS))
def test_every_available_option_survives_the_round(code: str) -> None:
    rules = (RULE,) if code == "113101" else ()
    profile = ConfidentialityProfile('Say "so"', 1, frozenset({code}), rules)
    assert ConfidentialityProfile.from_toml(profile.to_text()) == profile


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ('"113108"', '"113106"', "Line 10", "cannot be combined"),
        ('"113108"', '"113107"', "Line 10", "twice"),
        ('"113108"', '"113102"', "Line 10", "not supported"),
        ('"113108"', '"113101"', "Line 11", "must be used together"),
        ('"113108"', '"121"', "Line 10", "not an option code"),
        ('"113108"', "113108", "Line 10", "needs a code"),
        ('code = "113108"', 'code = "113108"\nkeep = true', "Line 10", "keep"),
        ('"113100"', '"113109"', "Line 4", "first rule"),
        ("version = 3", "version = 0", "Line 2", "version"),
        ("version = 3", "version = true", "", "version"),
        ('"PET"', '"A\\\\B"', "Line 1", "backslash"),
        ('"PET"', '""', "Line 1", "1 to 64"),
        ("version = 3", "versoin = 3", "Line 2", "versoin"),
        ('"PET"', '"PET', "line 1", "TOML"),
    ],
)
def test_what_is_ambiguous_or_unknown_is_refused(old: str, new: str, line: str, says: str) -> None:
    with pytest.raises(ProfileError) as caught:
        ConfidentialityProfile.from_toml(TEXT.replace(old, new))
    assert line in str(caught.value)
    assert says in str(caught.value)


def test_a_profile_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ProfileError, match=r"p\.toml"):
        ConfidentialityProfile.from_file(tmp_path / "p.toml")
    with pytest.raises(ProfileError):
        ConfidentialityProfile.from_file(tmp_path / "none.toml")


PIXELS = """
[[rules]]
code = "113101"

[[pixels]]
sop_class = "1.2.840.10008.5.1.4.1.1.6.1"
manufacturer = "Maker"
model = "Sonograph 5"
software = "V2.1"
rows = 60
columns = 80
rectangles = [[0, 0, 80, 10], [60, 50, 20, 10]]
"""


def test_pixel_rules_are_read_from_a_profile() -> None:
    profile = ConfidentialityProfile.from_toml(TEXT + PIXELS)
    (rule,) = profile.pixel_rules
    assert (rule.model, rule.rows, rule.columns) == ("Sonograph 5", 60, 80)
    assert rule.rectangles == ((0, 0, 80, 10), (60, 50, 20, 10))
    assert ConfidentialityProfile.from_toml(profile.to_text()) == profile


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('software = "V2.1"\n', "", "exactly"),
        ("rows = 60", 'rows = "60"', "whole numbers"),
        ("rows = 60", "rows = 0", "1 to 65535"),
        ("[60, 50, 20, 10]", "[60, 50, 21, 10]", "inside the image"),
        ("[60, 50, 20, 10]", "[60, 50, 20]", "left, top"),
        ("[[0, 0, 80, 10], [60, 50, 20, 10]]", "[]", "needs a reason"),
        ("columns = 80", 'columns = 80\napplies = "never"', "applies"),
        ("columns = 80", "columns = 80\nreason = 5", "must be text"),
        ("columns = 80", 'columns = 80\nreason = "a\\nb"', "one line"),
        ('"Maker"', '""', "manufacturer"),
        ("1.1.6.1", "1.1.77.1.4", "can be pseudonymized"),
        ('"Maker"', '"Hersteller Ä"', "ASCII text"),
        ("columns = 80", "columns = 80\ncolor = 0", "exactly"),
    ],
)
def test_pixel_rules_that_are_ambiguous_are_refused_with_their_line(
    old: str, new: str, says: str
) -> None:
    with pytest.raises(ProfileError) as caught:
        ConfidentialityProfile.from_toml(TEXT + PIXELS.replace(old, new))
    assert "Line 16" in str(caught.value)
    assert says in str(caught.value)


def test_a_rule_may_say_that_a_device_burns_nothing_in() -> None:
    said = PIXELS.replace("[[0, 0, 80, 10], [60, 50, 20, 10]]", "[]").replace('"V2.1"', '""')
    profile = ConfidentialityProfile.from_toml(
        TEXT + said + 'applies = "withheld"\nreason = "a \\"phantom\\" device"\n'
    )
    (rule,) = profile.pixel_rules
    assert (rule.rectangles, rule.software, rule.reason) == ((), "", 'a "phantom" device')
    assert ConfidentialityProfile.from_toml(profile.to_text()) == profile


def test_two_pixel_rules_for_one_device_are_refused() -> None:
    twice = TEXT + PIXELS + PIXELS[PIXELS.index("[[pixels]]") :].replace("Maker", "MAKER")
    with pytest.raises(ProfileError) as caught:
        ConfidentialityProfile.from_toml(twice)
    problem = Message("profile.pixel-duplicate")
    assert caught.value.message == Message("profile.line", line=24, problem=problem)


def test_pixel_rules_without_their_option_are_refused() -> None:
    with pytest.raises(ProfileError) as caught:
        ConfidentialityProfile.from_toml(TEXT + PIXELS[PIXELS.index("[[pixels]]") :])
    problem = Message("profile.pixel-option")
    assert caught.value.message == Message("profile.line", line=12, problem=problem)


def test_example_rules_are_legal_together_and_in_no_preset() -> None:
    profile = ConfidentialityProfile("With examples", 1, frozenset({"113101"}), example_rules())
    assert ConfidentialityProfile.from_toml(profile.to_text()) == profile


def test_presets_come_along() -> None:
    assert preset_names() == ("ct-mr-research", "default", "pet-dose-timing", "strict")
    assert ConfidentialityProfile.preset("default") == ConfidentialityProfile.default()
    assert ConfidentialityProfile.preset("strict").options == frozenset()
    for name in preset_names():
        profile = ConfidentialityProfile.preset(name)
        assert ConfidentialityProfile.from_toml(profile.to_text()) == profile


@pytest.mark.parametrize("name", ["", "none", "../profiles/default", "default.toml"])
def test_a_preset_that_is_none_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(ProfileError, match="ct-mr-research"):
        ConfidentialityProfile.preset(name)
