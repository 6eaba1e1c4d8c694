"""adit-engine transfer looks at pixels if the text detection is installed."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab.burned_in import US, anatomy, burn, image

from adit_engine.cli.main import main
from adit_engine.dicom_file import part10
from adit_engine.pseudonymize.text_detection.detector import is_installed, shared_detector

pytestmark = pytest.mark.skipif(not is_installed(), reason="needs the extra ocr: make test-ocr")


@pytest.fixture(autouse=True)
def _no_child_stays() -> Iterator[None]:
    yield
    shared_detector().close()


@pytest.mark.parametrize(
    ("options", "delivered", "reasons"),
    [
        ([], 1, {"text-found.text": 1}),
        (["--text-detection", "on"], 1, {"text-found.text": 1}),
        (["--text-detection", "off"], 0, {"pixel-rule.class": 2}),
    ],
)
def test_ultrasound_without_text_is_delivered(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    delivered: int,
    reasons: dict[str, int],
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    source = tmp_path / "source"
    source.mkdir()
    for number, values in enumerate((anatomy(), burn(anatomy())), 1):
        data = b"".join(bytes(p) for p in part10.file_parts(image(values, US, number=number)))
        (source / f"{number}.dcm").write_bytes(data)
    ends = ["--from", str(source), "--to", str(tmp_path / "out"), "--all", "--pseudonym", "P-1"]

    main(["transfer", *ends, "--json", "--key-file", str(_key(tmp_path)), *options])

    report = json.loads(capsys.readouterr().out)
    assert (report["delivered"], report["withheld"]) == (delivered, 2 - delivered)
    assert {one["code"]: one["count"] for one in report["reasons"]} == reasons


def _key(folder: Path) -> Path:
    path = folder / "key"
    path.write_text("00" * 31 + "01\n")
    path.chmod(0o600)
    return path
