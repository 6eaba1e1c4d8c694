"""Tables of the standard and reviewed tables of ADIT, read from this folder on first use.

Used by the de-identification rules.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from adit_engine.pseudonymize.face_risk import RiskDecision

_FOLDER = Path(__file__).parent
_CONTENT_SEQUENCE = 0x0040A730

EDITION = "2026c"
"""Of PS3.15 Table E.1-1. The head of confidentiality.tsv has the same (checked by a test)."""


@dataclass(frozen=True, slots=True)
class ConfidentialityRow:
    """One row of Table E.1-1: the basic action, and K or C per option code."""

    tag: int
    vr: str
    keyword: str
    basic: str
    options: dict[str, str]


@dataclass(frozen=True, slots=True)
class AdmittedSopClass:
    """One SOP class that may leave. `asks` are the words explained in admission.tsv."""

    uid: str
    iod: str
    modality: str
    conditions: frozenset[str]
    name: str

    def needs_rule(self, annotation_decision: RiskDecision) -> bool:
        """Whether objects leave only if a pixel rule covers the device."""
        return "rule" in self.conditions or (
            self.needs_risk_decision and annotation_decision is not RiskDecision.ACCEPT
        )

    @property
    def needs_risk_decision(self) -> bool:
        """Whether a project must accept the header's word, without a pixel rule."""
        return "header-word" in self.conditions


@dataclass(frozen=True, slots=True)
class IodLevel:
    """The attributes of an IOD at one level: tag to type, and tag to the level of its items."""

    types: dict[int, str]
    item_levels: dict[int, int]


def _read_rows(name: str) -> Iterator[list[str]]:
    for line in (_FOLDER / name).read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            yield line.split("\t")


@cache
def confidentiality() -> dict[int, ConfidentialityRow]:
    """PS3.15 Table E.1-1 by tag. Repeating groups are listed under their first tag."""
    return {
        int(tag, 16): ConfidentialityRow(int(tag, 16), vr, keyword, basic, _parse_options(options))
        for tag, vr, keyword, basic, options in _read_rows("confidentiality.tsv")
    }


def _parse_options(text: str) -> dict[str, str]:
    return dict(cell.split("=", 1) for cell in text.split())


@cache
def dictionary() -> dict[int, str]:
    """VR by tag. Several VRs are joined by a slash, as in US/SS."""
    return {int(tag, 16): vr for tag, vr, _ in _read_rows("dictionary.tsv")}


@cache
def keywords() -> dict[str, int]:
    """Tag by keyword, from the dictionary and from Table E.1-1, which may be newer."""
    newer = {row.keyword: tag for tag, row in confidentiality().items()}
    return newer | {keyword: int(tag, 16) for tag, _, keyword in _read_rows("dictionary.tsv")}


@cache
def iod(name: str) -> tuple[IodLevel, tuple[IodLevel, ...]]:
    """Return the top level of an IOD, and all its levels by number."""
    read = json.loads((_FOLDER / f"iod-{name}.json").read_text(encoding="utf-8"))
    levels = tuple(_parse_level(cells) for cells in read["levels"])
    top = levels[read["about"]["top"]]
    if _CONTENT_SEQUENCE in top.item_levels:  # content items contain content items (PS3.3 C.17.3)
        content = top.item_levels[_CONTENT_SEQUENCE]
        levels[content].types[_CONTENT_SEQUENCE] = "1C"
        levels[content].item_levels[_CONTENT_SEQUENCE] = content
    return top, levels


def _parse_level(cells: dict[str, str | tuple[str, int]]) -> IodLevel:
    kinds: dict[int, str] = {}
    inside: dict[int, int] = {}
    for tag, cell in cells.items():
        if isinstance(cell, str):
            kinds[int(tag, 16)] = cell
        else:
            kinds[int(tag, 16)], inside[int(tag, 16)] = cell
    return IodLevel(kinds, inside)


@cache
def well_known_uids() -> frozenset[bytes]:
    """The UIDs of PS3.6 Annex A, as encoded in a data set, without padding."""
    return frozenset(row[0].encode("ascii") for row in _read_rows("well_known_uids.tsv"))


@dataclass(frozen=True, slots=True)
class SafePrivateAttribute:
    """One private element of Table E.3.10-1. `most` is None if any number of values is valid."""

    vr: str
    min_values: int
    max_values: int | None


@cache
def safe_private_attributes() -> dict[tuple[int, bytes], dict[int, SafePrivateAttribute]]:
    """PS3.15 Table E.3.10-1: by group and creator, elements by their last byte."""
    found: dict[tuple[int, bytes], dict[int, SafePrivateAttribute]] = {}
    for group, element, vr, vm, creator in _read_rows("safe_private.tsv"):
        place = found.setdefault((int(group, 16), creator.encode("ascii")), {})
        least, _, most = vm.partition("-")
        limit = None if most == "n" else int(most or least)
        place[int(element, 16)] = SafePrivateAttribute(vr, int(least), limit)
    return found


@cache
def safe_text_tags() -> frozenset[int]:
    return frozenset(keywords()[row[0]] for row in _read_rows("safe_text.tsv"))


@cache
def safe_words() -> frozenset[bytes]:
    """The words that may stay in descriptions, in lower case."""
    return frozenset(row[0].encode("ascii") for row in _read_rows("safe_words.tsv"))


@cache
def code_words() -> frozenset[bytes]:
    """The words in the code meanings of PS3.16, in lower case."""
    return frozenset(row[0].encode("ascii") for row in _read_rows("code_words.tsv"))


@cache
def code_schemes() -> dict[bytes, re.Pattern[bytes]]:
    """Pattern of valid codes, by coding scheme designator."""
    return {
        name.encode("ascii"): re.compile(built.encode("ascii"))
        for name, built, _ in _read_rows("code_schemes.tsv")
    }


@cache
def reviewed(action: str) -> frozenset[int]:
    """Return the tags with this action in reviewed.tsv."""
    return frozenset(keywords()[row[0]] for row in _read_rows("reviewed.tsv") if row[1] == action)


@cache
def admitted_sop_classes() -> dict[str, AdmittedSopClass]:
    """Admitted SOP classes by UID, without structured reports."""
    return _read_sop_classes("admission.tsv")


@cache
def report_sop_classes() -> dict[str, AdmittedSopClass]:
    """SOP classes of structured reports that may leave by their template, by UID."""
    return _read_sop_classes("reports.tsv")


def _read_sop_classes(name: str) -> dict[str, AdmittedSopClass]:
    return {
        uid: AdmittedSopClass(uid, iod_name, modality, frozenset(asks.split()), title)
        for uid, iod_name, modality, asks, title in _read_rows(name)
    }
