"""A client of the REST API in tests: no session, only a token."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from django.test import Client

from adit.accounts.models import User
from adit.api_tokens import tokens
from adit.api_tokens.tokens import Scope
from adit.nodes.models import Node

ROOT = "/api/v1/"


@dataclass(frozen=True)
class ApiClient:
    """Sends requests with a token; addresses are relative to /api/v1/."""

    client: Client
    token: str

    def get(self, address: str, **headers: str) -> Any:
        return self.client.get(self._full(address), headers=self._headers(headers))

    def post(self, address: str, body: Any = None, **headers: str) -> Any:
        return self.client.post(
            self._full(address),
            {} if body is None else body,
            content_type="application/json",
            headers=self._headers(headers),
        )

    def post_form(self, address: str, **fields: Any) -> Any:
        return self.client.post(self._full(address), fields, headers=self._headers({}))

    def delete(self, address: str) -> Any:
        return self.client.delete(self._full(address), headers=self._headers({}))

    def _full(self, address: str) -> str:
        return address if address.startswith("http") else ROOT + address

    def _headers(self, more: dict[str, str]) -> dict[str, str]:
        given = {name.replace("_", "-"): text for name, text in more.items()}
        return {"Authorization": f"Token {self.token}", **given}


def make_api_client(
    user: User,
    scopes: Collection[str] = Scope.values,
    nodes: Collection[Node] | None = None,
    name: str = "script",
) -> ApiClient:
    """Return a client with a new token of this user."""
    _token, text = tokens.create_token(user, user, name, scopes, days=7, nodes=nodes)
    return ApiClient(Client(raise_request_exception=False), text)
