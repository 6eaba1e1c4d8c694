"""Drafts of a user, stored encrypted on the server between two requests of the order pages.

Entered pseudonyms are encrypted with the key of their project: next to the patients of a basket
they link pseudonyms to patients, so they must become unreadable with that key.
"""

import secrets
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any

from adit.accounts.models import User
from adit.jobs import encrypted_payload
from adit.jobs.models import OrderDraft
from adit.numbers import parse_number
from adit.projects.models import Project
from adit.vault.cipher import DecryptionError

MAX_DRAFTS_PER_USER = 20


def new_key() -> str:
    """Return an opaque key that may be part of a URL.

    Keys of drafts that a user has once contain a dot instead.
    """
    return secrets.token_hex(16)


def is_key(text: str) -> bool:
    return len(text) == 32 and set(text) <= set("0123456789abcdef")


def load_draft(user: User, key: str) -> Any:
    """Return the user's draft with this key; None if there is none (any more)."""
    draft = OrderDraft.objects.filter(user=user, key=key).first()
    return None if draft is None else draft.content


def load_locked(user: User, key: str) -> Any:
    """Return a draft as load_draft() does, locked until the transaction ends."""
    draft = OrderDraft.objects.select_for_update(no_key=True).filter(user=user, key=key).first()
    return None if draft is None else draft.content


def save_draft(user: User, key: str, content: Any) -> None:
    """Store a JSON-serializable draft, replacing an earlier one. A user has a limited number."""
    OrderDraft.objects.update_or_create(user=user, key=key, defaults={"content": content})
    _limit_drafts(user)


def delete_draft(user: User, key: str) -> None:
    OrderDraft.objects.filter(user=user, key=key).delete()


def _limit_drafts(user: User) -> None:
    mine = OrderDraft.objects.filter(user=user).order_by("-updated_at")
    searches = mine.exclude(key__contains=".")
    stale = list(searches.values_list("pk", flat=True)[MAX_DRAFTS_PER_USER:])
    if stale:
        OrderDraft.objects.filter(pk__in=stale).delete()


_SEAL_CONTEXT = "given pseudonyms"


def seal_pseudonyms(project: int | str | None, names: Mapping[str, Any]) -> str:
    """Encrypt pseudonyms to text.

    Empty if there are none, or if the key of the project was destroyed.
    """
    if not any(names.values()):
        return ""
    try:
        return b64encode(
            encrypted_payload.get_cipher(_find_project(project)).seal(dict(names), _SEAL_CONTEXT)
        ).decode()
    except DecryptionError:
        return ""


def open_pseudonyms(project: int | str | None, text: str) -> dict[str, Any]:
    """Decrypt pseudonyms; empty if the key of the project was destroyed."""
    if not text:
        return {}
    try:
        return dict(
            encrypted_payload.get_cipher(_find_project(project)).open(
                b64decode(text), _SEAL_CONTEXT
            )
        )
    except DecryptionError:
        return {}


def _find_project(pk: int | str | None) -> Project | None:
    number = parse_number(str(pk or ""))
    return None if number is None else Project.objects.filter(pk=number).first()
