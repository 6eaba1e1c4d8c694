"""Sample: single images, fetched within a web request for somebody who may see them.
Pictures: a frame of an image as PNG bytes, for the eyes of who may see it and for no file."""

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, TypeVar

from django.conf import settings
from django.utils.translation import gettext as _
from PIL import Image

from adit.accounts.permissions import AnyUser, Right, require
from adit.nodes.bounded_call import CallGuard, run_bounded
from adit.nodes.gateway import Purpose, open_node
from adit.nodes.models import Node
from adit.nodes.search import acquire_search_thread
from adit_engine.errors import NotFound
from adit_engine.rendering import render_frame
from adit_engine.values.instance import Instance
from adit_engine.values.query import Query
from adit_engine.values.record import Record
from adit_engine.values.references import InstanceRef, SeriesRef, StudyRef

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SampleImage:
    """One image, and whose it is at the node."""

    ref: InstanceRef
    patient_id: str = field(repr=False)


def fetch_sample(user: AnyUser, node: Node, study: StudyRef) -> Instance:
    """The first image that the node lists of the study; it stays in memory.

    Counts as a search: takes a search connection and ends at a search's deadline.
    Raises NotFound, NotPermitted, NodeUnavailable, TimedOut, NodeError.
    """
    require(user, Right.SEE_IDENTIFIED)
    return _run_in_search(user, node, lambda opened, _stop: _fetch_first_image(opened, study))


def inspect_images(
    user: AnyUser, node: Node, wanted: Sequence[SampleImage], reduce: Callable[[Instance], T]
) -> list[T | None]:
    """What `reduce` makes of each image, in order; None for those that the node did not give.

    One after another, and not after half of a search's deadline: those left then are None, too.
    Raises as `sample_of` does.
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
    raise NotFound(
        _("%(node)s gave no image of this study. Check the study UID.") % {"node": opened.name}
    )


def _fetch_image(opened: Any, ref: InstanceRef, patient_id: str) -> Instance | None:
    with closing(opened.fetch([ref], patient_id=patient_id)) as fetched:
        instance: Instance | None = next(fetched, None)
    return instance


def _find_records(opened: Any, query: Query) -> Iterator[Record]:
    with closing(opened.find(query)) as answers:
        yield from [record for record in answers if query.matches(record)]


THUMBNAIL_PIXELS = 320
MAX_PNG_PIXELS = 2048
"""Pixels of the longer side; rectangles are drawn in the image's own pixels all the same."""


def render_png(
    instance: Instance, frame: int = 0, *, largest: int = MAX_PNG_PIXELS, whole_range: bool = False
) -> bytes:
    """Raises WrongInput for what cannot be shown."""
    image = Image.fromarray(render_frame(instance, frame, whole_range=whole_range))
    image.thumbnail((largest, largest))
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
