"""Middleware that keeps the pages of signed-in users out of caches. Used by the settings."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

GetResponse = Callable[[HttpRequest], HttpResponse]


def no_store_middleware(get_response: GetResponse) -> GetResponse:
    """Forbid browsers and proxies to store a response that was made for a signed-in user."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if request.user.is_authenticated:
            response["Cache-Control"] = "no-store, private"
        return response

    return middleware
