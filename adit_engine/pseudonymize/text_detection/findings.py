"""Judge text regions: harmless marks, identifying values of the patient, or other text.

What cannot be read counts as text if the detection is certain. The lists below hold what says
nothing about a person.
"""

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations, pairwise

from adit_engine.pseudonymize.charset import Charset
from adit_engine.pseudonymize.pixel_rules import Rectangle
from adit_engine.pseudonymize.text_detection.regions import TextRegion

_NAME, _ID, _BIRTH_DATE, _ACCESSION = 0x00100010, 0x00100020, 0x00100030, 0x00080050
_CHARACTER_SET = 0x00080005
REQUIRED_TAGS = frozenset({_NAME, _ID, _BIRTH_DATE, _ACCESSION, _CHARACTER_SET})
"""The tags whose values `PatientWords` needs."""

_MARKS = frozenset(
    """
    L R A P H F S I AL AR PL PR LA LP RA RP AH PH AF PF HL HR FL FR LT RT LI RE LEFT RIGHT AP PA LAT
    LATERAL SUPINE PRONE ERECT UPRIGHT STANDING PORTABLE MOBILE CC MLO ML LM RCC LCC RMLO LMLO
    """.split()  # noqa: SIM905 - a list would take a line for each
)
_UNITS_ON_EITHER_SIDE = "KVP?|MAS|MA|MM|CM|SEC|KHZ|MHZ|HZ|FPS|DB|%|MGY|GY|CM/S"
_UNITS = f"{_UNITS_ON_EITHER_SIDE}|MS|S|M/S|C"  # measures, not of a person; C482 is an ID
_NUMBER = r"[+-]?\d{1,3}(?:[.,]\d{1,2})?"
_MEASURE = re.compile(rf"({_NUMBER})[.:\]]?({_UNITS})|({_UNITS_ON_EITHER_SIDE})[:=]?({_NUMBER})")
_SCALE_STEPS = frozenset({0.5, 1, 2, 5, 10, 20, 25, 50, 100})
_PLAIN_NUMBER = re.compile(_NUMBER)
_UNIT = re.compile(_UNITS)
_FEET = re.compile(r"\bF\b", re.IGNORECASE)
"""Feet, or a sex if the age stands beside it."""
_SEXES = ("F", "M")

_READABLE, _PROBABLE = 0.5, 0.65
"""Confidence from which three letters count if they look like letters; from which they count anyway,
and two letters if they look so."""
_PATTERN = 6
"""Equal letters in a row that are no text."""
_CERTAIN = 0.8
"""Confidence from which a reading of two letters counts anyway, or of one Chinese word."""
_CERTAIN_LETTER = 0.9
_MARK, _MARK_OF_LETTERS = 0.6, 0.85
"""Confidence from which a region may be a harmless mark: a letter or number; several letters."""
_LETTERS_PER_ERROR, _LETTERS_PER_ERROR_IN_LINES = 4, 7
"""Letters of a value of the patient of which one may be misread. The numbers of a scale, joined,
resemble dates and short IDs."""
_CERTAIN_REGION = 0.9
"""Score from which a region counts as text even if it cannot be read."""
_LONG_REGION, _PROBABLE_REGION = 40, 0.8
"""Long regions, in pixels, count from a lower score: noise makes short ones."""


@dataclass(frozen=True, slots=True)
class TextFindings:
    """The regions of one frame that must not leave."""

    text: tuple[TextRegion, ...] = ()
    identity: tuple[TextRegion, ...] = ()
    """Those that show a value of the patient."""
    codes: tuple[TextRegion, ...] = ()
    """Barcodes and matrix codes. They may hold the patient ID."""
    marks: tuple[TextRegion, ...] = ()
    """Harmless ones."""


def judge_regions(regions: Iterable[TextRegion], patient: "PatientWords") -> TextFindings:
    text, identity, codes, marks, single = [], [], [], [], []
    for region in regions:
        if region.is_code:
            codes.append(region)
        elif patient.is_in(region.text) or patient.is_in(region.second_text):
            identity.append(region)
        elif _is_mark(region):
            marks.append(region)
        elif _counts_as_text(region):
            text.append(region)
        elif _is_letter(region):
            single.append(region)
    if len({region.text for region in single}) > 1:
        text += single  # a spaced name
    sexes = [region for region in single if region.text.upper() in _SEXES]
    for pair in combinations([*marks, *sexes], 2):
        joined = _join_neighbours(*pair)
        if joined is not None and not _is_mark(joined):  # the parts of a date, not of a scale
            (identity if patient.is_in(joined.text) else text).append(joined)
    for line in _find_lines([mark for mark in marks if re.search(r"\d", mark.text)]):
        if patient.is_in(" ".join(mark.text for mark in line), _LETTERS_PER_ERROR_IN_LINES):
            identity += [mark for mark in line if mark not in identity]
    return TextFindings((*identity, *codes, *text), tuple(identity), tuple(codes), tuple(marks))


def _counts_as_text(region: TextRegion) -> bool:
    letters = [sign for sign in region.text if sign.isalnum()]
    if len(letters) >= 3 and region.confidence > _READABLE:
        different = len(set(letters))
        if different == 1:  # screws and threads of implants are read as 0000000
            return region.has_letters and len(letters) < _PATTERN
        is_probable = region.confidence > _PROBABLE or (len(letters) >= 5 and different > 2)
        return is_probable or region.has_letters
    if region.confidence > _CERTAIN and (len(letters) == 2 or not "".join(letters).isascii()):
        return True
    if region.confidence > _PROBABLE and len(letters) == 2 and region.has_letters:
        return True
    if not region.is_line or not region.has_letters:
        return False  # a single letter, or a structure of another kind
    score = _PROBABLE_REGION if max(region.box[2:]) >= _LONG_REGION else _CERTAIN_REGION
    return region.score >= score


def _join_neighbours(one: TextRegion, other: TextRegion) -> TextRegion | None:
    """Return both regions as one if they follow each other in a line, as close as words do."""
    along = int(max(one.box[3], other.box[3]) > max(one.box[2], other.box[2]))
    across = 1 - along
    first, second = sorted((one, other), key=lambda region: region.box[along])
    left, top = (min(one.box[axis], other.box[axis]) for axis in (0, 1))
    right, bottom = (
        max(one.box[axis] + one.box[axis + 2], other.box[axis] + other.box[axis + 2])
        for axis in (0, 1)
    )
    height = (right - left, bottom - top)[across]
    gap = second.box[along] - first.box[along] - first.box[along + 2]
    is_line = height <= 1.5 * min(one.box[across + 2], other.box[across + 2])
    if not is_line or not -height / 4 <= gap <= height:
        return None
    return replace(
        first,
        box=(left, top, right - left, bottom - top),
        text=f"{first.text} {second.text}",
        confidence=min(one.confidence, other.confidence),
    )


def _find_lines(marks: Collection[TextRegion]) -> set[tuple[TextRegion, ...]]:
    """Return the marks that stand in one row or column, whatever is between them.

    Each line is also returned backwards: it may run upwards.
    """
    lines = set()
    for along, across in ((0, 1), (1, 0)):
        ordered = sorted(marks, key=lambda mark: mark.box[along])
        for one in ordered:
            line = tuple(other for other in ordered if _is_beside(one.box, other.box, across))
            lines |= {line, line[::-1]}
    return lines


def _is_beside(one: Rectangle, other: Rectangle, axis: int) -> bool:
    """Whether the rectangles share half of the smaller side."""
    end = min(one[axis] + one[axis + 2], other[axis] + other[axis + 2])
    shared = end - max(one[axis], other[axis])
    return 2 * shared >= min(one[axis + 2], other[axis + 2])


def _is_letter(region: TextRegion) -> bool:
    is_one = len(region.text) == 1 and region.text.isalpha()
    return is_one and region.confidence > _CERTAIN_LETTER


def _is_mark(region: TextRegion) -> bool:
    words = region.text.replace("°", "").split()
    if not words or region.confidence < _MARK:
        return False
    short, long = sorted(region.box[2:])
    letters = sum(map(len, words))
    if long > short * (letters + 2 if len(words) > 1 else 0.8 * letters + 1):
        return False  # the region is too long for what was read in it
    numbers, units = [], 0
    for word in words:
        shown = word.strip("()[].:")
        bare = shown.upper()
        if _PLAIN_NUMBER.fullmatch(bare):
            numbers.append(float(bare.replace(",", ".")))
        elif _UNIT.fullmatch(bare):
            units += 1
        elif bare in _MARKS:
            if len(bare) > 1 and region.confidence < _MARK_OF_LETTERS:
                return False  # letters of another script look like some marks
            if len(bare) == 2 and shown != bare:
                return False  # Li and Ra are names
        elif not _MEASURE.fullmatch(bare):
            return False
    if units > len(numbers):
        return False  # without a number, MA is a name
    numbers = numbers[units:]
    if numbers and _FEET.search(region.text):
        return False
    return len(numbers) <= 1 or _is_scale(numbers)


def _is_scale(numbers: list[float]) -> bool:
    """Whether the numbers rise or fall in equal, usual steps, unlike most dates."""
    steps = {abs(round(after - before, 2)) for before, after in pairwise(numbers)}
    return len(steps) == 1 and bool(steps & _SCALE_STEPS)


@dataclass(frozen=True, slots=True)
class PatientWords:
    """Values of the patient in a form that survives misreading: look-alikes are one letter."""

    words: frozenset[str] = field(default=frozenset(), repr=False)

    @classmethod
    def from_values(cls, values: Mapping[int, bytes]) -> "PatientWords":
        """Create from encoded values of the top level, by tag."""
        charset = Charset(values.get(_CHARACTER_SET, b""))

        def text(tag: int) -> str:
            value = values.get(tag, b"")
            return charset.decode(value) or value.decode("latin-1")

        words = {*re.split(r"[\s^=,.\-\0]+", text(_NAME)), text(_ID), text(_ACCESSION)}
        words.update(text(_NAME).split("="))  # the parts of some names have only one letter
        words |= set(_spell_date(text(_BIRTH_DATE).strip(" \0")))
        # A shorter number equals a number on a scale by chance.
        folded = {_fold(word) for word in words if len(word) >= 4 or not word.isdigit()}
        return cls(frozenset(word for word in folded if len(word) >= 2))

    def is_in(self, text: str, letters_per_error: int = _LETTERS_PER_ERROR) -> bool:
        """Whether one of the values stands in a text, give or take one letter in so many."""
        if not text:
            return False
        parts = {_fold(part) for part in re.split(r"[\s^,;:/]+", text)}
        whole = _fold(text)
        small = whole.translate(_SMALL_LETTERS)
        for word in self.words:
            if word in parts or (not word.isascii() and word in whole):
                return True  # names of other scripts are short, and not always separated
            if len(word) < 4:
                continue
            distance = _distance_within(word.translate(_SMALL_LETTERS), small)
            if distance <= len(word) // letters_per_error:
                return True
        return False


def _spell_date(date: str) -> list[str]:
    if not re.fullmatch(r"\d{8}", date):
        return []
    year, month, day = date[:4], date[4:6], date[6:]
    orders = ((year, month, day), (day, month, year), (month, day, year))
    short = ((day, month, year[2:]), (month, day, year[2:]))
    return ["".join(order) for order in (*orders, *short)]


_CONFUSED = "0o 1i li jj 5s 8b 2z 9g qg 6g"
_CYRILLIC = (
    "аa вb еe кk мm нh оo рp сc тt уy хx зb иn йn пn гr лn дa шw щw ъb ьb юo яr фo цu чu бb эe"
)
_GREEK = "αa βb εe ιi κk νv οo ρp τt υu χx"
_LOOK_ALIKES = str.maketrans(
    {pair[0]: pair[1] for pair in f"{_CONFUSED} {_CYRILLIC} {_GREEK}".split()}
)

_SMALL_LETTERS = str.maketrans("ch", "on")
"""Letters that are read as others where they are small. Only in long words: An is no AH."""


def _fold(text: str) -> str:
    """Return letters and digits without case and accents, look-alikes as one."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return "".join(sign for sign in plain if sign.isalnum()).translate(_LOOK_ALIKES)


def _distance_within(word: str, text: str) -> int:
    """Return the fewest insertions, deletions and changes that make the word a part of the text."""
    row = [0] * (len(text) + 1)
    for number, letter in enumerate(word, 1):
        above, row = row, [number]
        for column, other in enumerate(text, 1):
            row.append(
                min(above[column - 1] + (letter != other), above[column] + 1, row[column - 1] + 1)
            )
    return min(row)
