"""The form of all retention periods."""

from collections.abc import Iterator
from typing import Any

from django import forms
from django.utils.translation import gettext as _

from adit.retention.periods import DataKind, PeriodRule, get_days, get_default_days, get_rule

MOST_DAYS = 36500


class RetentionForm(forms.Form):
    """One number of days per kind of data. Empty: kept for ever, where that is possible."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for kind in DataKind:
            rule = get_rule(kind)
            self.fields[kind.value] = forms.IntegerField(
                label=kind.label,
                min_value=rule.shortest,
                max_value=rule.longest or MOST_DAYS,
                required=rule.longest is not None,
                initial=get_days(kind),
                help_text=_explain_bounds(kind, rule),
            )

    def rows(self) -> Iterator[tuple[Any, PeriodRule]]:
        """Yield for each kind its field and its rule."""
        for kind in DataKind:
            yield self[kind.value], get_rule(kind)

    def get_days(self) -> dict[DataKind, int | None]:
        return {kind: self.cleaned_data[kind.value] for kind in DataKind}


def _explain_bounds(kind: DataKind, rule: PeriodRule) -> str:
    values = {
        "least": rule.shortest,
        "most": rule.longest,
        "default": get_default_days(kind),
    }
    if rule.default is None:
        return _("Days, at least %(least)d. Empty, the default: kept for ever.") % values
    if rule.longest is None:
        return _("Days, at least %(least)d; default %(default)d. Empty: kept for ever.") % values
    return _("Days, %(least)d to %(most)d; default %(default)d.") % values
