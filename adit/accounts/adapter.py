"""The allauth adapter: no sign-up, and pauses after wrong passwords. Used by allauth.

People ask for accounts on a page of `adit.administration`; nobody creates one alone.
"""

import logging
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.core.exceptions import ImmediateHttpResponse
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.http import HttpRequest
from django.urls import reverse

from adit.accounts.external_accounts import DIRECTORY, DirectoryUnavailable, SignInRefused
from adit.accounts.models import User
from adit.accounts.rate_limit_page import too_many_requests
from adit.accounts.refused_page import refuse_sign_in
from adit.accounts.throttle import SignInAttempt, TooManyAttempts
from adit.audit.trail import record

log = logging.getLogger(__name__)


class AccountAdapter(DefaultAccountAdapter):
    attempt: SignInAttempt | None = None

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def is_safe_url(self, url: str) -> bool:
        try:
            return super().is_safe_url(url)
        except ValueError:  # not a URL, such as http://[::1
            return False

    def get_password_change_redirect_url(self, request: HttpRequest) -> str:
        return reverse("profile")

    def get_client_ip(self, request: HttpRequest) -> str:
        """Return the address as our last proxy reports it.

        Raise PermissionDenied if the request came past the proxies.
        """
        try:
            return super().get_client_ip(request)
        except ImproperlyConfigured:
            log.warning("A request came past the proxies: check ADIT_PROXIES and the proxy")
            raise PermissionDenied from None

    def pre_authenticate(self, request: HttpRequest, **credentials: Any) -> None:
        """Count the attempt; respond with 429, without checking the password, during a pause."""
        address = self.get_client_ip(request)
        try:
            self.attempt = SignInAttempt.count(_get_typed_name(credentials), address)
        except TooManyAttempts as error:
            response = too_many_requests(request, seconds=error.seconds)
            raise ImmediateHttpResponse(response) from None

    def authenticate(self, request: HttpRequest, **credentials: Any) -> User | None:
        """Respond with a page of its own if the directory does not answer or is not enough."""
        try:
            user: User | None = super().authenticate(request, **credentials)
        except DirectoryUnavailable:
            # The attempt stays counted: a local password may have been tried before.
            error = SignInRefused("signin.directory-unavailable")
        except SignInRefused as refused:
            self._rollback_login_failed_rl_usage()
            error = refused
        else:
            return user
        raise ImmediateHttpResponse(refuse_sign_in(request, DIRECTORY, error))

    def authentication_failed(self, request: HttpRequest, **credentials: Any) -> None:
        if self.attempt is None or not self.attempt.starts_locking:
            return
        user = User.objects.filter(username=_get_typed_name(credentials)).first()
        details = {
            "address": self.get_client_ip(request),
            "failures_of_account": self.attempt.account_count,
            "failures_of_address": self.attempt.address_count,
        }
        record("signin.locked", about=f"user:{user.pk}" if user else "", details=details)

    def _rollback_login_failed_rl_usage(self) -> None:
        # Called by allauth after a right password.
        if self.attempt is not None:
            self.attempt.take_back()


def _get_typed_name(credentials: dict[str, Any]) -> str:
    return str(credentials.get("username") or credentials.get("email") or "")
