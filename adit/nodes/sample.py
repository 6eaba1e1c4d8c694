"""Sample: one image of a study, fetched within a web request for somebody who may see it."""

import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _

from adit.accounts.rights import Person, Right, require
from adit.nodes.connect import Purpose, open_node
from adit.nodes.models import Node
from adit.nodes.search import turn
from adit.nodes.watched import Watch, watched
from adit_engine.errors import NotFound
from adit_engine.instance import Instance
from adit_engine.query import Query
from adit_engine.record import Record
from adit_engine.reference import InstanceRef, SeriesRef, StudyRef


def sample_of(user: Person, node: Node, study: StudyRef) -> Instance:
    """The first image that the node lists of the study; it stays in memory.

    Counts as a search: takes a search connection and ends at a search's deadline.
    Raises NotFound, Refused, Waits, TimedOut, NodeError.
    """
    require(user, Right.SEE_IDENTIFIED)
    watch = Watch(time.monotonic() + settings.SEARCH_DEADLINE_S, lambda: False)
    holder = f"sample:{secrets.token_hex(8)}"

    def ask(stop: threading.Event) -> Instance:
        return _first_image(opened, study)

    with turn(node), open_node(user, node, Purpose.SEARCH, holder=holder) as opened:
        return watched(opened, ask, watch)


def _first_image(opened: Any, study: StudyRef) -> Instance:
    for series in _found(opened, Query.series_of(study)):
        ref = SeriesRef(study.study_uid, series.series_uid)
        for record in _found(opened, Query.instances_of(ref)):
            image = InstanceRef(ref.study_uid, ref.series_uid, record.instance_uid)
            with closing(opened.fetch([image], patient_id=record.patient_id)) as fetched:
                instance: Instance | None = next(fetched, None)
            if instance is not None:
                return instance
            break
    raise NotFound(
        _("%(node)s gave no image of this study. Check the study UID.") % {"node": opened.name}
    )


def _found(opened: Any, query: Query) -> Iterator[Record]:
    with closing(opened.find(query)) as answers:
        yield from [record for record in answers if query.matches(record)]
