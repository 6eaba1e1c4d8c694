"""The form to add a webhook."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from adit.accounts.models import User
from adit.projects.models import Project
from adit.projects.services import member_projects
from adit.webhooks.http import MAX_URL_LENGTH
from adit.webhooks.models import WebhookEvent
from adit.webhooks.services import MAX_NAME_LENGTH


class WebhookForm(forms.Form):
    name = forms.CharField(
        label=_("Name"),
        max_length=MAX_NAME_LENGTH,
        help_text=_("Who is called, for example: evaluation server of the LUNG project."),
    )
    url = forms.CharField(
        label=_("Address"),
        max_length=MAX_URL_LENGTH,
        widget=forms.TextInput(attrs={"inputmode": "url", "autocomplete": "off"}),
        help_text=_("Of the program that is called. It begins with https://."),
    )
    events = forms.MultipleChoiceField(
        label=_("Call it when"),
        choices=WebhookEvent.choices,
        initial=[WebhookEvent.JOB_ENDED],
        widget=forms.CheckboxSelectMultiple(attrs={"class": "form-check-input"}),
    )
    project = forms.ModelChoiceField(
        Project.objects.none(),
        label=_("Jobs"),
        required=False,
        empty_label=_("My own jobs"),
        help_text=_("Only your own jobs, or those of all members of a project of yours."),
    )

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        project = self.fields["project"]
        assert isinstance(project, forms.ModelChoiceField)
        project.queryset = member_projects(user).order_by("protocol_id")
