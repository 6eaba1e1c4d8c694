"""adit-engine: test DICOM nodes, search them and transfer studies from the command line."""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adit_engine.cli import check as cli_check
from adit_engine.cli import node_url, transfer
from adit_engine.cli.signals import stop_on_signal
from adit_engine.cli.transfer import ExitCode, TransferRun
from adit_engine.errors import AditError, InvalidInput, NotFound, NotSupported
from adit_engine.messages import Message
from adit_engine.nodes import get_capabilities
from adit_engine.nodes.base import Grade, Searchable
from adit_engine.storage_scp.pending_moves import MoveReceiver
from adit_engine.values.query import Query
from adit_engine.values.record import Record
from adit_engine.values.references import QueryLevel, StudyRef

if TYPE_CHECKING:
    from adit_engine.dicom_ul.tls import TlsSettings


class _ArgumentParser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        self.print_usage(sys.stderr)
        self.exit(ExitCode.WRONG_USE, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    0 complete, 1 partial or unverifiable, 2 failed, 64 wrong use, 130 stopped by Ctrl-C, 143 by
    SIGTERM, 141 if the reader of the output has closed it.
    """
    options = _make_parser().parse_args(arguments)
    try:
        code: int = options.run(options)
        sys.stdout.flush()
    except InvalidInput as error:
        print(f"adit-engine: {error}", file=sys.stderr)
        return ExitCode.WRONG_USE
    except AditError as error:
        print(f"adit-engine: {error}", file=sys.stderr)
        return ExitCode.FAILED
    except KeyboardInterrupt:
        print("adit-engine: stopped", file=sys.stderr)
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader, such as `head`, has closed the pipe. Discard what is still buffered.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.UNREAD
    return code


def _make_parser() -> argparse.ArgumentParser:
    parser = _ArgumentParser(prog="adit-engine", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_ArgumentParser)

    echo = commands.add_parser("echo", help="test whether a node answers")
    echo.add_argument(
        "node", help="dimse://CALLED@host:port?calling=ADIT, dimse+tls://…, folder:PATH"
    )
    echo.set_defaults(run=_run_echo)

    check = commands.add_parser("check", help="test the functions of a node")
    cli_check.add_check_arguments(check)
    _add_receiver_arguments(check)
    check.set_defaults(run=_run_check)

    sheet = commands.add_parser(
        "sheet", help="print what the administrator of a node has to register"
    )
    cli_check.add_sheet_arguments(sheet)
    sheet.set_defaults(run=_run_sheet)

    find = commands.add_parser("find", help="list studies, series or images")
    find.add_argument("--from", dest="source", required=True, metavar="URL")
    find.add_argument("--level", choices=["study", "series", "image"], default="study")
    find.add_argument("keys", nargs="*", metavar="Keyword=value", help="PatientID=123 StudyDate=…")
    find.add_argument("--json", action="store_true")
    find.set_defaults(run=_run_find)

    fetch = commands.add_parser("fetch", help="fetch unchanged studies into a folder")
    fetch.add_argument("--from", dest="source", required=True, metavar="URL")
    fetch.add_argument("--to", dest="destination", required=True, metavar="FOLDER")
    _add_selection_arguments(fetch)
    _add_archive_arguments(fetch)
    _add_receiver_arguments(fetch)
    fetch.set_defaults(run=_run_transfer, as_is=True, pseudonym=None, generate=False)

    send = commands.add_parser("send", help="send the unchanged studies of a folder to a node")
    send.add_argument("--from", dest="source", required=True, metavar="FOLDER")
    send.add_argument("--to", dest="destination", required=True, metavar="URL")
    _add_selection_arguments(send, everything=True)
    _add_archive_arguments(send)
    _add_receiver_arguments(send)
    send.set_defaults(run=_run_transfer, as_is=True, pseudonym=None, generate=False)

    move = commands.add_parser("transfer", help="transfer studies from any node to any node")
    move.add_argument("--from", dest="source", required=True, metavar="URL")
    move.add_argument("--to", dest="destination", required=True, metavar="URL")
    _add_selection_arguments(move)
    _add_archive_arguments(move)
    _add_receiver_arguments(move)
    change = move.add_mutually_exclusive_group(required=True)
    change.add_argument("--as-is", action="store_true", help="send identified images, unchanged")
    change.add_argument("--pseudonym", metavar="P", help="pseudonym of the one patient")
    change.add_argument(
        "--generate",
        action="store_true",
        help="generate a pseudonym for each patient; it is specific to this source unless --domain "
        "is given",
    )
    move.add_argument(
        "--domain",
        default="",
        help="with --generate: use the same name for all sources that share patient IDs, such as "
        "two folders of one hospital; a patient then has the same pseudonym and date shift in all",
    )
    move.add_argument("--trial", default="", help="protocol ID of the research project")
    move.add_argument("--trial-name", default="")
    move.add_argument("--sponsor", default="", help="required with --trial")
    move.add_argument("--site-name", default="", help="name of your site in the project")
    move.add_argument("--site-id", default="")
    move.add_argument(
        "--key-file", type=Path, help="file with the project key; default: a stored key"
    )
    move.add_argument("--profile", type=Path, help="profile file; default: the built-in profile")
    move.add_argument(
        "--text-detection",
        choices=["off", "on"],
        help="look for text in the pixels: withhold images with text, and release those that only "
        "lack a proof in their header; default: on if the extra “ocr” is installed",
    )
    _risks(move)
    move.set_defaults(run=_run_transfer)
    return parser


def _risks(parser: argparse.ArgumentParser) -> None:
    """Add the options for risks. Without a decision, such images are withheld."""
    faces = parser.add_mutually_exclusive_group()
    faces.add_argument(
        "--withhold-faces",
        action="store_true",
        help="withhold thin slices that may show a head (CT, MR, PET)",
    )
    faces.add_argument(
        "--accept-faces", metavar="REASON", help="deliver them; the reason is part of the report"
    )
    parser.add_argument(
        "--accept-header-word",
        metavar="REASON",
        help="deliver radiographs and scintigrams (CR, DX, MG, XA, RF, NM) if the header says that "
        "no text is burned into the pixels; otherwise a pixel rule has to cover the device",
    )


def _add_selection_arguments(parser: argparse.ArgumentParser, everything: bool = False) -> None:
    which = parser.add_mutually_exclusive_group(required=not everything)
    which.add_argument("--study", action="append", default=[], metavar="UID")
    which.add_argument("--all", action="store_true", default=everything)
    parser.add_argument("--series", action="append", default=[], metavar="UID")
    parser.add_argument("--manifest", type=Path, help="file for the ledger")
    parser.add_argument(
        "--allow-withheld", action="store_true", help="exit code 0 even if images are withheld"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(trial="", trial_name="", sponsor="", key_file=None, profile=None)
    parser.set_defaults(receiver=None, withhold_faces=False)
    parser.set_defaults(accept_faces=None, accept_header_word=None)


def _add_archive_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--password-file",
        metavar="FILE",
        help="file with the password of archive:FILE.7z; default: the command asks for it",
    )


def _add_receiver_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--receiver",
        type=int,
        metavar="PORT",
        help="receive images that the source sends by C-MOVE, and the reports of a destination "
        "with ?proof=commitment; both nodes must know the address of this computer",
    )
    for name, what in (
        ("certificate", "accept only TLS, with this certificate"),
        ("key", "private key of the certificate, if it is in another file"),
        ("client-ca", "accept only senders with a certificate issued by this one"),
    ):
        parser.add_argument(f"--receiver-{name}", metavar="FILE", default="", help=what)


def _run_echo(options: argparse.Namespace) -> int:
    """Print the findings up to the first that shows whether the node answers."""
    with node_url.open_url(options.node) as node, closing(node.check()) as findings:
        for finding in findings:
            sentences = (finding.what, finding.next_step)
            text = " ".join(str(one) for one in sentences if one is not None)
            print(f"{finding.grade}: {text}")
            if finding.grade is not Grade.WARNING:
                return ExitCode.FAILED if finding.grade is Grade.BAD else ExitCode.COMPLETE
    return ExitCode.COMPLETE


def _run_check(options: argparse.Namespace) -> int:
    with _run_receiver(options) as reception:
        return ExitCode.COMPLETE if cli_check.check_node(options, reception) else ExitCode.FAILED


def _run_sheet(options: argparse.Namespace) -> int:
    cli_check.write_sheet(options)
    return ExitCode.COMPLETE


def _run_find(options: argparse.Namespace) -> int:
    keys = {}
    for pair in options.keys:
        keyword, equals, value = pair.partition("=")
        if not equals:
            raise InvalidInput("cli.keyword-without-value", keyword=keyword)
        keys[keyword] = value
    query = Query(QueryLevel(options.level.upper()), keys, wildcards=True)
    with node_url.open_url(options.source) as node:
        answers = _require_searchable(node).find(query)
        for record in answers:
            print(
                json.dumps(record.to_json()["values"]) if options.json else _format_record(record)
            )
    if answers.is_capped:
        incomplete = Message("cli.incomplete", node=node.name, shortfall=answers.shortfall)
        print(f"adit-engine: {incomplete}", file=sys.stderr)
    return ExitCode.COMPLETE


def _format_record(record: Record) -> str:
    keywords = {
        QueryLevel.STUDY: "PatientID PatientName StudyDate ModalitiesInStudy StudyDescription",
        QueryLevel.SERIES: "SeriesNumber Modality SeriesDescription NumberOfSeriesRelatedInstances",
        QueryLevel.IMAGE: "InstanceNumber SOPClassUID",
    }.get(record.level, "PatientID PatientName")
    uid = record.instance_uid or record.series_uid or record.study_uid
    columns = [uid, *(record.text(keyword) for keyword in keywords.split())]
    # Values from an archive must not act as control sequences of the terminal.
    return "\t".join("".join(c if c.isprintable() else " " for c in one) for one in columns)


def _run_transfer(options: argparse.Namespace) -> int:
    began = time.monotonic()
    trip = TransferRun(options)
    password = transfer.ask_archive_password(options)
    with (
        _run_receiver(options) as reception,
        node_url.open_url(options.source, reception=reception) as source,
        node_url.open_url(options.destination, make=True, reception=reception) as destination,
    ):
        if node_url.is_same_location(options.source, options.destination):
            raise InvalidInput("cli.same-folder")
        studies = _find_studies(options, _require_searchable(source))
        trip.check_studies(studies)
        with stop_on_signal(trip.stop) as stopped:
            trip.stop.add_callback(getattr(source, "abort", lambda: None))
            for study in studies:
                try:
                    trip.transfer_study(study, source, destination)
                except AditError as error:
                    reason = error.message
                    if len(studies) > 1:
                        reason = Message("cli.study-failed", study=study.study_uid, error=reason)
                    trip.record_error(reason)
                if trip.stop.is_set():
                    break
            if password:
                transfer.build_archive(trip, destination, password)
            code = trip.print_report(time.monotonic() - began)
            return stopped() or code


def _require_searchable(node: Any) -> Any:
    if not isinstance(node, Searchable):
        raise NotSupported(node.name, "cli.not-a-source")
    return node


@contextmanager
def _run_receiver(options: argparse.Namespace) -> Iterator[MoveReceiver | None]:
    """Run a receiver for the duration of this command, if one is requested."""
    if options.receiver is None:
        yield None
        return
    ends = (options.source, getattr(options, "destination", ""))
    parsed = (node_url.parse_url(url) for url in ends if url)
    callers = [values for kind, _, values in parsed if get_capabilities(kind).uses_receiver]
    if not callers:
        raise InvalidInput("cli.receiver-without-dimse")
    from adit_engine.storage_scp.local import run_local_receiver

    folder = node_url.state_folder() / "spool"
    with run_local_receiver(
        callers, options.receiver, folder, _make_receiver_tls(options)
    ) as reception:
        yield reception


def _make_receiver_tls(options: argparse.Namespace) -> "TlsSettings | None":
    paths = [options.receiver_certificate, options.receiver_key, options.receiver_client_ca]
    if not any(paths):
        return None
    from adit_engine.dicom_ul.tls import ServerTls, TlsCredentials  # loads ssl, rarely needed

    labels = ("--receiver-certificate", "--receiver-key", "--receiver-client-ca")
    return ServerTls(TlsCredentials.from_files(*zip(labels, paths, strict=True)))


def _find_studies(options: argparse.Namespace, source: Any) -> list[Record]:
    """Return each study once: some archives return one several times, with different values."""
    found = _find_records(options, source)
    return list({(one.study_uid, one.patient_id): one for one in reversed(found)}.values())[::-1]


def _find_records(options: argparse.Namespace, source: Any) -> list[Record]:
    if options.all:
        return list(source.find(Query(QueryLevel.STUDY, {})))
    found = []
    for uid in options.study:
        records = list(source.find(Query.study(StudyRef(uid))))
        if not records:
            raise NotFound("cli.study-not-found", node=source.name, study=uid)
        found.extend(records)
    return found


if __name__ == "__main__":
    sys.exit(main())
