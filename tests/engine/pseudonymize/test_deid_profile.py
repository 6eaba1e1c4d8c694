"""Profile files are read unambiguously or rejected with the line number."""

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
def test_every_supported_option_survives_writing_and_reading(code: str) -> None:
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
def test_ambiguous_or_unknown_entries_are_rejected(
    old: str, new: str, line: str, says: str
) -> None:
    with pytest.raises(ProfileError) as caught:
        ConfidentialityProfile.from_toml(TEXT.replace(old, new))
    assert line in str(caught.value)
    assert says in str(caught.value)


def test_a_binary_or_missing_profile_file_is_rejected(tmp_path: Path) -> None:
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
def test_invalid_pixel_rules_are_rejected_with_their_line_number(
    old: str, new: str, says: str
) -> None:
    with pytest.raises(ProfileError) as caught:
        ConfidentialityProfile.from_toml(TEXT + PIXELS.replace(old, new))
    assert "Line 16" in str(caught.value)
    assert says in str(caught.value)


def test_a_pixel_rule_may_have_no_rectangles_if_it_gives_a_reason() -> None:
    said = PIXELS.replace("[[0, 0, 80, 10], [60, 50, 20, 10]]", "[]").replace('"V2.1"', '""')
    profile = ConfidentialityProfile.from_toml(
        TEXT + said + 'applies = "withheld"\nreason = "a \\"phantom\\" device"\n'
    )
    (rule,) = profile.pixel_rules
    assert (rule.rectangles, rule.software, rule.reason) == ((), "", 'a "phantom" device')
    assert ConfidentialityProfile.from_toml(profile.to_text()) == profile


def test_two_pixel_rules_for_one_device_are_rejected() -> None:
    twice = TEXT + PIXELS + PIXELS[PIXELS.index("[[pixels]]") :].replace("Maker", "MAKER")
    with pytest.raises(ProfileError) as caught:
        ConfidentialityProfile.from_toml(twice)
    problem = Message("profile.pixel-duplicate")
    assert caught.value.message == Message("profile.line", line=24, problem=problem)


def test_pixel_rules_without_their_option_are_rejected() -> None:
    with pytest.raises(ProfileError) as caught:
        ConfidentialityProfile.from_toml(TEXT + PIXELS[PIXELS.index("[[pixels]]") :])
    problem = Message("profile.pixel-option")
    assert caught.value.message == Message("profile.line", line=12, problem=problem)


def test_the_example_rules_are_valid_together() -> None:
    profile = ConfidentialityProfile("With examples", 1, frozenset({"113101"}), example_rules())
    assert ConfidentialityProfile.from_toml(profile.to_text()) == profile


def test_all_presets_are_available_and_can_be_read() -> None:
    assert preset_names() == ("ct-mr-research", "default", "pet-dose-timing", "strict")
    assert ConfidentialityProfile.preset("default") == ConfidentialityProfile.default()
    assert ConfidentialityProfile.preset("strict").options == frozenset()
    for name in preset_names():
        profile = ConfidentialityProfile.preset(name)
        assert ConfidentialityProfile.from_toml(profile.to_text()) == profile


@pytest.mark.parametrize("name", ["", "none", "../profiles/default", "default.toml"])
def test_an_unknown_preset_is_rejected_with_the_available_names(name: str) -> None:
    with pytest.raises(ProfileError, match="ct-mr-research"):
        ConfidentialityProfile.preset(name)
