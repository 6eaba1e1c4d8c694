"""Signs of life and metrics, for machines that watch. No cookie, no page, nothing about people."""

from hmac import compare_digest
from ipaddress import ip_address, ip_network

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST

from adit.monitoring import metrics
from adit.monitoring.health import check_readiness


@login_not_required
@never_cache
@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """200 while this process can answer at all; asks nobody else."""
    return JsonResponse({"web": "ok"})


@login_not_required
@never_cache
@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """200 while all parts answer, else 503; which, and what is wrong, in few words."""
    signs = check_readiness()
    status = 200 if all(sign.is_good for sign in signs) else 503
    return JsonResponse({sign.part: sign.trouble or "ok" for sign in signs}, status=status)


@login_not_required
@never_cache
@require_safe
def prometheus(request: HttpRequest) -> HttpResponse:
    """For whoever shows the token, or asks from an allowed address; for all others not there."""
    if not _may_read_metrics(request):
        raise Http404
    return HttpResponse(metrics.render_metrics(), content_type=CONTENT_TYPE_LATEST)


def _may_read_metrics(request: HttpRequest) -> bool:
    shown = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if settings.METRICS_TOKEN:
        return compare_digest(shown.encode(), settings.METRICS_TOKEN.encode())
    if {"X-Forwarded-For", "Forwarded", "X-Real-Ip"} & set(request.headers):
        # Came through a proxy, whose address says nothing of who asks.
        return False
    caller = ip_address(request.META["REMOTE_ADDR"])
    return any(caller in ip_network(one) for one in settings.METRICS_FROM)
