"""The viewer OHIF as its package ships it, served with a configuration for one DICOMweb root."""

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

VERSION = "3.12.10"
SHA256 = "fbabd410be33e5b9898931b725229b9da9553aac339914b5c29796d3aa5d4b2d"
_CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "adit-tests"


def fetch_ohif() -> Path | str:
    """Return the folder with the built viewer, or the reason why there is none."""
    folder = _CACHE / f"ohif-{VERSION}"
    if folder.is_dir():
        return folder
    npm = shutil.which("npm")
    if npm is None:
        return "npm is not installed"
    _CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_CACHE) as scratch:
        command = [npm, "pack", f"@ohif/app@{VERSION}", "--pack-destination", scratch]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=250)
        except (subprocess.SubprocessError, OSError):
            return "the package @ohif/app cannot be fetched"
        (archive,) = Path(scratch).glob("*.tgz")
        assert hashlib.sha256(archive.read_bytes()).hexdigest() == SHA256
        with tarfile.open(archive) as packed:
            packed.extractall(scratch, filter="data")
        (Path(scratch) / "package" / "dist").rename(folder)
    return folder


class _Handler(SimpleHTTPRequestHandler):
    config = b""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/app-config.js":
            self.send_response(200)
            self.send_header("Content-Type", "text/javascript")
            self.send_header("Content-Length", str(len(self.config)))
            self.end_headers()
            self.wfile.write(self.config)
            return
        if not Path(self.translate_path(path)).is_file():
            self.path = "/index.html"
        super().do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def serving(folder: Path, port: int, root: str) -> Iterator[str]:
    """Serve the viewer for the DICOMweb API at `root`; yield its address."""
    source = {
        "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
        "sourceName": "adit",
        "configuration": {
            "friendlyName": "ADIT",
            "name": "adit",
            "qidoRoot": f"{root}/qidors",
            "wadoRoot": f"{root}/wadors",
            "imageRendering": "wadors",
            "thumbnailRendering": "wadors",
            "qidoSupportsIncludeField": True,
            "supportsFuzzyMatching": False,
            "supportsWildcard": True,
            "enableStudyLazyLoad": True,
            "omitQuotationForMultipartRequest": True,
            "bulkDataURI": {"enabled": True},
        },
    }
    config = {
        "routerBasename": "/",
        "extensions": [],
        "modes": [],
        "showStudyList": True,
        "investigationalUseDialog": {"option": "never"},
        "dataSources": [source],
        "defaultDataSourceName": "adit",
    }
    text = f"window.config = {json.dumps(config)};".encode()
    handler = type("Handler", (_Handler,), {"config": text})
    server = ThreadingHTTPServer(("127.0.0.1", port), partial(handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.shutdown()
        server.server_close()
