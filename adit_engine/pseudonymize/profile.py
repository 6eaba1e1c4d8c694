"""Confidentiality profiles: options of PS3.15 and pixel rules, read from TOML files.

Ambiguous profiles are rejected. Also decides whether a new version of a profile can replace the
previous one without new UIDs. Used by projects and the command line.
"""

import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from adit_engine.errors import ProfileError
from adit_engine.pseudonymize import tables
from adit_engine.pseudonymize.face_risk import RiskDecision
from adit_engine.pseudonymize.pixel_rules import APPLIES_TO_WITHHELD, PixelRule

BASIC = "113100"
CLEAN_PIXELS = "113101"
CLEAN_GRAPHICS = "113103"
CLEAN_STRUCTURE = "113104"
CLEAN_DESCRIPTORS = "113105"
FULL_DATES = "113106"
MODIFIED_DATES = "113107"
PATIENT_CHARACTERISTICS = "113108"
DEVICE_IDENTITY = "113109"
RETAIN_UIDS = "113110"
SAFE_PRIVATE = "113111"
INSTITUTION_IDENTITY = "113112"

CODE_MEANINGS = {
    BASIC: "Basic Application Confidentiality Profile",
    CLEAN_PIXELS: "Clean Pixel Data Option",
    "113102": "Clean Recognizable Visual Features Option",
    CLEAN_GRAPHICS: "Clean Graphics Option",
    CLEAN_STRUCTURE: "Clean Structured Content Option",
    CLEAN_DESCRIPTORS: "Clean Descriptors Option",
    FULL_DATES: "Retain Longitudinal Temporal Information Full Dates Option",
    MODIFIED_DATES: "Retain Longitudinal Temporal Information Modified Dates Option",
    PATIENT_CHARACTERISTICS: "Retain Patient Characteristics Option",
    DEVICE_IDENTITY: "Retain Device Identity Option",
    RETAIN_UIDS: "Retain UIDs Option",
    SAFE_PRIVATE: "Retain Safe Private Option",
    INSTITUTION_IDENTITY: "Retain Institution Identity Option",
}
"""Code to meaning, PS3.16 CID 7050."""

SUPPORTED_OPTIONS = frozenset(
    {
        CLEAN_PIXELS,
        CLEAN_GRAPHICS,
        CLEAN_STRUCTURE,
        CLEAN_DESCRIPTORS,
        FULL_DATES,
        MODIFIED_DATES,
        PATIENT_CHARACTERISTICS,
        DEVICE_IDENTITY,
        RETAIN_UIDS,
        SAFE_PRIVATE,
        INSTITUTION_IDENTITY,
    }
)

_PRESETS = Path(__file__).parent / "profiles"

# 64 characters fit into a value of De-identification Method; a backslash would split it.
_NAME = re.compile(r"[^\\\x00-\x1f\x7f-\x9f]{1,64}")


class TextDetection(Enum):
    """Which images are looked at for text in their pixels, in addition to all header checks.

    An image in which text is found is withheld. One that is withheld only because its header does
    not prove the absence of text is released if none is found.
    """

    OFF = "off"
    IMAGES = "images"
    """Radiographs, ultrasound, nuclear medicine, secondary captures: all frames."""
    IMAGES_AND_SLICES = "images-and-slices"
    """CT, MR and PET, too: samples of each series."""


@dataclass(frozen=True, slots=True)
class ConfidentialityProfile:
    """A set of rules. Raises ProfileError if they are ambiguous or not available yet."""

    name: str
    version: int
    options: frozenset[str]
    """The option codes of PS3.15 used in addition to 113100, as in {"113107"}."""
    pixel_rules: tuple[PixelRule, ...] = ()
    """What 113101 masks. Without a rule for its device, an object is treated as without 113101."""
    text_detection: TextDetection = TextDetection.OFF

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or self.name != self.name.strip():
            raise ProfileError("profile.name")
        if self.version < 1:
            raise ProfileError("profile.version")
        for code in sorted(self.options):
            _check_option(code)
        if {FULL_DATES, MODIFIED_DATES} <= self.options:
            raise ProfileError("profile.dates-conflict")
        if (CLEAN_PIXELS in self.options) != bool(self.pixel_rules):
            raise ProfileError("profile.pixel-option")
        devices = [rule.key for rule in self.pixel_rules]
        if len(set(devices)) < len(devices):
            raise ProfileError("profile.pixel-duplicate")

    @classmethod
    def default(cls) -> "ConfidentialityProfile":
        return cls("ADIT default", 1, frozenset({MODIFIED_DATES}))

    @classmethod
    def preset(cls, name: str) -> "ConfidentialityProfile":
        """Return a profile that is part of ADIT, by file name. Raises ProfileError."""
        if name not in preset_names():
            raise ProfileError("profile.unknown-preset", name=name, presets=preset_names())
        return cls.from_file(_PRESETS / f"{name}.toml")

    @classmethod
    def from_toml(cls, text: str) -> "ConfidentialityProfile":
        """Parse TOML: name, version, and [[rules]] with a `code` each, 113100 first.

        Raises ProfileError.
        """
        import tomllib  # imported here because most calls read no profile from a file

        try:
            read = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ProfileError("profile.toml", error=str(error)) from None
        except RecursionError:
            raise ProfileError("profile.too-deep") from None
        try:
            _check_keys(read, {"name", "version", "rules", "pixels", "text_detection"})
        except ProfileError as error:
            key = re.escape(error.message.values["key"])
            raise _at_line(_find_line(text, rf'["\[ ]*{key}\b'), error) from None
        name, version = read.get("name"), read.get("version")
        if not isinstance(name, str) or type(version) is not int:
            raise ProfileError("profile.head")
        detection = _parse_text_detection(read, text)
        codes = _parse_codes(read.get("rules"), _heading_lines(text, "rules"))
        pixels = _parse_pixel_rules(read.get("pixels", []), _heading_lines(text, "pixels"))
        try:
            return cls(name, version, frozenset(codes) - {BASIC}, pixels, detection)
        except ProfileError as error:
            cause = _CAUSES.get(error.message.code, "")
            raise _at_line(_find_line(text, cause), error) from None

    @classmethod
    def from_file(cls, path: Path) -> "ConfidentialityProfile":
        try:
            return cls.from_toml(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            raise ProfileError("profile.file", file=path.name) from None

    def to_text(self) -> str:
        """Return TOML that `parse` reads back as an equal profile."""
        name = self.name.replace('"', '\\"')
        rules = (
            f'\n[[rules]]\ncode = "{code}"  # {CODE_MEANINGS[code]}\n'
            for code in (BASIC, *sorted(self.options))
        )
        pixels = "".join(rule.to_text() for rule in self.pixel_rules)
        head = f'name = "{name}"\nversion = {self.version}\n'
        if self.text_detection is not TextDetection.OFF:
            head += f'text_detection = "{self.text_detection.value}"\n'
        return head + "".join(rules) + pixels


def preset_names() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in _PRESETS.glob("*.toml")))


def _check_option(code: str) -> None:
    if code not in CODE_MEANINGS or code == BASIC:
        raise ProfileError("profile.unknown-option", option=code)
    if code not in SUPPORTED_OPTIONS:
        raise ProfileError("profile.unsupported-option", option=code, meaning=CODE_MEANINGS[code])


def _check_keys(read: dict[str, Any], known: set[str]) -> None:
    for key in read:
        if key not in known:
            raise ProfileError("profile.unknown-key", key=key, keys=tuple(sorted(known)))


_CAUSES = {
    "profile.name": r"\s*name\b",
    "profile.version": r"\s*version\b",
    "profile.pixel-option": rf'\s*(\[\[\s*pixels\b|code\s*=\s*["\']{CLEAN_PIXELS})',
}
"""The line of the errors that are found when the profile is created, by their code."""


def _find_line(text: str, pattern: str) -> int:
    """Return the number of the first line that begins with this pattern, or 1."""
    numbered = enumerate(text.splitlines(), 1)
    return next((number for number, line in numbered if re.match(pattern, line)), 1)


def _at_line(line: int, problem: ProfileError) -> ProfileError:
    return ProfileError("profile.line", line=line, problem=problem.message)


def _heading_lines(text: str, heading: str) -> list[int]:
    return [
        number
        for number, line in enumerate(text.splitlines(), 1)
        if re.match(rf"\s*\[\[\s*{heading}\s*\]\]", line)
    ]


def _parse_pixel_rules(entries: object, lines: list[int]) -> tuple[PixelRule, ...]:
    if not isinstance(entries, list) or len(entries) != len(lines):
        raise ProfileError("profile.heading", heading="[[pixels]]")
    found: dict[object, PixelRule] = {}
    for entry, line in zip(entries, lines, strict=True):
        try:
            rule = PixelRule.from_entry(entry)
        except ProfileError as error:
            raise _at_line(line, error) from None
        if rule.key in found:
            raise _at_line(line, ProfileError("profile.pixel-duplicate"))
        found[rule.key] = rule
    return tuple(found.values())


def _parse_text_detection(read: dict[str, Any], text: str) -> TextDetection:
    try:
        return TextDetection(read.get("text_detection", TextDetection.OFF.value))
    except ValueError:
        allowed = tuple(one.value for one in TextDetection)
        error = ProfileError("profile.text-detection", allowed=allowed)
        raise _at_line(_find_line(text, r"\s*text_detection\b"), error) from None


def _parse_codes(rules: object, lines: list[int]) -> list[str]:
    if not isinstance(rules, list) or len(rules) != len(lines):
        raise ProfileError("profile.heading", heading="[[rules]]")
    codes: list[str] = []
    for rule, line in zip(rules, lines, strict=True):
        try:
            codes.append(_parse_code(rule, codes))
        except ProfileError as error:
            raise _at_line(line, error) from None
    if not codes or codes[0] != BASIC:
        first = ProfileError("profile.first-rule", option=BASIC, meaning=CODE_MEANINGS[BASIC])
        raise _at_line(lines[0] if lines else 1, first)
    return codes


def _parse_code(rule: dict[str, Any], earlier: list[str]) -> str:
    _check_keys(rule, {"code"})
    code = rule.get("code")
    if not isinstance(code, str):
        raise ProfileError("profile.no-code")
    if code in earlier:
        raise ProfileError("profile.duplicate-option", option=code)
    if code != BASIC:
        _check_option(code)
    if {FULL_DATES, MODIFIED_DATES} <= {*earlier, code}:
        raise ProfileError("profile.dates-conflict")
    return code


def is_compatible_version(
    before: ConfidentialityProfile, after: ConfidentialityProfile, annotation_decision: RiskDecision
) -> bool:
    """Whether anything that could leave under `before` leaves unchanged under `after`.

    This holds if pixel rules were added that affect withheld images only: the version number is in
    no header, and 113101 only where rectangles were masked. Removing a rule is not compatible,
    since another one could replace it. `header_word` is the decision of the project so far.
    """
    if before.name != after.name or before.options - {CLEAN_PIXELS} != after.options - {
        CLEAN_PIXELS
    }:
        return False
    if not set(before.pixel_rules) <= set(after.pixel_rules):
        return False
    added = [rule for rule in after.pixel_rules if rule not in before.pixel_rules]
    detected = before.text_detection is not TextDetection.OFF
    if detected and any(rule.rectangles for rule in added):
        return False  # images of the device may have left unmasked, since no text was found
    if detected is not (after.text_detection is not TextDetection.OFF) and any(
        rule.rectangles and rule.applies == APPLIES_TO_WITHHELD for rule in before.pixel_rules
    ):
        return False  # with detection, these rules apply to all images of their devices
    return all(
        rule.affects_withheld_only(annotation_decision)
        and not any(rule.overlaps(known) for known in before.pixel_rules)
        for rule in added
    )


def is_compatible_decision(
    profile: ConfidentialityProfile, before: RiskDecision, after: RiskDecision
) -> bool:
    """Whether images leave unchanged under another decision on trusting the header.

    A rule for withheld images only masks fewer images once the header is trusted. If it is no
    longer trusted, a later rule may mask images that left unmasked before.
    """
    if (before is RiskDecision.ACCEPT) is (after is RiskDecision.ACCEPT):
        return True
    return before is not RiskDecision.ACCEPT and not any(
        rule.applies == APPLIES_TO_WITHHELD
        and rule.rectangles
        and tables.admitted_sop_classes()[rule.sop_class].needs_risk_decision
        for rule in profile.pixel_rules
    )
