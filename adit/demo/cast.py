"""Users, nodes and the research project of the demo; all made up. Used by `demo.run`."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from django.contrib.auth.models import Group
from django.db import transaction
from django.utils import timezone

from adit.accounts import permissions
from adit.accounts.models import User
from adit.nodes.folder_rules import FOR_NODES
from adit.nodes.models import Node, NodeAccess
from adit.projects import services
from adit.projects.models import Project, RiskChoice

PACS, RESEARCH_PACS, RESEARCH_FOLDER = "Demo PACS", "Research PACS", "Research folder"
SEVEN_ZIP = "Encrypted 7-Zip file"
AE_TITLES = {PACS: "DEMOPACS", RESEARCH_PACS: "RESEARCHPACS"}
TRIAL = "DEMO-TRIAL"
DEMO_DAYS = 3650
"""From the first start to the end of the project."""
HOST = "127.0.0.1"
_SITE = {"domain": "demo"}
"""All nodes of the demo share their patient IDs."""

STUDENTS = "Doctoral students"
"""An additional group: may use those PACS of the demo that are closed or broken."""

PEOPLE: Mapping[str, tuple[str, str, str]] = {
    "admin": ("Adam", "Administrator", permissions.ADMINISTRATORS),
    "coordinator": ("Carla", "Coordinator", permissions.COORDINATORS),
    "pacsadmin": ("Pavel", "Archivist", permissions.PACS_ADMINISTRATORS),
    "dpo": ("Dora", "Protection", permissions.DATA_PROTECTION),
    "student": ("Stefan", "Student", STUDENTS),
    "reviewer": ("Rita", "Reviewer", permissions.REVIEWERS),
}
"""First name, last name and group by user name."""


@dataclass(frozen=True, slots=True)
class Places:
    """Paths of the demo's data below the data folder.

    They are fixed, so that anyone can inspect the data.
    """

    base: Path

    @property
    def pacs(self) -> Path:
        return self.base / "pacs"

    @property
    def research_pacs(self) -> Path:
        return self.base / "research-pacs"

    @property
    def folder(self) -> Path:
        return self.base.parent / FOR_NODES / "demo"

    @property
    def report(self) -> Path:
        return self.base / "report.json"


def passwords(places: Places) -> dict[str, str]:
    """Return passwords by user name: those of the last demo here, or new ones."""
    try:
        known = json.loads(places.report.read_text())["accounts"]
        return {name: str(known[name]) for name in PEOPLE}
    except (OSError, ValueError, KeyError, TypeError):
        return {name: secrets.token_urlsafe(9) for name in PEOPLE}


@transaction.atomic
def assemble(places: Places, ports: Mapping[str, int], words: Mapping[str, str]) -> User:
    """Create or update users, nodes and project; return the coordinator."""
    _students()
    people = {name: _person(name, words[name]) for name in PEOPLE}
    nodes = _nodes(places, ports)
    for node in nodes:
        for group in (*permissions.STANDARD_GROUPS, STUDENTS):
            is_source = node.name == PACS
            NodeAccess.objects.update_or_create(
                node=node,
                group=Group.objects.get(name=group),
                defaults={"may_read": True, "may_write": not is_source},
            )
    _project(people["dpo"], nodes)
    return people["coordinator"]


def _students() -> None:
    students, _ = Group.objects.get_or_create(name=STUDENTS)
    coordinators = Group.objects.get(name=permissions.COORDINATORS)
    students.permissions.set(coordinators.permissions.all())


def _person(name: str, password: str) -> User:
    first, last, group = PEOPLE[name]
    user, _ = User.objects.update_or_create(
        username=name,
        defaults={"first_name": first, "last_name": last, "email": f"{name}@demo.invalid"},
    )
    if not user.check_password(password):
        user.set_password(password)
        user.save(update_fields=["password"])
    user.groups.set([Group.objects.get(name=group)])
    return user


def _nodes(places: Places, ports: Mapping[str, int]) -> list[Node]:
    archives = [
        (name, "dimse", {"called_ae_title": title, "host": HOST, "port": ports[name], **_SITE})
        for name, title in AE_TITLES.items()
    ]
    folder = {"path": str(places.folder), "shown_path": str(places.folder), **_SITE}
    rows = [*archives, (RESEARCH_FOLDER, "folder", folder), (SEVEN_ZIP, "archive", _SITE)]
    return [
        Node.objects.update_or_create(
            name=name,
            defaults={"kind": kind, "settings": settings},
            create_defaults={
                "kind": kind,
                "settings": settings,
                "is_open": True,
                "retrieve_limit": 4,
            },
        )[0]
        for name, kind, settings in rows
    ]


def _project(manager: User, nodes: list[Node]) -> Project:
    found = Project.objects.filter(protocol_id=TRIAL).first()
    if found is not None:
        return found
    today = timezone.localdate()
    project = Project(
        protocol_id=TRIAL,
        protocol_name="Demo study of the thorax",
        sponsor="University of Sampletown",
        pattern="DEMO-####",
        faces=RiskChoice.ACCEPT,
        faces_reason="The patients of the demo are fictitious.",
        header_word=RiskChoice.ACCEPT,
        header_word_reason="All images of the demo are synthetic. Their pixels contain no names.",
        approval_number="DEMO-2026-01",
        responsible="Prof. Demo",
        purpose="Try ADIT with fictitious patients.",
        legal_basis="No personal data: all patients are fictitious.",
        recipient="University of Sampletown",
        expires_on=today + timedelta(days=DEMO_DAYS),
        deletion_on=today + timedelta(days=2 * DEMO_DAYS),
        all_modalities=True,
    )
    members = Group.objects.filter(name__in=(permissions.COORDINATORS, STUDENTS))
    holders = Group.objects.filter(name=permissions.COORDINATORS)
    return services.create_project(
        manager,
        project,
        members=members,
        sources=nodes,
        destinations=[node for node in nodes if node.takes_images],
        list_holders=holders,
    )
