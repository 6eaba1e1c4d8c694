"""Pages that belong to no single room: home and help."""

from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from adit.pages import help as manuals
from adit.pages.home import Home


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    return render(request, "pages/home.html", {"home": Home.of(request)})


@require_safe
def home_live(request: HttpRequest) -> HttpResponse:
    """The part of home that moves."""
    return render(request, "pages/home_live.html", {"home": Home.of(request)})


@login_not_required
@require_safe
def manual(request: HttpRequest) -> HttpResponse:
    """All topics, or those in which the words asked for occur."""
    words = request.GET.get("words", "").strip()[:100]
    hits = manuals.search(words) if words else []
    context = {"topics": manuals.TOPICS, "words": words, "hits": hits}
    return render(request, "help/index.html", context)


@login_not_required
@require_safe
def manual_topic(request: HttpRequest, slug: str) -> HttpResponse:
    try:
        topic = manuals.topic(slug)
    except KeyError:
        raise Http404 from None
    return render(request, "help/page.html", {"topic": topic, "topics": manuals.TOPICS})
