"""Write docs/deidentification.md: measured results for real files and for attacks.

    python scripts/make_withheld.py            writes it
    python scripts/make_withheld.py --check    exit code 1 if the file is not up to date

Without the package pydicom-data some of the files are missing: then nothing is written or compared.
"""

import argparse
import importlib.util
import random
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pydicom
from deid_corpus import MOST, CorpusTotals, Deidentifier, attacked, attacks, real_files, unchosen
from pydicom import dcmread

from adit_engine.pseudonymize.face_risk import RiskDecision
from adit_engine.pseudonymize.profile import ConfidentialityProfile, preset_names

PAGE = Path(__file__).resolve().parent.parent / "docs" / "deidentification.md"

ADMISSION = {
    "class": "objects of this SOP class cannot be pseudonymized (R2)",
    "pixel-rule": "ultrasound or secondary capture, and no pixel rule covers the device (R2, R8)",
    "header-word": "a radiograph, and the risk of burned-in text is not accepted (R2, R8)",
    "burned-in-unknown": "the header does not state that no text is burned in (R2)",
    "burned-in": "the header states that text is burned in (R2)",
    "image-type": "a screen capture or a report, by image type (R2)",
    "conversion": "a secondary capture, by conversion type (R2)",
    "recognizable": "the header states that the patient can be recognized (R2)",
    "samples": "a color image of a grayscale class (R2)",
    "syntax": "a transfer syntax that cannot be checked (R8)",
    "face": "may show a face, and the project has not decided (R8)",
}
RULES = {
    "identity": "identifying UIDs are missing, invalid or contradictory (R1)",
    "malformed": "the file is truncated, damaged, or has no file meta information (R1)",
    "not-understood": "an unexpected error (R1)",
    "pixel-format": "pixel data that are ambiguous or cannot be checked (R8)",
    "pixel-length": "fewer pixels than the header states (R8)",
    "pixel-bits": "pixels use bits outside the image (R8)",
    "pixel-stream": "a compressed stream has unknown content (R8)",
    "pixel-meaning": "an invalid value without which pixels would be read differently (R3)",
    "too-large": "a deflated data set that is too large (R15)",
}

PEOPLE_A_FILE = 8
_FAMILY = """
    Mueller Schmidt Young King Small Head Hand Axel Stone Wang Li Chen Nguyen Kim Park Smith Johnson
    Brown White Black Long Short Garcia Martinez Kowalski Ivanov Philips Siemens Canon Back Foot Arm
    Field Spin Bone Soft Sharp Gray Green Frank Ray May June Standard Berg Stein Baum Fischer Weber
""".split()  # noqa: SIM905
_GIVEN = """
    Anna Max Eva Tom Jan Ute Ben Li Mia Leo Sofia Vera Aera Sola Julia August April Dawn Skyra
    Victoria Iris Vida Mark Art Frank Pat
""".split()  # noqa: SIM905


def files() -> list[Path]:
    """Return the files of pydicom and pydicom-data, even if more is installed."""
    return [path for path in real_files() if "deid_data" not in path.parts]


def measured(
    profile: ConfidentialityProfile, header_word: RiskDecision = RiskDecision.ACCEPT
) -> CorpusTotals:
    deidentifier, totals = Deidentifier(profile, header_word), CorpusTotals(profile.name)
    for path in files():
        data = path.read_bytes()
        if data[128:132] == b"DICM":
            deidentifier.process(data, totals)
    return totals


def other_people(profile: ConfidentialityProfile) -> CorpusTotals:
    """Run real headers with invented names and numbers; many are also technical terms."""
    chance = random.Random(4711)
    deidentifier, totals = Deidentifier(profile), CorpusTotals("other people")
    for path in files():
        data = path.read_bytes()
        if (
            len(data) < 1 << 18
            and data[128:132] == b"DICM"
            and deidentifier.process(data, CorpusTotals(""))
        ):
            for _ in range(PEOPLE_A_FILE):
                deidentifier.process(_renamed(data, chance), totals)
    return totals


def _renamed(data: bytes, chance: random.Random) -> bytes:
    ds = dcmread(BytesIO(data))
    ds.PatientName = f"{chance.choice(_FAMILY)}^{chance.choice(_GIVEN)}"
    ds.ReferringPhysicianName = f"{chance.choice(_FAMILY)}^{chance.choice(_GIVEN)}"
    ds.PatientID = str(chance.randrange(10 ** chance.randint(1, 10)))
    ds.AccessionNumber = str(chance.randrange(10 ** chance.randint(3, 10)))
    ds.StudyID = str(chance.randrange(9999))
    ds.PatientBirthDate = f"{chance.randint(1925, 2020)}{chance.randint(1, 12):02}17"
    buffer = BytesIO()
    ds.save_as(buffer)
    return buffer.getvalue()


def counts(totals: CorpusTotals) -> tuple[int, int, int]:
    """Return the numbers withheld by admission, other rules and verification alone."""
    unknown = totals.withheld.keys() - ADMISSION.keys() - RULES.keys()
    if unknown:
        raise ValueError(f"Describe these codes in this script: {sorted(unknown)}.")
    by_admission = sum(n for code, n in totals.withheld.items() if code in ADMISSION)
    return (
        by_admission, totals.withheld.total() - by_admission, totals.by_verification.total(),
    )  # fmt: skip


def page() -> Iterator[str]:
    version = f"pydicom {pydicom.__version__}"
    yield "# De-identification, measured\n"
    yield (
        "Written by `scripts/make_withheld.py`; `make check` compares the result with this page. The rules\n"
        "are in [conformance.md](conformance.md).\n"
    )
    yield "## Real files\n"
    yield (
        f"All DICOM files of {version} and pydicom-data. These are test files: many are damaged or unusual\n"
        "on purpose, and many belong to classes that need a pixel rule. *By verification alone* counts\n"
        "files that the rules accepted and the verification withheld. The risks of faces and of burned-in\n"
        "text in radiographs are accepted here. Without these decisions, thin slices of heads and all CR,\n"
        "DX, MG, XA, RF and NM images are withheld, too.\n"
    )
    yield "| profile | files | released | by admission | by rules | by verification alone |"
    yield "|---|---|---|---|---|---|"
    tallies = [measured(ConfidentialityProfile.preset(name)) for name in preset_names()]
    for totals in tallies:
        yield f"| {totals.what} | {_row(totals)} |"
    yield "\nReasons under the default profile:\n"
    yield "| reason | files |"
    yield "|---|---|"
    default = tallies[preset_names().index("default")]
    for code, number in sorted(default.withheld.items(), key=lambda pair: (-pair[1], pair[0])):
        yield f"| {(ADMISSION | RULES)[code]} | {number} |"
    unsaid, named = (
        measured(ConfidentialityProfile.default(), RiskDecision.UNDECIDED),
        unchosen(ConfidentialityProfile.default()),
    )
    yield (
        f"\nIf the risk of burned-in text is not accepted, {default.released - unsaid.released} more of "
        f"these files are withheld.\nOf {named.objects} generated radiographs with a name in their pixels, "
        f"{named.released} are then released."
    )
    yield "\n## False alarms of the verification\n"
    people = other_people(ConfidentialityProfile.default())
    yield (
        f"The released files of up to 256 kB, each with {PEOPLE_A_FILE} invented names, numbers and birth\n"
        "dates. Many of the names are also technical terms (Head, Gray, Vera, Siemens). The numbers have\n"
        "one to ten digits.\n"
    )
    yield "| files | released | by admission | by rules | by verification alone |"
    yield "|---|---|---|---|---|"
    yield f"| {_row(people)} |"
    yield "\n## Attacks\n"
    chosen = list(attacks())
    kinds = Counter(attack.kind for attack in chosen)
    yield (
        f"{len(chosen)} objects that repeat the name, numbers, dates, UIDs, addresses and comments of an\n"
        "invented patient in other places and spellings. Released objects are searched for all of them\n"
        "byte by byte, in seven encodings, backwards, and as binary numbers. The messages about withheld\n"
        f"objects are searched, too. Types of attacks: {', '.join(sorted(kinds))}.\n"
    )
    yield "| profile | objects | released | withheld | traces found |"
    yield "|---|---|---|---|---|"
    for profile in (*map(ConfidentialityProfile.preset, preset_names()), MOST):
        totals = attacked(profile, chosen)
        held = totals.objects - totals.released
        residues = len(totals.residues)
        yield f"| {profile.name} | {totals.objects} | {totals.released} | {held} | {residues} |"
    yield "\nThe last profile has all options that keep more data, except those that keep UIDs or full dates."


def _row(totals: CorpusTotals) -> str:
    cells = [f"{number} ({100 * number / totals.objects:.1f} %)" for number in counts(totals)]
    return " | ".join((str(totals.objects), str(totals.released), *cells))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    check = parser.parse_args().check
    if importlib.util.find_spec("data_store") is None:
        print("pydicom-data is not installed: nothing was measured.")
        return 0 if check else 1
    warnings.simplefilter("ignore")  # pydicom warns a lot about broken files
    text = "\n".join(page()) + "\n"
    if not check:
        PAGE.write_text(text, encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != text:
        print("docs/deidentification.md is out of date: run python scripts/make_withheld.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
