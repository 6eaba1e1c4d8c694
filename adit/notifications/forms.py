"""The form to choose which notifications come by mail."""

from django import forms
from django.utils.translation import gettext_lazy as _

from adit.notifications.models import NotificationKind


class MailForm(forms.Form):
    kinds = forms.MultipleChoiceField(
        label=_("Also by mail"),
        choices=NotificationKind.choices,
        required=False,
        widget=forms.CheckboxSelectMultiple(attrs={"class": "form-check-input"}),
        help_text=_(
            "Jobs that were ordered with a mail at the end send this mail in any case. You get "
            "only notifications about what you may see."
        ),
    )
