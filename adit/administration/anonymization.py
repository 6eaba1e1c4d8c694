"""Make the account of a person anonymous who asks for it (Art. 17 GDPR). Used by the pages.

The row of the account stays, because jobs, decisions and the audit trail refer to it. The audit
trail is a record that the law requires and that cannot be changed: its entries keep the names that
they have.
"""

from django.db import transaction
from django.db.models import CASCADE, CharField, ManyToOneRel, Q, Value
from django.db.models.functions import Cast, Concat
from django.utils import timezone

from adit.accounts.models import User
from adit.administration.checks import lock_groups, recording_refusal, require_may_manage
from adit.administration.effective_access import Access
from adit.audit.trail import record
from adit.notifications.outbox import OutgoingMail
from adit.projects.models import Project
from adit_engine.errors import InvalidInput


def anonymize_user(actor: User, user: User, typed: str) -> None:
    """Remove names, mail address, memberships and settings of a deactivated account for good.

    `typed` repeats the user name. Raise NotPermitted, InvalidInput.
    """
    with recording_refusal(actor, user), transaction.atomic():
        lock_groups()
        user = User.objects.select_for_update(no_key=True).get(pk=user.pk)
        require_may_manage(actor, Access.of_user(user))
        require_not_anonymous(user)
        if user.is_active:
            raise InvalidInput("user.still-active")
        if typed.strip() != user.username:
            raise InvalidInput("user.name-not-repeated")
        projects = Project.objects.filter(
            Q(member_users=user) | Q(list_holder_users=user) | Q(reidentifier_users=user)
        )
        details = {
            "groups": sorted(user.groups.values_list("name", flat=True)),
            "projects": sorted(set(projects.values_list("protocol_id", flat=True))),
        }
        name = _choose_name(user)
        _remove_addresses(user, name)
        _delete_own_rows(user)
        user.username = name
        user.first_name = user.last_name = user.email = ""
        user.is_staff = user.is_superuser = False
        user.last_login = None
        user.anonymized_at = timezone.now()
        user.set_unusable_password()
        user.save()
        record("user.anonymized", user=actor, about=f"user:{user.pk}", details=details)


def require_not_anonymous(user: User) -> None:
    """Raise InvalidInput for an account that was made anonymous."""
    if user.anonymized_at is not None:
        raise InvalidInput("user.anonymized")


def _delete_own_rows(user: User) -> None:
    """Delete what would be deleted with the account, such as tokens, memberships and settings.

    What must outlive an account protects it (`on_delete=PROTECT`) and stays.
    """
    for relation in User._meta.get_fields(include_hidden=True):
        if isinstance(relation, ManyToOneRel) and relation.on_delete is CASCADE:
            rows = relation.related_model._default_manager
            rows.filter(**{relation.field.name: user}).delete()


def _remove_addresses(user: User, name: str) -> None:
    """Replace the address of mails that are kept as a record; those that wait are not sent.

    An address that is also of another account stays: its mails are for that account as well.
    """
    others = User.objects.filter(email__iexact=user.email).exclude(pk=user.pk)
    if not user.email or others.exists():
        return
    # The number of the mail keeps addresses apart that differed in upper and lower case.
    substitute = Concat(Value(f"{name}."), Cast("pk", CharField()), Value("@anonymous.invalid"))
    for model in OutgoingMail.__subclasses__():
        mails = model._default_manager.filter(address__iexact=user.email)
        mails.filter(sent_at=None).update(given_up=True)
        mails.update(address=substitute)


def _choose_name(user: User) -> str:
    name = f"former-user-{user.pk}"
    while User.objects.filter(username__iexact=name).exists():
        name += "-x"
    return name
