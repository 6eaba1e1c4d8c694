"""Drafts: what a person prepares in the web page, kept sealed on our side between two clicks.
Given: pseudonyms that a person types, kept between two clicks under the project's own key.

Beside the patients of a basket they tie pseudonyms to people, so they end with the project's key."""

import secrets
from base64 import b64decode, b64encode
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.utils import timezone

from adit.accounts.models import User
from adit.jobs import encrypted_payload
from adit.jobs.models import Draft
from adit.projects.models import Project
from adit.vault.cipher import DecryptionError

KEPT_FOR = timedelta(hours=24)
KEPT_PER_PERSON = 20


def new_key() -> str:
    """Opaque; may stand in a URL. Keys of what is kept once a person hold a dot instead."""
    return secrets.token_hex(16)


def is_key(text: str) -> bool:
    return len(text) == 32 and set(text) <= set("0123456789abcdef")


def load(user: User, key: str) -> Any:
    """What was kept under the key by this person; None when there is nothing (any more)."""
    draft = Draft.objects.filter(user=user, key=key).first()
    return None if draft is None else draft.content


def locked(user: User, key: str) -> Any:
    """As `load`; nobody else changes it until the transaction ends."""
    draft = Draft.objects.select_for_update(no_key=True).filter(user=user, key=key).first()
    return None if draft is None else draft.content


def keep(user: User, key: str, content: Any) -> None:
    """Keeps anything that JSON can hold, in place of what was there; forgets what is old."""
    Draft.objects.update_or_create(user=user, key=key, defaults={"content": content})
    _forget_old(user)


def drop(user: User, key: str) -> None:
    Draft.objects.filter(user=user, key=key).delete()


def sweep() -> int:
    """Deletes what nobody came back to, of everybody; the scheduler's daily work."""
    return Draft.objects.filter(updated_at__lt=timezone.now() - KEPT_FOR).delete()[0]


def _forget_old(user: User) -> None:
    mine = Draft.objects.filter(user=user).order_by("-updated_at")
    searches = mine.exclude(key__contains=".")
    stale = list(searches.values_list("pk", flat=True)[KEPT_PER_PERSON:])
    stale += mine.filter(updated_at__lt=timezone.now() - KEPT_FOR).values_list("pk", flat=True)
    if stale:
        Draft.objects.filter(pk__in=stale).delete()


_PLACE = "given pseudonyms"


def hidden(project: int | str | None, names: Mapping[str, Any]) -> str:
    """As text that JSON can hold. Empty where there is nothing to hide, or no key to hide it."""
    if not any(names.values()):
        return ""
    try:
        return b64encode(
            encrypted_payload.box_of(_project(project)).seal(dict(names), _PLACE)
        ).decode()
    except DecryptionError:
        return ""


def shown(project: int | str | None, text: str) -> dict[str, Any]:
    """What was hidden; nothing once the project's key is gone."""
    if not text:
        return {}
    try:
        return dict(encrypted_payload.box_of(_project(project)).open(b64decode(text), _PLACE))
    except DecryptionError:
        return {}


def _project(pk: int | str | None) -> Project | None:
    return Project.objects.filter(pk=pk).first() if pk and str(pk).isdecimal() else None
