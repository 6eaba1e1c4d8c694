"""Given: pseudonyms that a person types, kept between two clicks under the project's own key.

Beside the patients of a basket they tie pseudonyms to people, so they end with the project's key.
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any

from adit.jobs import sealed
from adit.profiles.models import Trial
from adit.vault.box import SealBroken

_PLACE = "given pseudonyms"


def hidden(trial: int | str | None, names: Mapping[str, Any]) -> str:
    """As text that JSON can hold. Empty where there is nothing to hide, or no key to hide it."""
    if not any(names.values()):
        return ""
    try:
        return b64encode(sealed.box_of(_trial(trial)).seal(dict(names), _PLACE)).decode()
    except SealBroken:
        return ""


def shown(trial: int | str | None, text: str) -> dict[str, Any]:
    """What was hidden; nothing once the project's key is gone."""
    if not text:
        return {}
    try:
        return dict(sealed.box_of(_trial(trial)).open(b64decode(text), _PLACE))
    except SealBroken:
        return {}


def _trial(pk: int | str | None) -> Trial | None:
    return Trial.objects.filter(pk=pk).first() if pk and str(pk).isdecimal() else None
