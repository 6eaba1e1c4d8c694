"""Write docs/conformance.md: how ADIT de-identifies, from the tables in use.

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
    "113101": "if a pixel rule of the profile covers the device; stated in the header of these objects only",
    "113103": "overlays, curves and annotations are removed",
    "113104": "sequences of structured content keep numbers and codes of listed schemes",
    "113105": "a description is kept if all its words are listed and its numbers are short; "
    "descriptions of the patient are removed",
    "113106": "valid dates are kept; excludes 113107",
    "113107": "shift by whole days, one offset per patient and project; excludes 113106",
    "113108": "ages above 90 years become 090Y; a missing age is computed",
    "113109": "attributes that the table keeps",
    "113110": "all valid UIDs are kept",
    "113111": "Table E.3.10-1 by creator, element, VR and VM, except its two sequences",
    "113112": "attributes that the table keeps",
}
ASKS = {
    "gray": "one sample per pixel",
    "not-burned-in": "Burned In Annotation is NO, or a pixel rule covers the device",
    "float": "floating point pixels are allowed",
    "header-word": "the project accepts the risk of burned-in text, or a pixel rule covers the device",
    "rule": "a pixel rule covers the device",
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
    print("docs/conformance.md is up to date." if same else "Run scripts/make_conformance.py.")
    return 0 if same else 1


def page() -> Iterator[str]:
    yield "# Conformance: de-identification"
    yield ""
    yield "Written by `scripts/make_conformance.py` from the tables in use; do not edit."
    yield ""
    yield f"ADIT implements the Application Level Confidentiality Profile of DICOM PS3.15 {tables.EDITION}"
    yield "as a de-identifier. Objects that cannot be processed by these rules are withheld."
    yield "The services of DICOMweb are in [dicomweb.md](dicomweb.md)."
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
    yield "| code | meaning (CID 7050) | implementation |"
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
    yield "## Supported SOP classes"
    yield ""
    yield "| SOP class | UID | conditions |"
    yield "| --- | --- | --- |"
    for one in sorted(tables.admitted_sop_classes().values(), key=lambda one: one.name):
        conditions = "; ".join(ASKS[ask] for ask in sorted(one.conditions))
        yield f"| {one.name} | {one.uid} | {conditions} |"
    yield ""
    yield "Objects of all other classes are withheld. Of the classes above, objects are withheld if"
    yield "their Image Type indicates a screen capture, a report or pasted content, if their Conversion"
    yield "Type is that of a capture, or if Burned In Annotation or Recognizable Visual Features is"
    yield "neither NO nor empty."
    yield ""


def _syntaxes() -> Iterator[str]:
    yield "## Pixel data"
    yield ""
    yield "Uncompressed pixel data are truncated to their computed length; bits above the image are"
    yield "cleared. JPEG, JPEG-LS, JPEG 2000, HTJ2K and RLE streams are not decoded; comments,"
    yield "application segments and bytes after the image are removed. Deflated and big endian objects"
    yield "are delivered as explicit VR little endian, as are compressed objects that were masked by a"
    yield "pixel rule. Icon images, overlays and curves are removed."
    yield ""


def _stamp() -> Iterator[str]:
    yield "## De-identification attributes"
    yield ""
    yield "Patient Identity Removed (0012,0062) is YES. De-identification Method (0012,0063) names"
    yield "ADIT and its version, the edition of PS3.15, and the profile. The Method Code Sequence"
    yield "(0012,0064) lists 113100 and the options that were applied. Longitudinal Temporal Information"
    yield "Modified (0028,0303) is UNMODIFIED, MODIFIED or REMOVED. The character set is ISO_IR 192."
    yield "Clinical Trial Time Point ID and Description (0012,0050) and (0012,0051) hold the visit of the"
    yield "order, if it names one; those of the original are always removed."
    yield ""


def _rows() -> Iterator[str]:
    basic, default = ConfidentialityProfile.preset("strict"), ConfidentialityProfile.default()
    everywhere = [describe_attributes(profile, "ct-image") for profile in (basic, default)]
    yield "## Attributes of Table E.1-1"
    yield ""
    yield "The action at the top level of a CT image under the presets `strict` and `default`, before"
    yield "the pseudonym and the clinical trial attributes are written. K: the option keeps the"
    yield "attribute. C: the option cleans it. A dash: the option would clean it, but it is removed"
    yield "because it describes the patient. Private attributes (the last row of the table) are removed,"
    yield "except with option 113111."
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
