"""The second factor at sign-in: who needs one, who has one, and how its secrets are stored."""

from base64 import b64decode, b64encode

from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from django.contrib.auth.models import AbstractBaseUser
from django.db.models import Exists, OuterRef, QuerySet
from django.utils.translation import gettext as _

from adit.accounts.models import SecondFactorGroup, User
from adit.vault.master_key import master_cipher

_CONTEXT = "second factor"


class SecondFactorAdapter(DefaultMFAAdapter):
    """Encrypt secrets and seeds of recovery codes with the master key. Used by allauth."""

    def encrypt(self, text: str) -> str:
        return b64encode(master_cipher().seal(text, _CONTEXT)).decode()

    def decrypt(self, encrypted_text: str) -> str:
        return str(master_cipher().open(b64decode(encrypted_text), _CONTEXT))

    def get_totp_issuer(self) -> str:
        return "ADIT"

    def _get_site_name(self) -> str:
        return "ADIT"

    def generate_authenticator_name(self, user: AbstractBaseUser, type: Authenticator.Type) -> str:
        count = Authenticator.objects.filter(user_id=user.pk, type=type).count()
        return _("Security key %(number)d") % {"number": count + 1}

    def _get_user_identifier(self, user: AbstractBaseUser) -> str:
        return user.get_username()

    def build_totp_svg(self, url: str) -> str:
        """Return the QR code as an element of the page, without the XML declaration."""
        svg = super().build_totp_svg(url)
        return svg[svg.index("<svg") :]


def needs_second_factor(user: User) -> bool:
    """Whether a group of the user makes a second factor obligatory and there is none yet."""
    return groups_that_require_it(user).exists() and not has_second_factor(user)


def groups_that_require_it(user: User) -> QuerySet[SecondFactorGroup]:
    return SecondFactorGroup.objects.filter(group__user=user).order_by("group__name")


def has_second_factor(user: User) -> bool:
    return _usable_factors().filter(user=user).exists()


def with_second_factor(users: QuerySet[User]) -> QuerySet[User]:
    """Add to each user whether there is a second factor, as `has_second_factor`."""
    return users.annotate(has_second_factor=Exists(_usable_factors().filter(user=OuterRef("pk"))))


def remove_second_factor(user: User) -> int:
    """Remove all authenticators and recovery codes of the user; return their number."""
    return Authenticator.objects.filter(user=user).delete()[0]


def _usable_factors() -> QuerySet[Authenticator]:
    """Return the authenticators that are asked for at sign-in: recovery codes alone are not."""
    return Authenticator.objects.exclude(type=Authenticator.Type.RECOVERY_CODES)
