"""Authentication of API requests by a token. Sessions of the pages do not count here."""

from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from adit.accounts.models import User
from adit.api_tokens.models import ApiToken
from adit.api_tokens.tokens import authenticate_token


class TokenAuthentication(BaseAuthentication):
    """`Authorization: Token …` or `Bearer …`."""

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        """Return user and token, None without a header. Raises TokenRefused."""
        header = request.headers.get("Authorization", "")
        return authenticate_token(header) if header else None

    def authenticate_header(self, request: Request) -> str:
        return "Token"
