"""Pixel rules: where a device burns text into its images, and what is blanked for it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adit_engine.errors import ProfileError
from adit_engine.pseudonymize import tables

_CLASS = 0x00080016
_MANUFACTURER = 0x00080070
_MODEL = 0x00081090
_SOFTWARE = 0x00181020
_ROWS = 0x00280010
_COLUMNS = 0x00280011

READ = frozenset({_CLASS, _MANUFACTURER, _MODEL, _SOFTWARE, _ROWS, _COLUMNS})
"""The tags whose values `rectangles` asks for."""

ANY = "*"

Rectangle = tuple[int, int, int, int]
"""Left, top, width, height, in pixels from the upper left corner."""

_TEXTS = ("sop_class", "manufacturer", "model", "software")
_NUMBERS = ("rows", "columns")


@dataclass(frozen=True, slots=True)
class PixelRule:
    """One device at one image size. Texts are compared whole, whatever their case.

    `software` is the whole value of Software Versions, or "*" for any. Raises ProfileError.
    """

    sop_class: str
    manufacturer: str
    model: str
    software: str
    rows: int
    columns: int
    rectangles: tuple[Rectangle, ...]

    def __post_init__(self) -> None:
        for name in _TEXTS:
            text = getattr(self, name)
            if not text or text != text.strip() or not (text.isascii() and text.isprintable()):
                raise ProfileError(f"a pixel rule needs a {name} in plain letters.")
        if self.sop_class not in tables.admitted():
            raise ProfileError("the sop_class of a pixel rule is none of those that may leave.")
        if not (0 < self.rows <= 65535 and 0 < self.columns <= 65535):
            raise ProfileError("rows and columns of a pixel rule are 1 to 65535.")
        if not self.rectangles:
            raise ProfileError("a pixel rule blanks at least one rectangle.")
        for left, top, width, height in self.rectangles:
            inside = left + width <= self.columns and top + height <= self.rows
            if min(left, top) < 0 or min(width, height) < 1 or not inside:
                raise ProfileError("a rectangle lies inside the image: [left, top, width, height].")

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> "PixelRule":
        """From a [[pixels]] entry of a profile."""
        names = (*_TEXTS, *_NUMBERS, "rectangles")
        if set(entry) != set(names):
            raise ProfileError(f"a pixel rule has exactly {', '.join(names)}.")
        if not all(isinstance(entry[name], str) for name in _TEXTS):
            raise ProfileError(f"{', '.join(_TEXTS)} of a pixel rule are texts.")
        if not all(type(entry[name]) is int for name in _NUMBERS):
            raise ProfileError("rows and columns of a pixel rule are whole numbers.")
        given = entry["rectangles"]
        if not isinstance(given, list) or not all(map(_is_rectangle, given)):
            raise ProfileError("rectangles are lists of [left, top, width, height].")
        texts = {name: entry[name] for name in _TEXTS}
        rectangles = tuple((one[0], one[1], one[2], one[3]) for one in given)
        return cls(**texts, rows=entry["rows"], columns=entry["columns"], rectangles=rectangles)

    @property
    def device(self) -> tuple[str, str, str, str, int, int]:
        """What makes two rules the same rule."""
        made = (self.manufacturer.casefold(), self.model.casefold(), self.software.casefold())
        return (self.sop_class, *made, self.rows, self.columns)

    def covers(self, values: Mapping[int, bytes]) -> bool:
        """`values` are those of the top level, as encoded, for the tags of READ."""
        texts = {_CLASS: self.sop_class, _MANUFACTURER: self.manufacturer, _MODEL: self.model}
        if self.software != ANY:
            texts[_SOFTWARE] = self.software
        numbers = {_ROWS: self.rows, _COLUMNS: self.columns}
        return all(_text(values, tag) == text.casefold() for tag, text in texts.items()) and all(
            values.get(tag) == number.to_bytes(2, "little") for tag, number in numbers.items()
        )

    def to_text(self) -> str:
        lines = [f'{name} = "{_quoted(getattr(self, name))}"' for name in _TEXTS]
        lines += [f"{name} = {getattr(self, name)}" for name in _NUMBERS]
        lines.append(f"rectangles = {[list(one) for one in self.rectangles]}")
        return "\n[[pixels]]\n" + "\n".join(lines) + "\n"


def examples() -> tuple[PixelRule, ...]:
    """Rules to begin with, from tables/pixel_rules.toml: to be checked on images of one's own."""
    import tomllib  # here, as most calls need no example

    path = Path(__file__).parent / "tables" / "pixel_rules.toml"
    return tuple(map(PixelRule.of, tomllib.loads(path.read_text(encoding="utf-8"))["pixels"]))


def rectangles(rules: Iterable[PixelRule], values: Mapping[int, bytes]) -> tuple[Rectangle, ...]:
    """What is to be blanked in this image; empty where no rule covers its device."""
    return tuple(one for rule in rules if rule.covers(values) for one in rule.rectangles)


def _is_rectangle(given: object) -> bool:
    return isinstance(given, list) and len(given) == 4 and all(type(n) is int for n in given)


def _text(values: Mapping[int, bytes], tag: int) -> str:
    return values.get(tag, b"").strip(b" \0").decode("latin-1").casefold()


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
