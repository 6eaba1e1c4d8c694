"""Series that somebody looks at, in encrypted temporary files of this process.

Each is fetched once from its node, however many requests want it at the same time.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from django.conf import settings
from django.db import Error, connection

from adit.accounts import sessions
from adit.api_tokens.models import ApiToken
from adit.dicomweb.authentication import Caller
from adit.dicomweb.encrypted_file import EncryptedFile, StoredRecord
from adit.dicomweb.errors import TooBusy
from adit.dicomweb.frames import FrameTable
from adit_engine.errors import AditError, Stopped
from adit_engine.messages import Message
from adit_engine.values.instance import Instance
from adit_engine.values.references import SeriesRef

POLL_S = 0.1
QUEUE_S = 60.0
SWEEP_S = 10.0
REFUSED_S = 300.0
"""For so long, a series that did not fit is not fetched for the cache again."""

log = logging.getLogger(__name__)


class NotCached(TooBusy):
    """The series does not fit into the cache, or the disk is full: answer without the cache."""


@dataclass(frozen=True, slots=True)
class CachedImage:
    """Where an image is in the file. `frames` is None if its frames cannot be told apart."""

    stored: StoredRecord
    sop_class_uid: str
    instance_uid: str
    syntax: str
    number: int
    """Its Instance Number; 0 if it has none."""
    frames: FrameTable | None


@dataclass
class CachedSeries:
    """A fetched series. `form` says in which form its images may leave; it is compared on use."""

    file: EncryptedFile
    patient_id: str = field(repr=False)
    form: Hashable = field(repr=False)
    delivered: SeriesRef
    """UIDs of the images as they leave; not those of the node if they are pseudonymized."""
    images: dict[str, CachedImage]
    headers: StoredRecord
    bulk_marker: str
    """Stands in `headers` for the address of the series, before what is left out."""
    withheld: tuple[tuple[Message, int], ...] = ()
    fetched_at: float = field(default_factory=time.monotonic)
    used_at: float = field(default_factory=time.monotonic)
    readers: set[tuple[str, int]] = field(default_factory=set)

    def read_image(self, image: CachedImage) -> Instance:
        data = self.file.read(image.stored)
        return Instance.from_data_set(image.sop_class_uid, image.instance_uid, image.syntax, data)


@dataclass
class _Fill:
    """A fetch that is running, and the clients that wait for it."""

    user_pk: int
    is_gone: list[Callable[[], bool]]
    done: threading.Event = field(default_factory=threading.Event)
    series: CachedSeries | None = None
    error: AditError | None = None

    def has_no_reader(self) -> bool:
        return all(is_gone() for is_gone in list(self.is_gone))


Fill = Callable[[Callable[[], bool]], CachedSeries]
"""Fetches a series. The argument returns whether nobody waits for it any more."""


class ViewingCache:
    """The series of this process. Bounded in bytes and age by settings."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._series: dict[Hashable, CachedSeries] = {}
        self._fills: dict[Hashable, _Fill] = {}
        self._filling: Counter[int] = Counter()
        self._refused: dict[Hashable, float] = {}

    def get(self, key: Hashable) -> CachedSeries | None:
        with self._lock:
            found = self._series.get(key)
            if found is not None and _is_old(found):
                del self._series[key]
                return None
            if found is not None:
                found.used_at = time.monotonic()
            return found

    def find_delivered(self, scope: Hashable, ref: SeriesRef) -> Hashable | None:
        """Return the key of a series by the UIDs that its images have when they leave."""
        with self._lock:
            for key, series in self._series.items():
                if series.delivered == ref and isinstance(key, tuple) and key[0] == scope:
                    return key
        return None

    def get_or_fetch(
        self, key: Hashable, user_pk: int, is_gone: Callable[[], bool], fetch: Fill
    ) -> CachedSeries:
        """Return the series; fetch it, or wait for a fetch that is running. Raise AditError."""
        while True:
            found = self.get(key)
            if found is not None:
                return found
            with self._lock:
                if self._refused.get(key, 0) > time.monotonic():
                    raise NotCached("dicomweb.not-cached")
                running = self._fills.get(key)
                if running is None:
                    mine = self._fills[key] = _Fill(user_pk, [is_gone])
                else:
                    running.is_gone.append(is_gone)
            if running is None:
                return self._fetch(key, mine, fetch)
            while not running.done.wait(POLL_S):
                if is_gone():
                    raise Stopped("dicomweb.client-left")
            if running.series is not None:
                return running.series
            is_same = running.user_pk == user_pk and not isinstance(running.error, Stopped)
            if running.error is not None and is_same:
                raise running.error

    def _fetch(self, key: Hashable, fill: _Fill, fetch: Fill) -> CachedSeries:
        try:
            with self._take_turn(fill):
                series = fetch(fill.has_no_reader)
            with self._lock:
                self._series[key] = series
            fill.series = series
            self._shrink()
            return series
        except AditError as error:
            fill.error = error
            if isinstance(error, NotCached):
                with self._lock:
                    self._refused[key] = time.monotonic() + REFUSED_S
            raise
        finally:
            with self._lock:
                del self._fills[key]
            fill.done.set()

    @contextmanager
    def _take_turn(self, fill: _Fill) -> Iterator[None]:
        """Limit the fetches of one user; viewers ask for all series of a study at once."""
        deadline = time.monotonic() + QUEUE_S
        while True:
            with self._lock:
                if self._filling[fill.user_pk] < settings.VIEWING_SERIES_PER_USER:
                    self._filling[fill.user_pk] += 1
                    break
            if fill.has_no_reader():
                raise Stopped("dicomweb.client-left")
            if time.monotonic() > deadline:
                raise TooBusy("dicomweb.too-busy")
            time.sleep(POLL_S)
        try:
            yield
        finally:
            with self._lock:
                self._filling[fill.user_pk] -= 1

    def require_room(self, file: EncryptedFile, more_bytes: int) -> None:
        """Make room for more bytes of a file that is being written. Raise NotCached."""
        if file.size_bytes + more_bytes > settings.VIEWING_CACHE_MB << 20:
            raise NotCached("dicomweb.not-cached")
        if file.free_disk_bytes - more_bytes < settings.SPOOL_RESERVE_MB << 20:
            raise NotCached("dicomweb.not-cached")
        self._shrink(file.size_bytes + more_bytes)

    def _shrink(self, needed_bytes: int = 0) -> None:
        """Release the series that were not used for the longest time."""
        with self._lock:
            used = needed_bytes + sum(one.file.size_bytes for one in self._series.values())
            for key in sorted(self._series, key=lambda one: self._series[one].used_at):
                if used <= settings.VIEWING_CACHE_MB << 20:
                    return
                used -= self._series.pop(key).file.size_bytes

    def drop(self, key: Hashable) -> None:
        with self._lock:
            self._series.pop(key, None)

    def clear(self) -> None:
        with self._lock:
            self._series.clear()
            self._refused.clear()

    def sweep(self) -> None:
        """Release series that are too old, or whose readers have all signed out."""
        with self._lock:
            readers = {reader for one in self._series.values() for reader in one.readers}
        alive = _find_alive(readers)
        with self._lock:
            for key, one in list(self._series.items()):
                # A reader that came meanwhile was not asked for.
                if _is_old(one) or (one.readers <= readers and one.readers.isdisjoint(alive)):
                    del self._series[key]


cache = ViewingCache()


def make_reader(caller: Caller) -> tuple[str, int]:
    """Return whose sign-out, or which token's end, makes the caller stop reading."""
    if caller.token is not None:
        return "token", caller.token.pk
    return "user", caller.user.pk


def start_sweeping() -> None:
    """Release old series in a thread of this process, for as long as it runs."""
    threading.Thread(target=_sweep_forever, name="viewing cache", daemon=True).start()


def _sweep_forever() -> None:
    while True:
        time.sleep(SWEEP_S)
        try:
            cache.sweep()
        except Error as error:
            log.warning("viewing cache: database unavailable (%s)", type(error).__name__)
        finally:
            connection.close()


def _is_old(series: CachedSeries) -> bool:
    return time.monotonic() - series.fetched_at > settings.VIEWING_CACHE_MINUTES * 60


def _find_alive(readers: set[tuple[str, int]]) -> set[tuple[str, int]]:
    if not readers:
        return set()
    tokens = ApiToken.objects.filter(
        pk__in=[pk for kind, pk in readers if kind == "token"], revoked_at=None
    )
    users = sessions.find_active().filter(
        user_id__in=[pk for kind, pk in readers if kind == "user"], user__is_active=True
    )
    alive = {("token", token.pk) for token in tokens if not token.has_expired}
    return alive | {("user", pk) for pk in users.values_list("user_id", flat=True) if pk}
