"""Fetch single images within a web request and render frames as PNG, in memory only.

Used by pages that show images to users who may see identified data.
"""

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, TypeVar

from django.conf import settings

from adit.accounts.permissions import AnyUser, Right, require
from adit.nodes.bounded_call import CallGuard, run_bounded
from adit.nodes.gateway import Purpose, open_node
from adit.nodes.models import Node
from adit.nodes.search import acquire_search_thread
from adit_engine.errors import NotFound
from adit_engine.values.instance import Instance
from adit_engine.values.query import Query
from adit_engine.values.record import Record
from adit_engine.values.references import InstanceRef, SeriesRef, StudyRef

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SampleImage:
    """One image, and the patient ID that it has at the node."""

    ref: InstanceRef
    patient_id: str = field(repr=False)


def fetch_sample(user: AnyUser, node: Node, study: StudyRef) -> Instance:
    """Return the first image of the study that the node lists; it stays in memory.

    Counts as a search: it uses a slot of the search lane and ends at the deadline of searches.
    Raise NotFound, NotPermitted, NodeUnavailable, TimedOut, NodeError.
    """
    require(user, Right.SEE_IDENTIFIED)
    return _run_in_search(user, node, lambda opened, _stop: _fetch_first_image(opened, study))


def inspect_images(
    user: AnyUser, node: Node, wanted: Sequence[SampleImage], reduce: Callable[[Instance], T]
) -> list[T | None]:
    """Return the result of `reduce` for each image, in order; None for missing images.

    Images are fetched one after another. After half of the deadline of searches the remaining
    ones are None as well. Raise like `fetch_sample`.
    """
    require(user, Right.SEE_IDENTIFIED)
    until = time.monotonic() + settings.SEARCH_DEADLINE_S / 2

    def ask(opened: Any, stop: threading.Event) -> list[T | None]:
        found: list[T | None] = []
        for one in wanted:
            late = bool(found) and (stop.is_set() or time.monotonic() > until)
            instance = None if late else _fetch_image(opened, one.ref, one.patient_id)
            found.append(None if instance is None else reduce(instance))
        return found

    return _run_in_search(user, node, ask)


def _run_in_search(user: AnyUser, node: Node, ask: Callable[[Any, threading.Event], T]) -> T:
    watch = CallGuard(time.monotonic() + settings.SEARCH_DEADLINE_S, lambda: False)
    holder = f"sample:{secrets.token_hex(8)}"
    with (
        acquire_search_thread(node),
        open_node(user, node, Purpose.SEARCH, holder=holder) as opened,
    ):
        return run_bounded(opened, lambda stop: ask(opened, stop), watch)


def _fetch_first_image(opened: Any, study: StudyRef) -> Instance:
    for series in _find_records(opened, Query.series_of(study)):
        ref = SeriesRef(study.study_uid, series.series_uid)
        for record in _find_records(opened, Query.instances_of(ref)):
            image = InstanceRef(ref.study_uid, ref.series_uid, record.instance_uid)
            instance = _fetch_image(opened, image, record.patient_id)
            if instance is not None:
                return instance
            break
    raise NotFound("sample-image.none", node=opened.name)


def _fetch_image(opened: Any, ref: InstanceRef, patient_id: str) -> Instance | None:
    with closing(opened.fetch([ref], patient_id=patient_id)) as fetched:
        instance: Instance | None = next(fetched, None)
    return instance


def _find_records(opened: Any, query: Query) -> Iterator[Record]:
    with closing(opened.find(query)) as answers:
        yield from [record for record in answers if query.matches(record)]


THUMBNAIL_PIXELS = 320
MAX_PNG_PIXELS = 2048
"""Pixels of the longer side. Rectangles are drawn in the pixels of the original image anyway."""


def render_png(
    instance: Instance, frame: int = 0, *, largest: int = MAX_PNG_PIXELS, whole_range: bool = False
) -> bytes:
    """Return a frame as PNG, at most `largest` pixels wide and high.

    Raise InvalidInput if it cannot be rendered.
    """
    from PIL import Image  # these load numpy, which most processes do not need

    from adit_engine.rendering import render_frame

    image = Image.fromarray(render_frame(instance, frame, whole_range=whole_range))
    image.thumbnail((largest, largest))
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
