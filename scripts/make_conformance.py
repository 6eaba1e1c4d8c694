"""Writes docs/conformance.md: how ADIT de-identifies, from the tables that it works with.

python scripts/make_conformance.py            writes it
python scripts/make_conformance.py --check    exit code 1 if the file is not up to date
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from adit_engine.pseudonymize import tables
from adit_engine.pseudonymize.explanation import describe_attributes
from adit_engine.pseudonymize.profile import (
    BASIC,
    CODE_MEANINGS,
    SUPPORTED_OPTIONS,
    ConfidentialityProfile,
    preset_names,
)

PAGE = Path(__file__).resolve().parent.parent / "docs" / "conformance.md"

DONE = {
    "113100": "always",
    "113101": "where a pixel rule of the profile covers the device; claimed on those objects only",
    "113103": "by dropping overlays, curves and annotations",
    "113104": "sequences of structured content keep codes of listed schemes and numbers",
    "113105": "a description stays when all its words are listed and its numbers are short; "
    "what is said about the person goes",
    "113106": "legal dates stay; excludes 113107",
    "113107": "whole days, one offset for each patient and trial; excludes 113106",
    "113108": "ages above 90 years become 090Y; the age is computed where it is missing",
    "113109": "rows that the table keeps",
    "113110": "all legal UIDs stay",
    "113111": "Table E.3.10-1 by creator, element, VR and number of values; not its two sequences",
    "113112": "rows that the table keeps",
}
ASKS = {
    "gray": "one sample a pixel",
    "not-burned-in": "Burned In Annotation says NO, or a pixel rule covers the device",
    "float": "may hold floating point pixels",
    "header-word": "where the project accepts the header's word on text in the pixels, or a pixel rule "
    "covers the device",
    "rule": "only where a pixel rule covers the device",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if it differs")
    text = "\n".join(page()) + "\n"
    if not parser.parse_args().check:
        PAGE.write_text(text, encoding="utf-8")
        print(f"{PAGE.name} written.")
        return 0
    same = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text
    print("It is what the script makes." if same else "Run scripts/make_conformance.py.")
    return 0 if same else 1


def page() -> Iterator[str]:
    yield "# Conformance: de-identification"
    yield ""
    yield "Written by `scripts/make_conformance.py` from the tables in use; do not edit."
    yield ""
    yield f"ADIT implements the Application Level Confidentiality Profile of DICOM PS3.15 {tables.EDITION}"
    yield "as a de-identifier. An object that cannot be treated by these rules is withheld."
    yield ""
    yield from _options()
    yield from _presets()
    yield from _classes()
    yield from _syntaxes()
    yield from _stamp()
    yield from _rows()


def _options() -> Iterator[str]:
    yield "## Profile and options"
    yield ""
    yield "| code | meaning (CID 7050) | what is done |"
    yield "| --- | --- | --- |"
    for code, meaning in CODE_MEANINGS.items():
        known = code == BASIC or code in SUPPORTED_OPTIONS
        yield f"| {code} | {meaning} | {DONE[code] if known else 'not supported'} |"
    yield ""


def _presets() -> Iterator[str]:
    yield "## Presets"
    yield ""
    yield "| file | name | options |"
    yield "| --- | --- | --- |"
    for name in preset_names():
        profile = ConfidentialityProfile.preset(name)
        yield f"| {name} | {profile.name} | {', '.join(sorted(profile.options)) or 'none'} |"
    yield ""


def _classes() -> Iterator[str]:
    yield "## Objects that may leave"
    yield ""
    yield "| SOP class | UID | condition |"
    yield "| --- | --- | --- |"
    for one in sorted(tables.admitted_sop_classes().values(), key=lambda one: one.name):
        conditions = "; ".join(ASKS[ask] for ask in sorted(one.asks))
        yield f"| {one.name} | {one.uid} | {conditions} |"
    yield ""
    yield "All other classes are withheld, and of these: objects whose Image Type tells of a screen,"
    yield "a report or pasted content, whose Conversion Type is that of a capture, whose Burned In"
    yield "Annotation or Recognizable Visual Features is not NO or empty."
    yield ""


def _syntaxes() -> Iterator[str]:
    yield "## Pixel data"
    yield ""
    yield "Uncompressed pixel data are cut to their computed length; bits above the image are cleared."
    yield "JPEG, JPEG-LS, JPEG 2000, HTJ2K and RLE streams are passed on without decoding; comments,"
    yield "application segments and bytes behind the image are cut. Deflated and big endian objects"
    yield "leave as explicit VR little endian, and so do compressed ones of which a pixel rule blanked"
    yield "a part. Icon images, overlays and curves are removed."
    yield ""


def _stamp() -> Iterator[str]:
    yield "## What the header says afterwards"
    yield ""
    yield "Patient Identity Removed (0012,0062) is YES. De-identification Method (0012,0063) names"
    yield "ADIT and its version, the edition of PS3.15, and the profile. The Method Code Sequence"
    yield "(0012,0064) lists 113100 and the options that were done. Longitudinal Temporal Information"
    yield "Modified (0028,0303) is UNMODIFIED, MODIFIED or REMOVED. The character set is ISO_IR 192."
    yield ""


def _rows() -> Iterator[str]:
    basic, default = ConfidentialityProfile.preset("strict"), ConfidentialityProfile.default()
    everywhere = [describe_attributes(profile, "ct-image") for profile in (basic, default)]
    yield "## Table E.1-1, row by row"
    yield ""
    yield "What happens at the top level of a CT image under the preset `strict` and under `default`,"
    yield "before the pseudonym and the stamp are written. K: the option keeps it; C: cleans it."
    yield "A dash: it could be cleaned, and goes, since it is said about the person."
    yield "Odd groups (the table's last row) are removed, but for 113111."
    yield ""
    yield "| tag | name | table | strict | default | options |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for tag, row in sorted(tables.confidentiality().items()):
        gone = row.tag in tables.reviewed("remove")
        options = " ".join(f"{code}={'-' if gone else cell}" for code, cell in row.options.items())
        where = f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
        words = (where, row.keyword or "(repeating group)", row.basic)
        yield f"| {' | '.join((*words, *(found[tag] for found in everywhere)))} | {options} |"


if __name__ == "__main__":
    sys.exit(main())
