"""The allauth adapter: nobody can register an account by themselves. Used by allauth."""

from allauth.account.adapter import DefaultAccountAdapter
from django.http import HttpRequest
from django.urls import reverse


class AccountAdapter(DefaultAccountAdapter):
    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def is_safe_url(self, url: str) -> bool:
        try:
            return super().is_safe_url(url)
        except ValueError:  # not a URL, such as http://[::1
            return False

    def get_password_change_redirect_url(self, request: HttpRequest) -> str:
        return reverse("profile")
