"""Errors of the API as problem+json (RFC 9457), each with a stable code.

Used by the views, as the exception handler of Django REST framework, and by the middleware.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.http import Http404
from django.utils import timezone
from rest_framework import exceptions
from rest_framework.response import Response

from adit.accounts.permissions import NotPermitted
from adit.api_tokens.tokens import TokenRefused
from adit.nodes.limits.unavailable import NodeUnavailable
from adit_engine.errors import AditError, InvalidInput, NodeError, NotFound
from adit_engine.messages import JOINED, Message

CONTENT_TYPE = "application/problem+json"
RETRY_S = 30
"""When to try again if nothing else is known."""
MAX_RETRY_S = 86_400

Errors = Mapping[str, Sequence[str]]


class ApiProblem(Exception):
    """An error with a status of its own. `errors` are sentences by field."""

    def __init__(
        self,
        status: int,
        message: Message,
        *,
        errors: Errors | None = None,
        extra: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message.code)
        self.status = status
        self.message = message
        self.errors = errors or {}
        self.extra = extra or {}
        self.headers = headers or {}


def invalid_field(field: str, message: Message) -> ApiProblem:
    """Return the error of one field of the request."""
    return ApiProblem(400, message, errors={field: [str(message)]})


def handle_error(error: Exception, context: Mapping[str, Any]) -> Response | None:
    """Return the problem of an error; None for a failure of ADIT itself, which Django reports."""
    problem = find_problem(error)
    if problem is None:
        return None
    headers = dict(problem.headers)
    if isinstance(
        error, exceptions.AuthenticationFailed | exceptions.NotAuthenticated | TokenRefused
    ):
        headers["WWW-Authenticate"] = "Token"
    body = make_problem(problem.status, problem.message, problem.errors, problem.extra)
    return Response(body, problem.status, headers=headers, content_type=CONTENT_TYPE)


def make_problem(
    status: int, message: Message, errors: Errors, extra: Mapping[str, Any]
) -> dict[str, Any]:
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": _get_code(message),
        "detail": str(message),
    }
    if errors:
        body["errors"] = {field: list(texts) for field, texts in errors.items()}
    return {**body, **extra}


def make_problem_for_status(status: int) -> dict[str, Any]:
    return make_problem(status, _get_message(status), {}, {})


def _get_message(status: int) -> Message:
    return _MESSAGES.get(status) or Message("api.failure" if status >= 500 else "api.bad-request")


_MESSAGES: Mapping[int, Message] = {
    400: Message("api.bad-request"),
    401: Message("api.not-authenticated"),
    403: Message("api.forbidden"),
    404: Message("api.not-found"),
    405: Message("api.method-not-allowed"),
    406: Message("api.not-acceptable"),
    411: Message("api.length-required"),
    413: Message("api.body-too-large"),
    415: Message("api.unsupported-media-type"),
    416: Message("api.range"),
    429: Message("api.too-many-requests"),
    503: Message("api.unavailable"),
}


def _get_code(message: Message) -> str:
    """The code of a message, or of the first one that it combines."""
    parts = message.values.get("parts", ()) if message.code == JOINED else ()
    return _get_code(parts[0]) if parts else message.code


def find_problem(error: Exception) -> ApiProblem | None:
    if isinstance(error, ApiProblem):
        return error
    if isinstance(error, AditError):
        return _from_adit_error(error)
    if isinstance(error, exceptions.ValidationError):
        errors: dict[str, list[str]] = {}
        for field, text in _flatten(error.detail):
            errors.setdefault(field, []).append(text)
        return ApiProblem(400, Message("api.invalid"), errors=errors)
    if isinstance(error, PermissionDenied):
        cause = error.__cause__ or error.__context__
        message = cause.message if isinstance(cause, AditError) else Message("api.forbidden")
        return ApiProblem(403, message)
    if isinstance(error, Http404):
        return ApiProblem(404, _MESSAGES[404])
    if isinstance(error, RequestDataTooBig):
        return ApiProblem(413, _MESSAGES[413])
    if isinstance(error, SuspiciousOperation):
        return ApiProblem(400, _MESSAGES[400])
    if isinstance(error, exceptions.APIException):
        return _from_framework(error)
    return None


def _from_adit_error(error: AditError) -> ApiProblem | None:
    if isinstance(error, TokenRefused):
        return ApiProblem(401, error.message)
    if isinstance(error, NotPermitted):
        return ApiProblem(403, error.message)
    if isinstance(error, InvalidInput):
        return ApiProblem(422, error.message)
    if isinstance(error, NotFound):
        return ApiProblem(404, error.message)
    if error.is_transient:
        until = error.until if isinstance(error, NodeUnavailable) else None
        headers = {"Retry-After": str(_seconds_until(until))}
        return ApiProblem(503, error.message, headers=headers)
    return ApiProblem(502 if isinstance(error, NodeError) else 422, error.message)


def _seconds_until(at: datetime | None) -> int:
    if at is None:
        return RETRY_S
    return min(MAX_RETRY_S, max(1, round((at - timezone.now()).total_seconds())))


def _from_framework(error: exceptions.APIException) -> ApiProblem:
    headers = {}
    if isinstance(error, exceptions.Throttled):
        headers["Retry-After"] = str(max(1, round(getattr(error, "wait", None) or RETRY_S)))
    return ApiProblem(error.status_code, _get_message(error.status_code), headers=headers)


def _flatten(detail: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield (field, sentence), the field with its path such as `studies.0.study_uid`."""
    if isinstance(detail, Mapping):
        for name, inner in detail.items():
            own = "" if name == "non_field_errors" else str(name)
            yield from _flatten(inner, ".".join(filter(None, (path, own))))
    elif isinstance(detail, list | tuple):
        for number, inner in enumerate(detail):
            is_item = isinstance(inner, Mapping | list | tuple)
            below = ".".join(filter(None, (path, str(number)))) if is_item else path
            yield from _flatten(inner, below)
    elif detail:
        yield path or "body", str(detail)
