"""Prepare a data folder and its database, and check an installation.

Used by `adit prepare`, `adit up`, `adit doctor` and the page System status.
"""

import fcntl
import logging
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings
from django.core.management import call_command
from django.db import Error, connection
from django.db.migrations.loader import MigrationLoader

from adit import service_checks
from adit.accounts import permissions
from adit.accounts.models import User
from adit.accounts.permissions import create_order_rights
from adit.audit import trail
from adit.jobs.kinds import KINDS
from adit.nodes import health, shared_folders
from adit.projects import services
from adit.service_checks import ServiceFinding
from adit.vault.cipher import DecryptionError
from adit.vault.master_key import KeyMissing, master_cipher
from adit_engine.nodes.base import NodeFinding as Looked

MIN_FREE_BYTES = 2_000_000_000
_LOCK_ID = 0xAD17

log = logging.getLogger(__name__)


class UnknownDatabaseVersion(Exception):
    """The database holds migrations that this version of ADIT does not know."""


def prepare_database() -> None:
    """Create tables, standard groups and the default project. Safe to repeat.

    Raises KeyMissing, UnknownDatabaseVersion.
    """
    master_cipher()
    restrict_access()
    with _lock_database():
        _require_known_migrations()
        _migrate()
    settings.STATIC_ROOT.mkdir(parents=True, exist_ok=True)
    settings.BROKER_DIR.mkdir(parents=True, exist_ok=True, mode=0o700)
    trail.check_and_keep_head()


def restrict_access() -> None:
    """Take the data folder and the SQLite files from all other users, whatever was there.

    SQLite gives its other files the mode of the database, which is therefore created first.
    """
    files = _get_sqlite_files()
    try:
        settings.DATA_DIR.chmod(0o700)
        if files:
            os.close(os.open(files[0], os.O_RDWR | os.O_CREAT, 0o600))
        for path in files:
            if path.exists():
                path.chmod(0o600)
    except PermissionError as error:
        log.warning("Another user owns %s: `adit doctor` says what to do", error.filename)


def _get_sqlite_files() -> list[Path]:
    """Return the database and its other files, which may not exist; nothing for PostgreSQL."""
    if connection.vendor != "sqlite":
        return []
    path = str(connection.settings_dict["NAME"])
    return [Path(f"{path}{suffix}") for suffix in ("", "-wal", "-shm", "-journal")]


def _require_known_migrations() -> None:
    """Raises UnknownDatabaseVersion, before anything is changed."""
    loader = MigrationLoader(connection)
    unknown = sorted(set(loader.applied_migrations) - set(loader.disk_migrations))
    if unknown:
        raise UnknownDatabaseVersion(
            f"The database was created by another version of ADIT (its migration "
            f"{'.'.join(unknown[0])} is unknown here). Start the version that created it or a "
            f"newer one. Data from before 0.1.0 cannot be upgraded: move the data folder "
            f"{settings.DATA_DIR} to another place (and use a new database, if DATABASE_URL is "
            "set), then start again."
        )


def _migrate() -> None:
    call_command("migrate", interactive=False, verbosity=0)
    call_command("createcachetable", verbosity=0)
    permissions.create_standard_groups()
    create_order_rights(KINDS)
    _require_matching_key()


@contextmanager
def _lock_database() -> Iterator[None]:
    """Hold a lock, so that machines prepared at the same time take turns."""
    if connection.vendor != "postgresql":
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '120s'")
        cursor.execute("SELECT pg_advisory_lock(%s)", [_LOCK_ID])
        try:
            yield
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [_LOCK_ID])


def has_users() -> bool:
    return User.objects.exists()


def check_installation() -> Iterator[ServiceFinding]:
    """Yield the findings on this installation; changes nothing."""
    yield _check_data_folder()
    yield from _check_database_files()
    yield _check_key_file()
    yield from service_checks.check_services()
    yield _check_disk()
    yield from _check_audit_trail()
    found = health.check_receiver_and_nodes(runs=_is_running() or not settings.EMBEDDED)
    yield from (
        ServiceFinding(str(one.what), str(one.next_step or ""))
        for one in (*found, *_check_shared_folders())
    )


def _check_shared_folders() -> list[Looked]:
    try:
        return list(shared_folders.check_shared_folders())
    except Error:  # reported already by the database check
        return []


def _require_matching_key() -> None:
    """Decrypt an existing value with the master key. Raise KeyMissing."""
    try:
        _ = services.default_project().key
    except DecryptionError:
        raise KeyMissing(
            f"The master key in {settings.KEY_FILE} is not the one with which this database was "
            "encrypted. Restore the key from the backup."
        ) from None


def _check_data_folder() -> ServiceFinding:
    what = f"data folder {settings.DATA_DIR}"
    if not settings.DATA_DIR.is_dir():
        return ServiceFinding(what, "It does not exist yet. `adit up` creates it.")
    return _check_mode(what, settings.DATA_DIR, 0o700)


def _check_database_files() -> Iterator[ServiceFinding]:
    for path in _get_sqlite_files():
        if path.exists():
            yield _check_mode(f"database file {path}", path, 0o600)


def _check_mode(what: str, path: Path, mode: int) -> ServiceFinding:
    if stat.S_IMODE(path.stat().st_mode) & 0o777 & ~mode:
        step = f"Other users of this server can access it. Run: chmod {mode:o} {path}"
        return ServiceFinding(what, step)
    return ServiceFinding(what)


def _check_key_file() -> ServiceFinding:
    what = f"master key {settings.KEY_FILE}"
    try:
        master_cipher()
        if connection.introspection.table_names():
            _require_matching_key()
    except KeyMissing as error:
        return ServiceFinding(what, str(error))
    except Error:
        return ServiceFinding(what)
    return _check_mode(what, settings.KEY_FILE, 0o600)


def _check_audit_trail() -> Iterator[ServiceFinding]:
    try:
        broken = trail.check_end()
    except (Error, KeyMissing):  # reported already
        return
    step = f"{broken.reason} See “Audit trail” in docs/operate.md." if broken else ""
    yield ServiceFinding("audit trail", step)


def _is_running() -> bool:
    """Return whether `adit up` or `adit demo` holds the data folder."""
    try:
        with (settings.DATA_DIR / "adit.lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _check_disk() -> ServiceFinding:
    place = settings.DATA_DIR if settings.DATA_DIR.exists() else settings.PROJECT_DIR
    free = shutil.disk_usage(place).free
    what = f"free space {free / 1e9:.1f} GB"
    return ServiceFinding(
        what, "" if free > MIN_FREE_BYTES else "Free some space before the disk is full."
    )
