"""The command `adit manage project export-key`: file mode, permissions, existing files."""

import stat

import pytest
from django.core.management import CommandError, call_command

from adit.projects.services import get_project_key
from adit_engine.pseudonymize.keys import read_key_file


def test_the_exported_key_file_generates_the_same_uids(root, project, tmp_path, capsys):
    file = tmp_path / "lung.key"
    call_command("project", "export-key", "LUNG", str(file), "--user", "root")

    assert read_key_file(file).uid("1.2.3") == get_project_key(project).uid("1.2.3")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert project.key not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("project_id", "user", "sentence"),
    [
        ("LUNG", "dpo", "may not re-identify patients"),
        ("LUNG", "nobody", "does not exist"),
        ("HEART", "root", "does not exist"),
    ],
)
def test_a_failed_export_leaves_no_file(root, dpo, project, tmp_path, project_id, user, sentence):
    with pytest.raises(CommandError, match=sentence):
        call_command("project", "export-key", project_id, str(tmp_path / "x"), "--user", user)
    assert not list(tmp_path.iterdir())


def test_an_existing_file_is_not_overwritten(root, project, tmp_path):
    (tmp_path / "x").write_text("mine")

    with pytest.raises(CommandError, match="File exists"):
        call_command("project", "export-key", "LUNG", str(tmp_path / "x"), "--user", "root")
    assert (tmp_path / "x").read_text() == "mine"
