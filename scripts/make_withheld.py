"""Writes docs/deidentification.md: what became of real files, measured, and what of attacks.

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
from deid_corpus import MOST, Road, Tally, attacked, attacks, real_files, unchosen
from pydicom import dcmread

from adit_engine.errors import InstanceWithheld
from adit_engine.pseudonymize.face_risk import RiskDecision
from adit_engine.pseudonymize.profile import ConfidentialityProfile, preset_names

PAGE = Path(__file__).resolve().parent.parent / "docs" / "deidentification.md"

ADMISSION = {
    "class": "the class is not among those that can be pseudonymized (R2)",
    "pixel-rule": "ultrasound, secondary capture: no pixel rule covers the device (R2, R8)",
    "header-word": "a radiograph whose header's word nobody has accepted (R2, R8)",
    "burned-in-unknown": "the image does not say that no text is burned in (R2)",
    "burned-in": "the image says that text is burned in (R2)",
    "image-type": "a screen or a report by its image type (R2)",
    "conversion": "a secondary capture by its conversion type (R2)",
    "recognizable": "the object says that the person can be recognized (R2)",
    "samples": "a colour image of a gray class (R2)",
    "syntax": "a transfer syntax that cannot be checked (R8)",
    "face": "nobody has decided about faces (R8)",
}
RULES = {
    "identity": "UIDs that say what the object is are missing, illegal or contradictory (R1)",
    "malformed": "the file is cut off, damaged, or lacks its file meta (R1)",
    "not-understood": "something that was not foreseen (R1)",
    "pixel-format": "pixels of a kind that can be read in two ways, or not be checked (R8)",
    "pixel-length": "fewer pixels than announced (R8)",
    "pixel-bits": "pixels use bits that are not theirs (R8)",
    "pixel-stream": "a compressed stream holds what is not known (R8)",
    "pixel-meaning": "an illegal value without which pixels would be read differently (R3)",
    "too-large": "a deflated data set that grows beyond all measure (R15)",
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
) -> Tally:
    road, tally = Road(profile, header_word), Tally(profile.name)
    for path in files():
        data = path.read_bytes()
        if data[128:132] == b"DICM":
            road.take(data, tally)
    return tally


def other_people(profile: ConfidentialityProfile) -> Tally:
    """Run real headers with invented names and numbers; many are also technical terms."""
    chance = random.Random(4711)
    road, tally = Road(profile), Tally("other people")
    for path in files():
        data = path.read_bytes()
        if len(data) < 1 << 18 and data[128:132] == b"DICM" and road.take(data, Tally("")):
            for _ in range(PEOPLE_A_FILE):
                road.take(_renamed(data, chance), tally)
    return tally


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


def counts(tally: Tally) -> tuple[int, int, int]:
    """Return the numbers withheld by admission, other rules and verification alone."""
    unknown = tally.withheld.keys() - ADMISSION.keys() - RULES.keys()
    if unknown:
        raise InstanceWithheld(
            "unknown", f"Say in this script what these codes are: {sorted(unknown)}."
        )
    by_admission = sum(n for code, n in tally.withheld.items() if code in ADMISSION)
    return (
        by_admission, tally.withheld.total() - by_admission, tally.by_verification.total(),
    )  # fmt: skip


def page() -> Iterator[str]:
    version = f"pydicom {pydicom.__version__}"
    yield "# De-identification, measured\n"
    yield (
        "Made by `scripts/make_withheld.py`, which `make check` compares with this page. The rules\n"
        "stand in [conformance.md](conformance.md).\n"
    )
    yield "## How much stays here that could leave\n"
    yield (
        f"All DICOM files that {version} and pydicom-data bring: test files, many of them broken or odd\n"
        "on purpose, and many of classes that leave only by a pixel rule. *By verification alone* is what\n"
        "the rules had cleaned and the second look held back all the same. Faces and the header's word on\n"
        "text in radiographs are accepted here; where nobody has decided about them, thin slices of heads\n"
        "and all images of CR, DX, MG, XA, RF and NM stay too.\n"
    )
    yield "| profile | files | released | by admission | by rules | by verification alone |"
    yield "|---|---|---|---|---|---|"
    tallies = [measured(ConfidentialityProfile.preset(name)) for name in preset_names()]
    for tally in tallies:
        yield f"| {tally.what} | {_row(tally)} |"
    yield "\nWhy, under the default profile:\n"
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
        f"\nWhere the header's word is not accepted, {default.released - unsaid.released} more of these "
        f"files stay.\nOf {named.objects} made-up radiographs with a name in their pixels "
        f"{named.released} leave then."
    )
    yield "\n## How much the second look holds back for nothing\n"
    people = other_people(ConfidentialityProfile.default())
    yield (
        f"The released files of up to 256 kB again, each under {PEOPLE_A_FILE} invented names, numbers\n"
        "and birth dates; many of the names are also words of the trade (Head, Gray, Vera, Siemens), the\n"
        "numbers have one to ten digits.\n"
    )
    yield "| files | released | by admission | by rules | by verification alone |"
    yield "|---|---|---|---|---|"
    yield f"| {_row(people)} |"
    yield "\n## What attacks get\n"
    chosen = list(attacks())
    kinds = Counter(attack.kind for attack in chosen)
    yield (
        f"{len(chosen)} objects in which one made-up person's name, numbers, dates, UIDs, addresses and\n"
        "remarks stand again in other places and spellings. What is released is searched for all of them,\n"
        "byte by byte, in seven encodings, backwards, and as binary numbers; so are the reasons for what\n"
        f"is withheld. The kinds: {', '.join(sorted(kinds))}.\n"
    )
    yield "| profile | objects | released | withheld | traces found |"
    yield "|---|---|---|---|---|"
    for profile in (*map(ConfidentialityProfile.preset, preset_names()), MOST):
        tally = attacked(profile, chosen)
        held = tally.objects - tally.released
        residues = len(tally.residues)
        yield f"| {profile.name} | {tally.objects} | {tally.released} | {held} | {residues} |"
    yield "\nThe last profile has every option that lets more through without keeping UIDs or full dates."


def _row(tally: Tally) -> str:
    cells = [f"{number} ({100 * number / tally.objects:.1f} %)" for number in counts(tally)]
    return " | ".join((str(tally.objects), str(tally.released), *cells))


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
