"""Pages of lists, linked by an opaque cursor. Used by all lists of the API."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlencode

from django.db.models import Model, QuerySet
from rest_framework.request import Request

from adit.api.problems import invalid_field
from adit.numbers import parse_number
from adit_engine.messages import Message

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
PARAMETERS = frozenset({"cursor", "limit"})

M = TypeVar("M", bound=Model)


def make_page(
    request: Request,
    rows: QuerySet[M],
    make_items: Callable[[Sequence[M]], list[dict[str, Any]]],
    *,
    field: str = "pk",
    newest_first: bool = False,
) -> dict[str, Any]:
    """Return one page: `results`, and `next`, the address of the next page or None.

    `field` is an integer that differs in all rows: rows that are added or removed meanwhile neither
    repeat nor hide others.
    """
    limit = _read_limit(request)
    rows = rows.order_by(f"-{field}" if newest_first else field)
    after = _read_cursor(request)
    if after is not None:
        rows = rows.filter(**{f"{field}__{'lt' if newest_first else 'gt'}": after})
    found = list(rows[: limit + 1])
    shown = found[:limit]
    has_more = len(found) > limit
    return {
        "results": make_items(shown),
        "next": _next_address(request, getattr(shown[-1], field)) if has_more else None,
    }


def make_page_by_offset(
    request: Request, rows: QuerySet[M], make_items: Callable[[Sequence[M]], list[dict[str, Any]]]
) -> dict[str, Any]:
    """Return a page as `make_page` does, of rows that have an order but no such field."""
    limit, begin = _read_limit(request), _read_cursor(request) or 0
    found = list(rows[begin : begin + limit + 1])
    return {
        "results": make_items(found[:limit]),
        "next": _next_address(request, begin + limit) if len(found) > limit else None,
    }


def _read_limit(request: Request) -> int:
    text = request.query_params.get("limit")
    if text is None:
        return DEFAULT_LIMIT
    limit = parse_number(text)
    if not limit or limit > MAX_LIMIT:
        raise invalid_field("limit", Message("api.invalid-limit", limit=MAX_LIMIT))
    return limit


def _read_cursor(request: Request) -> int | None:
    text = request.query_params.get("cursor")
    if text is None:
        return None
    try:
        number = parse_number(urlsafe_b64decode(text.encode()).decode())
    except ValueError:
        number = None
    if number is None:
        raise invalid_field("cursor", Message("api.invalid-cursor"))
    return number


def _next_address(request: Request, value: int) -> str:
    given = [
        (name, text)
        for name, texts in request.query_params.lists()
        for text in texts
        if name != "cursor"
    ]
    cursor = urlsafe_b64encode(str(value).encode()).decode()
    return request.build_absolute_uri(f"{request.path}?{urlencode([*given, ('cursor', cursor)])}")
