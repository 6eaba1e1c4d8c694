"""SIGINT and SIGTERM during a command: no partial image, and a correct result."""

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from lab.peers import Scripted, Talk
from lab.samples import ct, file_bytes


def heeds_ctrl_c() -> None:
    """Restore the default of SIGINT, which a shell disables for background processes."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_after_the_current_image_and_reports_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """The destination responds to the second image only after the signal.

    One more image may be in progress by then.
    """
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    source = tmp_path / "source"
    source.mkdir()
    for n in range(1, 6):
        (source / f"{n}.dcm").write_bytes(file_bytes(ct(n)))
    sent, may_go_on = threading.Event(), threading.Event()

    def script(talk: Talk) -> None:
        talk.accept()
        for count in range(5):
            command = talk.hear()
            if count == 1:
                sent.set()
                may_go_on.wait(20)
            uid = command[0x1000].decode().rstrip("\0")
            status = {0x0100: 0x8001, 0x0120: command[0x0110][0] + 256 * command[0x0110][1]}
            kind = command[0x0002].decode().rstrip("\0")
            context = talk.context(kind)
            talk.say(context, {0x0002: kind, **status, 0x0900: 0, 0x1000: uid})

    with Scripted(script) as peer:
        place = f"dimse://PACS@127.0.0.1:{peer.port}?proof=none&store_associations=1"
        command = ["send", "--from", str(source), "--to", place, "--json"]
        begun = subprocess.Popen(
            [sys.executable, "-c", "from adit_engine.__main__ import run; run()", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=heeds_ctrl_c,
        )
        assert sent.wait(20)
        begun.send_signal(number)
        assert begun.stderr is not None
        assert "stopping after the current image" in begun.stderr.readline()
        may_go_on.set()
        out, err = begun.communicate(timeout=250)

    told = json.loads(out)
    assert begun.returncode == 128 + number
    assert (told["outcome"], told["expected"]) == ("partial", 5)
    assert told["delivered"] in (2, 3)
    assert told["delivered"] + told["failed"] == 5
    assert Path(told["manifest"]).is_file()
    assert "stopped by a signal" in err
    assert "Traceback" not in err
