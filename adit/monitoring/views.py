"""Health and metrics views for monitoring systems. No cookies, no HTML, no personal data."""

from hmac import compare_digest
from ipaddress import ip_address

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST

from adit.monitoring import metrics
from adit.monitoring.health import check_readiness

_PROXY_HEADERS = frozenset({"forwarded", "via", "x-real-ip", "x-client-ip"})


@login_not_required
@never_cache
@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """Return 200 while this process can answer; depends on no other service."""
    return JsonResponse({"web": "ok"})


@login_not_required
@never_cache
@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """Return 200 if all services work, else 503, with each service and its problem."""
    signs = check_readiness()
    status = 200 if all(sign.is_good for sign in signs) else 503
    return JsonResponse({sign.name: sign.problem or "ok" for sign in signs}, status=status)


@login_not_required
@never_cache
@require_safe
def prometheus(request: HttpRequest) -> HttpResponse:
    """Return the metrics; 404 without the token, unless this host itself asks directly."""
    if not _may_read_metrics(request):
        raise Http404
    return HttpResponse(metrics.render_metrics(), content_type=CONTENT_TYPE_LATEST)


def _may_read_metrics(request: HttpRequest) -> bool:
    shown = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if settings.METRICS_TOKEN and compare_digest(shown.encode(), settings.METRICS_TOKEN.encode()):
        return True
    return _is_from_this_host(request) and not _came_through_proxy(request)


def _is_from_this_host(request: HttpRequest) -> bool:
    try:
        caller = ip_address(request.META.get("REMOTE_ADDR", ""))
    except ValueError:
        return False
    return (getattr(caller, "ipv4_mapped", None) or caller).is_loopback


def _came_through_proxy(request: HttpRequest) -> bool:
    """Return whether a proxy has left a header: its address says nothing about the caller."""
    names = {name.lower() for name in request.headers}
    return bool(names & _PROXY_HEADERS) or any(name.startswith("x-forwarded") for name in names)
