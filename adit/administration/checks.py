"""Rules for changes to users and groups. Used by the services of both."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.contrib.auth.models import Group
from django.utils.translation import gettext as _

from adit.accounts import permissions
from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted, Right, require
from adit.administration.effective_access import Access
from adit.administration.permission_texts import describe_right
from adit.audit.trail import record
from adit.nodes.models import Node
from adit.projects.models import Project
from adit_engine.errors import AditError, InvalidInput


def lock_groups() -> None:
    """Let changes of users and groups take turns, so that an administrator always remains."""
    list(Group.objects.select_for_update(no_key=True).order_by("pk"))


def require_may_manage(actor: User, access: Access) -> None:
    """Raise NotPermitted unless the actor manages users and may grant all of this access.

    This holds for what is removed and for accounts as well: who could reset the password of a
    person with more permissions, would have them.
    """
    actor = User.objects.get(pk=actor.pk)  # as of now, not of the beginning of the request
    require(actor, Right.MANAGE_USERS)
    missing = access - Access.grantable_by(actor)
    if missing:
        raise NotPermitted("grant.not-held", access=", ".join(describe_access(missing)))


@contextmanager
def recording_refusal(actor: User, target: User | Group) -> Iterator[None]:
    """Record in the audit trail if the change of a user or a group in this block is refused.

    To be entered before the transaction, which a refusal rolls back.
    """
    kind = "user" if isinstance(target, User) else "group"
    name = target.username if isinstance(target, User) else target.name
    try:
        yield
    except AditError as error:
        details = {kind: name, "reason": error.message.to_json()}
        about = f"{kind}:{target.pk or ''}"
        record(f"{kind}.refused", user=actor, about=about, details=details)
        raise


def require_administrator() -> None:
    """Raise InvalidInput if no active user could administer any more."""
    if not permissions.administrators().exists():
        raise InvalidInput("user.last-administrator")


def describe_access(access: Access) -> list[str]:
    """Return one line for each permission, node and research project, in this order."""
    nodes = Node.objects.in_bulk(access.reads | access.writes)
    projects = Project.objects.order_by("protocol_id")
    return [
        *sorted(str(describe_right(name)) for name in access.permissions),
        *sorted(_("Fetch from %(node)s") % {"node": nodes[pk]} for pk in access.reads),
        *sorted(_("Send to %(node)s") % {"node": nodes[pk]} for pk in access.writes),
        *(
            text % {"project": project}
            for text, pks in (
                (_("Research project %(project)s"), access.projects),
                (_("Hold the identification list of %(project)s"), access.held_lists),
                (_("Re-identify patients of %(project)s"), access.reidentified),
            )
            for project in projects.filter(pk__in=pks)
        ),
    ]
