"""Link an existing account with a person at an OpenID provider or in the directory."""

from typing import Any

from allauth.socialaccount.models import SocialAccount
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from adit.accounts.external_accounts import DIRECTORY
from adit.accounts.models import User
from adit.audit.trail import record


class Command(BaseCommand):
    help = "Let a person of an OpenID provider or of the directory sign in to an existing account."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")
        parser.add_argument("provider", help="its name in ADIT_OIDC_PROVIDERS, or ldap")
        parser.add_argument("subject", help="the identifier that the refused sign-in shows")

    def handle(self, *args: Any, **options: Any) -> None:
        username, provider, subject = (
            options[name] for name in ("username", "provider", "subject")
        )
        user = User.objects.filter(username=username).first()
        if user is None:
            raise CommandError(f"There is no account {username}.")
        if user.is_service:
            raise CommandError(f"{username} is a service account, which cannot sign in.")
        if provider != DIRECTORY and provider not in settings.OPENID_PROVIDERS:
            raise CommandError(f"The settings name no provider {provider}.")
        if SocialAccount.objects.filter(provider=provider, uid=subject).exists():
            raise CommandError("This identifier belongs to an account already.")
        SocialAccount.objects.create(user=user, provider=provider, uid=subject)
        details = {"provider": provider, "subject": subject}
        record("user.linked", about=f"user:{user.pk}", details=details)
        self.stdout.write(f"{username} can sign in by {provider}.")
