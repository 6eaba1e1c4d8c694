"""Middleware for the pages of signed-in users: caches, and the time of the last activity."""

from collections.abc import Callable
from typing import cast

from django.http import HttpRequest, HttpResponse

from adit.accounts.sessions import SessionStore

GetResponse = Callable[[HttpRequest], HttpResponse]


def no_store_middleware(get_response: GetResponse) -> GetResponse:
    """Forbid browsers and proxies to store a response that was made for a signed-in user."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if request.user.is_authenticated:
            response["Cache-Control"] = "no-store, private"
        return response

    return middleware


def activity_middleware(get_response: GetResponse) -> GetResponse:
    """Note that a signed-in user is active; a page that refreshes itself is no activity."""

    def middleware(request: HttpRequest) -> HttpResponse:
        refreshes_itself = request.method == "GET" and "HX-Request" in request.headers
        if not refreshes_itself and request.user.is_authenticated:
            cast(SessionStore, request.session).note_activity()
        return get_response(request)

    return middleware
