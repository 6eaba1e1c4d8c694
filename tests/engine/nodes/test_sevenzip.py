"""7-Zip node: encrypted archives of staged images, complete or absent, and repeatable."""

import csv
import io
import json
import shutil
import signal
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import pytest
from lab.samples import ct, instance
from lab.sevenzip import unpacked
from pydicom import dcmread

from adit_engine.bounded_stream import Stop
from adit_engine.dicom_file.delivery_list import DeliveryListLine
from adit_engine.errors import InvalidInput, Stopped, StorageError, StorageFull
from adit_engine.messages import Message
from adit_engine.nodes.base import ArchiveRequest, ArchivesTested, FinishedArchive, PackingProgress
from adit_engine.nodes.sevenzip import ArchiveNode, ArchiveSettings
from adit_engine.values.archive_password import generate_password, validate_password

CANCELED = Message("node.stopped", node="Archives")

PASSWORD = "four words and 1 sign!"


def node(folder: Path, title: str = "job-7", **settings: object) -> ArchiveNode:
    (folder / "out").mkdir(exist_ok=True)
    given = {"reserve_mb": 0, **settings}
    places = {"path": str(folder / "out"), "staging": str(folder / "gathered")}
    opened = ArchiveNode("Archives", ArchiveSettings(**places, **given))
    opened.set_archive_title(title)
    return opened


def gather(opened: ArchiveNode, numbers: range = range(1, 4)) -> None:
    list(opened.confirm(list(opened.store(instance(ct(n)) for n in numbers))))


def packed(opened: ArchiveNode, **more: object) -> list[FinishedArchive]:
    gathered, stop = opened.staged_images, more.pop("stop", None) or Stop()
    size = sum(one.size_bytes for one in gathered)
    name = opened._staging.name
    report = more.pop("report", lambda _: None)
    bundle = ArchiveRequest(name, len(gathered), size, gathered, **more)
    return opened.pack(bundle, PASSWORD, stop, report)


def everything_below(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_staged_images_are_packed_once_and_then_discarded(tmp_path: Path) -> None:
    opened = node(tmp_path)
    gather(opened)

    (made,) = packed(opened)
    opened.discard_staged()

    assert everything_below(tmp_path) == ["out/job-7.7z"]
    assert (made.name, made.images) == ("job-7.7z", 3)
    assert made.size_bytes == (tmp_path / "out/job-7.7z").stat().st_size
    images = {
        n: c for n, c in unpacked(tmp_path / "out/job-7.7z", PASSWORD).items() if n.endswith(".dcm")
    }
    pixels = {dcmread(io.BytesIO(content)).PixelData for content in images.values()}
    assert pixels == {ct(n).PixelData for n in range(1, 4)}


def test_an_archive_lists_its_contents_as_csv_and_json(tmp_path: Path) -> None:
    opened = node(tmp_path)
    gather(opened)
    other = DeliveryListLine("1.2", "1.2.3", "1.2.3.4", "withheld", "=Text may be burned in.")

    packed(opened, other_lines=[other], metadata={"job": 7})

    files = unpacked(tmp_path / "out/job-7.7z", PASSWORD)
    told = json.loads(files["contents-job-7.json"])
    rows = list(csv.DictReader(io.StringIO(files["contents-job-7.csv"].decode())))
    assert (told["format"], told["job"]) == (1, 7)
    assert [row["outcome"] for row in rows] == ["delivered"] * 3 + ["withheld"]
    assert rows[3]["reason"] == "'=Text may be burned in."
    for row, image in zip(rows[:3], told["images"][:3], strict=True):
        content = files[image["path"]]
        assert row["sha256"] == image["sha256"] == sha256(content).hexdigest()
        assert int(row["size_bytes"]) == image["size_bytes"] == len(content)
        header = dcmread(io.BytesIO(content))
        assert row["instance_uid"] == header.SOPInstanceUID
        assert row["series_uid"] == header.SeriesInstanceUID


def test_a_large_order_is_split_into_independent_archives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adit_engine.nodes.sevenzip_builder.MAX_FILES", 2)
    opened = node(tmp_path)
    gather(opened, range(1, 6))

    made = packed(opened)

    assert [one.name for one in made] == [f"job-7-part{n}.7z" for n in (1, 2, 3)]
    parts = [unpacked(tmp_path / "out" / one.name, PASSWORD) for one in made]
    images = [name for part in parts for name in part if name.endswith(".dcm")]
    assert len(images) == len(set(images)) == 5
    assert [sum(name.endswith(".dcm") for name in part) for part in parts] == [2, 2, 1]


def test_staged_images_are_readable_only_by_their_owner(tmp_path: Path) -> None:
    gather(node(tmp_path))

    for path in (tmp_path / "gathered").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0
    assert (tmp_path / "gathered" / "job-7").stat().st_mode & 0o077 == 0


def test_packing_fails_if_a_staged_image_was_changed(tmp_path: Path) -> None:
    opened = node(tmp_path)
    gather(opened)
    path = next((tmp_path / "gathered").rglob("*.dcm"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)

    with pytest.raises(StorageError, match=r"^Archives: staged images .* changed"):
        packed(opened)

    assert everything_below(tmp_path / "out") == []


def test_packing_fails_if_a_staged_image_was_removed(tmp_path: Path) -> None:
    opened = node(tmp_path)
    gather(opened)
    next((tmp_path / "gathered").rglob("*.dcm")).unlink()

    with pytest.raises(StorageError, match="staged images were removed"):
        packed(opened)

    assert everything_below(tmp_path / "out") == []


def test_an_archive_that_is_corrupted_on_disk_is_never_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = node(tmp_path)
    gather(opened)
    reopen = opened._filing.folder.__class__.open_unpublished

    def damaged(tree: object, draft: object) -> object:
        """Corrupt the file, as a faulty disk would."""
        file = reopen(tree, draft)  # type: ignore[arg-type]
        path = Path(tmp_path, "out", draft.temp)  # type: ignore[attr-defined]
        with path.open("r+b") as other:
            other.seek(5000)
            other.write(b"\0" * 16)
        return file

    monkeypatch.setattr(opened._filing.folder.__class__, "open_unpublished", damaged)

    with pytest.raises(StorageError, match="could not be read back as it was written"):
        packed(opened)

    assert everything_below(tmp_path / "out") == []


def test_packing_does_not_start_on_an_almost_full_disk(tmp_path: Path) -> None:
    opened = node(tmp_path)
    gather(opened)
    short = node(tmp_path, reserve_mb=10**9)

    with pytest.raises(StorageFull, match="almost full"):
        short.pack(ArchiveRequest("job-7", 3, 1000, opened.staged_images), PASSWORD, Stop())

    assert everything_below(tmp_path / "out") == []


def test_a_stopped_build_leaves_only_the_staged_images(tmp_path: Path) -> None:
    opened, stop = node(tmp_path), Stop()
    gather(opened)
    stop.set(CANCELED)

    with pytest.raises(Stopped):
        packed(opened, stop=stop)

    assert everything_below(tmp_path / "out") == []
    assert len(packed(opened)) == 1


@pytest.mark.parametrize("after", [1, 4, 8])
def test_a_stop_after_any_step_leaves_no_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """Three images and two lists are written (steps 1 to 5) and read back (6 to 10)."""
    monkeypatch.setattr("adit_engine.nodes.sevenzip_builder._STEP_BYTES", 1)
    opened, stop, steps = node(tmp_path), Stop(), []
    gather(opened)

    def report(event: PackingProgress | ArchivesTested) -> None:
        steps.append(event)
        if len(steps) == after:
            stop.set(CANCELED)

    with pytest.raises(Stopped, match=str(CANCELED)):
        packed(opened, stop=stop, report=report)

    assert len(steps) == after
    assert everything_below(tmp_path / "out") == []


def test_a_stop_takes_effect_in_the_middle_of_a_large_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adit_engine.nodes.sevenzip_builder._PIECE_BYTES", 500)
    monkeypatch.setattr("adit_engine.nodes.sevenzip_builder._STEP_BYTES", 1)
    opened, stop, steps = node(tmp_path), Stop(), []
    gather(opened, range(1, 2))

    def report(event: PackingProgress | ArchivesTested) -> None:
        steps.append(event)
        if len(steps) == 2:
            stop.set(CANCELED)

    with pytest.raises(Stopped):
        packed(opened, stop=stop, report=report)

    assert [step.size_bytes for step in steps] == [500, 500]
    assert opened.staged_images[0].size_bytes > 1000


def test_progress_counts_bytes_written_and_read_back_and_ends_with_the_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adit_engine.nodes.sevenzip_builder._STEP_BYTES", 1)
    monkeypatch.setattr("adit_engine.nodes.sevenzip_builder.MAX_FILES", 2)
    opened, events, visible = node(tmp_path), [], []
    gather(opened)

    def report(event: PackingProgress | ArchivesTested) -> None:
        events.append(event)
        visible.extend((tmp_path / "out").glob("*.7z"))

    made = packed(opened, report=report)

    *steps, last = events
    contents = [unpacked(tmp_path / "out" / one.name, PASSWORD) for one in made]
    assert last == ArchivesTested(("job-7-part1.7z", "job-7-part2.7z"))
    assert sum(step.size_bytes for step in steps) == 2 * sum(
        len(content) for members in contents for content in members.values()
    )
    assert visible == []


def test_an_exception_of_the_progress_callback_leaves_no_archive(tmp_path: Path) -> None:
    """A worker that has lost its lease ends the build this way."""
    opened = node(tmp_path)
    gather(opened)

    def lost(event: PackingProgress | ArchivesTested) -> None:
        raise RuntimeError("lost")

    with pytest.raises(RuntimeError, match="lost"):
        packed(opened, report=lost)

    assert everything_below(tmp_path / "out") == []


def test_an_archive_gets_the_file_mode_of_its_node(tmp_path: Path) -> None:
    opened = node(tmp_path)
    gather(opened)

    packed(opened)

    assert (tmp_path / "out/job-7.7z").stat().st_mode & 0o777 == 0o640


def test_staging_fails_if_the_destination_folder_is_missing(tmp_path: Path) -> None:
    opened = node(tmp_path)
    shutil.rmtree(tmp_path / "out")

    with pytest.raises(StorageError) as caught:
        gather(opened)
    assert caught.value.message.code == "disk.folder-missing"


@pytest.mark.skipif(shutil.which("7z") is None, reason="7z is not installed")
def test_a_killed_build_is_repeated_from_the_staged_images(tmp_path: Path) -> None:
    opened = node(tmp_path)
    gather(opened, range(1, 41))
    wanted = {one.path for one in opened.staged_images}
    script = tmp_path / "pack.py"
    script.write_text(_PACK)
    (tmp_path / "gathered.txt").write_text(repr(opened.staged_images))
    arguments = [sys.executable, str(script), str(tmp_path), PASSWORD]

    for delay_s in (0.0, 0.05, 0.1, 0.2, 0.3, 0.5):
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"begins\n"
        time.sleep(delay_s)  # the result must be the same whichever step is interrupted
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        for path in (tmp_path / "out").glob("*.7z"):
            assert seven_zip_tests(path)
    packed(opened)
    time.sleep(2.1)  # younger temporary files of a dead process are not removed
    gather(node(tmp_path, "another"))
    packed(node_with(tmp_path, "another"))
    opened.discard_staged()

    names = [n for n in unpacked(tmp_path / "out/job-7.7z", PASSWORD) if n.endswith(".dcm")]
    assert set(names) == wanted
    assert everything_below(tmp_path / "out") == ["another.7z", "job-7.7z"]
    assert seven_zip_tests(tmp_path / "out/job-7.7z")


def node_with(folder: Path, title: str) -> ArchiveNode:
    opened = node(folder, title)
    gather(opened)
    return opened


def seven_zip_tests(path: Path) -> bool:
    command = ["7z", "t", f"-p{PASSWORD}", str(path)]
    return subprocess.run(command, capture_output=True, timeout=250).returncode == 0


_PACK = """
import sys
from pathlib import Path
from adit_engine.nodes.sevenzip import ArchiveNode, ArchiveSettings
from adit_engine.bounded_stream import Stop
from adit_engine.nodes.base import ArchiveRequest, StagedImage
from adit_engine.values.references import InstanceRef

folder = Path(sys.argv[1])
node = ArchiveNode("Archives", ArchiveSettings(
    path=str(folder / "out"), staging=str(folder / "gathered"), reserve_mb=0))
node.set_archive_title("job-7")
staged = eval((folder / "gathered.txt").read_text())
print("begins", flush=True)
size = sum(one.size_bytes for one in staged)
node.pack(ArchiveRequest("job-7", len(staged), size, staged), sys.argv[2], Stop())
"""


# Passwords ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("short", "too-short"),
        ("x" * 101, "too-long"),
        ("aaaaaaaaaaaaaaaa", "guessable"),
        ("abcdefghijklmnop", "guessable"),
        ("123456789012345", "guessable"),
        ("Passwort2026!", "guessable"),
        ("qwertzQWERTZ12", "guessable"),
        ("Krankenhaus123", "guessable"),
        ("Müllers Kühe fliegen", "characters"),
        (" leading-blank-77", "characters"),
        ("with-a-\ttabulator", "characters"),
    ],
)
def test_a_weak_password_is_rejected_without_repeating_it(password: str, why: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        validate_password(password)

    assert caught.value.message.code == f"archive-password.{why}"
    assert password not in str(caught.value)


@pytest.mark.parametrize("password", [PASSWORD, "Tr0ub4dor&3xyz", "korrekt pferd batterie heft"])
def test_a_strong_password_is_accepted(password: str) -> None:
    assert validate_password(password) == password


def test_generated_passwords_are_valid_and_unique() -> None:
    proposals = {generate_password() for _ in range(50)}

    assert len(proposals) == 50
    assert all(validate_password(one) for one in proposals)
