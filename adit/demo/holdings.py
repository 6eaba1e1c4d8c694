"""Holdings: what the demo archive has, as a tree in memory over a folder of files."""

import json
import mmap
import os
import re
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from struct import error as StructError
from struct import pack
from typing import Any

from adit.demo import header
from adit.demo.negotiation import IMPLEMENTATION_NAME, IMPLEMENTATION_UID
from adit_engine.errors import Malformed

_UID = re.compile(r"(?=.{1,64}$)[0-9]+(\.[0-9]+)*")
_PART = ".part"
_CACHE_VERSION = 1


@dataclass(frozen=True, slots=True)
class Held:
    """One instance: its file, where the data set begins in it, and its own values."""

    path: Path
    offset: int
    syntax: str
    values: Mapping[str, str] = field(repr=False)

    @property
    def class_uid(self) -> str:
        return self.values.get("SOPClassUID", "")

    @property
    def uid(self) -> str:
        return self.values["SOPInstanceUID"]


@dataclass(slots=True)
class Series:
    values: Mapping[str, str] = field(repr=False)
    instances: dict[str, Held] = field(default_factory=dict)

    @property
    def modality(self) -> str:
        return self.values.get("Modality", "")


@dataclass(slots=True)
class Study:
    """One study; patient and study values are those of the first instance that was read."""

    values: Mapping[str, str] = field(repr=False)
    series: dict[str, Series] = field(default_factory=dict)

    @property
    def modalities(self) -> list[str]:
        return sorted({one.modality for one in self.series.values() if one.modality})

    @property
    def class_uids(self) -> list[str]:
        return sorted({one.class_uid for one in self.instances()})

    @property
    def instance_count(self) -> int:
        return sum(len(one.instances) for one in self.series.values())

    def instances(self) -> Iterator[Held]:
        for one in self.series.values():
            yield from one.instances.values()


@dataclass(frozen=True, slots=True)
class Arrival:
    """One instance as a C-STORE request brings it."""

    class_uid: str
    instance_uid: str
    syntax: str
    data: bytes | bytearray
    sender: str = ""


class Holdings:
    """The tree, read under `lock`. Files are written under a temporary name and then renamed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.RLock()
        self.studies: dict[str, Study] = {}
        self._places: dict[str, tuple[str, str]] = {}
        self._syntaxes: dict[str, Counter[str]] = {}
        self._cached: dict[str, list[Any]] = {}

    @property
    def cache_path(self) -> Path:
        """Beside the folder, so that the folder holds DICOM files and nothing else."""
        return self.folder.parent / f".{self.folder.name}.index.json"

    def __len__(self) -> int:
        return len(self._places)

    def load(self) -> None:
        """Reads all headers, or takes them from the cache where name, time and size still match."""
        self.folder.mkdir(parents=True, exist_ok=True)
        before = self._read_cache()
        for path, stat in _files(self.folder):
            name = str(path.relative_to(self.folder))
            known = before.get(name)
            if known is None or known[:2] != [stat.st_mtime_ns, stat.st_size]:
                read = _read_file(path)
                if read is None:
                    continue
                known = [stat.st_mtime_ns, stat.st_size, *read]
            self._cached[name] = known
            self._add(Held(path, known[2], known[3], known[4]))
        if self._cached != before:
            self.save()

    def save(self) -> None:
        """Writes the cache; a cache that cannot be written only costs time at the next start."""
        part = self.cache_path.with_suffix(_PART)
        try:
            part.write_text(json.dumps({"version": _CACHE_VERSION, "files": self._cached}))
            part.replace(self.cache_path)
        except OSError:
            part.unlink(missing_ok=True)

    def store(self, arrival: Arrival) -> None:
        """Writes one instance and shows it. Raises Malformed, or OSError when it cannot be kept."""
        values = header.texts(arrival.data, arrival.syntax)
        place = [values.get(key, "") for key in ("StudyInstanceUID", "SeriesInstanceUID")]
        if values.get("SOPInstanceUID") != arrival.instance_uid:
            raise Malformed("The data set holds another instance than was announced.")
        if not all(_UID.fullmatch(uid) for uid in [*place, arrival.instance_uid]):
            raise Malformed("The data set holds no usable UIDs.")
        path = self.folder.joinpath(*place, f"{arrival.instance_uid}.dcm")
        with self.lock:
            held = self._find(arrival.instance_uid)
            if held is not None and held.path == path and _same(held, arrival):
                return
            offset = write_part10(path, arrival)
            if held is not None:
                self._forget(held, path)
            stat = path.stat()
            name = str(path.relative_to(self.folder))
            self._cached[name] = [stat.st_mtime_ns, stat.st_size, offset, arrival.syntax, values]
            self._add(Held(path, offset, arrival.syntax, values))

    def syntaxes(self, class_uid: str) -> Mapping[str, int]:
        """In which transfer syntaxes the instances of a class are held, and how many in each."""
        return self._syntaxes.get(class_uid, {})

    def _add(self, held: Held) -> None:
        values = held.values
        place = (values["StudyInstanceUID"], values["SeriesInstanceUID"])
        study = self.studies.get(place[0])
        if study is None:
            study = self.studies[place[0]] = Study(_only(values, [*header.PATIENT, *header.STUDY]))
        series = study.series.get(place[1])
        if series is None:
            series = study.series[place[1]] = Series(_only(values, header.SERIES))
        own = Held(held.path, held.offset, held.syntax, _only(values, header.IMAGE))
        series.instances[held.uid] = own
        self._places[held.uid] = place
        self._syntaxes.setdefault(held.class_uid, Counter())[held.syntax] += 1

    def _find(self, instance_uid: str) -> Held | None:
        place = self._places.get(instance_uid)
        return self.studies[place[0]].series[place[1]].instances[instance_uid] if place else None

    def _forget(self, held: Held, successor: Path) -> None:
        study_uid, series_uid = self._places.pop(held.uid)
        self._syntaxes[held.class_uid][held.syntax] -= 1
        study = self.studies[study_uid]
        del study.series[series_uid].instances[held.uid]
        if not study.series[series_uid].instances:
            del study.series[series_uid]
        if not study.series:
            del self.studies[study_uid]
        if held.path != successor:
            held.path.unlink(missing_ok=True)
            self._cached.pop(str(held.path.relative_to(self.folder)), None)

    def _read_cache(self) -> dict[str, list[Any]]:
        try:
            cache = json.loads(self.cache_path.read_text())
        except (OSError, ValueError):
            return {}
        return cache["files"] if cache.get("version") == _CACHE_VERSION else {}


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for base, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(base, name)
            if name.endswith(_PART):
                path.unlink(missing_ok=True)
            else:
                yield path, path.stat()


def _read_file(path: Path) -> tuple[int, str, dict[str, str]] | None:
    """Offset, syntax and values; None for what is no DICOM instance."""
    try:
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
            memoryview(mapped) as view,
        ):
            syntax, offset = header.file_meta(view)
            with view[offset:] as data:
                values = header.texts(data, syntax)
    except (Malformed, ValueError, StructError, OSError):
        return None
    if not all(values.get(f"{level}InstanceUID") for level in ("Study", "Series", "SOP")):
        return None
    return offset, syntax, values


def _only(values: Mapping[str, str], keywords: Iterable[str]) -> dict[str, str]:
    return {keyword: values[keyword] for keyword in keywords if keyword in values}


def _same(held: Held, arrival: Arrival) -> bool:
    if held.syntax != arrival.syntax:
        return False
    try:
        with held.path.open("rb") as file:
            file.seek(held.offset)
            return file.read() == arrival.data
    except OSError:
        return False


def write_part10(path: Path, arrival: Arrival) -> int:
    """Writes a file that is either whole or not there; the offset of its data set."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(_PART)
    meta = _meta(arrival)
    try:
        with part.open("wb") as file:
            file.write(meta)
            file.write(arrival.data)
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    return len(meta)


def _meta(arrival: Arrival) -> bytes:
    """Preamble and file meta information (PS3.10 7.1)."""
    body = b"\x02\x00\x01\x00OB\0\0\x02\0\0\0\x00\x01"
    for element, vr, text in (
        (0x0002, b"UI", arrival.class_uid),
        (0x0003, b"UI", arrival.instance_uid),
        (0x0010, b"UI", arrival.syntax),
        (0x0012, b"UI", IMPLEMENTATION_UID),
        (0x0013, b"SH", IMPLEMENTATION_NAME),
        (0x0016, b"AE", arrival.sender),
    ):
        if not text:
            continue
        raw = text.encode("ascii", "replace")
        raw += (b"\0" if vr == b"UI" else b" ") * (len(raw) % 2)
        body += pack("<HH2sH", 2, element, vr, len(raw)) + raw
    return bytes(128) + b"DICM" + pack("<HH2sHI", 2, 0, b"UL", 4, len(body)) + body
