"""adit-engine: output, messages and exit codes of the commands."""

import json
import os
import shutil
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import pytest
from lab.samples import ROOT, ct, file_bytes
from pydicom import dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, DeflatedExplicitVRLittleEndian

from adit_engine.cli import main as cli_main
from adit_engine.cli.main import main
from adit_engine.cli.node_url import open_url
from adit_engine.values.record import Record
from adit_engine.values.references import QueryLevel


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = tmp_path / "source"
    folder.mkdir()
    for n in range(1, 4):
        (folder / f"{n}.dcm").write_bytes(file_bytes(ct(n)))
    return folder


def answer(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out)


def test_transfer_pseudonymizes_from_folder_to_folder(source: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    code = main(
        ["transfer", "--from", str(source), "--to", f"folder:{out}", "--study", f"{ROOT}.1"]
        + ["--pseudonym", "LUNG-0001", "--trial", "LUNG", "--sponsor", "UKX", "--json"]
    )

    told = answer(capsys)
    assert code == 0
    assert (told["outcome"], told["expected"], told["delivered"]) == ("complete", 3, 3)
    written = sorted(out.rglob("*.dcm"))
    assert len(written) == 3
    for path in written:
        ds = dcmread(path)
        assert (ds.PatientID, ds.ClinicalTrialProtocolID) == ("LUNG-0001", "LUNG")
    assert not str(told["manifest"]).startswith(str(out))
    assert Path(told["manifest"]).stat().st_mode & 0o077 == 0


def test_a_file_with_two_instance_uids_is_withheld_with_the_reason(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = source / "2.dcm"
    data, uid = path.read_bytes(), f"{ROOT}.1.1.2".encode()
    path.write_bytes(data.replace(uid, uid[:-1] + b"9", 1))  # only in the file meta information

    code = main(
        ["transfer", "--from", str(source), "--to", f"folder:{tmp_path / 'out'}", "--all"]
        + ["--pseudonym", "LUNG-0001", "--allow-withheld", "--json"]
    )

    told = answer(capsys)
    assert code == 0
    assert (told["delivered"], told["withheld"], told["failed"]) == (2, 1, 0)
    (reason,) = told["reasons"]
    assert (reason["code"], reason["count"]) == ("two-uids", 1)
    assert reason["text"].startswith("The instance UID in the image differs")


@pytest.fixture
def radiograph(source: Path) -> list[str]:
    """Return arguments to transfer a CR image whose header says that no text is burned in."""
    for path in source.iterdir():
        path.unlink()
    cr = ct(1, SOPClassUID=ComputedRadiographyImageStorage, Modality="CR", BurnedInAnnotation="NO")
    (source / "1.dcm").write_bytes(file_bytes(cr))
    destination = f"folder:{source.parent / 'out'}"
    return ["transfer", "--from", str(source), "--to", destination, "--all", "--generate", "--json"]


def test_a_radiograph_is_withheld_and_the_output_names_the_option(
    radiograph: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(radiograph)

    said = capsys.readouterr()
    told = json.loads(said.out)
    assert (code, told["delivered"], told["withheld"]) == (1, 0, 1)
    assert told["header_word"] == {"chosen": "undecided", "reason": ""}
    assert "--accept-header-word with a reason" in said.err


def test_a_radiograph_is_delivered_with_a_reason_shown_in_the_output(
    radiograph: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code = main([*radiograph, "--accept-header-word", "phantoms only"])

    said = capsys.readouterr()
    told = json.loads(said.out)
    assert (code, told["delivered"]) == (0, 1)
    assert told["header_word"] == {"chosen": "accept", "reason": "phantoms only"}
    assert "--accept-header-word" not in said.err


def test_accept_header_word_requires_a_reason(
    radiograph: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*radiograph, "--accept-header-word", " "]) == 64
    assert "--accept-header-word requires a reason" in capsys.readouterr().err


def _generated(source: str, out: Path, *more: str) -> tuple[str, str]:
    """Return the pseudonym and the study date of a delivered image."""
    main(
        ["transfer", "--from", source, "--to", f"folder:{out}", "--all", "--generate"]
        + ["--key-file", str(out.parent / "key"), *more]
    )
    ds = dcmread(next(out.rglob("*.dcm")))
    return ds.PatientID, ds.StudyDate


def test_folders_of_one_domain_give_the_same_pseudonym_and_date_shift(
    source: Path, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_text("5" * 64)
    key.chmod(0o600)
    other = tmp_path / "other"
    shutil.copytree(source, other)

    alone = _generated(str(source), tmp_path / "a")
    assert _generated(str(other), tmp_path / "b") != alone
    shared = _generated(str(source), tmp_path / "c", "--domain", "Klinikum")
    assert _generated(str(other), tmp_path / "d", "--domain", "Klinikum") == shared


def test_relative_and_absolute_paths_of_a_folder_give_the_same_pseudonym(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "key"
    key.write_text("5" * 64)
    key.chmod(0o600)
    monkeypatch.chdir(source.parent)

    assert _generated("./source", tmp_path / "a") == _generated(str(source), tmp_path / "b")


def test_transfer_without_an_option_on_identity_is_a_usage_error(
    source: Path, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["transfer", "--from", str(source), "--to", str(tmp_path / "o"), "--all"])

    assert ended.value.code == 64


def test_one_pseudonym_for_two_patients_is_a_usage_error(
    source: Path, tmp_path: Path, capsys
) -> None:
    (source / "other.dcm").write_bytes(file_bytes(ct(1, study="2", PatientID="OTHER-1")))

    code = main(
        ["transfer", "--from", str(source), "--to", str(tmp_path / "o"), "--all"]
        + ["--pseudonym", "P1"]
    )

    assert code == 64
    assert "--generate" in capsys.readouterr().err


def test_an_image_without_patient_id_gets_no_generated_pseudonym(
    source: Path, tmp_path: Path, capsys
) -> None:
    (source / "none.dcm").write_bytes(file_bytes(ct(1, study="2", PatientID="")))

    code = main(
        ["transfer", "--from", str(source), "--to", str(tmp_path / "o"), "--all"]
        + ["--generate", "--json"]
    )

    told = answer(capsys)
    assert code == 1
    assert told["delivered"] == 3
    assert told["outcome"] == "partial"


def test_the_same_key_gives_identical_files(source: Path, tmp_path: Path, capsys) -> None:
    key = tmp_path / "trial.key"
    key.write_text("ab" * 32)
    call = ["--all", "--generate", "--key-file", str(key), "--trial", "T", "--sponsor", "S"]
    for name in ("one", "two"):
        main(["transfer", "--from", str(source), "--to", str(tmp_path / name), *call])

    def contents(name: str) -> dict[str, bytes]:
        base = tmp_path / name
        return {str(p.relative_to(base)): p.read_bytes() for p in base.rglob("*.dcm")}

    assert contents("one") == contents("two")
    assert len(contents("one")) == 3


def test_fetch_delivers_every_image(source: Path, tmp_path: Path, capsys) -> None:
    code = main(["fetch", "--from", str(source), "--to", str(tmp_path / "o"), "--all", "--json"])

    assert code == 0
    assert answer(capsys)["delivered"] == 3


def test_the_error_for_an_unknown_study_suggests_find(source: Path, tmp_path: Path, capsys) -> None:
    code = main(["fetch", "--from", str(source), "--to", str(tmp_path / "o"), "--study", "1.2.3"])

    assert code == 2
    assert "find" in capsys.readouterr().err


def test_find_lists_studies(source: Path, capsys) -> None:
    code = main(["find", "--from", str(source), "PatientID=PID-4711-0815"])

    assert code == 0
    assert f"{ROOT}.1\tPID-4711-0815" in capsys.readouterr().out


def test_a_study_listed_with_two_descriptions_is_transferred_once() -> None:
    def told(patient: str, description: str) -> Record:
        values = {"StudyInstanceUID": f"{ROOT}.1", "PatientID": patient}
        return Record(QueryLevel.STUDY, {**values, "StudyDescription": description})

    records = [told("A", "Thorax"), told("A", "Thorax nativ"), told("B", "Thorax")]
    source = SimpleNamespace(find=lambda query: records)

    studies = cli_main._find_studies(Namespace(all=True), source)

    # The transfer refuses two patients with one study UID.
    assert [(one.patient_id, one.study_description) for one in studies] == [
        ("A", "Thorax"),
        ("B", "Thorax"),
    ]


def test_the_output_names_the_study_that_failed(source: Path, tmp_path: Path, capsys) -> None:
    for number, patient in ((1, "ONE"), (2, "TWO")):
        foreign = ct(number, study="2", PatientID=patient)
        (source / f"foreign{number}.dcm").write_bytes(file_bytes(foreign))

    code = main(["fetch", "--from", str(source), "--to", str(tmp_path / "o"), "--all", "--json"])

    told = answer(capsys)
    assert code == 1
    (error,) = told["errors"]
    assert error["code"] == "cli.study-failed"
    assert error["values"]["study"] == f"{ROOT}.2"
    assert error["values"]["error"]["code"] == "study.second-patient"
    assert error["text"].startswith(f"Study {ROOT}.2: The source holds images of another patient")


@pytest.mark.parametrize(
    ("days", "finds"),
    [
        ("20240229", True),
        ("20240101-20241231", True),
        ("20240229-", True),
        ("-20240229", True),
        ("20240301-20241231", False),
        ("-20240228", False),
        ("20240228", False),
    ],
)
def test_find_matches_the_study_date_by_day_or_range(
    source: Path, capsys, days: str, finds: bool
) -> None:
    assert main(["find", "--from", str(source), f"StudyDate={days}"]) == 0
    assert bool(capsys.readouterr().out) is finds


def test_an_invalid_pseudonym_is_a_usage_error(source: Path, tmp_path: Path, capsys) -> None:
    out = str(tmp_path / "o")
    code = main(["transfer", "--from", str(source), "--to", out, "--all", "--pseudonym", "Änne 1"])

    assert code == 64
    assert "letters A-Z" in capsys.readouterr().err


def test_a_destination_that_cannot_be_created_is_reported(source: Path, capsys) -> None:
    code = main(["fetch", "--from", str(source), "--to", "/proc/nowhere", "--all"])

    assert code == 2
    assert "Create or mount it" in capsys.readouterr().err


def test_transfer_does_not_import_slow_libraries(source: Path, tmp_path: Path) -> None:
    """Importing pydicom alone would double the time of a small study."""
    out = tmp_path / "delivered"
    command = ["transfer", "--from", str(source), "--to", f"folder:{out}", "--study", f"{ROOT}.1"]
    told = "import sys; from adit_engine.cli.main import main; code = main(sys.argv[1:]); "
    told += "print(sorted({'pydicom', 'httpx', 'pynetdicom', 'py7zr'} & set(sys.modules)), code)"

    done = subprocess.run(
        [sys.executable, "-c", told, *command, "--pseudonym", "LUNG-0001", "--json"],
        capture_output=True,
        text=True,
        check=True,
        timeout=200,
    )

    assert done.stdout.splitlines()[-1] == "[] 0"


def test_echo_over_dimse_does_not_import_httpx() -> None:
    code = (
        "import sys; from adit_engine.cli.main import main; "
        "main(['echo', 'dimse://A@localhost:1']); "
        "print('adit_engine.nodes.dimse.node' in sys.modules, 'httpx' in sys.modules)"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=200
    )

    assert done.stdout.splitlines()[-1] == "True False"


def test_all_output_is_written_before_the_process_exits(source: Path, tmp_path: Path) -> None:
    """The command ends its process itself; buffered output must not be lost in a pipe."""
    begun = [sys.executable, "-c", "from adit_engine.__main__ import run; run()"]
    buffered = {word: value for word, value in os.environ.items() if word != "PYTHONUNBUFFERED"}

    def ended(*words: str) -> subprocess.CompletedProcess[str]:
        command = [*begun, *words]
        return subprocess.run(command, env=buffered, capture_output=True, text=True, timeout=250)

    out = str(tmp_path / "delivered")
    whole = ended("fetch", "--from", str(source), "--to", out, "--all", "--json")
    nowhere = ended("fetch", "--from", str(source), "--to", "/proc/nowhere", "--all")
    wrong = ended("find", "--from", str(source), "PatientID")

    assert (whole.returncode, json.loads(whole.stdout)["outcome"]) == (0, "complete")
    assert (nowhere.returncode, "Create or mount it" in nowhere.stderr) == (2, True)
    assert (wrong.returncode, "write Keyword=value" in wrong.stderr) == (64, True)


def test_an_unwritable_ledger_is_reported_before_the_transfer(
    source: Path, tmp_path: Path, capsys
) -> None:
    out = tmp_path / "delivered"
    for place in ("/proc/nowhere/ledger.json", str(tmp_path)):
        call = ["fetch", "--from", str(source), "--to", str(out), "--all", "--manifest", place]

        assert main(call) == 64
        assert "ledger cannot be written" in capsys.readouterr().err
    assert not out.exists()


def test_a_reader_that_closes_the_pipe_early_causes_no_error_message(source: Path) -> None:
    for number in range(4, 600):
        (source / f"{number}.dcm").write_bytes(file_bytes(ct(number)))
    command = f"{sys.executable} -c 'from adit_engine.__main__ import run; run()'"

    done = subprocess.run(
        ["bash", "-c", f"{command} find --from {source} --level image | head -1"],
        capture_output=True,
        text=True,
        timeout=200,
    )

    assert (done.stdout.count("\n"), done.stderr) == (1, "")


def test_control_characters_in_values_are_not_printed(source: Path, capsys) -> None:
    (source / "odd.dcm").write_bytes(
        file_bytes(ct(9, study="7", StudyDescription="\x1b]0;gotcha\x07\n1.2.3"))
    )

    assert main(["find", "--from", str(source), f"StudyInstanceUID={ROOT}.7"]) == 0

    out = capsys.readouterr().out
    assert "gotcha" in out
    assert "\x1b" not in out
    assert out.count("\n") == 1


@pytest.mark.filterwarnings("ignore")
def test_warnings_of_libraries_about_patient_data_are_not_printed(tmp_path: Path) -> None:
    odd = ct(1, StudyDate="CANARY01", PatientName="Canary^" * 20)
    odd.file_meta = FileMetaDataset()
    odd.file_meta.MediaStorageSOPClassUID = odd.SOPClassUID
    odd.file_meta.MediaStorageSOPInstanceUID = odd.SOPInstanceUID
    odd.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    odd.save_as(tmp_path / "odd.dcm", enforce_file_format=True)
    begun = [sys.executable, "-c", "from adit_engine.__main__ import run; run()"]

    done = subprocess.run(
        [*begun, "find", "--from", str(tmp_path)], capture_output=True, text=True, timeout=200
    )

    assert (done.returncode, done.stdout.count("\n"), done.stderr) == (0, 1, "")


def test_python_m_adit_engine_runs_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "adit_engine", "transfer"], capture_output=True, text=True
    )

    assert done.returncode == 64
    assert "the following arguments are required: --from, --to" in done.stderr


def test_a_pacs_of_the_command_line_may_list_and_send_at_the_same_time() -> None:
    with open_url("dimse://PACS@127.0.0.1:104") as node:
        assert node.lists_concurrently
