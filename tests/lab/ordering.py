"""Shortcuts to place orders with the order service."""

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from adit.accounts.models import User
from adit.jobs.kinds.base import OrderRequest, SheetOptions
from adit.jobs.models import Job
from adit.orders.service import place_order

SHEET_OPTIONS = {one.name for one in fields(SheetOptions)}


def make_request(
    kind: str, items: Iterable[Any], *destinations: int, key: str = "a", **more: Any
) -> OrderRequest[Any]:
    """Return an order request; `more` are options of the order or of its sheet."""
    sheet = SheetOptions(**{name: more.pop(name) for name in SHEET_OPTIONS & more.keys()})
    return OrderRequest(kind, tuple(items), key, destinations, sheet=sheet, **more)


def order_job(
    user: User, kind: str, items: Iterable[Any], *destinations: int, key: str = "a", **more: Any
) -> Job:
    """Place an order and return its only job."""
    (job,) = place_order(user, make_request(kind, items, *destinations, key=key, **more))
    return job
