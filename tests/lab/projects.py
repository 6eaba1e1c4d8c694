"""Complete research projects for tests that are not about what a project needs."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adit.accounts.models import User
    from adit.nodes.models import Node
    from adit.projects.models import Project

APPROVAL = {
    "approval_number": "EK-77",
    "responsible": "Prof. Test",
    "purpose": "Tests",
    "legal_basis": "consent",
    "recipient": "Test University",
    "expires_on": date(2060, 1, 31),
    "deletion_on": date(2061, 1, 31),
}
"""Values for all required details of the approval."""


def create_complete_project(
    manager: User, protocol_id: str, *, nodes: Iterable[Node] | None = None, **values: Any
) -> Project:
    """Create an accepted project with these nodes, or all there are, as source and destination."""
    # Not at the top: system tests import this module without Django.
    from adit.nodes.models import Node
    from adit.projects.models import Project
    from adit.projects.services import create_project

    names = ("members", "list_holders", "reidentifiers")
    relations = {name: values.pop(name) for name in names if name in values}
    places = list(Node.objects.all() if nodes is None else nodes)
    basis = {"sponsor": "Test University", "all_modalities": True, **APPROVAL}
    project = Project(protocol_id=protocol_id, **{**basis, **values})
    return create_project(manager, project, sources=places, destinations=places, **relations)
