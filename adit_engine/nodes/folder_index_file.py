"""Rows of a folder index: in memory, or encrypted in an SQLite file that several processes use.

Used by `adit_engine.nodes.folder_index`.
"""

import fcntl
import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import sqlite3

UNUSED_S = 30 * 24 * 3600
"""An index that was not used for so long is deleted."""

_SUFFIX = ".sqlite3"
_COMMIT_S = 1.0
_LOCK_POLL_S = 0.05
_BUSY_S = 10.0


class Outdated(Exception):
    """The index has to be changed, but was opened for reading only."""


class Unusable(Exception):
    """The file of the index does not exist yet, is damaged, or cannot be written."""


class IndexCipher(Protocol):
    """Encrypts the rows of an index."""

    def seal(self, plain: bytes, context: str) -> bytes: ...

    def open(self, sealed: bytes, context: str) -> bytes:
        """Decrypt. Raises ValueError for changed bytes, another key or another context."""
        ...

    def name_key(self) -> bytes:
        """Return a secret of at most 64 bytes, from which the names of files and rows are made."""
        ...


class IndexRows(Protocol):
    """Rows by name. All methods may raise Unusable."""

    def get(self, name: str) -> bytes | None:
        """Return a row; None if it does not exist or was damaged."""
        ...

    def require_writable(self) -> None:
        """Raises Outdated."""
        ...

    def put(self, name: str, body: bytes) -> None:
        """Raises Outdated."""
        ...

    def keep_only(self, names: Collection[str]) -> None:
        """Delete all other rows. Raises Outdated."""
        ...


class MemoryRows:
    """Rows of an index that is not kept."""

    def __init__(self) -> None:
        self._rows: dict[str, bytes] = {}

    def get(self, name: str) -> bytes | None:
        return self._rows.get(name)

    def require_writable(self) -> None:
        pass

    def put(self, name: str, body: bytes) -> None:
        self._rows[name] = body

    def keep_only(self, names: Collection[str]) -> None:
        if len(names) != len(self._rows):
            self._rows = {name: self._rows[name] for name in names if name in self._rows}


@dataclass(frozen=True)
class IndexFolder:
    """A folder of ADIT with one index file for each source folder."""

    path: Path
    cipher: IndexCipher

    @contextmanager
    def open_rows(
        self, base: Path, *, is_writable: bool, check: Callable[[], None]
    ) -> Iterator[IndexRows]:
        """Open the index of a source folder. What was written is kept if the block fails.

        Several processes may read at once; a writer is alone. `check` is called while another
        process writes, and may raise. An index that fails while it is written is deleted. Raises
        Unusable.
        """
        secret = self.cipher.name_key()
        name = blake2b(os.fsencode(base), key=secret, digest_size=16).hexdigest()
        file = self.path / f"{name}{_SUFFIX}"
        try:
            if is_writable:
                self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            with _lock(file.with_suffix(".lock"), is_writable, check):
                try:
                    with closing(_connect(file, is_writable)) as database:
                        rows = _FileRows(database, self.cipher, secret, is_writable)
                        try:
                            yield rows
                        finally:
                            rows.commit()
                except Unusable:
                    if is_writable:
                        for path in (file, file.with_name(f"{file.name}-journal")):
                            path.unlink(missing_ok=True)
                    raise
        except OSError as error:
            raise Unusable from error

    def delete_unused(self, now_s: float) -> None:
        """Delete the indexes that nobody used for a long time."""
        for file in self.path.glob(f"*{_SUFFIX}"):
            with suppress(OSError):
                if now_s - file.stat().st_mtime > UNUSED_S:
                    file.unlink()


class _FileRows:
    def __init__(
        self,
        database: "sqlite3.Connection",
        cipher: IndexCipher,
        secret: bytes,
        is_writable: bool,
    ) -> None:
        self._database = database
        self._cipher = cipher
        self._secret = secret
        self._is_writable = is_writable
        self._committed_at = time.monotonic()

    def get(self, name: str) -> bytes | None:
        key = self._key(name)
        with _report_errors():
            row = self._database.execute("SELECT body FROM parts WHERE key = ?", [key]).fetchone()
        if row is None:
            return None
        try:
            return self._cipher.open(row[0], _context(key))
        except (TypeError, ValueError):
            return None

    def require_writable(self) -> None:
        if not self._is_writable:
            raise Outdated

    def put(self, name: str, body: bytes) -> None:
        self.require_writable()
        key = self._key(name)
        sealed = self._cipher.seal(body, _context(key))
        with _report_errors():
            self._database.execute("INSERT OR REPLACE INTO parts VALUES (?, ?)", [key, sealed])
        if time.monotonic() - self._committed_at > _COMMIT_S:
            self.commit()

    def keep_only(self, names: Collection[str]) -> None:
        with _report_errors():
            (count,) = self._database.execute("SELECT count(*) FROM parts").fetchone()
            if count == len(names):
                return
            self.require_writable()
            keys = {self._key(name) for name in names}
            held = [row[0] for row in self._database.execute("SELECT key FROM parts")]
            gone = [[key] for key in held if key not in keys]
            self._database.executemany("DELETE FROM parts WHERE key = ?", gone)

    def commit(self) -> None:
        with _report_errors():
            self._database.commit()
        self._committed_at = time.monotonic()

    def _key(self, name: str) -> bytes:
        return blake2b(os.fsencode(name), key=self._secret, digest_size=16).digest()


def _context(key: bytes) -> str:
    return f"folder index {key.hex()}"


@contextmanager
def _lock(path: Path, is_writable: bool, check: Callable[[], None]) -> Iterator[None]:
    """Lock the index, for this process alone if it writes. Raises OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        mode = fcntl.LOCK_EX if is_writable else fcntl.LOCK_SH
        while True:
            try:
                fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                check()
                time.sleep(_LOCK_POLL_S)
        yield
    finally:
        os.close(descriptor)


def _connect(file: Path, is_writable: bool) -> "sqlite3.Connection":
    import sqlite3  # not needed at the command line

    if is_writable:
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    # When it was used last.
    os.utime(file)
    with _report_errors():
        database = sqlite3.connect(
            f"{file.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=_BUSY_S,
            check_same_thread=False,
        )
        try:
            if is_writable:
                database.execute("PRAGMA auto_vacuum = FULL")
                database.execute(
                    "CREATE TABLE IF NOT EXISTS parts (key BLOB PRIMARY KEY, body BLOB NOT NULL)"
                )
        except BaseException:
            database.close()
            raise
    return database


@contextmanager
def _report_errors() -> Iterator[None]:
    import sqlite3

    try:
        yield
    except sqlite3.Error as error:
        raise Unusable from error
