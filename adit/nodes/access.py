"""Which nodes a user may fetch from and send to, and the patient ID domain of a node.

Access is the union over the groups of the user. Used by the gateway, orders and most pages.
"""

from django.db.models import Q, QuerySet

from adit.accounts.permissions import AnyUser, Right, has_right
from adit.nodes.models import Node, NodeAccess
from adit_engine.nodes import kinds_with


def readable_nodes(user: AnyUser) -> QuerySet[Node]:
    """Return the nodes that the user may search in and fetch from, in use or not."""
    return _accessible_nodes(user, may_read=True).exclude(
        kind__in=kinds_with(lambda kind: kind.is_archive)
    )


def writable_nodes(user: AnyUser) -> QuerySet[Node]:
    """Return the nodes that the user may send to, in use or not.

    Clinical nodes need an extra permission. Nodes that are a source only are left out.
    """
    nodes = _accessible_nodes(user, may_write=True).filter(takes_images=True)
    return nodes if has_right(user, Right.WRITE_CLINICAL) else nodes.filter(is_clinical=False)


def visible_nodes(user: AnyUser) -> QuerySet[Node]:
    """Return the nodes that the user may fetch from, send to, or manage.

    Pages answer 404 for all others.
    """
    if has_right(user, Right.MANAGE_NODES):
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
    """Return the patient ID domain: the one in the settings, else the name of the node.

    The same patient ID in two domains means two patients.
    """
    return str(node.settings.get("domain") or node.name)
