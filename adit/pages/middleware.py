"""Middleware for methods that an address does not accept: no bare 405. Used by the settings."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import is_valid_path

GetResponse = Callable[[HttpRequest], HttpResponse]
NOT_ALLOWED = 405
FOR_PROGRAMS = ("application/problem+json", "application/json")
"""Types of answers that say enough."""


def wrong_method_middleware(get_response: GetResponse) -> GetResponse:
    """Redirect a GET of an action to the page it belongs to; explain other methods on a page."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        is_bare_list = request.method == "OPTIONS" and response.status_code == 200
        is_refused = response.status_code == NOT_ALLOWED or (is_bare_list and "Allow" in response)
        if not is_refused or response.get("Content-Type") in FOR_PROGRAMS:
            return response
        if request.method in ("GET", "HEAD"):
            return HttpResponseRedirect(find_page_above(request.path))
        page = render(request, "405.html", status=NOT_ALLOWED)
        page["Allow"] = response["Allow"]
        return page

    return middleware


def find_page_above(path: str) -> str:
    """Return the nearest address above this one, such as /nodes/3/ for /nodes/3/test/."""
    parts = path.strip("/").split("/")[:-1]
    while parts:
        address = f"/{'/'.join(parts)}/"
        if is_valid_path(address):
            return address
        parts.pop()
    return "/"
