"""Order fields: what forms of all orders ask for, and those of orders that send images somewhere."""

from collections.abc import Iterable
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from adit.nodes.models import Node
from adit.profiles.models import Trial

MOST_DESTINATIONS = 2

PSEUDONYMIZED = "pseudonymized"
AS_IS = "as_is"

_TICK = {"class": "form-check-input"}


def text_field(
    label: Any, placeholder: Any = "", *, length: int = 64, hint: Any = ""
) -> forms.CharField:
    attrs = {"class": "form-control", "placeholder": placeholder, "autocomplete": "off"}
    return forms.CharField(
        label=label,
        required=False,
        max_length=length,
        help_text=hint,
        widget=forms.TextInput(attrs=attrs),
    )


class NodesField(forms.ModelMultipleChoiceField):
    """PACS and folders to tick."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(widget=forms.CheckboxSelectMultiple(attrs=_TICK), **kwargs)


class OrderFields(forms.Form):
    """What every order says, whatever is ordered."""

    trial = forms.ModelChoiceField(
        label=_("Research project"),
        queryset=Trial.objects.none(),
        required=False,
        empty_label=_("No research project"),
        widget=forms.Select(attrs={"class": "form-select"}),
        help_text=_("It stands in the header of each image and owns the pseudonyms."),
    )
    title = text_field(
        _("Title"),
        length=100,
        hint=_("For your own overview. No patient names or numbers, please."),
    )

    def limit(self, name: str, rows: Iterable[Any]) -> None:
        """Offers and takes these alone."""
        field = self.fields[name]
        assert isinstance(field, forms.ModelChoiceField)
        assert field.queryset is not None
        field.queryset = field.queryset.model.objects.filter(pk__in=[row.pk for row in rows])


class SendingFields(OrderFields):
    """What an order says that sends images somewhere."""

    destinations = NodesField(
        label=_("Send to"),
        queryset=Node.objects.none(),
        error_messages={"required": _("Tick where the images shall go.")},
    )
    change = forms.ChoiceField(
        label=_("Patient data"),
        choices=[
            (PSEUDONYMIZED, _("Pseudonymize on the way")),
            (AS_IS, _("Send as it is, with names and dates")),
        ],
        widget=forms.RadioSelect(attrs=_TICK),
        error_messages={"required": _("Choose what shall happen to the patient data.")},
    )
    reason = text_field(_("Reason for sending identified data"), length=200)
    urgent = forms.BooleanField(
        label=_("Urgent: do not wait for the allowed hours"), required=False
    )

    def drop_what_is_not_allowed(self, *, send_identified: bool, be_urgent: bool) -> None:
        if not send_identified:
            del self.fields["change"], self.fields["reason"]
        if not be_urgent:
            del self.fields["urgent"]

    def clean_destinations(self) -> Any:
        nodes = self.cleaned_data["destinations"]
        if len(nodes) > MOST_DESTINATIONS:
            raise forms.ValidationError(_("At most two destinations at a time."))
        return nodes

    def clean(self) -> dict[str, Any]:
        values = super().clean() or self.cleaned_data
        if values.get("change") == AS_IS and not values.get("reason"):
            self.add_error("reason", _("Say in a few words why identified data must be sent."))
        return values

    @property
    def is_as_is(self) -> bool:
        return self.cleaned_data.get("change") == AS_IS
