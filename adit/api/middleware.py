"""Middleware of the REST API: no sessions, and no error page in HTML. Used by the settings."""

import hashlib
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.utils.cache import get_conditional_response

from adit.api.problems import CONTENT_TYPE, make_problem_for_status

GetResponse = Callable[[HttpRequest], HttpResponseBase]

PREFIX = "/api/v1/"
ALL_INTERFACES = "/api/"
DOCS = "/api/v1/docs"
"""The page that describes the API. It is a page like others, and has their session."""


def api_middleware(get_response: GetResponse) -> GetResponse:
    """Ignore the cookies of API requests, and answer each error with a problem (RFC 9457)."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        status = _find_nul(request)
        if status is not None and request.path.startswith(ALL_INTERFACES):
            return _as_problem(HttpResponse(status=status))
        if not request.path.startswith(PREFIX) or request.path == DOCS:
            return get_response(request)
        request.META.pop("HTTP_COOKIE", None)
        if "HTTP_TRANSFER_ENCODING" in request.META:
            # Django takes a body without a length for an empty one, and would drop its options.
            return _as_problem(HttpResponse(status=411))
        response = get_response(request)
        if response.status_code < 400:
            return _with_etag(request, response)
        is_problem = response.get("Content-Type") == CONTENT_TYPE
        return response if is_problem else _as_problem(response)

    return middleware


def _find_nul(request: HttpRequest) -> int | None:
    """Return the status for an address with a NUL character; None without one.

    PostgreSQL fails at a comparison with such a text, and cannot have stored one.
    """
    if "\0" in request.path:
        return 404
    return 400 if "%00" in request.META.get("QUERY_STRING", "") else None


def _with_etag(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """Let programs poll cheaply: a JSON answer that is the same as before becomes a 304."""
    is_json = response.get("Content-Type") == "application/json"
    if (
        request.method not in ("GET", "HEAD")
        or not is_json
        or not isinstance(response, HttpResponse)
    ):
        return response
    digest = hashlib.sha256(response.content).hexdigest()[:32]
    etag = response["ETag"] = f'"{digest}"'
    return get_conditional_response(request, etag=etag, response=response) or response


def _as_problem(response: HttpResponseBase) -> HttpResponse:
    """The errors that Django answers outside the views: unknown address, host, failure."""
    status = response.status_code
    answer = JsonResponse(make_problem_for_status(status), status=status, content_type=CONTENT_TYPE)
    for name, value in response.items():
        if name not in ("Content-Type", "Content-Length", "Content-Encoding"):
            answer[name] = value
    answer["Content-Length"] = str(len(answer.content))
    return answer
