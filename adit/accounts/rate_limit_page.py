"""The page for too many requests. Used by the allauth adapter and as handler429 of the URLs."""

from math import ceil

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

DEFAULT_S = 60
"""Length of the periods of allauth's own limits."""


def too_many_requests(request: HttpRequest, *, seconds: int = DEFAULT_S) -> HttpResponse:
    """Respond with 429 and say when the next attempt is possible."""
    response = render(request, "429.html", {"minutes": ceil(seconds / 60)}, status=429)
    response["Retry-After"] = str(seconds)
    response["Cache-Control"] = "no-store"
    return response
