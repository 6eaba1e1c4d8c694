"""The databases of an upgrade test: run ADIT's commands on one, dump it, and load a dump.

`databases.py RELEASE` writes the dumps of a release, once, when it is published. Needs PostgreSQL.
"""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))

from lab import services  # noqa: E402


@dataclass(frozen=True)
class Database:
    """A data folder and its database; `url` is empty for SQLite."""

    data: Path
    url: str = ""

    @property
    def dump_name(self) -> str:
        return "postgresql.sql" if self.url else "sqlite.sql"

    def run(self, *arguments: str) -> str:
        """Run Python with the settings of this installation; return the output."""
        env = {k: v for k, v in os.environ.items() if not k.startswith(("ADIT_", "DJANGO_"))}
        env |= {"ADIT_DATA": str(self.data), "ADIT_LOG_LEVEL": "ERROR"}
        env |= {"DATABASE_URL": self.url} if self.url else {}
        done = subprocess.run(
            [sys.executable, *arguments], env=env, capture_output=True, text=True, timeout=200
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def dump(self, path: Path) -> None:
        if self.url:
            program = f"{services.postgresql_folder()}/pg_dump"
            command = [program, "--no-owner", "--no-privileges", "--file", str(path), self.url]
            subprocess.run(command, check=True, timeout=250)
            return
        with closing(sqlite3.connect(self.data / "adit.sqlite3")) as connection:
            path.write_text("".join(f"{line}\n" for line in connection.iterdump()))

    def load(self, path: Path) -> None:
        if self.url:
            program = f"{services.postgresql_folder()}/psql"
            command = [program, "-q", "-v", "ON_ERROR_STOP=1", "-f", str(path), self.url]
            subprocess.run(command, check=True, timeout=250, capture_output=True)
            return
        with closing(sqlite3.connect(self.data / "adit.sqlite3")) as connection:
            connection.executescript(path.read_text())


@contextmanager
def new_database(vendor: str, data: Path) -> Iterator[Database]:
    if vendor == "sqlite":
        yield Database(data)
    else:
        with services.postgresql() as server:
            yield Database(data, server.url)


def write_dumps(release: str) -> None:
    """Both installations use the same keys, which are stored beside the dumps."""
    folder = FOLDER / release
    folder.mkdir()
    for vendor in ("sqlite", "postgresql"):
        with (
            tempfile.TemporaryDirectory() as data,
            new_database(vendor, Path(data)) as database,
        ):
            if (folder / "keys").exists():
                shutil.copytree(folder / "keys", Path(data) / "keys")
            database.run(str(FOLDER / "installation.py"), "make")
            database.dump(folder / database.dump_name)
            shutil.copytree(Path(data) / "keys", folder / "keys", dirs_exist_ok=True)


if __name__ == "__main__":
    write_dumps(sys.argv[1])
