"""A prepared data folder that tests copy: all migrations take seconds of CPU time.

`adit prepare` still runs on each copy. Tests of `adit prepare` itself start with an empty folder.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_PLACE = "PREPARED_BY_TESTS"


@pytest.fixture(scope="session", autouse=True)
def prepared_place(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Folder of this test run (of each worker) for the prepared data folders."""
    os.environ[_PLACE] = str(tmp_path_factory.mktemp("prepared"))


def copy_prepared(data: Path, database: str = "") -> None:
    """Copy keys and the migrated SQLite database to a data folder.

    With `database`, the URL of an empty PostgreSQL database, prepare that one instead of a file,
    once: copies of it belong to copies of the keys.
    """
    made = Path(os.environ[_PLACE]) / (database.rpartition("/")[2] or "sqlite")
    if not made.exists():
        _prepare(made, database)
    shutil.copytree(made, data, dirs_exist_ok=True)


def _prepare(data: Path, database: str) -> None:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ADIT_", "DJANGO_"))}
    kept.pop("DATABASE_URL", None)
    mine = {"ADIT_DATA": str(data), **({"DATABASE_URL": database} if database else {})}
    done = subprocess.run(
        [sys.executable, "-c", "from adit import cli; cli.prepare()"],
        cwd=ROOT,
        env={**kept, **mine},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
