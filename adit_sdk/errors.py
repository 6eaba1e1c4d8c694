"""Errors of the client, each with a stable code and the next step. None contains the token."""

from collections.abc import Mapping, Sequence
from typing import Any

import httpx

IN_PROGRESS = "api.request-in-progress"
MAX_DETAIL = 2000


class ApiError(Exception):
    """A request failed. `code` is stable; `errors` are sentences by field of the request.

    `rows` holds the verdict of each row if the sheet of a batch was refused. `status` is None if no
    answer arrived. `idempotency_key` is that of an order: with it, the order can be repeated
    without a second job.
    """

    next_step = "Read the detail. If it does not help, ask an administrator of ADIT."

    def __init__(
        self,
        detail: str,
        code: str,
        *,
        status: int | None = None,
        errors: Mapping[str, Sequence[str]] | None = None,
        rows: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code
        self.status = status
        self.errors = errors or {}
        self.rows = rows
        self.idempotency_key = ""

    def __str__(self) -> str:
        fields = [f"{name}: {' '.join(texts)}" for name, texts in self.errors.items()]
        key = [f"Idempotency key: {self.idempotency_key}"] if self.idempotency_key else []
        return " ".join([f"{self.detail} ({self.code})", *fields, self.next_step, *key])


class TokenRejected(ApiError):
    """The token is wrong, expired or revoked (401)."""

    next_step = 'Create a new token on the page "API tokens" of ADIT.'


class PermissionMissing(ApiError):
    """The user lacks a permission, or the token lacks a scope (403)."""

    next_step = "Use a token with this scope, or ask an administrator for the permission."


class AllWithheld(ApiError):
    """The rules of the project withhold each image of what was asked for."""

    next_step = "Ask the managers of the project whether its rules are as intended."


class NotFound(ApiError):
    """What was asked for does not exist, or may not be seen with this token (404)."""

    next_step = "Check the name or ID, and the nodes that the token is limited to."


class InvalidRequest(ApiError):
    """The request is invalid (400, 406, 413, 415, 422)."""

    next_step = "Correct the named fields."


class ActionRefused(ApiError):
    """The state of the job does not allow the action, or a repeated order differs (409)."""

    next_step = "Refresh the job and look at its state and actions."


class NodeFailed(ApiError):
    """The PACS or folder failed (502). Repeating does not help."""

    next_step = "Ask an administrator to check this PACS or folder."


class ServiceUnavailable(ApiError):
    """ADIT or the node cannot be used now (429, 503, 504), or there was no answer."""

    next_step = "Try again later."


class IncompleteAnswer(ApiError):
    """The answer was cut. What arrived before is valid, but it is not everything."""

    next_step = "Retrieve it again; download() continues where it stopped."


class WaitTimeout(ApiError):
    """The job did not end in time. It continues."""

    next_step = "Wait again, with a longer timeout."


_ERRORS: Mapping[int, type[ApiError]] = {
    401: TokenRejected,
    403: PermissionMissing,
    404: NotFound,
    409: ActionRefused,
    429: ServiceUnavailable,
    502: NodeFailed,
    503: ServiceUnavailable,
    504: ServiceUnavailable,
}
_CODES: Mapping[str, type[ApiError]] = {
    "dicomweb.all-withheld": AllWithheld,
    IN_PROGRESS: ServiceUnavailable,
}


def make_error(response: httpx.Response) -> ApiError:
    """Return the error of an answer, which must have been read.

    Understands problem+json (RFC 9457), the `detail` and the parameter names of the DICOMweb API.
    """
    status = response.status_code
    body = _read_object(response)
    default = InvalidRequest if 400 <= status < 500 else ApiError
    code = str(body.get("code") or f"http-{status}")
    kind = _CODES.get(code) or _ERRORS.get(status, default)
    detail = body.get("detail")
    errors = body.get("errors") if "errors" in body else {}
    if "detail" not in body:
        errors = body
    return kind(
        str(detail or f"ADIT answered with status {status}.")[:MAX_DETAIL],
        code,
        status=status,
        errors=_read_errors(errors),
        rows=body["rows"] if isinstance(body.get("rows"), list) else (),
    )


def _read_object(response: httpx.Response) -> Mapping[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _read_errors(given: Any) -> dict[str, list[str]]:
    if not isinstance(given, dict):
        return {}
    return {
        str(name): [str(text)[:MAX_DETAIL] for text in texts]
        for name, texts in given.items()
        if isinstance(texts, list)
    }
