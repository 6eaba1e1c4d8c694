"""Pages of requests for accounts: the public form, the list, and the decision."""

from allauth.core import ratelimit
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from adit.accounts.models import User
from adit.accounts.permissions import Right, has_right
from adit.administration import account_requests
from adit.administration.forms import AccountRequestForm, UserForm
from adit.administration.models import AccountRequest
from adit.administration.tables import AccountRequestTable
from adit.administration.users import UserData
from adit.administration.views.confirmation import get_manager
from adit.administration.views.users import save_after_question, show_link, status_code
from adit_engine.errors import AditError

get_or_post = require_http_methods(["GET", "HEAD", "POST"])


@login_not_required
@never_cache
@get_or_post
def ask_for_account(request: HttpRequest) -> HttpResponse:
    """Store a request of a person without an account. 404 if the settings do not allow it."""
    if not settings.SELF_REGISTRATION:
        raise Http404
    form = AccountRequestForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        limited = ratelimit.consume_or_429(request, action="signup")
        if limited is not None:
            return limited
        try:
            account_requests.save_request(form.save(commit=False))
        except AditError as error:
            form.add_error(None, str(error))
        else:
            context = {"has_mail": settings.MAIL}
            return render(request, "administration/account_asked.html", context)
    status = status_code(form)
    return render(request, "administration/ask_for_account.html", {"form": form}, status=status)


@require_safe
def request_list(request: HttpRequest) -> HttpResponse:
    get_manager(request)
    context = {
        "table": AccountRequestTable(AccountRequest.objects.all(), request),
        "is_open": settings.SELF_REGISTRATION,
    }
    return render(request, "administration/account_request_list.html", context)


@get_or_post
def request_page(request: HttpRequest, pk: int) -> HttpResponse:
    """Accept the request with groups. The response shows the link to set the password once."""
    manager = get_manager(request)
    wish = get_object_or_404(AccountRequest, pk=pk)
    form = UserForm(
        request.POST if request.method == "POST" else None,
        instance=User(),
        initial={
            name: getattr(wish, name) for name in ("username", "first_name", "last_name", "email")
        },
        appoints_staff=has_right(manager, Right.ADMINISTER),
    )

    def save(data: UserData) -> HttpResponse:
        return show_link(request, *account_requests.accept_request(manager, wish, data))

    saved = save_after_question(request, form, None, save)
    if saved is not None:
        return saved
    has_account = User.objects.filter(email__iexact=wish.email).exists()
    context = {"form": form, "wish": wish, "has_account": has_account}
    status = status_code(form)
    return render(request, "administration/account_request.html", context, status=status)


@require_POST
def request_decline(request: HttpRequest, pk: int) -> HttpResponse:
    manager = get_manager(request)
    wish = get_object_or_404(AccountRequest, pk=pk)
    try:
        account_requests.decline_request(manager, wish)
    except AditError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, _("The request is declined and deleted."))
    return redirect("account_requests")
