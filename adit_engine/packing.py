"""Packing: makes encrypted 7-Zip files of gathered images; none is visible before all are tested."""

import os
import tempfile
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from io import TextIOWrapper
from typing import BinaryIO, TextIO

from adit_engine import part10
from adit_engine.contents import Contents, Line, contents
from adit_engine.errors import Malformed, StorageTrouble, WrongInput
from adit_engine.handoff import Stop
from adit_engine.nodes.base import Bundle, Gathered, Packed, Showing, Step
from adit_engine.outcome import State
from adit_engine.sevenzip.cipher import Key
from adit_engine.sevenzip.reader import Reader
from adit_engine.sevenzip.writer import Writer
from adit_engine.tree import Draft, Tree, storage_trouble

ENDING = ".7z"
MOST_FILES = 50_000
"""In one archive, so that its list of files takes little memory, here and where it is opened."""
_PIECE_BYTES = 256 * 1024
_STEP_BYTES = 64 * 1024 * 1024


@dataclass
class Packing:
    """One build: files below `staging` become archives in `target`."""

    owner: str
    staging: Tree
    target: Tree
    password: str
    part_bytes: int
    stop: Stop

    def pack(self, bundle: Bundle) -> Iterator[Step | Showing | Packed]:
        """Steps while it writes and tests; then the names, and at the end each archive, visible.

        What an earlier build of this bundle has begun is taken away first, whoever may still be at
        it. Raises StorageTrouble, StorageFull, Stopped.
        """
        self.stop.check()
        self.target.supersede((), bundle.name)
        drafts: list[Draft] = []
        made: list[Packed] = []
        key, left = Key.of(self.password), iter(bundle.gathered)
        is_one = bundle.size_bytes <= self.part_bytes and bundle.images <= MOST_FILES
        following: Gathered | None = next(left, None)
        try:
            while following is not None:
                number = len(drafts) + 1
                name = bundle.name if is_one else f"{bundle.name}-part{number}"
                drafts.append(self.target.begin((name + ENDING,), lot=bundle.name))
                part = _Part(following, left, self.part_bytes)
                digests = yield from self._write(drafts[-1], key, name, part, bundle)
                size = yield from self._test(drafts[-1], digests)
                made.append(Packed(name + ENDING, size, part.images))
                following = part.following
            yield Showing(tuple(one.name for one in made))
            self.target.replace(drafts, self.stop)
            for draft in drafts:
                draft.held.close()
            drafts = []
        finally:
            self.target.discard(drafts)
        yield from made

    # Writing -----------------------------------------------------------------------------------

    def _write(
        self,
        draft: Draft,
        key: Key,
        name: str,
        part: "_Part",
        bundle: Bundle,
    ) -> Generator[Step, None, bytes]:
        """Returns the sha256 of each file, 32 bytes each, in order."""
        digests = bytearray()
        with self._trouble(), ExitStack() as stack:
            file = stack.enter_context(open(draft.held.fileno(), "wb", closefd=False))
            writer, told = Writer(file, key), 0
            lists = [stack.enter_context(_scratch()) for _ in range(2)]
            with contents(lists[0], lists[1], bundle.about) as listed:
                for one in part:
                    self.stop.check()
                    digests += self._add(writer, one, listed)
                    if writer.size_bytes - told > _STEP_BYTES:
                        yield Step(writer.size_bytes - told)
                        told = writer.size_bytes
                for line in bundle.others if part.following is None else ():
                    listed.add(line)
            for ending, text in zip(("csv", "json"), lists, strict=True):
                text.flush()
                source = _Source(text.buffer)
                writer.add(f"contents-{name}.{ending}", source.pieces())
                digests += source.whole.digest()
            writer.close()
            file.flush()
            os.fsync(file.fileno())
            yield Step(writer.size_bytes - told)
        return bytes(digests)

    def _add(self, writer: Writer, one: Gathered, listed: Contents) -> bytes:
        """One image, which must be the one that was gathered."""
        file = self.staging.open(tuple(one.path.split("/")))
        if file is None:
            raise self._lost()
        with file:
            source = _Image(file)
            try:
                writer.add(one.path, source.pieces())
            except Malformed:
                raise self._lost() from None
        if source.data_set.hexdigest() != one.sha256:
            raise self._lost()
        outcome, digest = State.DELIVERED.value, source.whole.hexdigest()
        uids = (one.ref.study_uid, one.ref.series_uid, one.ref.instance_uid)
        listed.add(Line(*uids, outcome, "", one.path, source.size_bytes, digest))
        return source.whole.digest()

    def _lost(self) -> StorageTrouble:
        return StorageTrouble(
            self.owner,
            "images that were gathered for the 7-Zip file are gone, or were changed, before it "
            "was built. Start from nothing.",
        )

    # Testing -----------------------------------------------------------------------------------

    def _test(self, draft: Draft, digests: bytes) -> Generator[Step, None, int]:
        """Opens it with the password, as it stands on the disk; returns its size."""
        with self._trouble(), self.target.reopen(draft) as file:
            size = os.fstat(file.fileno()).st_size
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            try:
                yield from self._compared(Reader(file, self.password), digests)
            except (Malformed, WrongInput):
                raise self._broken() from None
        return size

    def _compared(self, reader: Reader, digests: bytes) -> Iterator[Step]:
        seen = told = 0
        for _, content in reader.files():
            self.stop.check()
            digest = sha256()
            for piece in content:
                digest.update(piece)
                told += len(piece)
            if digest.digest() != digests[seen : seen + 32]:
                raise self._broken()
            seen += 32
            if told > _STEP_BYTES:
                yield Step(told)
                told = 0
        yield Step(told)
        if seen != len(digests):
            raise self._broken()

    def _broken(self) -> StorageTrouble:
        return StorageTrouble(
            self.owner,
            "the 7-Zip file could not be read back as it was written. Check the disk, then retry.",
        )

    @contextmanager
    def _trouble(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise storage_trouble(self.owner, error) from error


class _Part:
    """What goes into one archive: up to its size, or one image alone that is larger than that."""

    def __init__(self, first: Gathered, left: Iterator[Gathered], most_bytes: int) -> None:
        self.following: Gathered | None = first
        self.images = 0
        self._left = left
        self._most_bytes = most_bytes
        self._size = 0

    def __iter__(self) -> Iterator[Gathered]:
        """Afterwards `following` is the first of the next part, None where there is none."""
        while (one := self.following) is not None:
            self._size += one.size_bytes
            if self.images and (self._size > self._most_bytes or self.images >= MOST_FILES):
                return
            self.images += 1
            yield one
            self.following = next(self._left, None)


class _Source:
    """A file on its way into the archive, digested as it passes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.whole = sha256()
        self.size_bytes = 0

    def pieces(self) -> Iterator[memoryview]:
        self._file.seek(0)
        buffer = memoryview(bytearray(_PIECE_BYTES))
        while count := self._file.readinto(buffer):  # type: ignore[attr-defined]
            piece = buffer[:count]
            self.whole.update(piece)
            self.size_bytes += count
            yield piece


class _Image(_Source):
    """Also the digest of the data set alone, by which an image is known; raises Malformed."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.data_set = sha256()

    def pieces(self) -> Iterator[memoryview]:
        start: int | None = None
        for piece in super().pieces():
            if start is None:
                _, start = part10.meta_and_start(piece)
                self.data_set.update(piece[start:])
            else:
                self.data_set.update(piece)
            yield piece


@contextmanager
def _scratch() -> Iterator[TextIO]:
    """A file without a name: nothing is left of it, whatever happens."""
    with tempfile.TemporaryFile() as file, TextIOWrapper(file, "utf-8", newline="") as text:
        yield text
