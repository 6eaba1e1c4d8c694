"""The registration sheet of a node: what its administrator has to know, and the agreed limits.

Used by the pages of nodes and the command `adit manage registration_sheet`.
"""

from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.utils.translation import gettext as _

from adit.accounts.models import User
from adit.nodes.gateway import get_engine_settings
from adit.nodes.models import Node
from adit.nodes.presentation import describe_hours
from adit.nodes.receiving.certificates import uses_tls
from adit_engine.nodes import kind_class
from adit_engine.registration_sheet import (
    LocalApplication,
    SheetSection,
    build_sheet,
    find_own_address,
)


def make_registration_sheet(node: Node, user: User | None = None) -> tuple[SheetSection, ...]:
    """Return the sheet, to print or send. `user` is the contact on our side.

    Raise InvalidInput.
    """
    given = kind_class(node.kind).Settings(**get_engine_settings(node))
    return (
        *build_sheet(node.kind, given, _get_own_identity(given)),
        _agreed_limits(node),
        *_own_contact(user),
    )


def _get_own_identity(given: Any) -> LocalApplication:
    url = urlsplit(getattr(given, "url", ""))
    host, port = getattr(given, "host", url.hostname or ""), getattr(given, "port", url.port)
    found = find_own_address(host, port or 443) if host else ""
    return LocalApplication(
        settings.CALLING_AE_TITLE,
        settings.RECEIVER_ADDRESS or found,
        settings.RECEIVER_PORT or None,
        uses_tls(),
    )


def _agreed_limits(node: Node) -> SheetSection:
    lines = [
        (_("Connections for transfers"), _("at most %d at the same time") % node.retrieve_limit),
        (_("Connections for searches"), _("at most %d at the same time") % node.search_limit),
        *((_("Hours for transfers"), text) for text in describe_hours(node)),
    ]
    return SheetSection(_("Agreed limits"), tuple(lines))


def _own_contact(user: User | None) -> tuple[SheetSection, ...]:
    if user is None:
        return ()
    name, mail = user.get_full_name() or user.get_username(), user.email
    words = f"{name}, {mail}" if mail else name
    return (SheetSection(_("Our contact"), ((_("Contact"), words),)),)
