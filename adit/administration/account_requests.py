"""Requests for accounts by people who have none, if the settings allow them. Used by the pages."""

from django.db import transaction
from django.urls import reverse
from django.utils.translation import gettext as _

from adit.accounts.mails import mail_address
from adit.accounts.models import User
from adit.accounts.permissions import Right, require
from adit.administration import users
from adit.administration.checks import recording_refusal
from adit.administration.models import AccountRequest
from adit.administration.users import UserData
from adit.audit.trail import record
from adit.jobs.notifications import users_with_right
from adit.notifications.models import NotificationKind
from adit.notifications.services import notify
from adit_engine.errors import InvalidInput
from adit_engine.messages import Message

MAX_WAITING = 200


def save_request(request: AccountRequest) -> None:
    """Store a request and notify the people who manage users. Raise InvalidInput if too many wait.

    Neither trail nor notification contains what the unknown person typed.
    """
    if AccountRequest.objects.count() >= MAX_WAITING:
        raise InvalidInput("account-request.too-many")
    with transaction.atomic():
        request.save()
        record("user.requested", details={"request": request.pk})
        notify(
            users_with_right(Right.MANAGE_USERS),
            NotificationKind.ACCOUNT_REQUESTED,
            Message("notification.account-requested"),
            reverse("account_requests"),
            event=f"account-request:{request.pk}",
            with_mail=True,
        )


def accept_request(actor: User, request: AccountRequest, data: UserData) -> tuple[User, str]:
    """Create the account; return it with the token of the link to set a password.

    Raise NotPermitted, InvalidInput.
    """
    with recording_refusal(actor, User(username=data.username)), transaction.atomic():
        _take(request)
        user, token = users.create_user(actor, data)
        details = {"user": user.username, "request": request.pk}
        record("user.request_accepted", user=actor, about=f"user:{user.pk}", details=details)
    return user, token


def decline_request(actor: User, request: AccountRequest) -> None:
    """Delete the request and mail its author. Raise NotPermitted, InvalidInput."""
    require(actor, Right.MANAGE_USERS)
    with transaction.atomic():
        _take(request)
        record("user.request_declined", user=actor, details={"request": request.pk})
        text = _(
            "Your request for an ADIT account was declined. If you think that this is a mistake, "
            "ask an administrator of ADIT at your site."
        )
        address, subject = request.email, _("your request for an account")
        transaction.on_commit(lambda: mail_address(address, subject, text))


def _take(request: AccountRequest) -> None:
    """Delete the request, unless somebody else did so in the meantime."""
    number = request.pk
    deleted, _by_model = AccountRequest.objects.filter(pk=number).delete()
    if not deleted:
        raise InvalidInput("account-request.answered")
