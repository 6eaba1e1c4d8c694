"""The command `adit`: run ADIT or one of its processes, check it, stop a PACS in an emergency."""

import argparse
import getpass
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Mapping, Sequence
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import django
from django.core.management import execute_from_command_line

from adit.config import settings as config
from adit.config.celery import MAINTENANCE_QUEUE, WORK_QUEUE, run_worker
from adit.supervisor import (
    AlreadyRunning,
    NotReady,
    Process,
    Supervisor,
    lock_data_folder,
    print_message,
)
from adit.vault.master_key import KeyMissing
from adit_engine.pseudonymize.keys import create_key_file

READY_S = 90.0
"""For slow machines; a process that ends repeatedly is reported meanwhile."""
HOST = "127.0.0.1"
WEB_THREADS = 8


class CommandRefused(Exception):
    """The command cannot be executed now; the text says why and what to do."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return 0 if done, 1 if refused or failed, 2 for wrong use."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # warnings of libraries may quote values of patients
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["manage"]:
        return _run_manage(arguments[1:])
    parser = _make_parser()
    chosen = parser.parse_args(arguments)
    try:
        _require_time_zone()
        _require_two_heartbeats_per_lease()
        return int(COMMANDS[chosen.command](chosen) or 0)
    except (CommandRefused, AlreadyRunning, NotReady, KeyMissing) as error:
        print_message(str(error))
        return 1


def prepare() -> None:
    """Prepare the data folder and the database: keys, tables, groups.

    Raises KeyMissing, CommandRefused.
    """
    config.DATA_DIR.mkdir(parents=True, exist_ok=True, mode=0o700)
    _make_keys()
    _set_up_django()
    from adit import installation  # needs the keys and the set-up of Django above

    try:
        installation.prepare_database()
    except installation.UnknownDatabaseVersion as error:
        raise CommandRefused(str(error)) from None


def make_processes(**settings: str) -> list[Process]:
    """Return the processes of `adit up`; the demo passes settings and adds its own."""
    port, env = config.PORT, {"PORT": str(config.PORT), **settings}

    adit = [sys.executable, "-m", "adit.cli"]

    def own(name: str, command: str, ready: Callable[[], bool] | None = None) -> Process:
        return Process(name, [*adit, command], env, ready)

    cleanup = [*adit, "manage", "release_tasks"]
    workers = [
        Process(f"worker {n}", [*adit, "worker"], env, cleanup=cleanup)
        for n in range(1, config.WORKERS + 1)
    ]
    dicomweb = config.DICOMWEB_PORT
    return [
        own("web", "web", lambda: is_serving(port)),
        *([own("dicomweb", "dicomweb", lambda: is_serving(dicomweb))] if dicomweb else []),
        own("scheduler", "scheduler"),
        own("receiver", "receiver"),
        *workers,
    ]


def is_serving(port: int) -> bool:
    """Return whether the pages are available."""
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/healthz", timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def require_free_port(port: int) -> None:
    """Raise CommandRefused if the port is in use."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((config.WEB_HOST, port))
        except OSError:
            raise CommandRefused(
                f"Port {port} is in use. Stop the program that uses it, or choose another port: "
                "PORT=8080 adit up"
            ) from None


def run_all(options: argparse.Namespace) -> int:
    """Run all processes on this server until Ctrl-C."""
    with lock_data_folder(config.DATA_DIR):
        require_free_port(config.PORT)
        if config.DICOMWEB_PORT:
            require_free_port(config.DICOMWEB_PORT)
        prepared = _prepare_in_subprocess()
        if prepared:
            return prepared
        with Supervisor(make_processes()) as supervisor:
            if supervisor.wait_ready(READY_S):
                print_message(f"ready at http://{HOST}:{config.PORT}/ (stop with Ctrl-C)")
                supervisor.run_until_signal()
    return 0


def run_prepare(options: argparse.Namespace) -> int:
    """Create keys, tables and groups: before the first start and after each upgrade."""
    prepare()
    from adit import installation

    if not installation.has_users():
        _print_setup_link()
    if not options.quiet:
        print_message("ready: `adit web`, `worker`, `scheduler` and `receiver` can be started.")
    return 0


def show_setup_link(options: argparse.Namespace) -> int:
    """Print a new link to create the first administrator; earlier links are void."""
    _require_keys()
    _set_up_django()
    _print_setup_link()
    return 0


def create_api_token(options: argparse.Namespace) -> int:
    """Create an API token of a user, and print the token alone on standard output."""
    _require_keys()
    _set_up_django()
    from adit.accounts.models import User
    from adit.api_tokens import tokens
    from adit.nodes.models import Node
    from adit_engine.errors import AditError

    user = User.objects.filter(username=options.user).first()
    if user is None:
        raise CommandRefused(f"There is no user {options.user}. User names are case-sensitive.")
    names = _split_list(options.nodes)
    nodes = list(Node.objects.filter(name__in=names))
    if unknown := sorted({*names} - {node.name for node in nodes}):
        raise CommandRefused(f"There is no PACS or folder named {', '.join(unknown)}.")
    try:
        _token, text = tokens.create_token(
            None,
            user,
            options.name,
            _split_list(options.scopes),
            days=None if options.days == "never" else int(options.days),
            nodes=nodes if names else None,
        )
    except AditError as error:
        raise CommandRefused(str(error)) from None
    print(text)
    return 0


def _split_list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _days_or_never(text: str) -> str:
    if text != "never":
        int(text)
    return text


def _prepare_in_subprocess() -> int:
    """Prepare in a subprocess, so that the supervisor loads neither models nor libraries."""
    argv = [sys.executable, "-m", "adit.cli", "prepare", "--quiet"]
    return subprocess.run(argv, check=False).returncode  # noqa: S603 - our own command


def run_web(options: argparse.Namespace) -> int:
    """Run the web server."""
    _require_keys()
    config.STATIC_ROOT.mkdir(parents=True, exist_ok=True)
    arguments = ["--interface", "wsgi", "--host", config.WEB_HOST, "--port", str(config.PORT)]
    arguments += ["--workers", "1", "--blocking-threads", str(WEB_THREADS), "--http", "1"]
    arguments += ["--no-ws", "--log-level", "error", "--respawn-failed-workers"]
    arguments += ["--workers-kill-timeout", "4", "adit.config.wsgi:application"]
    os.execv(sys.executable, [sys.executable, "-m", "granian", *arguments])  # noqa: S606


def run_dicomweb(options: argparse.Namespace) -> int:
    """Run the server of the DICOMweb API, so that long streams do not hold the pages' threads."""
    _require_keys()
    if not config.DICOMWEB_PORT:
        raise CommandRefused("Set ADIT_DICOMWEB_PORT to the port of the DICOMweb API.")
    threads = config.DICOMWEB_THREADS
    environment = {
        **os.environ,
        "ADIT_DICOMWEB_REQUESTS": str(threads),
        "ADIT_SEARCH_THREADS": str(max(1, threads // 2)),
    }
    # Gunicorn, unlike Granian, breaks the connection when a stream fails. Its logs contain query
    # strings, which may hold pseudonyms: only critical errors are logged.
    arguments = ["--worker-class", "gthread", "--threads", str(threads), "--workers", "1"]
    arguments += ["--bind", f"{config.WEB_HOST}:{config.DICOMWEB_PORT}", "--log-level", "critical"]
    arguments += ["--keep-alive", "15", "--graceful-timeout", "4", "--limit-request-line", "8190"]
    arguments += ["--no-control-socket", "adit.config.dicomweb_wsgi:application"]
    argv = [sys.executable, "-m", "gunicorn", *arguments]
    os.execve(sys.executable, argv, environment)  # noqa: S606


def run_task_worker(options: argparse.Namespace) -> int:
    """Run a worker, which executes one task at a time."""
    _require_keys()
    return run_worker(WORK_QUEUE)


def run_scheduler(options: argparse.Namespace) -> int:
    """Run the scheduler: it notifies the workers, recovers lost tasks and cleans up."""
    _require_keys()
    return run_worker(MAINTENANCE_QUEUE)


def run_receiver(options: argparse.Namespace) -> int:
    """Run the receiver for images that a PACS sends after a C-MOVE."""
    _require_keys()
    end = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: end.set())
    if not config.RECEIVER_PORT:
        print_message("ADIT_RECEIVER_PORT is 0: no images are received by C-MOVE.")
        end.wait()
        return 0
    _set_up_django()
    from adit.monitoring import process_signs
    from adit.monitoring.models import ProcessRole
    from adit.nodes import host_checks
    from adit.nodes.receiving import receiver_state

    host_checks.start_host_checks(receives=True)
    process_signs.start_signs(ProcessRole.RECEIVER)
    receiver_state.run_receiver(end)
    return 0


def stop_nodes(options: argparse.Namespace) -> int:
    """Stop a PACS or folder, or all: end all connections, start no new work."""
    return _stop_or_pause(options, abort=True)


def pause_nodes(options: argparse.Namespace) -> int:
    """Pause a PACS or folder, or all: finish running series, start no new work."""
    return _stop_or_pause(options, abort=False)


def _stop_or_pause(options: argparse.Namespace, *, abort: bool) -> int:
    _require_keys()
    _set_up_django()
    from adit.nodes.pause import pause_from_command_line

    if bool(options.node) == options.all:
        raise CommandRefused("Enter the name of one PACS or folder, or --all.")
    reason = f"{options.reason} ({getpass.getuser()} on the server)"
    count, done = (
        pause_from_command_line(options.node, reason, cut=abort),
        "stopped" if abort else "paused",
    )
    if options.all:
        print_message(f"{count} {done}. Each must be opened again on its page.")
        return 0
    if not count:
        raise CommandRefused(
            f"There is no PACS or folder named {options.node}. Names are case-sensitive."
        )
    print_message(f"{options.node} is {done}. It must be opened again on its page.")
    return 0


def run_doctor(options: argparse.Namespace) -> int:
    """Check this installation and describe how to fix problems."""
    _set_up_django()
    from adit import installation

    findings = list(installation.check_installation())
    for finding in findings:
        print(f"{'!!' if finding.next_step else 'ok'}  {finding.subject}")
        if finding.next_step:
            print(f"    {finding.next_step}")
    return 1 if any(finding.next_step for finding in findings) else 0


def run_demo(options: argparse.Namespace) -> int:
    """Run a demo: a small PACS with sample patients, first jobs, and the pages."""
    with lock_data_folder(config.DATA_DIR):
        require_free_port(config.PORT)
        prepare()
        from adit.demo.run import Demo

        stage = Demo(config.DATA_DIR / "demo", f"http://{HOST}:{config.PORT}/", print_message)
        stage.set_up()
        log = config.DATA_DIR / "demo" / "archives.log"
        archives = [
            Process(name, argv, ready=ready, output=log) for name, argv, ready in stage.archives()
        ]
        with Supervisor([*archives, *make_processes(ADIT_RECEIVER_HOST=HOST)]) as supervisor:
            if not supervisor.wait_ready(READY_S):
                return 1
            return int(stage.run(supervisor))


COMMANDS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "up": run_all,
    "prepare": run_prepare,
    "web": run_web,
    "dicomweb": run_dicomweb,
    "worker": run_task_worker,
    "receiver": run_receiver,
    "scheduler": run_scheduler,
    "demo": run_demo,
    "doctor": run_doctor,
    "setup-link": show_setup_link,
    "token": create_api_token,
    "stop": stop_nodes,
    "pause": pause_nodes,
}


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="adit", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        text = (command.__doc__ or "").splitlines()[0]
        sub = commands.add_parser(name, help=text, description=text)
        if name == "prepare":
            sub.add_argument("--quiet", action="store_true", help="print only problems")
        if name == "token":
            sub.add_argument("action", choices=["create"], help="what to do")
            sub.add_argument("user", metavar="USER", help="the user whose permissions apply")
            sub.add_argument("--name", default="command line", help="what the token is for")
            sub.add_argument(
                "--days",
                type=_days_or_never,
                default="30",
                help="how long it is valid: 1 to 90, or never, if the user may (default: 30)",
            )
            sub.add_argument(
                "--scopes",
                default="query,retrieve,store,jobs:read,jobs:write",
                help="allowed uses, separated by commas (default: %(default)s)",
            )
            sub.add_argument(
                "--nodes", default="", help="names of PACS and folders (default: all of the user)"
            )
        if name in ("stop", "pause"):
            sub.add_argument(
                "node", metavar="NODE", nargs="?", help="name of the PACS or folder, as on its page"
            )
            sub.add_argument("--all", action="store_true", help="all PACS and folders")
            sub.add_argument(
                "--reason", default=name, help="shown to all users whose jobs wait for it"
            )
    commands.add_parser("manage", help="Run a command of Django, such as createsuperuser.")
    return parser


def _run_manage(arguments: list[str]) -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "adit.config.settings")
    execute_from_command_line(["adit manage", *arguments])
    return 0


def _set_up_django() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "adit.config.settings")
    django.setup()


def _make_keys() -> None:
    if not config.KEY_FILE.exists() and _has_database():
        raise KeyMissing(
            f"A database exists, but its master key {config.KEY_FILE} is missing. Restore the key "
            "from the backup: without it encrypted values cannot be read."
        )
    if create_key_file(config.KEY_FILE):
        print_message(f"created the master key {config.KEY_FILE}")
        print_message(
            "BACK IT UP SEPARATELY FROM THE DATABASE: without it pseudonyms and jobs cannot be read."
        )
    create_key_file(config.SECRET_KEY_FILE)
    config.SECRET_KEY = config.SECRET_KEY_FILE.read_text().strip()


def _has_database() -> bool:
    """Return whether a database exists; called before Django can be set up.

    Raises CommandRefused if that cannot be found out.
    """
    if config.EMBEDDED:
        return (config.DATA_DIR / "adit.sqlite3").exists()
    import psycopg  # only distributed installations have it

    try:
        with psycopg.connect(config.DATABASE_URL, connect_timeout=5) as base:
            row = base.execute("SELECT to_regclass('django_migrations') IS NOT NULL").fetchone()
    except psycopg.Error as error:
        raise CommandRefused(
            f"Connecting to the database failed ({type(error).__name__}). Check DATABASE_URL, its "
            "password, and whether PostgreSQL runs."
        ) from None
    return bool(row and row[0])


def _require_keys() -> None:
    for path in (config.KEY_FILE, config.SECRET_KEY_FILE):
        if not path.exists():
            raise KeyMissing(f"{path} is missing. `adit up` or `adit prepare` creates a new one.")


def _require_time_zone() -> None:
    """Check before Django does: hours in an unknown zone would open a PACS at any time."""
    try:
        ZoneInfo(config.TIME_ZONE)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise CommandRefused(
            f"ADIT_TIME_ZONE={config.TIME_ZONE} is not a time zone. Enter one such as Europe/Berlin."
        ) from None


def _require_two_heartbeats_per_lease() -> None:
    """Otherwise the lease of each task would expire again and again while its worker is well."""
    if config.LEASE_S < 2 * config.BEAT_S:
        raise CommandRefused(
            f"ADIT_LEASE_S={config.LEASE_S} is too short for ADIT_BEAT_S={config.BEAT_S}. It must "
            "be at least twice as long."
        )


def _print_setup_link() -> None:
    from adit.administration import one_time_links

    try:
        url = one_time_links.create_setup_link()
    except one_time_links.LinkRefused as error:
        raise CommandRefused(str(error)) from None
    print_message("create the first administrator with this link (valid once, for 24 hours):")
    print_message(url)


if __name__ == "__main__":
    sys.exit(main())
