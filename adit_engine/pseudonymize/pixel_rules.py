"""Pixel rules: where a device burns in text, and which rectangles are masked. Part of a profile."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adit_engine.errors import ProfileError
from adit_engine.pseudonymize import tables
from adit_engine.pseudonymize.face_risk import RiskDecision
from adit_engine.values.device import DEVICE_TAGS, ImagingDevice

__all__ = [
    "ANY_SOFTWARE",
    "APPLIES_TO_ALL",
    "APPLIES_TO_WITHHELD",
    "DEVICE_TAGS",
    "PixelRule",
    "Rectangle",
    "example_rules",
    "matching_rules",
]

ANY_SOFTWARE = "*"
APPLIES_TO_ALL, APPLIES_TO_WITHHELD = "all", "withheld"
MAX_REASON_LENGTH = 200

Rectangle = tuple[int, int, int, int]
"""Left, top, width, height, in pixels from the upper left corner."""

_TEXTS = ("sop_class", "manufacturer", "model", "software")
_NUMBERS = ("rows", "columns")
_REQUIRED = (*_TEXTS, *_NUMBERS, "rectangles")
_OPTIONAL = ("applies", "reason")


@dataclass(frozen=True, slots=True)
class PixelRule:
    """A rule for one device at one image size. Texts are compared as a whole, ignoring case.

    `software` is the whole value of Software Versions, "*" for any, or empty if the device gives
    none. No rectangles: the device burns in no text, which requires a reason. Raises ProfileError.
    """

    sop_class: str
    manufacturer: str
    model: str
    software: str
    rows: int
    columns: int
    rectangles: tuple[Rectangle, ...]
    applies: str = APPLIES_TO_ALL
    """To all images of the device, or only to those that would be withheld without the rule.

    In the second case the rule does not change images that could leave before it existed.
    """
    reason: str = ""

    def __post_init__(self) -> None:
        for name in _TEXTS:
            text = getattr(self, name)
            if name == "software" and not text:
                continue
            if not text or text != text.strip() or not (text.isascii() and text.isprintable()):
                raise ProfileError("profile.pixel-text", field=name)
        if self.sop_class not in tables.admitted_sop_classes():
            raise ProfileError("profile.pixel-class")
        if not (0 < self.rows <= 65535 and 0 < self.columns <= 65535):
            raise ProfileError("profile.pixel-size")
        if self.applies not in (APPLIES_TO_ALL, APPLIES_TO_WITHHELD):
            raise ProfileError("profile.pixel-applies")
        if len(self.reason) > MAX_REASON_LENGTH or not self.reason.isprintable():
            raise ProfileError("profile.pixel-reason-length", limit=MAX_REASON_LENGTH)
        if not (self.rectangles or self.reason.strip()):
            raise ProfileError("profile.pixel-reason-missing")
        for left, top, width, height in self.rectangles:
            inside = left + width <= self.columns and top + height <= self.rows
            if min(left, top) < 0 or min(width, height) < 1 or not inside:
                raise ProfileError("profile.pixel-rectangle")

    @classmethod
    def from_entry(cls, entry: Mapping[str, Any]) -> "PixelRule":
        """Create a rule from a [[pixels]] entry of a profile. Raises ProfileError."""
        if set(entry) - set(_OPTIONAL) != set(_REQUIRED):
            raise ProfileError("profile.pixel-keys", required=_REQUIRED, optional=_OPTIONAL)
        if not all(
            isinstance(entry[name], str) for name in (*_TEXTS, *(set(entry) & {*_OPTIONAL}))
        ):
            raise ProfileError("profile.pixel-types", fields=(*_TEXTS, *_OPTIONAL))
        if not all(type(entry[name]) is int for name in _NUMBERS):
            raise ProfileError("profile.pixel-size")
        given = entry["rectangles"]
        if not isinstance(given, list) or not all(map(_is_rectangle, given)):
            raise ProfileError("profile.pixel-rectangle")
        rectangles = tuple((one[0], one[1], one[2], one[3]) for one in given)
        return cls(**{**entry, "rectangles": rectangles})

    @classmethod
    def for_device(
        cls,
        device: ImagingDevice,
        rectangles: tuple[Rectangle, ...],
        reason: str,
        annotation_decision: RiskDecision,
    ) -> "PixelRule":
        """Create a rule for a device, for images that would otherwise be withheld.

        If the project does not trust the header, these are all images of the device. They stay
        covered if the project trusts the header later.
        """
        admitted = tables.admitted_sop_classes().get(device.sop_class)
        unseen = (
            admitted is not None
            and admitted.needs_risk_decision
            and annotation_decision is not RiskDecision.ACCEPT
        )
        applies = APPLIES_TO_ALL if unseen else APPLIES_TO_WITHHELD
        return cls(**device.to_json(), rectangles=rectangles, applies=applies, reason=reason)

    @property
    def key(self) -> tuple[str, str, str, str, int, int]:
        """The key of the rule: two rules with equal keys are the same rule."""
        made = (self.manufacturer.casefold(), self.model.casefold(), self.software.casefold())
        return (self.sop_class, *made, self.rows, self.columns)

    def affects_withheld_only(self, annotation_decision: RiskDecision) -> bool:
        """Whether the rule changes no image that could leave without it."""
        return self.applies == APPLIES_TO_WITHHELD or tables.admitted_sop_classes()[
            self.sop_class
        ].needs_rule(annotation_decision)

    def covers(self, device: ImagingDevice) -> bool:
        mine = (self.sop_class, *self.key[1:4], self.rows, self.columns)
        theirs = (device.manufacturer, device.model, device.software)
        software = ANY_SOFTWARE if self.software == ANY_SOFTWARE else device.software.casefold()
        names = (theirs[0].casefold(), theirs[1].casefold(), software)
        return mine == (device.sop_class, *names, device.rows, device.columns)

    def overlaps(self, other: "PixelRule") -> bool:
        """Whether an image can exist that both rules cover."""
        same = (self.key[:3], self.key[4:]) == (other.key[:3], other.key[4:])
        return same and (
            self.key[3] == other.key[3] or ANY_SOFTWARE in (self.software, other.software)
        )

    def to_text(self) -> str:
        lines = [f'{name} = "{_escape(getattr(self, name))}"' for name in _TEXTS]
        lines += [f"{name} = {getattr(self, name)}" for name in _NUMBERS]
        lines.append(f"rectangles = {[list(one) for one in self.rectangles]}")
        if self.applies != APPLIES_TO_ALL:
            lines.append(f'applies = "{self.applies}"')
        if self.reason:
            lines.append(f'reason = "{_escape(self.reason)}"')
        return "\n[[pixels]]\n" + "\n".join(lines) + "\n"


def example_rules() -> tuple[PixelRule, ...]:
    """Return the sample rules of tables/pixel_rules.toml.

    Sites must check them on their own images.
    """
    import tomllib  # imported here because most calls need no example

    path = Path(__file__).parent / "tables" / "pixel_rules.toml"
    return tuple(
        map(PixelRule.from_entry, tomllib.loads(path.read_text(encoding="utf-8"))["pixels"])
    )


def matching_rules(
    rules: Iterable[PixelRule], values: Mapping[int, bytes]
) -> tuple[PixelRule, ...]:
    """Return the rules that cover an image.

    `values` are encoded top-level values of DEVICE_TAGS.
    """
    device = ImagingDevice.from_values(values)
    return tuple(rule for rule in rules if rule.covers(device))


def _is_rectangle(given: object) -> bool:
    return isinstance(given, list) and len(given) == 4 and all(type(n) is int for n in given)


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
