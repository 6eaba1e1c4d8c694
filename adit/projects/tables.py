"""Tables of research projects, profiles and pseudonyms."""

from typing import Any

from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy
from django_tables2 import Column

from adit.dates import format_date
from adit.projects import profile_versions
from adit.projects.models import ProfileVersion, Project
from adit.tables import (
    NO_WRAP,
    NONE,
    NUMBER,
    ROW_HEADER,
    ActionColumn,
    ComputedColumn,
    DateColumn,
    NumberColumn,
    Table,
    muted,
    name_and_note,
    state_badge,
)
from adit_engine.pseudonymize.profile import BASIC


class ProjectTable(Table):
    label = _lazy("Research projects")
    project = ComputedColumn(
        _lazy("Project"), attrs=ROW_HEADER, order_by="protocol_id", orderable=True
    )
    state = ComputedColumn(_lazy("State"))
    sponsor = Column(_lazy("Sponsor"), order_by=("sponsor", "protocol_id"), orderable=True)
    members = ComputedColumn(_lazy("Members"))
    profile = Column(
        _lazy("Profile"),
        order_by=("profile__name", "profile__version", "protocol_id"),
        orderable=True,
    )
    expires_on = DateColumn(
        _lazy("Ends on"), order_by=("expires_on", "protocol_id"), orderable=True
    )

    def render_project(self, record: Project) -> str:
        link = format_html('<a href="{}">{}</a>', reverse("project", args=[record.pk]), record)
        return name_and_note(link, record.protocol_id)

    def render_state(self, record: Project) -> str:
        return state_badge(*describe_state(record))

    def render_sponsor(self, record: Project, value: str) -> str:
        return muted(_("none")) if record.is_default else value

    def render_members(self, record: Project) -> str:
        names = [group.name for group in record.members.all()]
        names += [user.get_full_name() or user.username for user in record.member_users.all()]
        return ", ".join(names) or muted(NONE)


class ProfileTable(Table):
    label = _lazy("Profiles")
    profile = Column(
        _lazy("Profile"),
        accessor="name",
        order_by=("name", "version"),
        orderable=True,
        attrs=ROW_HEADER,
        linkify=lambda record: reverse("profile_version", args=[record.pk]),
    )
    options = ComputedColumn(_lazy("Options"))
    state = ComputedColumn(
        _lazy("State"), order_by=("frozen_at", "name", "version"), orderable=True
    )
    projects = NumberColumn(_lazy("Your projects"))

    def __init__(self, *args: Any, projects: dict[int, int], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.projects_by_profile = projects

    def render_profile(self, record: ProfileVersion) -> str:
        return str(record)

    def render_options(self, record: ProfileVersion) -> str:
        return ", ".join([BASIC, *sorted(profile_versions.parse_rules(record).options)])

    def render_state(self, record: ProfileVersion) -> str:
        if record.frozen_at is None:
            return _("not used yet")
        return _("in use since %(day)s") % {
            "day": format_date(timezone.localdate(record.frozen_at))
        }

    def render_projects(self, record: ProfileVersion) -> str:
        return str(self.projects_by_profile.get(record.pk, 0))


class PseudonymTable(Table):
    label = _lazy("Pseudonyms")
    pseudonym = Column(
        _lazy("Pseudonym"), attrs={"td": {**ROW_HEADER["td"], **NO_WRAP["td"]}}, orderable=True
    )
    # Only the day is shown. The order within a day may be that of a list of patients.
    created_at = DateColumn(
        _lazy("Created on"), order_by=("created_at__date", "pseudonym"), orderable=True
    )
    actions = ActionColumn(
        verbose_name=_lazy("Actions"), template_name="projects/_pseudonym_cell.html", attrs=NUMBER
    )


def describe_state(project: Project) -> tuple[str, Any]:
    """Return the state for the badge, and the text that users read."""
    if project.key_destroyed_at is not None:
        return "closed", _("key destroyed")
    if not project.is_accepted:
        return "waiting", _("proposed")
    if project.is_revoked:
        return "paused", _("revoked")
    if project.is_over(timezone.localdate()):
        return "closed", _("ended")
    return "open", _("active")
