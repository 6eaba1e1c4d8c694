"""Incoming: the images of one series as the source sends them, read ahead of the destination."""

from collections.abc import Iterator, Sequence

from adit_engine.handoff import ReadAhead
from adit_engine.instance import Instance
from adit_engine.listing import Listing
from adit_engine.nodes.base import Eager, Source
from adit_engine.reference import Ref, SeriesRef
from adit_engine.traveller import Traveller

AHEAD_BYTES = 64 * 1024 * 1024
"""How much the source may be ahead of the destination, so that both work at the same time."""


class Incoming:
    """One series. What the source holds now is asked for by the thread that fetched, after the last
    image: while the destination still stores, or is asked what it keeps.
    """

    def __init__(
        self, series: SeriesRef, source: Source, traveller: Traveller, listing: Listing
    ) -> None:
        self._series = series
        self._source = source
        self._traveller = traveller
        self._listing = listing
        self._early: ReadAhead | None = None
        """What comes already while the list is asked for."""
        self._reading: ReadAhead | None = None
        """What comes, or has come and asks for the list of now."""

    def begin_early(self) -> None:
        """Only where the whole series is wanted, and nothing in it is known to have to stay."""
        if not isinstance(self._source, Eager):
            return
        traveller = self._traveller
        images = self._source.fetch_early(
            self._series,
            patient_id=traveller.patient_id,
            count=self._listing.record.instance_count,
            may_come=lambda kind: traveller.why_refused(kind) is None,
        )
        self._early = None if images is None else self._read(images)

    def images(self, refs: Sequence[Ref]) -> Iterator[Instance]:
        """Lazy. What was begun early counts where it is what is wanted now, and brings anything."""
        early, self._early = self._early, None
        if early is not None and refs == [self._series]:
            came, self._reading = False, early
            for instance in early:
                came = True
                yield instance
            if came:
                return
        elif early is not None:
            early.close()
        self.settle()
        images = self._source.fetch(refs, patient_id=self._traveller.patient_id)
        self._reading = self._read(images)
        yield from self._reading

    def settle(self) -> None:
        """Waits for the list of now, where it is being asked for; else ends the fetch."""
        if self._reading is not None:
            self._reading.close()

    def close(self) -> None:
        self.settle()
        if self._early is not None:
            self._early.close()

    def _read(self, images: Iterator[Instance]) -> ReadAhead:
        return ReadAhead(
            images,
            unblock=self._source.break_off,
            limit_bytes=AHEAD_BYTES,
            stop=self._traveller.stop,
            afterwards=self._listing.ask_early,
        )
