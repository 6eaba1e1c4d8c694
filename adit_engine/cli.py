"""adit-engine: echo, check, find, fetch, send and transfer by hand, for the person at the PACS at 2 am."""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adit_engine import cli_check, node_url
from adit_engine.errors import AditError, NotFound, RuleBroken, WrongInput
from adit_engine.expectation import Reception
from adit_engine.handoff import Stop
from adit_engine.nodes.base import Grade
from adit_engine.outcome import Event, Listed, Manifest, Outcome, State, Verdict, total
from adit_engine.pseudonymize.change import AsIs, Change, Pseudonymized, TrialStamp
from adit_engine.pseudonymize.face import CODE as FACE
from adit_engine.pseudonymize.face import Faces
from adit_engine.pseudonymize.keyfile import trial_key
from adit_engine.pseudonymize.profile import Profile
from adit_engine.pseudonymize.pseudonym import checked_pseudonym
from adit_engine.query import Query
from adit_engine.record import Record
from adit_engine.reference import InstanceRef, Level, StudyRef
from adit_engine.select import Selection
from adit_engine.transfer import Order, transfer

if TYPE_CHECKING:
    from adit_engine.nodes.tls import Tls

_CHOOSE = (
    "Images that may show a face were withheld, as nothing was chosen for them: "
    "add --withhold-faces, or --accept-faces with a reason."
)
COMPLETE, INCOMPLETE, FAILED, WRONG_USE = 0, 1, 2, 64


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        self.print_usage(sys.stderr)
        self.exit(WRONG_USE, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 complete, 1 partial or unverifiable, 2 failed, 64 wrong use."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except WrongInput as error:
        print(f"adit-engine: {error}", file=sys.stderr)
        return WRONG_USE
    except AditError as error:
        print(f"adit-engine: {error}", file=sys.stderr)
        return FAILED
    return code


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="adit-engine", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)

    echo = commands.add_parser("echo", help="see whether a node answers")
    echo.add_argument(
        "node", help="dimse://CALLED@host:port?calling=ADIT, dimse+tls://… or folder:PATH"
    )
    echo.set_defaults(run=_echo)

    check = commands.add_parser("check", help="learn what a node can do, and what does not work")
    cli_check.check_arguments(check)
    _receiving(check)
    check.set_defaults(run=_check)

    sheet = commands.add_parser("sheet", help="what the administrator of a node has to register")
    cli_check.sheet_arguments(sheet)
    sheet.set_defaults(run=_sheet)

    find = commands.add_parser("find", help="list studies, series or images")
    find.add_argument("--from", dest="source", required=True, metavar="URL")
    find.add_argument("--level", choices=["study", "series", "image"], default="study")
    find.add_argument("keys", nargs="*", metavar="Keyword=value", help="PatientID=123 StudyDate=…")
    find.add_argument("--json", action="store_true")
    find.set_defaults(run=_find)

    fetch = commands.add_parser("fetch", help="bring studies into a folder, as they are")
    fetch.add_argument("--from", dest="source", required=True, metavar="URL")
    fetch.add_argument("--to", dest="destination", required=True, metavar="FOLDER")
    _what(fetch)
    _receiving(fetch)
    fetch.set_defaults(run=_transfer, as_is=True, pseudonym=None, generate=False)

    send = commands.add_parser("send", help="send a folder's studies to a node, as they are")
    send.add_argument("--from", dest="source", required=True, metavar="FOLDER")
    send.add_argument("--to", dest="destination", required=True, metavar="URL")
    _what(send, everything=True)
    send.set_defaults(run=_transfer, as_is=True, pseudonym=None, generate=False)

    move = commands.add_parser("transfer", help="from any node to any node, changed or as is")
    move.add_argument("--from", dest="source", required=True, metavar="URL")
    move.add_argument("--to", dest="destination", required=True, metavar="URL")
    _what(move)
    _receiving(move)
    change = move.add_mutually_exclusive_group(required=True)
    change.add_argument("--as-is", action="store_true", help="identified, byte for byte")
    change.add_argument("--pseudonym", metavar="P", help="for one patient")
    change.add_argument("--generate", action="store_true", help="a pseudonym for each patient")
    move.add_argument("--trial", default="", help="protocol id of the research project")
    move.add_argument("--trial-name", default="")
    move.add_argument("--sponsor", default="", help="required with --trial")
    move.add_argument("--site-name", default="", help="your site, as the project calls it")
    move.add_argument("--site-id", default="")
    move.add_argument("--key-file", type=Path, help="the trial's key; else one kept for you")
    move.add_argument("--profile", type=Path, help="a profile file; else the default")
    _faces(move)
    move.set_defaults(run=_transfer)
    return parser


def _faces(parser: argparse.ArgumentParser) -> None:
    """There is no default: until somebody chooses, what may show a face is withheld."""
    faces = parser.add_mutually_exclusive_group()
    faces.add_argument(
        "--withhold-faces",
        action="store_true",
        help="thin slices that may show a head (CT, MR, PET) stay",
    )
    faces.add_argument(
        "--accept-faces", metavar="REASON", help="they leave; the reason stands in the answer"
    )


def _what(parser: argparse.ArgumentParser, everything: bool = False) -> None:
    which = parser.add_mutually_exclusive_group(required=not everything)
    which.add_argument("--study", action="append", default=[], metavar="UID")
    which.add_argument("--all", action="store_true", default=everything)
    parser.add_argument("--series", action="append", default=[], metavar="UID")
    parser.add_argument("--manifest", type=Path, help="where the ledger goes")
    parser.add_argument("--allow-withheld", action="store_true", help="refusals do not fail")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.set_defaults(trial="", trial_name="", sponsor="", key_file=None, profile=None)
    parser.set_defaults(receiver=None, withhold_faces=False, accept_faces=None)


def _receiving(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--receiver",
        type=int,
        metavar="PORT",
        help="take images here that the source sends by C-MOVE; it has to know our address",
    )
    for name, what in (
        ("certificate", "take them by TLS alone, with this certificate"),
        ("key", "its private key, where that is not in the same file"),
        ("client-ca", "and only from who shows a certificate issued by this one"),
    ):
        parser.add_argument(f"--receiver-{name}", metavar="FILE", default="", help=what)


def _echo(options: argparse.Namespace) -> int:
    """The findings of a check as far as the first that tells whether the node answers."""
    with node_url.opened(options.node) as node, closing(node.check()) as findings:
        for finding in findings:
            print(f"{finding.grade}: {finding.what} {finding.next_step}".rstrip())
            if finding.grade is not Grade.WARNING:
                return FAILED if finding.grade is Grade.BAD else COMPLETE
    return COMPLETE


def _check(options: argparse.Namespace) -> int:
    with _reception(options) as reception:
        return COMPLETE if cli_check.check(options, reception) else FAILED


def _sheet(options: argparse.Namespace) -> int:
    cli_check.write_sheet(options)
    return COMPLETE


def _find(options: argparse.Namespace) -> int:
    keys = {}
    for pair in options.keys:
        keyword, equals, value = pair.partition("=")
        if not equals:
            raise WrongInput(f"{keyword}: write Keyword=value, such as PatientID=123.")
        keys[keyword] = value
    query = Query(Level(options.level.upper()), keys)
    with node_url.opened(options.source) as node:
        answers = node.find(query)
        for record in answers:
            print(json.dumps(record.to_json()["values"]) if options.json else _line(record))
    if answers.capped:
        print(f"adit-engine: {node.name} cut its answer short", file=sys.stderr)
    return COMPLETE


def _line(record: Record) -> str:
    keywords = {
        Level.STUDY: "PatientID PatientName StudyDate ModalitiesInStudy StudyDescription",
        Level.SERIES: "SeriesNumber Modality SeriesDescription NumberOfSeriesRelatedInstances",
        Level.IMAGE: "InstanceNumber SOPClassUID",
    }.get(record.level, "PatientID PatientName")
    uid = record.instance_uid or record.series_uid or record.study_uid
    return "\t".join([uid, *(record.text(keyword) for keyword in keywords.split())])


def _transfer(options: argparse.Namespace) -> int:
    began = time.monotonic()
    trip = _Trip(options)
    with (
        _reception(options) as reception,
        node_url.opened(options.source, reception=reception) as source,
        node_url.opened(options.destination, make=True) as destination,
    ):
        if node_url.same_place(options.source, options.destination):
            raise WrongInput("Source and destination are the same folder.")
        studies = _studies(options, source)
        trip.fits(studies)
        for study in studies:
            try:
                trip.go(study, source, destination)
            except RuleBroken as broken:
                trip.broke(str(broken))
            except AditError as error:
                trip.broke(str(error))
    return trip.report(time.monotonic() - began)


@contextmanager
def _reception(options: argparse.Namespace) -> Iterator[Reception | None]:
    """A receiver for as long as this command runs, where one is wanted."""
    if options.receiver is None:
        yield None
        return
    kind, _, values = node_url.parsed(options.source)
    if kind != "dimse":
        raise WrongInput("--receiver is for a source such as dimse://PACS1@10.0.0.5:104.")
    from adit_engine.local import local_reception  # costs time that other commands need not spend

    folder = node_url.state_folder() / "spool"
    with local_reception(values, options.receiver, folder, _receiver_tls(options)) as reception:
        yield reception


def _receiver_tls(options: argparse.Namespace) -> "Tls | None":
    paths = [options.receiver_certificate, options.receiver_key, options.receiver_client_ca]
    if not any(paths):
        return None
    from adit_engine.nodes.tls import Papers, ServerTls  # ssl: only for who needs it

    labels = ("--receiver-certificate", "--receiver-key", "--receiver-client-ca")
    return ServerTls(Papers.of_files(*zip(labels, paths, strict=True)))


def _studies(options: argparse.Namespace, source: Any) -> list[Record]:
    if options.all:
        return list(source.find(Query(Level.STUDY, {})))
    found = []
    for uid in options.study:
        records = list(source.find(Query.study(StudyRef(uid))))
        if not records:
            raise NotFound(f"{source.name} has no study {uid}. Check the UID with: find")
        found.extend(records)
    return found


class _Trip:
    """What one call of fetch, send or transfer brings about, added up over its studies."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.outcomes: list[Outcome] = []
        self.manifests: dict[str, Manifest] = {}
        self.errors: list[str] = []
        self.bar = sys.stderr if sys.stderr.isatty() and not options.json else None
        if options.trial and not options.sponsor:
            raise WrongInput("--trial needs --sponsor: DICOM asks for the sponsor's name.")
        if options.pseudonym:
            checked_pseudonym(options.pseudonym)
        self.faces = _chosen(options)
        if not options.as_is:
            path = options.profile
            self.profile = Profile.read(path) if path else Profile.default()
            self.key = trial_key(options.key_file, options.trial)
            self.stamp = (
                TrialStamp(
                    options.sponsor,
                    options.trial,
                    options.trial_name,
                    options.site_name,
                    options.site_id,
                )
                if options.trial
                else None
            )

    def fits(self, studies: list[Record]) -> None:
        if self.options.pseudonym and len({study.patient_id for study in studies}) > 1:
            raise WrongInput("--pseudonym is for one patient; several were named. Use --generate.")

    def go(self, study: Record, source: Any, destination: Any) -> None:
        ref = StudyRef(study.study_uid)
        if self.options.generate and not study.patient_id:
            self._withhold(ref, source)
            return
        order = Order(ref, study.patient_id, Selection(tuple(self.options.series)))
        change = self._change(study, source)
        for told in transfer(order, source, destination, change, {}, Stop()):
            if isinstance(told, Outcome):
                self.outcomes.append(told)
            elif isinstance(told, Listed):
                self.manifests[told.series.series_uid] = Manifest(told.series, told.expected)
            else:
                self._count(told)

    def _withhold(self, study: StudyRef, source: Any) -> None:
        """Without a patient ID there is no pseudonym: the study stays, and each image is named."""
        reason = "without a patient ID no pseudonym can be generated"
        for series in source.find(Query.series_of(study)):
            ref = series.ref
            uids = [record.instance_uid for record in source.find(Query.instances_of(ref))]
            manifest = self.manifests[ref.series_uid] = Manifest(ref, frozenset(uids))
            for uid in uids:
                instance = InstanceRef(ref.study_uid, ref.series_uid, uid)
                manifest.add(Event(instance, State.WITHHELD, "no-patient-id", reason))

    def _count(self, event: Event) -> None:
        self.manifests[event.ref.series_uid].add(event)
        if self.bar is not None:
            done = sum(len(manifest.entries) for manifest in self.manifests.values())
            expected = sum(len(m.expected or ()) for m in self.manifests.values())
            print(f"\r{done} of {expected} images", end="", file=self.bar, flush=True)

    def _change(self, study: Record, source: Any) -> Change:
        if self.options.as_is:
            return AsIs()
        pseudonym = self.options.pseudonym
        if pseudonym is None:
            domain = getattr(source.settings, "domain", "") or source.name
            pseudonym = self.key.generated_pseudonym(domain, study.patient_id)
        return Pseudonymized(self.profile, pseudonym, self.key, self.stamp, self.faces)

    def broke(self, text: str) -> None:
        self.errors.append(text)
        print(f"adit-engine: {text}", file=sys.stderr)

    def report(self, seconds: float) -> int:
        if self.bar is not None:
            print(file=self.bar)
        for manifest in self.manifests.values():
            manifest.close(State.FAILED, "broken-off", "the transfer broke off before this image")
        outcomes = [
            Outcome.of(self.manifests[o.series.series_uid], o.notes)
            if o.series.series_uid in self.manifests
            else o
            for o in self._all_outcomes()
        ]
        path = self._write_manifest()
        sums = total(outcomes)
        failed = bool(self.errors) and not sums.delivered
        verdict = "failed" if failed else sums.verdict.value
        if self.errors and verdict == Verdict.COMPLETE:
            verdict = Verdict.PARTIAL.value
        received = sums.delivered + sums.withheld
        answer = {
            "outcome": verdict,
            "expected": sums.expected,
            "received": received,
            "delivered": sums.delivered,
            "withheld": sums.withheld,
            "failed": sums.failed,
            "skipped": sums.skipped,
            "reasons": _reasons(outcomes),
            "errors": self.errors,
            "faces": {"chosen": self.faces.value, "reason": self.options.accept_faces or ""},
            "manifest": str(path),
            "seconds": round(seconds, 2),
            "bytes": sum(e.size_bytes for m in self.manifests.values() for e in m.entries.values()),
        }
        if self.faces is Faces.UNDECIDED and any(
            code == FACE for outcome in outcomes for code, _, _ in outcome.reasons
        ):
            print(f"adit-engine: {_CHOOSE}", file=sys.stderr)
        print(json.dumps(answer) if self.options.json else _sentence(answer))
        if failed:
            return FAILED
        only_withheld = sums.expected == sums.delivered + sums.withheld and not self.errors
        fine = verdict == Verdict.COMPLETE or (self.options.allow_withheld and only_withheld)
        return COMPLETE if fine else INCOMPLETE

    def _all_outcomes(self) -> Iterator[Outcome]:
        """The outcomes told, and one for each series whose transfer broke off."""
        yield from self.outcomes
        told = {outcome.series.series_uid for outcome in self.outcomes}
        for uid, manifest in self.manifests.items():
            if uid not in told:
                yield Outcome.of(manifest)

    def _write_manifest(self) -> Path:
        path = self.options.manifest or node_url.state_folder() / f"manifest-{time.time_ns()}.json"
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        text = json.dumps([manifest.to_json() for manifest in self.manifests.values()], indent=1)
        temp = path.with_name(path.name + ".part")
        temp.touch(mode=0o600)
        temp.write_text(text)
        temp.rename(path)
        return Path(path)


def _chosen(options: argparse.Namespace) -> Faces:
    """Raises WrongInput."""
    if options.accept_faces is not None:
        if not options.accept_faces.strip():
            raise WrongInput("--accept-faces needs a reason.")
        return Faces.ACCEPT
    return Faces.WITHHOLD if options.withhold_faces else Faces.UNDECIDED


def _reasons(outcomes: list[Outcome]) -> dict[str, int]:
    reasons: dict[str, int] = {}
    for outcome in outcomes:
        for _, sentence, count in outcome.reasons:
            reasons[sentence] = reasons.get(sentence, 0) + count
        for note in (*outcome.notes, outcome.left_out):
            if note:
                reasons[note] = reasons.get(note, 0) + 1
    return reasons


def _sentence(answer: dict[str, Any]) -> str:
    lines = [
        f"{answer['outcome']}: {answer['delivered']} of "
        f"{'?' if answer['expected'] is None else answer['expected']} images delivered, "
        f"{answer['withheld']} withheld, {answer['failed']} failed, {answer['skipped']} skipped "
        f"({answer['bytes'] / 1e6:.1f} MB in {answer['seconds']} s)"
    ]
    lines += [f"  {count} × {reason}" for reason, count in answer["reasons"].items()]
    lines.append(f"ledger: {answer['manifest']}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
