"""Pages behind one-time links, for people who are not signed in."""

from allauth.account.adapter import get_adapter
from allauth.core import ratelimit
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from adit.accounts.models import User
from adit.administration import one_time_links
from adit.administration.forms import (
    FirstAdministratorForm,
    ForgottenPasswordForm,
    NewPasswordForm,
)
from adit.administration.one_time_links import LinkRefused

get_or_post = require_http_methods(["GET", "HEAD", "POST"])


@login_not_required
@sensitive_post_parameters()
@never_cache
@get_or_post
def password_link(request: HttpRequest) -> HttpResponse:
    """Set the password of the account to which the link belongs."""
    token = request.GET.get("token", "")
    try:
        user = one_time_links.find_password_link(token).user
        assert user is not None
        form = NewPasswordForm(request.POST or None, user=user)
        if request.method == "POST" and form.is_valid():
            one_time_links.set_password(token, form.cleaned_data["password1"])
            messages.success(request, _("The password is set. Sign in with it."))
            return redirect("account_login")
    except LinkRefused as error:
        return _refuse(request, token, error)
    context = {"form": form, "person": user}
    return render(
        request, "administration/set_password.html", context, status=422 if form.errors else 200
    )


@login_not_required
@never_cache
@get_or_post
def password_forgotten(request: HttpRequest) -> HttpResponse:
    """Mail a link to set the password; the response is the same for unknown accounts."""
    form = ForgottenPasswordForm(request.POST or None)
    if request.method == "POST" and settings.MAIL and form.is_valid():
        typed = form.cleaned_data["account"]
        limited = ratelimit.consume_or_429(
            request, action="reset_password", key=typed.strip().lower()
        )
        if limited is not None:
            return limited
        one_time_links.mail_requested_links(typed)
        return render(request, "administration/password_link_requested.html")
    context = {"form": form, "has_mail": settings.MAIL}
    status = 422 if form.errors else 200
    return render(request, "administration/password_forgotten.html", context, status=status)


@login_not_required
@sensitive_post_parameters()
@never_cache
@get_or_post
def setup(request: HttpRequest) -> HttpResponse:
    """Create the first administrator."""
    token = request.GET.get("token", "")
    try:
        one_time_links.find_setup_link(token)
        user = User()
        form = FirstAdministratorForm(request.POST or None, user=user)
        if request.method == "POST" and form.is_valid():
            one_time_links.create_first_administrator(token, user, form.cleaned_data["password1"])
            messages.success(request, _("The account is created. Sign in with it."))
            return redirect("account_login")
    except LinkRefused as error:
        return _refuse(request, token, error)
    context = {"form": form}
    return render(request, "administration/setup.html", context, status=422 if form.errors else 200)


def _refuse(request: HttpRequest, token: str, error: LinkRefused) -> HttpResponse:
    one_time_links.record_refusal(token, error, get_adapter().get_client_ip(request))
    return render(request, "administration/link_refused.html", {"reason": error}, status=410)
