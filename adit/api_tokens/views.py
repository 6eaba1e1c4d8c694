"""Pages of API tokens: one's own, and those of all users."""

from typing import cast

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted, Right, has_right, require
from adit.api_tokens import tokens
from adit.api_tokens.forms import TokenForm
from adit.api_tokens.models import ApiToken
from adit.api_tokens.tables import AllTokensTable, TokenTable
from adit_engine.errors import AditError


@require_safe
def own_tokens(request: HttpRequest) -> HttpResponse:
    rows = ApiToken.objects.filter(user=_current_user(request)).prefetch_related("nodes")
    context = {"table": TokenTable(rows, request)}
    return render(request, "api_tokens/own_tokens.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def token_new(request: HttpRequest) -> HttpResponse:
    user = _current_user(request)
    return create_token(request, user, reverse("own_tokens"))


def create_token(request: HttpRequest, user: User, back: str) -> HttpResponse:
    """Create a token of the user. Its text is in the response and nowhere else.

    The caller checks that the signed-in person may do so. `back` is the page that led here.
    """
    form = TokenForm(request.POST or None, user=user)
    context = {"back": back, "owner": user, "is_own": user == request.user}
    if request.method == "POST" and form.is_valid():
        try:
            token, text = tokens.create_token(
                _current_user(request),
                user,
                form.cleaned_data["name"],
                form.cleaned_data["scopes"],
                days=form.lifetime_days,
                nodes=form.chosen_nodes,
            )
        except AditError as error:
            form.add_error(None, str(error))
        else:
            context |= {"token": token, "text_of_token": text}
            return render(request, "api_tokens/token_created.html", context)
    context |= {"form": form}
    return render(request, "api_tokens/token_new.html", context, status=422 if form.errors else 200)


@require_POST
def token_revoke(request: HttpRequest, pk: int) -> HttpResponse:
    """Revoke an own token, or any as a manager of users."""
    user = _current_user(request)
    token = ApiToken.objects.select_related("user").filter(pk=pk).first()
    is_own = token is not None and token.user_id == user.pk
    if token is None or not (is_own or has_right(user, Right.MANAGE_USERS)):
        raise Http404
    tokens.revoke_token(user, token)
    messages.success(request, _("%(name)s is revoked.") % {"name": token.name})
    if token.user.is_service:
        return redirect("user", token.user_id)
    return redirect("own_tokens" if is_own else "all_tokens")


@require_safe
def all_tokens(request: HttpRequest) -> HttpResponse:
    try:
        require(_current_user(request), Right.MANAGE_USERS)
    except NotPermitted as error:
        raise PermissionDenied(str(error)) from None
    rows = ApiToken.objects.select_related("user").prefetch_related("nodes")
    context = {"table": AllTokensTable(rows, request)}
    return render(request, "api_tokens/all_tokens.html", context)


def _current_user(request: HttpRequest) -> User:
    return cast(User, request.user)
