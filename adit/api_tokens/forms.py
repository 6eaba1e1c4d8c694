"""The form to create an API token."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from adit.accounts.models import User
from adit.accounts.permissions import Right, has_right
from adit.api_tokens.tokens import LIFETIMES_DAYS, Scope, possible_nodes
from adit.nodes.models import Node

NEVER = "never"
_SOME = ("some", _("Only those selected below"))
_TICKS = {"class": "form-check-input"}


class TokenForm(forms.Form):
    name = forms.CharField(
        label=_("Name"),
        max_length=64,
        help_text=_("What the token is for, for example: evaluation script of the LUNG project."),
    )
    days = forms.ChoiceField(label=_("Valid for"))
    scopes = forms.MultipleChoiceField(
        label=_("Allowed uses"),
        choices=Scope.choices,
        widget=forms.CheckboxSelectMultiple(attrs=_TICKS),
        help_text=_("Your permissions are checked at each use in addition."),
    )
    all_nodes = forms.ChoiceField(
        label=_("PACS and folders"),
        choices=[("all", _("All that you may use")), _SOME],
        initial="all",
        widget=forms.RadioSelect(attrs=_TICKS),
    )
    nodes = forms.ModelMultipleChoiceField(
        Node.objects.none(),
        label=_("Selected PACS and folders"),
        required=False,
        widget=forms.CheckboxSelectMultiple(attrs=_TICKS),
    )

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = [
            (str(days), _("1 day") if days == 1 else _("%(n)s days") % {"n": days})
            for days in LIFETIMES_DAYS
        ]
        if has_right(user, Right.TOKENS_WITHOUT_EXPIRY):
            choices.append((NEVER, _("without limit")))
        days, nodes = self.fields["days"], self.fields["nodes"]
        assert isinstance(days, forms.ChoiceField)
        assert isinstance(nodes, forms.ModelMultipleChoiceField)
        days.choices = choices
        days.initial = "30"
        nodes.queryset = possible_nodes(user)

        if user.is_service:
            self.fields["scopes"].help_text = _(
                "The permissions of the account are checked at each use in addition."
            )
            all_nodes = self.fields["all_nodes"]
            assert isinstance(all_nodes, forms.ChoiceField)
            all_nodes.choices = [("all", _("All that the account may use")), _SOME]

    def clean(self) -> dict[str, Any]:
        given = self.cleaned_data
        if given.get("all_nodes") == "some" and not given.get("nodes"):
            self.add_error("nodes", _("Select at least one PACS or folder."))
        return given

    @property
    def lifetime_days(self) -> int | None:
        given = self.cleaned_data["days"]
        return None if given == NEVER else int(given)

    @property
    def chosen_nodes(self) -> list[Node] | None:
        """None: all nodes of the user."""
        if self.cleaned_data["all_nodes"] == "all":
            return None
        return list(self.cleaned_data["nodes"])
