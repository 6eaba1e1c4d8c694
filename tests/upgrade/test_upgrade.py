"""Databases of earlier releases are upgraded with their waiting, running and finished jobs."""

import json
import shutil
from pathlib import Path

import pytest
from lab import services

from upgrade.databases import FOLDER, new_database

RELEASES = sorted(path.name for path in FOLDER.iterdir() if (path / "keys").is_dir())
DELIVERED = [2, 2, 2, 2]
"""Of three images of a study, one says that text is burned in: it is withheld."""
EVENTS = 23
"""In the audit trail of the release; `adit prepare` keeps its head in the data folder."""


@pytest.mark.timeout(900)
@pytest.mark.parametrize("vendor", ["sqlite", "postgresql"])
@pytest.mark.parametrize("release", RELEASES)
def test_jobs_of_an_earlier_release_are_kept_and_continue_after_the_upgrade(
    release: str, vendor: str, tmp_path: Path
) -> None:
    if vendor == "postgresql" and services.postgresql_folder() is None:
        pytest.skip("needs PostgreSQL: apt install postgresql")
    shutil.copytree(FOLDER / release / "keys", tmp_path / "keys")
    for key in (tmp_path / "keys").iterdir():
        key.chmod(0o600)
    with new_database(vendor, tmp_path) as database:
        database.load(FOLDER / release / database.dump_name)

        database.run("-m", "adit.cli", "prepare", "--quiet")
        found = json.loads(database.run(str(FOLDER / "installation.py"), "finish"))

    assert found["upgraded"] == ["warning", "success", "in_progress", "pending", "pending"]
    assert found["finished"] == ["warning", "success", "warning", "warning", "success"]
    assert set(found["pages"].values()) == {200}, found["pages"]
    assert found["delivered"] == DELIVERED
    assert all(found["messages"])
    assert found["all_modalities"], "no selection allowed all"
    assert found["sources"] == found["destinations"] == ["Research", "Source"]
    assert found["is_trail_intact"]
    assert found["kept_events"] == EVENTS


def test_there_is_a_dump_of_a_release() -> None:
    assert RELEASES
