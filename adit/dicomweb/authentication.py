"""Who calls the DICOMweb API: a program with a token, or a page of ADIT with its session."""

from dataclasses import dataclass

from django.http import HttpRequest

from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted
from adit.accounts.second_factor import needs_second_factor
from adit.api_tokens import tokens
from adit.api_tokens.models import ApiToken
from adit.api_tokens.tokens import Scope, TokenRefused
from adit.nodes.access import visible_nodes
from adit.nodes.models import Node
from adit_engine.errors import NotFound


@dataclass(frozen=True, slots=True)
class Caller:
    """The user for whom a request is answered. `token` is None for the session of a page."""

    user: User
    token: ApiToken | None

    @property
    def label(self) -> str:
        """What the audit trail names besides the user."""
        return describe_caller(self.token.name if self.token is not None else "")

    @property
    def may_be_identified(self) -> bool:
        """Whether identified data may be asked for; the permission of the user is checked later."""
        return self.token is None or Scope.IDENTIFIED in self.token.scopes

    def require_scope(self, scope: Scope) -> None:
        """Raise NotPermitted unless the token has the scope."""
        if self.token is not None:
            tokens.require_scope(self.token, scope)

    def get_node(self, ae_title: str) -> Node:
        """Return the node with this AE title in the API. Raise NotFound also if it is hidden."""
        nodes = visible_nodes(self.user).select_related("paused_by")
        if self.token is not None:
            node = tokens.find_node(self.token, nodes, api_ae_title=ae_title)
        else:
            node = nodes.filter(api_ae_title=ae_title).first()
        if node is None:
            raise NotFound("dicomweb.unknown-node", ae_title=ae_title)
        return node

    def require_valid(self) -> None:
        """Raise NotPermitted if user or token were deactivated since the request began."""
        if not User.objects.filter(pk=self.user.pk, is_active=True).exists():
            raise NotPermitted("permission.account-deactivated")
        if self.token is None:
            return
        token = ApiToken.objects.filter(pk=self.token.pk).first()
        if token is None or token.revoked_at is not None:
            raise NotPermitted("api-token.revoked")


def describe_caller(token_name: str) -> str:
    """Return what the audit trail names besides the user; an empty name means a page."""
    return f"API token {token_name}" if token_name else "page"


def authenticate(request: HttpRequest) -> Caller:
    """Return the caller. Raise TokenRefused.

    A session counts for GET and HEAD only, and only for requests of our own pages.
    """
    header = request.headers.get("Authorization", "")
    if header:
        return Caller(*tokens.authenticate_token(header))
    user = request.user
    is_own_page = request.headers.get("Sec-Fetch-Site", "same-origin") == "same-origin"
    if isinstance(user, User) and is_own_page and request.method in ("GET", "HEAD"):
        if needs_second_factor(user):
            raise TokenRefused("dicomweb.sign-in-incomplete")
        return Caller(user, None)
    raise TokenRefused("dicomweb.no-token")
