"""Compare the DICOMweb API before an archive that only speaks DIMSE with getscu and findscu.

    .venv/bin/python -m benchmarks.dicomweb [IMAGES]
    .venv/bin/python -m benchmarks.dicomweb --memory [GIGABYTES]

Whole commands in turns: curl through ADIT, dcmtk directly; findscu asks for the keys that ADIT
asks for. Memory is that of the server process:
with --memory, while one large study is stored and retrieved, compared with a small one.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import httpx

from adit_engine.values.query import RETURN_KEYS
from adit_engine.values.references import QueryLevel
from benchmarks import peers
from benchmarks.data import CT, Study, files, write
from benchmarks.query_field import _installed

ROUNDS = 5
STUDIES = 500


def main(images: int) -> None:
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm")))
        archive = stack.enter_context(peers.orthanc("BENCH", base / "orthanc", options=True))
        study = Study(CT, images)
        _fill(archive, study, base)
        _installed(base / "data")
        token = _make_site(archive)
        server = stack.enter_context(_serving(base))
        (base / "curl").write_text(f'header = "Authorization: Token {token}"\n')
        root = f"http://127.0.0.1:{server.port}/api/dicom-web/BENCH"
        curl = ["curl", "-sSf", "-K", str(base / "curl"), "-o", str(base / "answer")]
        address = f"{root}/wadors/studies/{study.uid}"

        def getscu() -> None:
            out = base / "out"
            out.mkdir(exist_ok=True)
            keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study.uid}"]
            where = ["-aec", "BENCH", "127.0.0.1", str(archive.dicom_port)]
            peers.run(["getscu", "--max-pdu", peers.BIG_PDU, "-S", *keys, "-od", out, *where])

        def findscu() -> None:
            others = set(RETURN_KEYS[QueryLevel.STUDY]) - {"PatientID"}
            keys = ["QueryRetrieveLevel=STUDY", "PatientID=MANY", *sorted(others)]
            words = [word for key in keys for word in ("-k", key)]
            where = ["-aec", "BENCH", "127.0.0.1", str(archive.dicom_port)]
            peers.run(["findscu", "-S", *words, *where])

        idle = server.memory_mb()
        _compare("WADO-RS / getscu", server, lambda: peers.run([*curl, address]), getscu)
        pseudonymized = [*curl, f"{address}?pseudonym=BENCH-1"]
        _compare("WADO-RS pseudonymized / getscu", server, lambda: peers.run(pseudonymized), getscu)
        metadata = [*curl, f"{address}/metadata?pseudonym=BENCH-1"]
        _compare("metadata pseudonymized / getscu", server, lambda: peers.run(metadata), getscu)
        search = [*curl, f"{root}/qidors/studies?PatientID=MANY"]
        _compare(
            f"QIDO-RS of {STUDIES} studies / findscu", server, lambda: peers.run(search), findscu
        )
        print(f"memory: {idle} MB idle, {server.memory_mb(peak=True)} MB at most")


def measure_memory(gigabytes: float) -> None:
    """Store and retrieve a study of this size; print how far the memory rises meanwhile."""
    small, large = Study(CT, 10), Study(CT, int(gigabytes * 1e9) // CT.instance_bytes, number=2)
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/var/tmp")))
        archive = stack.enter_context(peers.orthanc("BENCH", base / "orthanc", options=True))
        _installed(base / "data")
        token = _make_site(archive)
        server = stack.enter_context(_serving(base))
        root = f"http://127.0.0.1:{server.port}/api/dicom-web/BENCH"
        headers = {"Authorization": f"Token {token}"}
        client = stack.enter_context(httpx.Client(headers=headers, timeout=None))

        def store(study: Study) -> None:
            kind = 'multipart/related; type="application/dicom"; boundary=b'
            url = f"{root}/stowrs/studies"
            body = _make_body(study)
            client.post(url, content=body, headers={"Content-Type": kind}).raise_for_status()

        def read(study: Study, path: str, *, pseudonym: bool = True) -> None:
            parameters = {"pseudonym": f"BENCH-{study.number}"} if pseudonym else {}
            url = f"{root}/wadors/studies/{study.uid}{path}"
            with client.stream("GET", url, params=parameters) as answer:
                answer.raise_for_status()
                for _piece in answer.iter_raw():
                    pass

        cases: dict[str, Callable[[Study], None]] = {
            "STOW-RS": store,
            "WADO-RS": lambda study: read(study, "", pseudonym=False),
            "WADO-RS pseudonymized": lambda study: read(study, ""),
            "metadata pseudonymized": lambda study: read(study, "/metadata"),
        }
        for case in cases.values():
            case(small)
        for name, case in cases.items():
            idle = server.memory_mb()
            server.reset_peak()
            case(large)
            most = server.memory_mb(peak=True)
            of = f"{name} of {large.megabytes:.0f} MB"
            print(f"{of}: {idle} MB idle, {most} MB at most", flush=True)


def _make_body(study: Study) -> Iterator[bytes]:
    for parts in files(study):
        yield b"\r\n--b\r\nContent-Type: application/dicom\r\n\r\n"
        yield from map(bytes, parts)
    yield b"\r\n--b--"


def _compare(
    name: str, server: "_Server", ours: Callable[[], None], other: Callable[[], None]
) -> None:
    """Print medians of clock and processor seconds; on a busy machine only the latter count."""
    mine, theirs = [], []
    for _ in range(ROUNDS):
        mine.append(_measure(ours, server))
        theirs.append(_measure(other, server))
    words = []
    for which, unit in enumerate(("clock", "processor")):
        one, two = (median(times[which] for times in found) for found in (mine, theirs))
        ratio = median(a[which] / b[which] for a, b in zip(mine, theirs, strict=True))
        words.append(f"{unit} {one:.2f} s, {two:.2f} s, {ratio:.2f} x")
    print(f"{name}: {'; '.join(words)}", flush=True)


def _measure(work: Callable[[], None], server: "_Server") -> tuple[float, float]:
    """Return clock seconds, and processor seconds of the command and the server."""
    began, used = time.monotonic(), _children_s() + server.processor_s()
    work()
    return time.monotonic() - began, _children_s() + server.processor_s() - used


def _children_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _fill(archive: peers.Orthanc, study: Study, base: Path) -> None:
    write(study, base / "files")
    where = ["-aec", "BENCH", "127.0.0.1", str(archive.dicom_port)]
    peers.run(["storescu", *where, "+sd", base / "files"])
    sys.path.insert(0, "tests")
    from lab import samples

    (base / "many").mkdir()
    for number in range(1, STUDIES + 1):
        image = samples.ct(study=str(number), PatientID="MANY")
        (base / "many" / f"{number}.dcm").write_bytes(samples.file_bytes(image))
    peers.run(["storescu", *where, "+sd", base / "many"])


def _make_site(archive: peers.Orthanc) -> str:
    """Create a user and the PACS; return an API token."""
    from adit.accounts.models import User
    from adit.api_tokens import tokens
    from adit.nodes.models import Node

    user = User.objects.create_superuser("bench")
    settings = {
        "host": "127.0.0.1",
        "port": archive.dicom_port,
        "called_ae_title": "BENCH",
        "max_pdu": peers.BIG_PDU,
    }
    Node.objects.create(name="BENCH", kind="dimse", is_open=True, settings=settings)
    scopes = ("query", "retrieve", "identified", "store")
    return tokens.create_token(None, user, "bench", scopes, days=1, nodes=None)[1]


class _Server:
    def __init__(self, port: int, pid: int) -> None:
        self.port = port
        self.pid = pid

    @property
    def _child(self) -> Path:
        """The process that answers the requests."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return Path(f"/proc/{children[0]}")

    def processor_s(self) -> float:
        words = (self._child / "stat").read_text().rsplit(")", 1)[1].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mb(self, *, peak: bool = False) -> int:
        status = (self._child / "status").read_text()
        name = "VmHWM:" if peak else "VmRSS:"
        line = next(line for line in status.splitlines() if line.startswith(name))
        return int(line.split()[1]) // 1024

    def reset_peak(self) -> None:
        (self._child / "clear_refs").write_text("5")


@contextmanager
def _serving(base: Path) -> Iterator[_Server]:
    port = peers.free_port()
    env = {**os.environ, "ADIT_DICOMWEB_PORT": str(port), "ADIT_SEARCH_KEPT_S": "0"}
    process = subprocess.Popen([sys.executable, "-m", "adit.cli", "dicomweb"], env=env)
    try:
        for _ in range(200):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1).close()
                break
            except OSError:
                time.sleep(0.2)
        yield _Server(port, process.pid)
    finally:
        process.terminate()
        process.wait(20)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--memory"]:
        measure_memory(float(sys.argv[2]) if len(sys.argv) > 2 else 2.0)
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 400)
