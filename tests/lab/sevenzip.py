"""Members of an encrypted 7-Zip file, extracted by py7zr."""

from pathlib import Path

import py7zr
from py7zr.io import BytesIOFactory


def unpacked(path: Path, password: str) -> dict[str, bytes]:
    factory = BytesIOFactory(1 << 30)
    with py7zr.SevenZipFile(path, password=password) as archive:
        names = archive.getnames()
        archive.extractall(factory=factory)
    return {name: factory.get(name).read() for name in names}
