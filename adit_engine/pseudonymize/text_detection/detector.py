"""Detect text in a child process, which is restarted after a crash or when it does not answer.

The child keeps memory and faults of the models out of the worker. It is started with the first
frame; nothing is loaded before.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from adit_engine.errors import InstanceWithheld
from adit_engine.pseudonymize.text_detection.regions import TextRegion

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

T = TypeVar("T")

_WORKER = "adit_engine.pseudonymize.text_detection.worker"
_PACKAGES = ("onnxruntime", "cv2", "zxingcpp")
DEADLINE_S = 60.0
_MEGAPIXEL_S = 5.0
"""Additional time for each million pixels. Frames take about a tenth of it on an idle processor."""
MAX_FRAME_S = 600.0
"""Limit for one frame, however busy the machine is."""
_MAX_ANSWER_BYTES = 1 << 20
_KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(512 << 20)}
"""glibc (mallopt(3)): use memory of one tile for the next. New pages take a sixth of the time."""


@cache
def is_installed() -> bool:
    """Whether the packages of the extra "ocr" are installed."""
    return all(find_spec(name) for name in _PACKAGES)


class TextDetector:
    """One child process. Frames of several threads are handled one after the other."""

    def __init__(self) -> None:
        self.deadline_s = DEADLINE_S
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._peer: socket.socket | None = None
        self._owner = os.getpid()

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child is not None else None

    def find_text(self, values: "NDArray[Any]", *, is_thorough: bool = False) -> list[TextRegion]:
        """Return the regions of a frame (stored numbers, or RGB of 8 bits) that show text or codes.

        With `is_thorough`, small text on noise is found, too, in about three times the time.

        Raises InstanceWithheld if the packages are missing, or the child fails; the next frame
        gets a new child. On a busy machine the deadline is extended while the child works.
        """
        if not is_installed():
            raise InstanceWithheld("text-detection.not-installed")
        head = {
            "shape": values.shape,
            "type": values.dtype.str,
            "size": values.nbytes,
            "thorough": is_thorough,
        }
        with self._lock:
            try:
                peer = self._connect()
                peer.settimeout(self.deadline_s + _MEGAPIXEL_S * values.size / 1e6)
                request = json.dumps(head).encode() + b"\n" + values.tobytes()
                answer = self._exchange(peer, request)
                return [
                    TextRegion((box[0], box[1], box[2], box[3]), *rest)
                    for box, *rest in json.loads(answer)
                ]
            except TimeoutError:
                self._stop()
                raise InstanceWithheld("text-detection.timed-out") from None
            except (OSError, EOFError, ValueError):
                self._stop()
                raise InstanceWithheld("text-detection.failed") from None
            except BaseException:
                self._stop()  # the answer would be taken for that of the next frame
                raise

    def _exchange(self, peer: socket.socket, request: bytes) -> bytes:
        """Send a request and return the line with the answer."""
        assert self._child is not None
        patience = _Patience(self._child.pid, peer.gettimeout() or 0)
        left = memoryview(request)
        while left:
            left = left[patience.wait_for(lambda: peer.send(left)) :]  # noqa: B023 - called at once
        answer = b""
        while not answer.endswith(b"\n"):
            part = patience.wait_for(lambda: peer.recv(65536))
            if not part or len(answer) > _MAX_ANSWER_BYTES:
                raise EOFError
            answer += part
        return answer

    def close(self) -> None:
        with self._lock:
            self._stop()

    def _connect(self) -> socket.socket:
        if self._owner != os.getpid():  # a fork shares the socket, so it needs a child of its own
            self._owner, self._child, self._peer = os.getpid(), None, None
        if self._child is not None and self._child.poll() is not None:
            self._stop()  # it ended between two frames, such as for lack of memory
        if self._peer is None:
            mine, theirs = socket.socketpair()
            with theirs:
                self._child = subprocess.Popen(  # noqa: S603 - our own module
                    [sys.executable, "-m", _WORKER, str(theirs.fileno())],
                    pass_fds=(theirs.fileno(),),
                    env={**os.environ, **_KEEP_MEMORY},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            self._peer = mine
        return self._peer

    def _stop(self) -> None:
        if self._peer is not None:
            self._peer.close()
        if self._child is not None:
            self._child.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(timeout=10)
        self._peer = self._child = None


@cache
def shared_detector() -> TextDetector:
    """Return the detector of this process."""
    return TextDetector()


class _Patience:
    """Waits longer than the deadline of a socket as long as the child gets and uses the processor.

    It may use it for as long as the deadline.
    """

    def __init__(self, pid: int, deadline_s: float) -> None:
        self._pid, self._deadline_s = pid, deadline_s
        self._end = time.monotonic() + MAX_FRAME_S
        self._began = self._used = read_cpu_s(pid)

    def wait_for(self, act: "Callable[[], T]") -> "T":
        while True:
            try:
                return act()
            except TimeoutError:
                before, self._used = self._used, read_cpu_s(self._pid)
                is_working = before < self._used < self._began + self._deadline_s
                if not is_working or time.monotonic() > self._end:
                    raise


def read_cpu_s(pid: int) -> float:
    """Return the processor time of a process so far (proc_pid_stat(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
