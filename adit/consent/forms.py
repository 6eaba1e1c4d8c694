"""Forms of the consent list: change a patient, withdraw, upload a list, remove the list."""

from typing import Any

from django import forms
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from adit.consent.changes import (
    MAX_ID_LENGTH,
    MAX_MODALITIES_LENGTH,
    Consent,
    list_domains,
    normalize_modalities,
)
from adit.consent.uploads import UploadedList
from adit.projects.validators import MAX_REASON_LENGTH
from adit.spreadsheets.row_reader import DateOrder
from adit_engine.errors import InvalidInput


def make_date_field(label: Any, **more: Any) -> forms.DateField:
    widget = forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d")
    return forms.DateField(label=label, widget=widget, **more)


class ChangeReasonForm(forms.Form):
    reason = forms.CharField(
        label=_("Reason"),
        max_length=MAX_REASON_LENGTH,
        help_text=_("For example: signed consent form received. Stored encrypted."),
    )


class ConsentForm(ChangeReasonForm):
    patient_id = forms.CharField(
        label=_("Patient ID"),
        max_length=MAX_ID_LENGTH,
        help_text=_("Exactly as in the PACS, with leading zeros."),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    domain = forms.ChoiceField(
        label=_("Issued by"),
        help_text=_("In another domain, the same ID may belong to another patient."),
    )
    modalities = forms.CharField(
        label=_("Modalities"),
        required=False,
        max_length=MAX_MODALITIES_LENGTH,
        help_text=_("Such as CT, MR. Empty: all modalities of the project."),
    )
    valid_until = make_date_field(
        _("Valid until"), required=False, help_text=_("The last day. Empty: without a limit.")
    )
    field_order = ("patient_id", "domain", "modalities", "valid_until", "reason")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        domain = self.fields["domain"]
        assert isinstance(domain, forms.ChoiceField)
        domain.choices = [(name, name) for name in list_domains()]

    def clean_modalities(self) -> str:
        try:
            return normalize_modalities(self.cleaned_data["modalities"])
        except InvalidInput as error:
            raise forms.ValidationError(str(error)) from None

    def get_consent(self) -> Consent:
        given = self.cleaned_data
        return Consent(
            given["domain"], given["patient_id"], given["modalities"], given["valid_until"]
        )


class WithdrawForm(ChangeReasonForm):
    withdrawn_on = make_date_field(_("Date of the withdrawal"))
    field_order = ("withdrawn_on", "reason")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["withdrawn_on"].initial = timezone.localdate()


class UploadForm(forms.Form):
    sheet = forms.FileField(
        label=_("Excel or CSV file"),
        help_text=_("At most 10,000 rows and 5 MB. The file itself is not stored."),
        widget=forms.FileInput(attrs={"accept": ".xlsx,.csv,.txt,.tsv"}),
    )
    domain = forms.ChoiceField(
        label=_("Issuer of patient IDs in rows that name none"),
        required=False,
        help_text=_("Used where the column Domain is missing or empty."),
    )
    dates = forms.ChoiceField(
        label=_("Dates with slashes, such as 03/04/2026"),
        choices=[
            (DateOrder.DAY_FIRST.value, _("day first: 3 April")),
            (DateOrder.MONTH_FIRST.value, _("month first: 4 March")),
        ],
        initial=DateOrder.DAY_FIRST.value,
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        domains = list_domains()
        field = self.fields["domain"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [("", _("Each row must name it")), *((name, name) for name in domains)]


class ConfirmUploadForm(ChangeReasonForm):
    """The confirmation of an uploaded list; what needs a decision has a checkbox."""

    token = forms.CharField(widget=forms.HiddenInput)
    skip_errors = forms.BooleanField(
        label=_("Leave out the rows with errors. Their patients are not on the list then."),
    )
    accept_old = forms.BooleanField(
        label=_("Use this list although it is that of an earlier version."),
    )
    field_order = ("skip_errors", "accept_old", "reason")

    def __init__(self, uploaded: UploadedList, data: Any = None) -> None:
        super().__init__(data, initial={"token": uploaded.token})
        if not uploaded.errors:
            del self.fields["skip_errors"]
        if uploaded.same_as is None:
            del self.fields["accept_old"]
