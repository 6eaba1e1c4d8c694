"""Pages behind one-time links, for people who are not signed in."""

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
from adit.administration.forms import FirstAdministratorForm, NewPasswordForm
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
    one_time_links.record_refusal(token, error)
    return render(request, "administration/link_refused.html", {"reason": error}, status=410)
