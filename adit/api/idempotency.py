"""Repeated requests with the same `Idempotency-Key`: executed once, answered alike.

Used by the views that create jobs or act on them.
"""

import hashlib
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import wraps
from typing import Any

from django.db import IntegrityError, transaction
from django.http.response import HttpResponse, HttpResponseBase
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from adit.api.models import IdempotentRequest
from adit.api.problems import ApiProblem, find_problem
from adit.api.views.base import get_token
from adit.orders import drafts
from adit.vault.master_key import master_cipher
from adit_engine.messages import Message

HEADER = "Idempotency-Key"
KEPT = timedelta(hours=24)
ABANDONED = timedelta(minutes=10)
"""A request that is not answered after this time was cut off, with its process."""
MAX_LENGTH = 200

Post = Callable[..., HttpResponseBase]


def answer_once(post: Post) -> Post:
    """Make a `post` method execute requests with the same key of the same token only once.

    An answer without an error is kept for a day. After an error the request may be repeated.
    """

    @wraps(post)
    def wrapped(view: Any, request: Request, **arguments: Any) -> HttpResponseBase:
        if HEADER not in request.headers:
            return post(view, request, **arguments)
        row, is_new = _claim(request)
        if not is_new:
            return _repeat(row)
        request._request.idempotent_request = row  # type: ignore[attr-defined]
        try:
            response = post(view, request, **arguments)
        except BaseException as error:
            _release(row, error)
            raise
        row.status = response.status_code
        row.answer = response.data if isinstance(response, Response) else None
        row.location = response.get("Location", "")
        row.save()
        return response

    return wrapped


def _release(row: IdempotentRequest, error: BaseException) -> None:
    """Free the key after a refusal. After a failure the order may have been placed already.

    Then the next request takes over the row, and with it the key of the order.
    """
    problem = find_problem(error) if isinstance(error, Exception) else None
    if problem is not None and problem.status < 500:
        row.delete()
        return
    claimed_at = row.claimed_at - ABANDONED
    IdempotentRequest.objects.filter(pk=row.pk).update(claimed_at=claimed_at)


def was_begun_before(request: Request, at: datetime) -> bool:
    """Return whether a request with this key was begun before this time, and so may be its cause."""
    row = getattr(request._request, "idempotent_request", None)
    return row is not None and row.created_at < at


def make_order_key(request: Request) -> str:
    """Return the key of an order: the same for a request that was cut off and is repeated."""
    row = getattr(request._request, "idempotent_request", None)
    if row is None:
        return drafts.new_key()
    return master_cipher().index(f"{row.pk}\0{row.key}", "API order")[:32]


def _claim(request: Request) -> tuple[IdempotentRequest, bool]:
    """Return the row of the key, and whether this request has to be executed."""
    key, token, now = request.headers[HEADER], get_token(request), timezone.now()
    if not 0 < len(key) <= MAX_LENGTH or not (key.isascii() and key.isprintable()):
        raise ApiProblem(400, Message("api.idempotency-key", limit=MAX_LENGTH))
    fingerprint = _make_fingerprint(request)
    IdempotentRequest.objects.filter(created_at__lt=now - KEPT).delete()
    try:
        with transaction.atomic():
            made = IdempotentRequest.objects.create(
                token=token, key=key, fingerprint=fingerprint, claimed_at=now
            )
            return made, True
    except IntegrityError:
        row = IdempotentRequest.objects.filter(token=token, key=key).first()
    if row is None:  # it has failed just now
        raise ApiProblem(409, Message("api.request-in-progress"), headers={"Retry-After": "1"})
    if row.fingerprint != fingerprint:
        raise ApiProblem(422, Message("api.idempotency-key-reused"))
    if row.status is not None:
        return row, False
    abandoned = IdempotentRequest.objects.filter(pk=row.pk, claimed_at__lte=now - ABANDONED)
    if not abandoned.update(claimed_at=now):
        raise ApiProblem(409, Message("api.request-in-progress"), headers={"Retry-After": "1"})
    return row, True


def _repeat(row: IdempotentRequest) -> HttpResponseBase:
    headers = {"Location": row.location} if row.location else {}
    if row.answer is None:
        return HttpResponse(status=row.status, headers=headers)
    return Response(row.answer, row.status, headers=headers)


def _make_fingerprint(request: Request) -> str:
    """A keyed hash of method, address and body. The body may name patients."""
    parts: list[Any] = [request.method, request.get_full_path()]
    data: Any = request.data
    if not request.FILES and not hasattr(data, "lists"):
        parts.append(data)
    else:
        parts.append(
            sorted((name, values) for name, values in data.lists() if name not in request.FILES)
        )
        for name, file in sorted(request.FILES.items()):
            parts += [name, hashlib.sha256(file.read()).hexdigest()]
            file.seek(0)
    return master_cipher().index(json.dumps(parts, sort_keys=True), "API request")
