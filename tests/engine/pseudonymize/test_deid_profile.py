"""Profiles as files: read in one way only, or refused with the line."""

from pathlib import Path

import pytest

from adit_engine.errors import ProfileError
from adit_engine.pseudonymize.profile import AVAILABLE, Profile

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
    profile = Profile.parse(TEXT)
    assert profile == Profile("PET", 3, frozenset({"113107", "113108"}))
    assert Profile.parse(profile.to_text()) == profile
    (tmp_path / "p.toml").write_text(Profile.default().to_text(), encoding="utf-8")
    assert Profile.read(tmp_path / "p.toml") == Profile.default()


@pytest.mark.parametrize("code", sorted(AVAILABLE))
def test_every_available_option_survives_the_round(code: str) -> None:
    profile = Profile('Say "so"', 1, frozenset({code}))
    assert Profile.parse(profile.to_text()) == profile


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ('"113108"', '"113106"', "Line 10", "exclude"),
        ('"113108"', '"113107"', "Line 10", "twice"),
        ('"113108"', '"113101"', "Line 10", "not available yet"),
        ('"113108"', '"113110"', "Line 10", "not available yet"),
        ('"113108"', '"113105"', "Line 10", "not available yet"),
        ('"113108"', '"121"', "Line 10", "no option code"),
        ('"113108"', "113108", "Line 10", "a rule has a code"),
        ('code = "113108"', 'code = "113108"\nkeep = true', "Line 10", "keep"),
        ('"113100"', '"113109"', "Line 4", "first rule"),
        ("version = 3", "version = 0", "", "version"),
        ("version = 3", "version = true", "", "version"),
        ('"PET"', '"A\\\\B"', "", "backslash"),
        ('"PET"', '""', "", "1 to 64"),
        ("version = 3", "versoin = 3", "", "versoin"),
        ('"PET"', '"PET', "line 1", "TOML"),
    ],
)
def test_what_is_ambiguous_or_unknown_is_refused(old: str, new: str, line: str, says: str) -> None:
    with pytest.raises(ProfileError) as caught:
        Profile.parse(TEXT.replace(old, new))
    assert line in str(caught.value)
    assert says in str(caught.value)


def test_a_profile_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ProfileError, match=r"p\.toml"):
        Profile.read(tmp_path / "p.toml")
    with pytest.raises(ProfileError):
        Profile.read(tmp_path / "none.toml")
