"""The form that orders a recall, and the one that records the confirmation of a recipient."""

from datetime import timedelta
from typing import Any

from django import forms
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from adit.projects.validators import MAX_REASON_LENGTH
from adit.recall.recalls import CONFIRM_DAYS, MAX_NOTE_LENGTH


class RecallForm(forms.Form):
    reason = forms.CharField(
        label=_("Reason"),
        max_length=MAX_REASON_LENGTH,
        help_text=_("For example: consent withdrawn by letter. Stored encrypted."),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    confirm_by = forms.DateField(
        label=_("Recipients confirm the deletion by"),
        help_text=_("After this day, missing confirmations are reported to you."),
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
    )
    archives = forms.ChoiceField(
        label=_("7-Zip files that also hold other studies"),
        choices=[
            ("delete", _("Delete the complete files")),
            ("keep", _("Keep them: the recipient deletes the images")),
        ],
        help_text=_("ADIT does not keep passwords, so it cannot take single images out of a file."),
    )

    def __init__(self, *args: Any, has_shared_archives: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["confirm_by"].initial = timezone.localdate() + timedelta(days=CONFIRM_DAYS)
        if not has_shared_archives:
            del self.fields["archives"]

    @property
    def values(self) -> dict[str, Any]:
        """The arguments of `start_recall`."""
        cleaned = self.cleaned_data
        return {
            "reason": cleaned["reason"],
            "confirm_by": cleaned["confirm_by"],
            "deletes_shared_archives": cleaned.get("archives", "delete") == "delete",
        }


class ConfirmationForm(forms.Form):
    note = forms.CharField(
        label=_("How it was confirmed"),
        max_length=MAX_NOTE_LENGTH,
        help_text=_("For example: mail of Dr. Smith of 3 May. Stored encrypted."),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
