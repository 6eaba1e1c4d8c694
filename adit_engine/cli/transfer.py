"""Run one fetch, send or transfer over its studies, report the result, and build the archive.

Used by `cli.main`.
"""

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adit_engine.bounded_stream import Stop
from adit_engine.cli import node_url
from adit_engine.errors import AditError, InvalidInput
from adit_engine.messages import Message
from adit_engine.nodes import get_capabilities
from adit_engine.nodes.base import ArchiveRequest
from adit_engine.pseudonymize.face_risk import FACE_CODE as FACE
from adit_engine.pseudonymize.face_risk import UNCONFIRMED_ANNOTATION, RiskDecision
from adit_engine.pseudonymize.keys import validate_pseudonym
from adit_engine.pseudonymize.parameters import (
    AsIs,
    Change,
    ClinicalTrialAttributes,
    Pseudonymization,
)
from adit_engine.transfer.study import StudyRequest, transfer
from adit_engine.values.archive_password import validate_password
from adit_engine.values.outcome import (
    Completeness,
    InstanceEvent,
    InstanceState,
    SeriesLedger,
    SeriesOutcome,
    SourceListing,
    sum_outcomes,
)
from adit_engine.values.query import Query
from adit_engine.values.record import Record
from adit_engine.values.references import InstanceRef, StudyRef
from adit_engine.values.selection import Selection

if TYPE_CHECKING:
    from adit_engine.pseudonymize.profile import ConfidentialityProfile

_CHOOSE_FACES = {
    FACE: Message("cli.decide-on-faces"),
    UNCONFIRMED_ANNOTATION: Message("cli.decide-on-header-word"),
}
"""The next step if there was no decision, by the category of the reason."""


class ExitCode(IntEnum):
    """The command's exit codes, for scripts."""

    COMPLETE = 0
    INCOMPLETE = 1
    FAILED = 2
    WRONG_USE = 64
    INTERRUPTED = 130
    UNREAD = 141


class TransferRun:
    """One call of fetch, send or transfer, with the results of all its studies."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.series_results: list[SeriesOutcome] = []
        self.manifests: dict[str, SeriesLedger] = {}
        self.errors: list[Message] = []
        self.archives: list[str] = []
        self.stop = Stop()
        self.ledger = _ledger_path(options.manifest)
        self.progress_bar = sys.stderr if sys.stderr.isatty() and not options.json else None
        if options.trial and not options.sponsor:
            raise InvalidInput("cli.trial-without-sponsor")
        if options.pseudonym:
            validate_pseudonym(options.pseudonym)
        self.face_decision = _face_choice(options, "faces")
        self.annotation_decision = _face_choice(options, "header_word")
        if not options.as_is:
            from adit_engine.pseudonymize.keys import load_project_key  # both take long to load
            from adit_engine.pseudonymize.profile import ConfidentialityProfile

            path = options.profile
            self.profile = (
                ConfidentialityProfile.from_file(path) if path else ConfidentialityProfile.default()
            )
            self.profile = _choose_text_detection(self.profile, options.text_detection)
            self.key = load_project_key(options.key_file, options.trial)
            self.clinical_trial = (
                ClinicalTrialAttributes(
                    options.sponsor,
                    options.trial,
                    options.trial_name,
                    options.site_name,
                    options.site_id,
                )
                if options.trial
                else None
            )

    def check_studies(self, studies: list[Record]) -> None:
        if self.options.pseudonym and len({study.patient_id for study in studies}) > 1:
            raise InvalidInput("cli.one-pseudonym-for-several-patients")

    def transfer_study(self, study: Record, source: Any, destination: Any) -> None:
        ref = StudyRef(study.study_uid)
        if self.options.generate and not study.patient_id:
            self._withhold(ref, source)
            return
        order = StudyRequest(ref, study.patient_id, Selection(tuple(self.options.series)))
        change = self._change(study, source)
        for told in transfer(order, source, destination, change, {}, self.stop):
            if isinstance(told, SeriesOutcome):
                self.series_results.append(told)
            elif isinstance(told, SourceListing):
                self.manifests[told.ref.series_uid] = SeriesLedger(told.ref, told.expected)
            else:
                self._count(told)

    def _withhold(self, study: StudyRef, source: Any) -> None:
        """Withhold a study: without a patient ID there is no pseudonym; each image is listed."""
        reason = Message("no-patient-id")
        for series in source.find(Query.series_of(study)):
            ref = series.ref
            uids = [record.instance_uid for record in source.find(Query.instances_of(ref))]
            manifest = self.manifests[ref.series_uid] = SeriesLedger(ref, frozenset(uids))
            for uid in uids:
                instance = InstanceRef(ref.study_uid, ref.series_uid, uid)
                manifest.add(InstanceEvent(instance, InstanceState.WITHHELD, reason))

    def _count(self, event: InstanceEvent) -> None:
        self.manifests[event.ref.series_uid].add(event)
        if self.progress_bar is not None:
            done = sum(len(manifest.entries) for manifest in self.manifests.values())
            expected = sum(len(m.expected or ()) for m in self.manifests.values())
            print(f"\r{done} of {expected} images", end="", file=self.progress_bar, flush=True)

    def _change(self, study: Record, source: Any) -> Change:
        if self.options.as_is:
            return AsIs()
        pseudonym = self.options.pseudonym
        if pseudonym is None:
            domain = self.options.domain or getattr(source.settings, "domain", "") or source.name
            pseudonym = self.key.generate_pseudonym(domain, study.patient_id)
        return Pseudonymization(
            self.profile,
            pseudonym,
            self.key,
            self.clinical_trial,
            self.face_decision,
            self.annotation_decision,
        )

    def record_error(self, error: Message) -> None:
        self.errors.append(error)
        print(f"adit-engine: {error}", file=sys.stderr)

    def mark_failed(self, reason: Message) -> None:
        """Mark delivered instances as failed: they did not arrive after all."""
        for manifest in self.manifests.values():
            for uid in manifest.delivered_entries():
                ref = InstanceRef(manifest.ref.study_uid, manifest.ref.series_uid, uid)
                manifest.add(InstanceEvent(ref, InstanceState.FAILED, reason))

    def print_report(self, seconds: float) -> int:
        if self.progress_bar is not None:
            print(file=self.progress_bar)
        for manifest in self.manifests.values():
            manifest.close(InstanceState.FAILED, Message("not-reached"))
        outcomes = [
            SeriesOutcome.from_ledger(self.manifests[o.ref.series_uid], o.notes, o.remarks)
            if o.ref.series_uid in self.manifests
            else o
            for o in self._all_outcomes()
        ]
        path = self._write_manifest()
        sums = sum_outcomes(outcomes)
        failed = bool(self.errors) and not sums.delivered
        verdict = "failed" if failed else sums.completeness.value
        if self.errors and verdict == Completeness.COMPLETE:
            verdict = Completeness.PARTIAL.value
        received = sums.delivered + sums.withheld
        answer = {
            "outcome": verdict,
            "expected": sums.expected,
            "received": received,
            "delivered": sums.delivered,
            "withheld": sums.withheld,
            "failed": sums.failed,
            "skipped": sums.skipped,
            "reasons": _count_reasons(outcomes),
            "errors": [error.to_report() for error in self.errors],
            "faces": _decision_to_json(self.face_decision, self.options.accept_faces),
            "header_word": _decision_to_json(
                self.annotation_decision, self.options.accept_header_word
            ),
            "manifest": str(path or ""),
            "archives": self.archives,
            "seconds": round(seconds, 2),
            "bytes": sum(e.size_bytes for m in self.manifests.values() for e in m.entries.values()),
        }
        counted = {reason.category for outcome in outcomes for reason, _ in outcome.reasons}
        for category, choice in (
            (FACE, self.face_decision),
            (UNCONFIRMED_ANNOTATION, self.annotation_decision),
        ):
            if choice is RiskDecision.UNDECIDED and category in counted:
                print(f"adit-engine: {_CHOOSE_FACES[category]}", file=sys.stderr)
        print(json.dumps(answer) if self.options.json else _format_result(answer))
        if failed:
            return ExitCode.FAILED
        only_withheld = sums.expected == sums.delivered + sums.withheld and not self.errors
        fine = verdict == Completeness.COMPLETE or (self.options.allow_withheld and only_withheld)
        return ExitCode.COMPLETE if fine else ExitCode.INCOMPLETE

    def _all_outcomes(self) -> Iterator[SeriesOutcome]:
        """Yield the recorded outcomes, and one for each series whose transfer broke off."""
        yield from self.series_results
        told = {outcome.ref.series_uid for outcome in self.series_results}
        for uid, manifest in self.manifests.items():
            if uid not in told:
                yield SeriesOutcome.from_ledger(manifest)

    def _write_manifest(self) -> Path | None:
        """Write the ledgers; return None if that fails, which is reported."""
        ledgers = [manifest.to_json() for manifest in self.manifests.values()]
        # One line per value, without `indent`: that encoder is ten times as fast.
        text = json.dumps(ledgers, separators=(",\n", ": "))
        temp = self.ledger.with_name(self.ledger.name + ".part")
        try:
            temp.touch(mode=0o600)
            temp.write_text(text)
            temp.rename(self.ledger)
        except OSError as error:
            reason = str(error.strerror)
            self.record_error(
                Message("cli.ledger-not-writable", path=str(self.ledger), reason=reason)
            )
            return None
        return self.ledger


def _ledger_path(chosen: Path | None) -> Path:
    """Return the ledger path, checked before the transfer. Raise InvalidInput."""
    path = chosen or node_url.state_folder() / f"manifest-{time.time_ns()}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        may_write = os.access(path.parent, os.W_OK)
        why: Message | str | None = None if may_write else Message("clause.no-write-permission")
    except OSError as error:
        why = str(error.strerror)
    if path.is_dir():
        why = Message("clause.is-a-folder")
    if why is not None:
        raise InvalidInput("cli.ledger-not-writable", path=str(path), reason=why)
    return path


def _choose_text_detection(
    profile: "ConfidentialityProfile", chosen: str | None
) -> "ConfidentialityProfile":
    """Return the profile with text detection as chosen. Raise InvalidInput."""
    from adit_engine.pseudonymize.profile import TextDetection
    from adit_engine.pseudonymize.text_detection.detector import is_installed

    if chosen == "on" and not is_installed():
        raise InvalidInput("cli.text-detection-not-installed")
    if chosen == "off":
        return replace(profile, text_detection=TextDetection.OFF)
    if is_installed() and profile.text_detection is TextDetection.OFF:
        return replace(profile, text_detection=TextDetection.IMAGES)
    return profile


def _face_choice(options: argparse.Namespace, risk: str) -> RiskDecision:
    """Return the decision on a risk. Raise InvalidInput."""
    reason = getattr(options, f"accept_{risk}")
    if reason is not None:
        if not reason.strip():
            option = f"--accept-{risk.replace('_', '-')}"
            raise InvalidInput("cli.option-without-reason", option=option)
        return RiskDecision.ACCEPT
    return (
        RiskDecision.WITHHOLD
        if getattr(options, f"withhold_{risk}", False)
        else RiskDecision.UNDECIDED
    )


def _decision_to_json(choice: RiskDecision, reason: str | None) -> dict[str, str]:
    return {"chosen": choice.value, "reason": reason or ""}


def _count_reasons(outcomes: list[SeriesOutcome]) -> list[dict[str, Any]]:
    """Return all reasons with the number of images, and all notes with the number of series."""
    counts: Counter[Message] = Counter()
    for outcome in outcomes:
        for reason, count in outcome.reasons:
            counts[reason] += count
        for note in (*outcome.notes, *outcome.remarks, outcome.skip_reason):
            if note is not None:
                counts[note] += 1
    return [{**reason.to_report(), "count": count} for reason, count in counts.items()]


def _format_result(answer: dict[str, Any]) -> str:
    lines = [
        f"{answer['outcome']}: {answer['delivered']} of "
        f"{'?' if answer['expected'] is None else answer['expected']} images delivered, "
        f"{answer['withheld']} withheld, {answer['failed']} failed, {answer['skipped']} skipped "
        f"({answer['bytes'] / 1e6:.1f} MB in {answer['seconds']} s)"
    ]
    lines += [f"  {reason['count']} × {reason['text']}" for reason in answer["reasons"]]
    lines += [f"archive: {path}" for path in answer["archives"]]
    lines += [f"ledger: {answer['manifest']}"] if answer["manifest"] else []
    return "\n".join(lines)


def ask_archive_password(options: argparse.Namespace) -> str:
    """Return the archive password; empty if the destination is no archive.

    Raises InvalidInput before anything is fetched.
    """
    kind, name, _ = node_url.parse_url(options.destination)
    if not get_capabilities(kind).is_archive:
        if options.password_file:
            raise InvalidInput("cli.password-without-archive")
        return ""
    target = Path(name)
    there = [target, *target.parent.glob(f"{target.stem}-part*.7z")]
    if any(path.exists() for path in there):
        raise InvalidInput("cli.file-exists", file=name)
    if options.password_file:
        return validate_password(node_url.read_text_file(options.password_file))
    if not sys.stdin.isatty():
        raise InvalidInput("cli.password-missing")
    from getpass import getpass  # takes long to load, and is rarely needed

    password = validate_password(getpass("Password of the archive: "))
    if getpass("Repeat the password: ") != password:
        raise InvalidInput("cli.passwords-differ")
    return password


def build_archive(trip: TransferRun, node: Any, password: str) -> None:
    """Build the archive from the staged files, which are deleted afterwards."""
    if not node.staged_images:
        node.discard_staged()
        return
    try:
        for packed in node.pack(_make_archive_request(trip, node), password, trip.stop):
            trip.archives.append(str(Path(node.settings.path, packed.name)))
    except AditError as error:
        trip.record_error(error.message)
        trip.mark_failed(Message("not-packed"))
        return
    node.discard_staged()


def _make_archive_request(trip: TransferRun, node: Any) -> ArchiveRequest:
    _, name, _ = node_url.parse_url(trip.options.destination)
    gathered = node.staged_images
    size_bytes = sum(one.size_bytes for one in gathered)
    return ArchiveRequest(Path(name).stem, len(gathered), size_bytes, gathered)
