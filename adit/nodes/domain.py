"""Domain: whose patient ids a node speaks; the same id of two domains is two patients."""

from adit.nodes.models import Node


def domain_of(node: Node) -> str:
    """What the node's settings name, or else the node's own name."""
    return str(node.settings.get("domain") or node.name)
