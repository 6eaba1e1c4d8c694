"""Create jobs that wait or have failed, so that every page of the demo shows something."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import Group
from django.utils import timezone

from adit.accounts.models import User
from adit.demo.cast import AE_TITLES, PACS, RESEARCH_FOLDER, STUDENTS, TRIAL
from adit.demo.first_jobs import place
from adit.jobs.kinds.base import MAX_KEY_LENGTH
from adit.nodes.models import Node, NodeAccess
from adit.projects.models import Project
from adit_engine.values.record import Record

STUDIES_TO_APPROVE = 11


@dataclass(frozen=True, slots=True)
class Scene:
    """One more PACS, and a job that cannot be executed there now."""

    node: str
    title: str
    settings: Mapping[str, Any]
    row: Mapping[str, Any]


def place_orders(studies: list[Record]) -> None:
    """Place the orders once; a repeated demo keeps them.

    `studies` are in the demo PACS.
    """
    pacs, user = Node.objects.get(name=PACS), User.objects.get(username="student")
    project = Project.objects.get(protocol_id=TRIAL)
    for number, scene in enumerate(_scenes(pacs)):
        node, _ = Node.objects.update_or_create(
            name=scene.node,
            defaults={
                "kind": pacs.kind,
                "settings": {**pacs.settings, **scene.settings},
                "is_open": True,
                **scene.row,
            },
        )
        readers = Group.objects.get(name=STUDENTS)
        NodeAccess.objects.update_or_create(node=node, group=readers, defaults={"may_read": True})
        project.sources.add(node)
        _order(user, node, [studies[number]], scene.title)
    _order(user, pacs, studies[:STUDIES_TO_APPROVE], "Demo: many studies, to be approved")


def _scenes(pacs: Node) -> list[Scene]:
    opens = timezone.localtime() + timedelta(hours=6)
    hours = {
        "days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"],
        "from": opens.strftime("%H:00"),
        "to": (opens + timedelta(hours=8)).strftime("%H:00"),
    }
    manager = User.objects.get(username="pacsadmin")
    paused = {
        "paused_at": timezone.now(),
        "paused_by": manager,
        "pause_reason": "moved to new disks until Friday",
    }
    title = AE_TITLES[PACS]
    return [
        Scene("Night PACS", "Demo: waits for the allowed hours", {}, {"windows": [hours]}),
        Scene("Paused PACS", "Demo: waits, its PACS is paused", {}, paused),
        Scene(
            "Misnamed PACS",
            "Demo: failed, the PACS does not know the AE title",
            {"called_ae_title": f"NOT{title}"},
            {},
        ),
    ]


def _order(user: User, source: Node, studies: list[Record], title: str) -> None:
    key = f"{source.name} {title}"[:MAX_KEY_LENGTH]
    place(user, source, studies, (RESEARCH_FOLDER,), key=key, title=title)
