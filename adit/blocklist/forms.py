"""The form to add a patient to the block list. Entries end with the form for a reason."""

from typing import Any

from django import forms
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from adit.blocklist.blocking import EVERY_DOMAIN, MAX_ID_LENGTH
from adit.nodes.access import get_domain
from adit.nodes.models import Node
from adit.projects.models import Project
from adit.projects.validators import MAX_REASON_LENGTH


class BlockForm(forms.Form):
    patient_id = forms.CharField(
        label=_("Patient ID"),
        max_length=MAX_ID_LENGTH,
        help_text=_("Leading zeros and the difference of capital and small letters do not count."),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    domain = forms.ChoiceField(
        label=_("Issued by"),
        required=False,
        help_text=_("In another domain, the same ID may belong to another patient."),
    )
    project = forms.ModelChoiceField(
        Project.objects.filter(is_default=False),
        label=_("Research project"),
        required=False,
        empty_label=_("All research projects, and transfers without one"),
    )
    withdrawn_on = forms.DateField(
        label=_("Date of the withdrawal or objection"),
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
    )
    reason = forms.CharField(
        label=_("Reason"),
        max_length=MAX_REASON_LENGTH,
        help_text=_("For example: consent withdrawn by letter. Stored encrypted."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        names = sorted({get_domain(node) for node in Node.objects.all()})
        domain = self.fields["domain"]
        assert isinstance(domain, forms.ChoiceField)
        domain.choices = [
            (EVERY_DOMAIN, _("Every domain: this ID is blocked at all sources")),
            *((name, name) for name in names),
        ]
        self.fields["withdrawn_on"].initial = timezone.localdate()


class EndBlockForm(forms.Form):
    reason = forms.CharField(
        label=_("Why the patient may be transferred again"),
        max_length=MAX_REASON_LENGTH,
        help_text=_("For example: new consent given. Stored encrypted."),
    )
