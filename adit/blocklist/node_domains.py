"""Keep entries of the block list in effect when the patient ID domain of a node changes."""

from typing import Any

from django.db.models.signals import pre_save

from adit.blocklist import blocking
from adit.nodes.access import get_domain
from adit.nodes.models import Node


def connect() -> None:
    """Follow each change of a domain. Nodes are saved below this app, so it is a signal."""
    pre_save.connect(_follow_domain, sender=Node, dispatch_uid="follow node domains")


def _follow_domain(instance: Node, **kwargs: Any) -> None:
    saved = Node.objects.filter(pk=instance.pk).first() if instance.pk else None
    if saved is not None and get_domain(saved) != get_domain(instance):
        blocking.follow_domain(get_domain(saved), get_domain(instance))
