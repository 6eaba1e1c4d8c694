"""Middleware for signed-in users: no caching, last activity, forms that survive a session.

Used by the settings.
"""

from collections.abc import Callable
from typing import cast

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import resolve_url

from adit.accounts import kept_forms
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


def _is_page(request: HttpRequest, response: HttpResponse) -> bool:
    """Whether this is a whole page, not a part of one or a file."""
    is_html = response.get("Content-Type", "").startswith("text/html")
    is_whole = response.status_code == 200 and "HX-Request" not in request.headers
    return request.method == "GET" and is_html and is_whole


def _is_sent_to_sign_in(response: HttpResponseBase) -> bool:
    address = f"{resolve_url(settings.LOGIN_URL)}?"
    return response.status_code == 302 and response["Location"].startswith(address)
