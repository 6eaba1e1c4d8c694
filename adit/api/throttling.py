"""Limit of requests per token, counted in the cache that all processes share."""

import time
from typing import Any

from django.conf import settings
from django.core.cache import cache
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

WINDOW_S = 60


class TokenThrottle(BaseThrottle):
    """Allows a number of requests per minute for each token."""

    def allow_request(self, request: Request, view: Any) -> bool:
        if request.auth is None:
            return True
        minute = int(time.time() // WINDOW_S)
        return _count(f"api-requests:{request.auth.pk}:{minute}") <= settings.API_REQUESTS

    def wait(self) -> float:
        return WINDOW_S - time.time() % WINDOW_S


def _count(key: str) -> int:
    """Count one request more, and return their number."""
    try:
        return cache.incr(key)
    except ValueError:
        return 1 if cache.add(key, 1, 2 * WINDOW_S) else cache.incr(key)
