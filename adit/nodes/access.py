"""Access: which nodes a person may fetch from and send to; a union over the person's groups.
Domain: whose patient ids a node speaks; the same id of two domains is two patients."""

from django.db.models import Q, QuerySet

from adit.accounts.permissions import AnyUser, Right, may
from adit.nodes.models import Node, NodeAccess
from adit_engine.nodes import WRITE_ONLY_KINDS


def readable_nodes(user: AnyUser) -> QuerySet[Node]:
    """The nodes that the user may search in and fetch from, open or not."""
    return _accessible_nodes(user, may_read=True).exclude(kind__in=WRITE_ONLY_KINDS)


def writable_nodes(user: AnyUser) -> QuerySet[Node]:
    """The nodes that the user may send to, open or not; clinical ones need a right of their own,
    and to those that are a source only nobody sends.
    """
    nodes = _accessible_nodes(user, may_write=True).filter(takes_images=True)
    return nodes if may(user, Right.WRITE_CLINICAL) else nodes.filter(is_clinical=False)


def visible_nodes(user: AnyUser) -> QuerySet[Node]:
    """The nodes that the user may fetch from, send to, or manage; the others are 404."""
    if may(user, Right.MANAGE_NODES):
        return Node.objects.all()
    reads, writes = readable_nodes(user).values("pk"), writable_nodes(user).values("pk")
    return Node.objects.filter(Q(pk__in=reads) | Q(pk__in=writes))


def may_read(user: AnyUser, node: Node) -> bool:
    return readable_nodes(user).filter(pk=node.pk).exists()


def may_write(user: AnyUser, node: Node) -> bool:
    return writable_nodes(user).filter(pk=node.pk).exists()


def _accessible_nodes(user: AnyUser, **direction: bool) -> QuerySet[Node]:
    if not user.is_active:
        return Node.objects.none()
    if user.is_superuser:
        return Node.objects.all()
    rows = NodeAccess.objects.filter(group__in=user.groups.all(), **direction)
    return Node.objects.filter(pk__in=rows.values("node"))


def get_domain(node: Node) -> str:
    """What the node's settings name, or else the node's own name."""
    return str(node.settings.get("domain") or node.name)
