"""Middleware for signed-in users: no caching, last activity, forms that survive a session.

Used by the settings.
"""

from collections.abc import Callable
from typing import cast

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, resolve_url
from django.urls import reverse

from adit.accounts import kept_forms, known_browsers
from adit.accounts.second_factor import needs_second_factor
from adit.accounts.sessions import SessionStore

GetResponse = Callable[[HttpRequest], HttpResponseBase]


def no_store_middleware(get_response: GetResponse) -> GetResponse:
    """Forbid browsers and proxies to store a response that was made for a signed-in user."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        if request.user.is_authenticated:
            response["Cache-Control"] = "no-store, private"
        return response

    return middleware


def activity_middleware(get_response: GetResponse) -> GetResponse:
    """Note that a signed-in user is active; a page that refreshes itself is no activity."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        refreshes_itself = request.method == "GET" and "HX-Request" in request.headers
        if not refreshes_itself and request.user.is_authenticated:
            cast(SessionStore, request.session).note_activity()
        return get_response(request)

    return middleware


def kept_form_middleware(get_response: GetResponse) -> GetResponse:
    """Keep a form that was sent after the session had ended; fill it in after sign-in."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        if request.user.is_authenticated:
            kept_forms.mark_owner(request, response)
            if isinstance(response, HttpResponse) and _is_page(request, response):
                kept_forms.fill_page(request, response)
        elif request.method == "POST" and _is_sent_to_sign_in(response):
            page = kept_forms.keep_form(request)
            return kept_forms.redirect_to_sign_in(page) if page else response
        return response

    return middleware


def known_browser_middleware(get_response: GetResponse) -> GetResponse:
    """Give a browser its cookie after a sign-in, by which the next one recognizes it."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        known_browsers.set_cookie(request, response)
        return response

    return middleware


def second_factor_middleware(get_response: GetResponse) -> GetResponse:
    """Lead members of a group that requires a second factor to set one up, before all else."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        user = request.user
        if not user.is_authenticated or _is_needed_to_set_it_up(request.path):
            return get_response(request)
        return redirect("mfa_index") if needs_second_factor(user) else get_response(request)

    return middleware


def _is_needed_to_set_it_up(path: str) -> bool:
    pages = ("account_reauthenticate", "account_logout", "theme")
    roots = (reverse("mfa_index"), reverse("help"))
    return path in map(reverse, pages) or path.startswith(roots)


def _is_page(request: HttpRequest, response: HttpResponse) -> bool:
    """Whether this is a whole page, not a part of one or a file."""
    is_html = response.get("Content-Type", "").startswith("text/html")
    is_whole = response.status_code == 200 and "HX-Request" not in request.headers
    return request.method == "GET" and is_html and is_whole


def _is_sent_to_sign_in(response: HttpResponseBase) -> bool:
    address = f"{resolve_url(settings.LOGIN_URL)}?"
    return response.status_code == 302 and response["Location"].startswith(address)
