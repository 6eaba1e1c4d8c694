"""Answers to requests that fail: status, `detail`, and the name of a wrong parameter."""

from datetime import datetime
from typing import Any

from django.http import JsonResponse
from django.utils import timezone

from adit.accounts.permissions import NotPermitted
from adit.api_tokens.tokens import TokenRefused
from adit.nodes.limits.unavailable import NodeUnavailable
from adit.projects.pseudonyms import PseudonymConflict
from adit_engine.errors import (
    AditError,
    InstanceWithheld,
    InvalidInput,
    Malformed,
    NodeError,
    NotFound,
    PatientChanged,
    RuleViolation,
    Stopped,
)

RETRY_S = 10
MAX_RETRY_S = 3600


class InvalidParameter(InvalidInput):
    """A parameter with an impossible value, or one that is missing or unknown."""

    def __init__(self, parameter: str, code: str, /, **values: Any) -> None:
        super().__init__(code, **values)
        self.parameter = parameter


class NotAcceptable(AditError):
    """The answer cannot be given in a form that the client accepts."""


class UnsupportedMediaType(AditError):
    """The body of the request is not multipart/related of DICOM objects."""


class TooBusy(AditError):
    """Too many requests are answered at the moment."""

    is_transient = True


_STATUS: tuple[tuple[type[AditError], int], ...] = (
    (TokenRefused, 401),
    (NotPermitted, 403),
    (InstanceWithheld, 403),
    (NotFound, 404),
    (NotAcceptable, 406),
    (RuleViolation, 409),
    (PatientChanged, 409),
    (UnsupportedMediaType, 415),
    (PseudonymConflict, 400),
    (InvalidInput, 400),
    (Malformed, 400),
    (TooBusy, 503),
    (Stopped, 503),
)


def make_error_response(error: AditError) -> JsonResponse:
    """Return the answer to a request that failed before its first byte was sent."""
    status = get_status(error)
    body: dict[str, Any] = {"detail": str(error), "code": error.message.code}
    if isinstance(error, PseudonymConflict):
        body["pseudonym"] = [str(error)]
    if isinstance(error, InvalidParameter):
        body[error.parameter] = [str(error)]
    response = JsonResponse(body, status=status)
    if status == 401:
        response["WWW-Authenticate"] = 'Token realm="ADIT"'
    if status == 503:
        until = error.until if isinstance(error, NodeUnavailable) else None
        response["Retry-After"] = str(_retry_after_s(until))
    return response


def get_status(error: AditError) -> int:
    if isinstance(error, NodeError):
        return 503 if error.is_transient else 502
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def _retry_after_s(until: datetime | None) -> int:
    if until is None:
        return RETRY_S
    left = (until - timezone.now()).total_seconds()
    return min(max(1, round(left)), MAX_RETRY_S)
