"""A database of another version of ADIT is rejected and not changed."""

from pathlib import Path

import pytest
from lab.installed import Installed

pytestmark = pytest.mark.timeout(900)


def test_a_database_with_unknown_migrations_is_rejected_and_not_changed(tmp_path: Path) -> None:
    site = Installed(tmp_path / "var")
    assert site.adit("prepare").returncode == 0
    site.change(
        "insert into django_migrations (app, name, applied) "
        "values ('jobs', '0007_roads', CURRENT_TIMESTAMP)"
    )
    before = site.rows("select app, name from django_migrations order by id")

    for command in ("prepare", "up"):
        refused = site.adit(command)
        assert refused.returncode == 1
        assert "jobs.0007_roads" in refused.stderr
        assert f"move the data folder {site.data} to another place" in refused.stderr
        assert "Traceback" not in refused.stderr

    assert site.rows("select app, name from django_migrations order by id") == before
