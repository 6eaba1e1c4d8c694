"""Installation: a data folder made ready to work with, and what may be wrong with it, in words."""

import fcntl
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.core.management import call_command
from django.db import Error, connection

from adit import service_checks
from adit.accounts import groups
from adit.accounts.models import User
from adit.accounts.permissions import ensure_order_rights
from adit.jobs.kinds import KINDS
from adit.nodes import health, shared_folders
from adit.projects import services
from adit.service_checks import Finding
from adit.vault.cipher import SealBroken
from adit.vault.master_key import KeyMissing, master_box
from adit_engine.nodes.base import NodeFinding as Looked

ENOUGH_BYTES = 2_000_000_000
_PREPARING = 0xAD17


def make_tables() -> None:
    """Tables, standard groups and the site's own project. Safe to repeat. Raises KeyMissing."""
    master_box()
    with _alone():
        _migrate()
    settings.STATIC_ROOT.mkdir(parents=True, exist_ok=True)
    settings.BROKER_DIR.mkdir(parents=True, exist_ok=True, mode=0o700)


def _migrate() -> None:
    call_command("migrate", interactive=False, verbosity=0)
    call_command("createcachetable", verbosity=0)
    groups.make_standard_groups()
    ensure_order_rights(KINDS)
    _check_key()


@contextmanager
def _alone() -> Iterator[None]:
    """Two machines that are prepared at the same time take turns."""
    if connection.vendor != "postgresql":
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '120s'")
        cursor.execute("SELECT pg_advisory_lock(%s)", [_PREPARING])
        try:
            yield
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [_PREPARING])


def has_users() -> bool:
    return User.objects.exists()


def examine() -> Iterator[Finding]:
    """What works and what does not; touches nothing."""
    yield _folder()
    yield _key()
    yield from service_checks.examine()
    yield _disk()
    found = health.examine(runs=_runs() or not settings.EMBEDDED)
    yield from (Finding(one.what, one.next_step) for one in (*found, *_common_folders()))


def _common_folders() -> list[Looked]:
    try:
        return list(shared_folders.examine())
    except Error:  # said already of the database
        return []


def _check_key() -> None:
    """Reads what the key sealed before. Raises KeyMissing."""
    try:
        _ = services.default_project().key
    except SealBroken:
        raise KeyMissing(
            f"The master key in {settings.KEY_FILE} is not the one with which this database was "
            "sealed. Put the backed-up key there."
        ) from None


def _folder() -> Finding:
    what = f"data folder {settings.DATA_DIR}"
    if not settings.DATA_DIR.is_dir():
        return Finding(what, "It does not exist yet: `adit up` makes it.")
    mode = stat.S_IMODE(settings.DATA_DIR.stat().st_mode)
    if mode & 0o007:
        return Finding(what, f"Everybody on this machine may enter it: chmod {mode & 0o770:o} it.")
    return Finding(what)


def _key() -> Finding:
    what = f"master key {settings.KEY_FILE}"
    try:
        master_box()
        if connection.introspection.table_names():
            _check_key()
    except KeyMissing as error:
        return Finding(what, str(error))
    except Error:
        return Finding(what)
    if stat.S_IMODE(settings.KEY_FILE.stat().st_mode) & 0o077:
        return Finding(what, "Others may read it: chmod 600 it.")
    return Finding(what)


def _runs() -> bool:
    """Whether `adit up` or `adit demo` holds the data folder."""
    try:
        with (settings.DATA_DIR / "adit.lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _disk() -> Finding:
    place = settings.DATA_DIR if settings.DATA_DIR.exists() else settings.PROJECT_DIR
    free = shutil.disk_usage(place).free
    what = f"free space {free / 1e9:.1f} GB"
    return Finding(what, "" if free > ENOUGH_BYTES else "Make room before the disk is full.")
