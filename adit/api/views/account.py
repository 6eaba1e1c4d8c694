"""Who calls, with which token; the own tokens."""

from typing import Any

from django.http import Http404, HttpResponse
from rest_framework.request import Request
from rest_framework.response import Response

from adit.api.pagination import PARAMETERS, make_page
from adit.api.problems import ApiProblem
from adit.api.representations import represent_token
from adit.api.response_serializers import MeAnswer, TokenAnswer, page_of
from adit.api.schema import PAGE_PARAMETERS, describe
from adit.api.views.base import ApiView, get_token, get_user
from adit.api_tokens.models import ApiToken
from adit.api_tokens.tokens import Scope, require_scope, revoke_token
from adit_engine.messages import Message


class MeView(ApiView):
    @describe("me", "Who calls, and with which token.", MeAnswer)
    def get(self, request: Request) -> Response:
        user = get_user(request)
        rights = sorted(
            name.removeprefix("accounts.")
            for name in user.get_all_permissions()
            if name.startswith("accounts.")
        )
        return Response(
            {
                "user": user.get_username(),
                "name": user.get_full_name(),
                "permissions": rights,
                "token": represent_token(get_token(request), get_token(request)),
            }
        )


class TokensView(ApiView):
    parameters = PARAMETERS

    @describe(
        "tokens_list",
        "Your tokens, without their texts.",
        page_of(TokenAnswer),
        parameters=PAGE_PARAMETERS,
    )
    def get(self, request: Request) -> Response:
        tokens = ApiToken.objects.filter(user=get_user(request))

        def represent(rows: Any) -> list[dict[str, Any]]:
            return [represent_token(token, get_token(request)) for token in rows]

        return Response(make_page(request, tokens, represent, newest_first=True))


class TokenView(ApiView):
    @describe("tokens_get", "One of your tokens.", TokenAnswer)
    def get(self, request: Request, pk: int) -> Response:
        return Response(represent_token(_get_own_token(request, pk), get_token(request)))

    @describe("tokens_revoke", "Revoke one of your tokens at once.", status=204)
    def delete(self, request: Request, pk: int) -> HttpResponse:
        """Revoke an own token at once. Repeating it is no error.

        Each token may end itself. To end others it needs the scope to act, and all nodes.
        """
        token, caller = _get_own_token(request, pk), get_token(request)
        if token != caller:
            require_scope(caller, Scope.JOBS_WRITE)
            if not caller.all_nodes:
                raise ApiProblem(403, Message("api-token.revokes-itself-only"))
        revoke_token(get_user(request), token)
        return HttpResponse(status=204)


def _get_own_token(request: Request, pk: int) -> ApiToken:
    token = ApiToken.objects.filter(user=get_user(request), pk=pk).first()
    if token is None:
        raise Http404
    return token
