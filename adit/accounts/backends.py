"""The authentication backend of local accounts. Used by the settings."""

from typing import Any

from allauth.account.auth_backends import AuthenticationBackend
from django.conf import settings
from django.http import HttpRequest

from adit.accounts.models import User


class LocalBackend(AuthenticationBackend):
    """Check local passwords; only those of emergency accounts if local sign-in is turned off."""

    def authenticate(self, request: HttpRequest | None, **credentials: Any) -> User | None:
        user = super().authenticate(request, **credentials)
        if user is not None and user.is_service:
            return None
        if user is None or settings.LOCAL_SIGN_IN or user.username in settings.EMERGENCY_ACCOUNTS:
            return user
        return None

    def get_user(self, user_id: int) -> User | None:
        user: User | None = super().get_user(user_id)
        return None if user is not None and user.is_service else user
