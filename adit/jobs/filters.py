"""Filters of the job list: kind, state, research project, text, days, archived jobs."""

from typing import Any, cast

import django_filters
from django import forms
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from adit.accounts.models import User
from adit.jobs import visibility
from adit.jobs.kinds import KINDS
from adit.jobs.models import Job, JobState
from adit.numbers import parse_number
from adit.orders.forms import SearchDateInput
from adit.projects.models import Project

_SELECT = {"class": "form-select"}


def _kind_choices() -> list[tuple[str, Any]]:
    return [(word, _(kind.label)) for word, kind in KINDS.items()]


def _visible_projects(request: HttpRequest | None) -> QuerySet[Project]:
    """The projects of the jobs that this user may see; no other project names."""
    assert request is not None
    visible = visibility.visible_jobs(cast(User, request.user))
    return Project.objects.filter(is_default=False, pk__in=visible.values("project"))


class JobFilter(django_filters.FilterSet):
    text = django_filters.CharFilter(
        label=_("Search"),
        method="by_text",
        widget=forms.TextInput(
            attrs={"class": "form-control", "placeholder": _("job number, title, user name")}
        ),
    )
    kind = django_filters.ChoiceFilter(
        label=_("Kind"),
        choices=_kind_choices,
        empty_label=_("all"),
        widget=forms.Select(attrs=_SELECT),
    )
    state = django_filters.ChoiceFilter(
        label=_("State"),
        choices=JobState.choices,
        empty_label=_("all"),
        widget=forms.Select(attrs=_SELECT),
    )
    project = django_filters.ModelChoiceFilter(
        label=_("Research project"),
        queryset=_visible_projects,
        empty_label=_("all"),
        widget=forms.Select(attrs=_SELECT),
    )
    since = django_filters.DateFilter(
        label=_("Ordered from"),
        field_name="created_at",
        lookup_expr="date__gte",
        widget=SearchDateInput(),
    )
    until = django_filters.DateFilter(
        label=_("Ordered until"),
        field_name="created_at",
        lookup_expr="date__lte",
        widget=SearchDateInput(),
    )

    archived = django_filters.ChoiceFilter(
        label=_("Archived jobs"),
        method="by_archiving",
        choices=[("all", _("shown, too")), ("only", _("only archived"))],
        empty_label=_("hidden"),
        widget=forms.Select(attrs=_SELECT),
    )

    class Meta:
        model = Job
        fields: list[str] = []

    def filter_queryset(self, queryset: QuerySet[Job]) -> QuerySet[Job]:
        found = super().filter_queryset(queryset)
        return found if self.form.cleaned_data.get("archived") else found.filter(archived_at=None)

    def by_archiving(self, jobs: QuerySet[Job], name: str, choice: str) -> QuerySet[Job]:
        return jobs.exclude(archived_at=None) if choice == "only" else jobs

    def by_text(self, jobs: QuerySet[Job], name: str, text: str) -> QuerySet[Job]:
        match = Q(title__icontains=text) | Q(owner__username__iexact=text)
        if (number := parse_number(text)) is not None:
            match |= Q(pk=number)
        return jobs.filter(match)
