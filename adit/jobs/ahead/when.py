"""When: the sentences that say when an order will run."""

from collections.abc import Iterable

from django.utils.translation import gettext as _

from adit.nodes import budgets
from adit.nodes.breaker import why_resting
from adit.nodes.connect import Purpose, why_waiting
from adit.nodes.models import Node
from adit_engine.errors import WrongInput


def when(nodes: Iterable[Node], *, is_urgent: bool, owner: int, studies: int) -> list[str]:
    """One sentence for each node or budget that must be waited for; one for now when there is none."""
    obstacles = [sentence for node in nodes if (sentence := _obstacle(node, is_urgent))]
    now = [] if obstacles else [_("Now, as soon as a worker is free.")]
    return obstacles + (budgets.warnings(owner, studies) or now)


def _obstacle(node: Node, is_urgent: bool) -> str:
    try:
        waits = why_waiting(node, Purpose.RETRIEVE, urgent=is_urgent) or why_resting(node)
    except WrongInput as error:
        return f"{node}: {error}"
    return str(waits) if waits else ""
