"""Retrieve the images of one fetch over several associations at once.

The images are shared out in blocks at IMAGE level. Used by the DIMSE node.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace

from adit_engine.bounded_stream import BoundedStream
from adit_engine.errors import (
    AditError,
    ConnectionLost,
    NodeBusy,
    NodeError,
    NodeRefused,
    NotSupported,
    Stopped,
)
from adit_engine.nodes.dimse.association_limits import LearnedLimit
from adit_engine.nodes.dimse.c_get import CLASSES_PER_ASSOCIATION, RetrieveRequest
from adit_engine.nodes.dimse.retrieve import ImageRetrieval
from adit_engine.values.instance import Instance

MIN_BLOCK, MAX_BLOCK = 8, 128
"""Images per request, unless fewer are left."""

MIN_SHORT_BLOCK = 2
"""Images per request if there are too few for MIN_BLOCK over each association."""

MIN_SHARED_IMAGES = 8
"""Fewer images are fetched over one association."""

LIMIT_BYTES = 16 * 1024 * 1024
"""Received images that wait for the consumer, of all associations together."""

ENDS_WITHIN_S = 30.0
"""An association that was stopped has ended by then: a C-MOVE is cancelled first."""

SERVED_WITHIN_S = 2.0
"""An association that was not accepted for so long will not be, while others are open."""

_MISSING_SHARE = 0.5
"""From this share of missing images on, the node does not serve requests for single images."""


def are_shared(count: int) -> bool:
    """Return whether so many images are shared out, where several associations are allowed."""
    return count >= MIN_SHARED_IMAGES


class ImageBlocks:
    """The images that are still to be requested; shared by the associations of one fetch."""

    def __init__(self, requests: Sequence[RetrieveRequest], associations: int) -> None:
        self.requested = frozenset(uid for one in requests for uid in one.instance_uids)
        self.received: set[str] = set()
        self._left = list(reversed(requests))
        self._associations = associations
        self._lock = threading.Lock()
        share = self.count_left() // associations
        self.least = min(MIN_BLOCK, max(MIN_SHORT_BLOCK, share))
        """The smallest number of images for which an association is used."""

    def take(self, at_least: int) -> RetrieveRequest | None:
        """Return the next block: large at first, smaller towards the end; None at the end."""
        with self._lock:
            while self._left:
                request = self._left.pop()
                uids = [uid for uid in request.instance_uids if uid not in self.received]
                waiting = len(uids) + sum(len(one.instance_uids) for one in self._left)
                share = -(-waiting // self._associations)
                size = max(at_least, self.least, min(share, MAX_BLOCK))
                if len(uids) > size:
                    self._left.append(replace(request, instance_uids=tuple(uids[size:])))
                if uids:
                    return replace(request, instance_uids=tuple(uids[:size]))
            return None

    def return_block(self, block: RetrieveRequest) -> None:
        """Have what is missing of a block requested by another association."""
        with self._lock:
            self._left.append(block)

    def count_left(self) -> int:
        """Return how many images no association has been given."""
        with self._lock:
            uids = {uid for one in self._left for uid in one.instance_uids}
            return len(uids - self.received)


class _Lane:
    """One association and what it has done so far. Used by one thread."""

    def __init__(self, retrieval: ImageRetrieval) -> None:
        self.retrieval = retrieval
        self.thread = threading.Thread()
        self.block: RetrieveRequest | None = None
        self.began_at = self.ended_at = time.monotonic()
        self.is_open = False
        self.is_ended = False
        self.is_unneeded = False
        self.count = 0
        self.error: AditError | None = None


class _Round:
    """One attempt at all images that are left: a lane per association, one stream of images."""

    def __init__(
        self,
        make: Callable[[], ImageRetrieval],
        blocks: ImageBlocks,
        classes: tuple[str, ...],
        most: int,
        learned: LearnedLimit,
    ) -> None:
        self._make = make
        self._blocks = blocks
        self._classes = classes
        self._most = most
        self._learned = learned
        self._stream = BoundedStream(LIMIT_BYTES)
        self._lock = threading.Lock()
        self._may_add_lanes = most > 1
        self._is_cut_back = False
        self._is_stopped = self._is_left = False
        self._defect: BaseException | None = None
        self.lanes: list[_Lane] = []

    def images(self) -> Iterator[Instance]:
        """Yield the images; ends when every lane has ended. See `error`."""
        try:
            self._add_lane()
            yield from self._stream
        finally:
            self._stream.close()
            with self._lock:
                self._is_left = True
                running = [lane for lane in self.lanes if not lane.is_ended]
            for lane in running:
                lane.retrieval.stop()
            self._join_lanes(time.monotonic() + ENDS_WITHIN_S)
        if self._defect is not None:
            raise self._defect

    def stop(self) -> None:
        with self._lock:
            self._is_stopped = self._is_left = True
        for lane in tuple(self.lanes):
            lane.retrieval.stop()

    def close(self) -> None:
        with self._lock:
            self._is_stopped = self._is_left = True
        for lane in tuple(self.lanes):
            lane.retrieval.close()

    def error(self) -> AditError | None:
        """Return why a lane ended early, if one did."""
        errors = [lane.error for lane in self.lanes if lane.error is not None]
        if self._is_stopped:
            errors.sort(key=lambda error: not isinstance(error, Stopped))
        return errors[0] if errors else None

    def _join_lanes(self, deadline: float) -> None:
        """Wait for the end of all lanes; abort what has not ended by the deadline."""
        for lane in self.lanes:
            lane.thread.join(max(0.0, deadline - time.monotonic()))
            if lane.thread.is_alive():
                lane.retrieval.close()

    # Lanes -------------------------------------------------------------------------------------

    def _add_lane(self) -> None:
        lane = _Lane(self._make())
        lane.thread = threading.Thread(
            target=self._run, args=(lane,), name="retrieval", daemon=True
        )
        with self._lock:
            if self._is_left and self.lanes:
                return
            if self.lanes:
                lane.retrieval.make_dispensable()
            self.lanes.append(lane)
            if self._is_left:
                lane.retrieval.stop()
            lane.thread.start()

    def _run(self, lane: _Lane) -> None:
        try:
            images = lane.retrieval.block_images(
                self._take_blocks(lane), self._classes, len(self._blocks.requested)
            )
            with closing(images):
                began = time.monotonic()
                for instance in images:
                    self._record(lane, instance, time.monotonic() - began)
                    self._stream.put(instance)
                    del instance  # it may be large
                    began = time.monotonic()
        except AditError as error:
            lane.error = None if lane.is_unneeded else error
        except BaseException as defect:  # noqa: BLE001 - raised again in the consumer
            self._defect = defect
        finally:
            self._end(lane)

    def _take_blocks(self, lane: _Lane) -> Iterator[RetrieveRequest]:
        lane.is_open = True
        while lane is self.lanes[0] or not (self._is_cut_back or self._learned.is_slow):
            if lane.block is not None and not self._blocks.received:
                break  # the whole first block has brought nothing
            lane.block = self._blocks.take(1 + self._learned.single_images_left)
            if lane.block is None:
                break
            yield lane.block
        lane.block = None

    def _record(self, lane: _Lane, instance: Instance, waited_s: float) -> None:
        uid = instance.instance_uid
        self._blocks.received.add(uid)
        lane.count += 1
        if lane.block is not None and uid not in lane.block.instance_uids:
            # It sends more than it was asked for, or on another association: images would come
            # several times.
            self._is_cut_back = True
            self._learned.lower(1, "association-limit.mixed")
        if self._is_cut_back:
            return
        if lane.count > 1:  # the first includes the time to open the association
            self._compare_pace(waited_s, instance.size_bytes)
        elif len(self.lanes) == 1 and self._learned.is_slow_now(waited_s):
            self._is_cut_back = True  # it is busy with others: one association for this fetch
            lane.retrieval.release_kept()
            return
        if self._may_add_lanes and not self._learned.single_images_left:
            self._may_add_lanes = False
            useful = 1 + self._blocks.count_left() // self._blocks.least
            while len(self.lanes) < min(self._most, useful) and not self._is_left:
                self._add_lane()

    def _compare_pace(self, waited_s: float, size_bytes: int) -> None:
        """Go on with the first association if several are slower, by the node's own measure."""
        with self._lock:
            count = sum(1 for lane in self.lanes if lane.count and not lane.is_ended)
            self._learned.pace.add(count, waited_s / max(count, 1), 1, size_bytes)
            if count > 1 and self._learned.compare_pace():
                self._is_cut_back = True

    def _end(self, lane: _Lane) -> None:
        """Give back what the lane could not fetch; the last one ends the stream."""
        with self._lock:
            lane.is_ended, lane.ended_at = True, time.monotonic()
            if lane.error is not None and lane.block is not None:
                self._blocks.return_block(lane.block)
            lane.block = None
            running = [one for one in self.lanes if not one.is_ended]
            is_done = not self._blocks.count_left() and not any(one.block for one in running)
        if not running:
            self._stream.finish()
        elif is_done:
            # The node has not accepted these associations until all was fetched without them.
            for one in running:
                if not one.is_open:
                    one.is_unneeded = True
                    one.retrieval.stop()

    # What was learned ---------------------------------------------------------------------------

    def learn(self) -> None:
        """Remember how many associations the node served, unless the fetch was stopped."""
        if self._is_stopped:
            return
        late = [
            lane
            for lane in self.lanes
            if lane.is_unneeded and lane.ended_at - lane.began_at > SERVED_WITHIN_S
        ]
        failed = [lane for lane in self.lanes if lane.error is not None]
        # If each has delivered before, the node itself or the network has failed.
        have_ended_together = all(lane.error is not None and lane.count for lane in self.lanes)
        working = len(self.lanes) - len(late) - len(failed)
        if any(isinstance(lane.error, NodeBusy) for lane in failed):
            self._learned.lower(working, "association-limit.busy")
        elif failed and len(self.lanes) > 1 and not have_ended_together:
            self._learned.lower(working, "association-limit.lost")
        elif late:
            self._learned.lower(working, "association-limit.not-served")


class ParallelRetrieval:
    """One fetch over up to `most` associations; can be interrupted like ImageRetrieval."""

    def __init__(
        self, make: Callable[[], ImageRetrieval], most: int, learned: LearnedLimit
    ) -> None:
        self._make = make
        self._most = most
        self._learned = learned
        self._plain = make()
        self._round: _Round | None = None
        self._is_stopped = False

    def stop(self) -> None:
        """End every wait at once; see ImageRetrieval."""
        self._is_stopped = True
        self._plain.stop()
        if self._round is not None:
            self._round.stop()

    def close(self) -> None:
        """End everything that is still open, without a C-CANCEL."""
        self._is_stopped = True
        self._plain.close()
        if self._round is not None:
            self._round.close()

    def images(self, requests: Sequence[RetrieveRequest]) -> Iterator[Instance]:
        """Yield the images in order of arrival. Lazy. Raises NodeError, Stopped.

        Images that the node names in an earlier list are shared out. Without such a list, or with
        few images, one association fetches them.
        """
        shared = self._share_out(requests)
        if shared is None:
            yield from self._plain.images(requests)
            return
        blocks, classes = shared
        yield from self._shared_images(blocks, classes)
        if not blocks.received:
            self._learned.is_suspended = True
        missing = len(blocks.requested - blocks.received)
        if missing >= _MISSING_SHARE * len(blocks.requested):
            # It may answer requests for whole series only, or no C-GET.
            if blocks.received:
                self._learned.lower(1, "association-limit.lists")
            yield from self._plain.images(requests)

    def _share_out(
        self, requests: Sequence[RetrieveRequest]
    ) -> tuple[ImageBlocks, tuple[str, ...]] | None:
        most = self._learned.apply(self._most)
        listed = [self._plain.known_images(request) for request in requests]
        classes = {one for _, known in listed for one in known}
        named = [
            replace(request, instance_uids=uids)
            for request, (uids, _) in zip(requests, listed, strict=True)
            if uids
        ]
        count = sum(len(one.instance_uids) for one in named)
        if (
            most < 2
            or len(named) < len(requests)
            or not are_shared(count)
            or not 0 < len(classes) <= CLASSES_PER_ASSOCIATION
        ):
            return None
        return ImageBlocks(named, most), tuple(sorted(classes))

    def _shared_images(self, blocks: ImageBlocks, classes: tuple[str, ...]) -> Iterator[Instance]:
        """Fetch the blocks; what a lost association leaves is fetched once more by one."""
        error: AditError | None = None
        for most in (self._learned.apply(self._most), 1):
            before = len(blocks.received)
            self._round = _Round(self._make, blocks, classes, most, self._learned)
            if self._is_stopped:
                self._round.stop()
            yield from self._round.images()
            self._round.learn()
            error = self._round.error()
            if error is None or not blocks.count_left():
                return
            if not isinstance(error, NodeError) or len(blocks.received) == before:
                break
        can_explain = isinstance(error, NotSupported | ConnectionLost | NodeBusy | NodeRefused)
        # Without any image, the usual way is tried, which tells why or takes C-MOVE.
        if error is not None and (blocks.received or not can_explain):
            raise error
