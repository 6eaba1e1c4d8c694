"""Cache the answers of nodes, encrypted, so that the same query is not repeated. Used by `search`.

Only for interactive searches: what a transfer fetches is always listed by the node itself.
"""

import json
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from django.conf import settings
from django.core.cache import cache

from adit.accounts.models import User
from adit.accounts.permissions import AnyUser, Right, has_right
from adit.audit.trail import record
from adit.nodes.gateway import Purpose, get_unavailability, require_purpose
from adit.nodes.models import Node
from adit.vault.cipher import DecryptionError
from adit.vault.master_key import master_cipher
from adit_engine.values.query import Query

_POLL_S = 0.1


@dataclass(frozen=True)
class CachedQuery:
    """Who queries which node for what. `shape` names the form in which the answer is kept."""

    user: AnyUser
    node: Node
    query: Query
    shape: str

    @cached_property
    def key(self) -> str:
        """The cache key. It depends on the settings of the node and on the user's permission.

        The permission decides whether the answer contains identifying data.
        """
        node = self.node
        about = [
            [node.pk, node.kind, node.settings, node.secrets],
            asdict(self.query),
            self.shape,
            has_right(self.user, Right.SEE_IDENTIFIED),
        ]
        text = json.dumps(about, sort_keys=True, default=str)
        return f"answer:{master_cipher().index(text, 'node answer')}"


@contextmanager
def reuse_answer(cached_query: CachedQuery, check: Callable[[], None]) -> Iterator[Any]:
    """Yield the recent answer of the node, or None if the caller has to query the node.

    While another request runs the same query, wait for its answer; `check` is called meanwhile and
    may raise. Raise NotPermitted.
    """
    if not settings.SEARCH_KEPT_S or not _may_use_node(cached_query):
        yield None
        return
    held, mark = _load_answer(cached_query), f"{cached_query.key}:asked"
    is_ours = False
    try:
        while held is None and not is_ours:
            is_ours = cache.add(mark, 1, settings.SEARCH_DEADLINE_S)
            if not is_ours:
                check()
                time.sleep(_POLL_S)
            held = _load_answer(cached_query)
        if held is not None:
            _record_reuse(cached_query)
        yield held
    finally:
        if is_ours:
            cache.delete(mark)


def store_answer(cached_query: CachedQuery, answer: Any) -> None:
    """Store an answer for the time in the settings. `answer` is any value that JSON can hold."""
    if settings.SEARCH_KEPT_S:
        sealed = master_cipher().seal({"at": time.time(), "answer": answer}, cached_query.key)
        cache.set(cached_query.key, b64encode(sealed).decode(), settings.SEARCH_KEPT_S)


def _load_answer(cached_query: CachedQuery) -> Any:
    text = cache.get(cached_query.key)
    if not isinstance(text, str):
        return None
    try:
        held = master_cipher().open(b64decode(text), cached_query.key)
    except (DecryptionError, ValueError):
        return None
    is_fresh = 0 <= time.time() - held["at"] < settings.SEARCH_KEPT_S
    return held["answer"] if is_fresh else None


def _record_reuse(cached_query: CachedQuery) -> None:
    node = cached_query.node
    details = {"node": node.name, "level": cached_query.query.level.value}
    record("node.remembered", user=cached_query.user, about=f"node:{node.pk}", details=details)


def _may_use_node(cached_query: CachedQuery) -> bool:
    """Check anew whether the node may be used. If it is unavailable, the gateway reports why."""
    user = User.objects.filter(pk=cached_query.user.pk or 0).first()
    node = Node.objects.filter(pk=cached_query.node.pk).first()
    if user is None or node is None:
        return False
    require_purpose(user, node, Purpose.SEARCH)
    return get_unavailability(node, Purpose.SEARCH) is None
