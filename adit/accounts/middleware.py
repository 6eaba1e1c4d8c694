"""Privacy: what a person who signed in was shown stays in no cache."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

GetResponse = Callable[[HttpRequest], HttpResponse]


def no_store_middleware(answer: GetResponse) -> GetResponse:
    """Middleware: browsers and proxies keep no page that was made for a person."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = answer(request)
        if request.user.is_authenticated:
            response["Cache-Control"] = "no-store, private"
        return response

    return middleware
