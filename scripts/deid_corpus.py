"""Pseudonymizes a corpus made to leak, and real files, and counts what is left of what was planted.

    python scripts/deid_corpus.py             the whole corpus; exit code 1 if anything is left
    python scripts/deid_corpus.py --short     a sample of it

Real files are those of pydicom, and of pydicom-data and deid-data if they are installed.
"""

import argparse
import importlib.util
import random
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

import pydicom
from deid_auditor import Residue, audit_made, audit_real
from deid_cases import leak_cases
from deid_hidden import hidden
from deid_mixed import alone, became, series
from deid_rows import class_cases, row_cases
from deid_shown import radiographs, shown
from deid_told import told
from deid_victim import Attack, left_in

from adit_engine.dicom_file import part10
from adit_engine.errors import InstanceWithheld, Malformed
from adit_engine.pseudonymize.apply import apply
from adit_engine.pseudonymize.face_risk import RiskDecision
from adit_engine.pseudonymize.instance_pseudonymizer import InstancePseudonymizer
from adit_engine.pseudonymize.keys import ProjectKey
from adit_engine.pseudonymize.parameters import (
    ClinicalTrialAttributes,
    Pseudonymization,
)
from adit_engine.pseudonymize.profile import (
    CLEAN_PIXELS,
    FULL_DATES,
    RETAIN_UIDS,
    SUPPORTED_OPTIONS,
    ConfidentialityProfile,
    preset_names,
)
from adit_engine.pseudonymize.rewrite import ElementCache
from adit_engine.pseudonymize.text_detection.detector import is_installed
from adit_engine.pseudonymize.verify.verifier import Verifier

SHORT = 23
"""Every 23rd row in a short run; a prime, so that it hits all groups."""
_LARGEST_MIXED = 1 << 18


@dataclass
class CorpusTotals:
    """The results of one part of the corpus."""

    what: str
    objects: int = 0
    looked_for: int = 0
    residues: list[Residue] = field(default_factory=list)
    withheld: Counter[str] = field(default_factory=Counter)
    by_verification: Counter[str] = field(default_factory=Counter)

    @property
    def released(self) -> int:
        return self.objects - self.withheld.total() - self.by_verification.total()

    def lines(self) -> Iterator[str]:
        alone = self.by_verification.total()
        share = 100 * alone / self.objects if self.objects else 0
        yield (
            f"{self.what}: {self.objects} objects, {self.released} released, "
            f"{self.looked_for} values looked for in them, {len(self.residues)} residuals"
        )
        yield f"  withheld by verification alone: {alone} ({share:.2f} %)"
        for name, counted in (("change", self.withheld), ("verification", self.by_verification)):
            for code, number in counted.most_common():
                yield f"  withheld by the {name}: {code} {number}"
        for case, value, where in self.residues[:40]:
            yield f"  RESIDUAL in {case}: {value} in {where}"


class Deidentifier:
    """Change and verification, as for everything that leaves.

    `reason` says why the last object was withheld.
    """

    reason = ""

    def __init__(
        self, profile: ConfidentialityProfile, header_word: RiskDecision = RiskDecision.ACCEPT
    ) -> None:
        self._change = replace(_change(profile), annotation_decision=header_word)
        self._memory = ElementCache(self._change)
        self._verifier = Verifier(self._change)

    def process(self, data: bytes, totals: CorpusTotals) -> bytes | None:
        """Return the file that leaves; None if it is withheld."""
        totals.objects += 1
        self.reason = ""
        try:
            source = part10.parse_file(data)
            made = apply(self._change, source, None, self._memory)
        except (Malformed, InstanceWithheld) as why:
            self.reason = f"{why} {why.message.to_json()}"
            is_withheld = isinstance(why, InstanceWithheld)
            totals.withheld[why.message.category if is_withheld else "malformed"] += 1
            return None
        try:
            self._verifier.check(source, made)
        except InstanceWithheld as why:
            self.reason = f"{why} {why.message.to_json()}"
            totals.by_verification[why.message.category] += 1
            return None
        return b"".join(bytes(part) for part in part10.file_parts(made))


def _change(profile: ConfidentialityProfile) -> Pseudonymization:
    stamp = ClinicalTrialAttributes("Sponsor of the corpus", "CORPUS-1")
    key = ProjectKey(b"a key for a corpus without a use")
    return Pseudonymization(
        profile, "CORPUS-0001", key, stamp, RiskDecision.ACCEPT, RiskDecision.ACCEPT
    )


def made_up(profile: ConfidentialityProfile, *, short: bool) -> list[CorpusTotals]:
    deidentifier = Deidentifier(profile)
    rows, classes = CorpusTotals("rows of Table E.1-1"), CorpusTotals("rows in all classes")
    leaks = CorpusTotals("other places")
    every = SHORT if short else 1
    for case in chain(row_cases(every), class_cases(every), leak_cases()):
        totals = {"row": rows, "class": classes}.get(case.kind, leaks)
        out = deidentifier.process(case.data, totals)
        if out is not None:
            number, residues = audit_made(case, out)
            totals.looked_for += number
            totals.residues += [
                found._replace(case=f"{case.kind} {case.name}") for found in residues
            ]
    return [rows, classes, leaks]


def real(profile: ConfidentialityProfile, files: Iterable[Path]) -> CorpusTotals:
    deidentifier, totals = Deidentifier(profile), CorpusTotals("real files")
    for path in files:
        data = path.read_bytes()
        if data[128:132] != b"DICM":
            continue
        out = deidentifier.process(data, totals)
        if out is not None:
            number, residues = audit_real(path.name, data, out, profile.options)
            totals.looked_for += number
            totals.residues += residues
    return totals


def under_preset(name: str, files: Iterable[Path]) -> CorpusTotals:
    """Run leak cases and real files with a profile that keeps more (or less)."""
    profile = ConfidentialityProfile.preset(name)
    deidentifier, totals = Deidentifier(profile), real(profile, files)
    totals.what = f"other places and real files, preset {name}"
    for case in leak_cases():
        out = deidentifier.process(case.data, totals)
        if out is not None:
            number, residues = audit_made(case, out, profile.options)
            totals.looked_for += number
            totals.residues += residues
    return totals


def attacks() -> Iterator[Attack]:
    yield from told()
    yield from hidden()
    yield from shown()


def attacked(profile: ConfidentialityProfile, chosen: Iterable[Attack]) -> CorpusTotals:
    """Run attacks; also count those withheld although the rules clean them."""
    deidentifier, totals = Deidentifier(profile), CorpusTotals(f"attacks, profile {profile.name}")
    for attack in chosen:
        out = deidentifier.process(attack.data, totals)
        left = (
            left_in(out, profile.options)
            if out is not None
            else left_in(deidentifier.reason.encode())
        )
        totals.looked_for += 1
        totals.residues += [Residue(attack.kind, what, attack.name) for what in left]
        if attack.leaves is not None and attack.leaves is (out is None):
            totals.residues.append(Residue(attack.kind, "must leave, or must not", attack.name))
    return totals


def mixed(profile: ConfidentialityProfile, objects: Sequence[bytes], runs: int) -> CorpusTotals:
    """Compare each object of `runs` mixed series with the same object on its own."""
    totals, chance = (
        CorpusTotals(f"mixed series, profile {profile.name}"),
        random.Random(profile.name),
    )
    how = _change(profile)
    deidentifier = InstancePseudonymizer(how)
    for number in range(runs):
        for data in series(objects, chance):
            totals.objects += 1
            totals.looked_for += 1
            found, expected = became(deidentifier, data), alone(how, data)
            if found[0] != "left":
                totals.withheld[str(found[0])] += 1
            if found != expected:
                what = f"{found[0]}, and alone {expected[0]}"
                totals.residues.append(Residue(f"series {number}", what, "another end"))
    return totals


def unchosen(profile: ConfidentialityProfile) -> CorpusTotals:
    """Run radiographs in a project that has not accepted the header's statement.

    All of them must be withheld.
    """
    deidentifier, totals = (
        Deidentifier(profile, RiskDecision.UNDECIDED),
        CorpusTotals("radiographs, nothing chosen"),
    )
    for attack in radiographs():
        totals.looked_for += 1
        if deidentifier.process(attack.data, totals) is not None:
            totals.residues.append(Residue(attack.kind, "must not leave", attack.name))
    return totals


def burned_in(number: int) -> CorpusTotals:
    """Run images with text of at least 12 pixels burned in, and a header that denies it.

    None may leave. Needs the extra "ocr".
    """
    from pixel_corpus import PROFILE, make_image

    totals = CorpusTotals("text burned into pixels")
    for sample in (make_image(n, seed=7) for n in range(number)):
        if not sample.text or sample.size < 12:
            continue
        totals.looked_for += 1
        deidentifier = Deidentifier(PROFILE, RiskDecision.UNDECIDED)
        if deidentifier.process(sample.data, totals) is not None:
            name = f"{sample.modality}, {sample.size} px"
            totals.residues.append(Residue(name, "must not leave", "pixels"))
    return totals


MOST = ConfidentialityProfile(
    "Most that may stay", 1, SUPPORTED_OPTIONS - {CLEAN_PIXELS, FULL_DATES, RETAIN_UIDS}
)
"""All options that keep more, except those that keep what the attacks repeat."""


def real_files(*, largest_bytes: int = 1 << 30) -> list[Path]:
    folders = [Path(pydicom.__file__).parent / "data"]
    for package in ("data_store", "deid_data"):  # of pydicom-data and deid-data
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin:
            folders.append(Path(spec.origin).parent / "data")
    return sorted(
        path
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
        if path.stat().st_size < largest_bytes
    )


def mixable(*, short: bool) -> list[bytes]:
    """Return files of all parts of the corpus, for mixed series; none is large."""
    every = SHORT if short else 5
    made = [case.data for case in chain(row_cases(every), class_cases(every), leak_cases())]
    made += [attack.data for attack in attacks()]
    made += [path.read_bytes() for path in real_files(largest_bytes=_LARGEST_MIXED)]
    return [data for data in made if data[128:132] == b"DICM" and len(data) < _LARGEST_MIXED]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--short", action="store_true", help="a sample of the corpus")
    short = parser.parse_args().short
    warnings.simplefilter("ignore")  # pydicom warns a lot about broken files
    began = time.monotonic()
    profile = ConfidentialityProfile.default()
    tallies = made_up(profile, short=short)
    files = real_files(largest_bytes=1 << 19 if short else 1 << 30)
    tallies.append(real(profile, files))
    tallies += [under_preset(name, files) for name in preset_names() if name != "default"]
    chosen = list(attacks())[:: 7 if short else 1]
    profiles = [ConfidentialityProfile.preset(name) for name in preset_names()]
    tallies += [attacked(one, chosen) for one in (*profiles, MOST)]
    objects = mixable(short=short)
    tallies.append(unchosen(profile))
    if is_installed():
        tallies.append(burned_in(20 if short else 100))
    tallies += [mixed(one, objects, 20 if short else 500) for one in (*profiles, MOST)]
    for totals in tallies:
        print("\n".join(totals.lines()))
    residues = sum(len(totals.residues) for totals in tallies)
    print(
        f"{sum(t.objects for t in tallies)} objects, {sum(t.looked_for for t in tallies)} values "
        f"looked for, {residues} residuals, {time.monotonic() - began:.0f} s"
    )
    return 1 if residues else 0


if __name__ == "__main__":
    sys.exit(main())
