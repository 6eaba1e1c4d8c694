"""Tables of users, groups and requests for accounts, and the search in the users."""

from typing import Any

import django_filters
from django import forms
from django.contrib.auth.models import Group
from django.db.models import Q, QuerySet
from django.urls import reverse
from django.utils.html import format_html
from django.utils.text import Truncator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy
from django_tables2 import Column

from adit.accounts.models import User
from adit.accounts.permissions import STANDARD_GROUPS
from adit.administration.models import AccountRequest
from adit.tables import (
    NONE,
    ROW_HEADER,
    ComputedColumn,
    LocalDateTimeColumn,
    NumberColumn,
    Table,
    muted,
    state_badge,
)


class UserFilter(django_filters.FilterSet):
    text = django_filters.CharFilter(
        label=_lazy("Search"),
        method="by_text",
        widget=forms.TextInput(
            attrs={"class": "form-control", "placeholder": _lazy("name, user name, mail address")}
        ),
    )
    group = django_filters.ModelChoiceFilter(
        label=_lazy("Group"),
        field_name="groups",
        queryset=Group.objects.order_by("name"),
        empty_label=_lazy("all"),
        widget=forms.Select(attrs={"class": "form-select"}),
    )
    state = django_filters.ChoiceFilter(
        label=_lazy("State"),
        field_name="is_active",
        choices=[("True", _lazy("active")), ("False", _lazy("deactivated"))],
        empty_label=_lazy("all"),
        widget=forms.Select(attrs={"class": "form-select"}),
    )

    is_service = django_filters.ChoiceFilter(
        label=_lazy("Kind"),
        choices=[("False", _lazy("people")), ("True", _lazy("service accounts"))],
        empty_label=_lazy("all"),
        widget=forms.Select(attrs={"class": "form-select"}),
    )

    class Meta:
        model = User
        fields: list[str] = []

    def by_text(self, users: QuerySet[User], name: str, text: str) -> QuerySet[User]:
        for word in text.split():
            users = users.filter(
                Q(username__icontains=word)
                | Q(first_name__icontains=word)
                | Q(last_name__icontains=word)
                | Q(email__icontains=word)
            )
        return users


class UserTable(Table):
    label = _lazy("Users")
    name = ComputedColumn(
        _lazy("Name"),
        attrs=ROW_HEADER,
        order_by=("last_name", "first_name", "username"),
        orderable=True,
    )
    username = Column(_lazy("User name"), order_by=("username",), orderable=True)
    email = Column(_lazy("Mail address"), order_by=("email", "username"), orderable=True)
    groups = ComputedColumn(_lazy("Groups"))
    state = ComputedColumn(_lazy("State"), order_by=("-is_active", "username"), orderable=True)
    second_factor = ComputedColumn(
        _lazy("Second factor"), order_by=("-has_second_factor", "username"), orderable=True
    )
    last_login = LocalDateTimeColumn(
        _lazy("Last sign-in"), order_by=("last_login", "username"), orderable=True
    )

    def render_name(self, record: User) -> str:
        name = record.get_full_name() or record.username
        return format_html('<a href="{}">{}</a>', reverse("user", args=[record.pk]), name)

    def render_groups(self, record: User) -> str:
        names = [group.name for group in record.groups.all()]
        if record.is_superuser:
            names.insert(0, _("all permissions"))
        return ", ".join(sorted(names)) or muted(NONE)

    def render_second_factor(self, record: Any) -> str:
        if record.is_service:
            return muted(NONE)
        return _("yes") if record.has_second_factor else muted(_("no"))

    def render_state(self, record: User) -> str:
        return state_badge(*describe_state_of(record))


class GroupTable(Table):
    label = _lazy("Groups")
    name = ComputedColumn(_lazy("Group"), attrs=ROW_HEADER, order_by=("name",), orderable=True)
    members = NumberColumn(_lazy("Members"))
    permissions = NumberColumn(_lazy("Permissions"))
    nodes = NumberColumn(_lazy("PACS and folders"))
    standard = ComputedColumn(_lazy("Kind"))

    def render_name(self, record: Any) -> str:
        return format_html('<a href="{}">{}</a>', reverse("group", args=[record.pk]), record.name)

    def render_members(self, record: Any) -> str:
        return str(record.member_count)

    def render_permissions(self, record: Any) -> str:
        return str(record.permission_count)

    def render_nodes(self, record: Any) -> str:
        return str(record.node_count)

    def render_standard(self, record: Any) -> str:
        return _("standard group") if record.name in STANDARD_GROUPS else _("own group")


class AccountRequestTable(Table):
    label = _lazy("Requests for accounts")
    name = ComputedColumn(_lazy("Name"), attrs=ROW_HEADER)
    email = Column(_lazy("Mail address"))
    reason = ComputedColumn(_lazy("Needs ADIT for"))
    created_at = LocalDateTimeColumn(_lazy("Received"))

    def render_name(self, record: AccountRequest) -> str:
        name = f"{record.first_name} {record.last_name}"
        return format_html(
            '<a href="{}">{}</a>', reverse("account_request", args=[record.pk]), name
        )

    def render_reason(self, record: AccountRequest) -> str:
        return Truncator(record.reason).chars(100)


def describe_state_of(user: User) -> tuple[str, str]:
    """Return the state for the badge, and the text that users read."""
    if user.anonymized_at is not None:
        return "closed", _("made anonymous")
    if not user.is_active:
        return "closed", _("deactivated")
    if user.is_service:
        return "open", _("service account")
    if not user.has_usable_password() and user.last_login is None:
        return "waiting", _("no password yet")
    return "open", _("active")
