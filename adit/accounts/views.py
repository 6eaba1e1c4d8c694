"""Views of the user's own account: contact data, groups, permissions, sessions and theme."""

from typing import cast

from allauth.account import views as allauth_views
from allauth.mfa.models import Authenticator
from django import forms
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST, require_safe

from adit.accounts import permissions, sessions
from adit.accounts.models import Theme, User
from adit.accounts.second_factor import groups_that_require_it, has_second_factor
from adit.accounts.security_keys import security_keys, supports_security_keys
from adit.accounts.tables import SessionTable
from adit.audit.trail import record


class AccountForm(forms.ModelForm):
    class Meta:
        model = User
        fields = ["first_name", "last_name", "email"]
        widgets = {
            "first_name": forms.TextInput(attrs={"class": "form-control"}),
            "last_name": forms.TextInput(attrs={"class": "form-control"}),
            "email": forms.EmailInput(attrs={"class": "form-control"}),
        }
        help_texts = {"email": _lazy("ADIT sends mails about your jobs to this address.")}


def account_settings(request: HttpRequest) -> HttpResponse:
    user = cast(User, request.user)
    form = AccountForm(request.POST or None, instance=user)
    if request.method == "POST" and form.is_valid():
        form.save()
        messages.success(request, _("Saved."))
        return redirect("profile")
    mine = sorted({name.removeprefix("accounts.") for name in user.get_all_permissions()})
    context = {
        "form": form,
        "groups": user.groups.order_by("name"),
        "rights": [] if user.is_superuser else [_describe_right(name) for name in mine],
    }
    return render(request, "accounts/profile.html", context, status=422 if form.errors else 200)


def change_password(request: HttpRequest) -> HttpResponse:
    """Change the local password; people without one have theirs elsewhere."""
    if cast(User, request.user).has_usable_password():
        response: HttpResponse = allauth_views.password_change(request)
        return response
    messages.info(
        request,
        _("You sign in with an account of your hospital. Change its password there."),
    )
    return redirect("profile")


def _describe_right(name: str) -> str:
    label = permissions.right_label(name)
    is_kind = name == permissions.order_right(label.replace(" ", "_"))
    return _("Order jobs: %(kind)s") % {"kind": label} if is_kind else label


@require_safe
def second_factor(request: HttpRequest) -> HttpResponse:
    user = cast(User, request.user)
    context = {
        "app": Authenticator.objects.filter(user=user, type=Authenticator.Type.TOTP).first(),
        "keys": security_keys(user),
        "supports_keys": supports_security_keys(request),
        "has_factor": has_second_factor(user),
        "required_by": [row.group.name for row in groups_that_require_it(user)],
    }
    return render(request, "mfa/index.html", context)


@require_safe
def session_list(request: HttpRequest) -> HttpResponse:
    rows = list(sessions.find_active().filter(user=cast(User, request.user)))
    current = next((row.pk for row in rows if sessions.is_current(row, request.session)), None)
    context = {
        "table": SessionTable(rows, request, per_page=None),
        "current": current,
        "others": len(rows) - (current is not None),
        "idle_hours": settings.SESSION_IDLE_S / 3600,
        "longest_days": settings.SESSION_COOKIE_AGE / 86400,
    }
    return render(request, "accounts/sessions.html", context)


@require_POST
def end_session(request: HttpRequest, pk: int) -> HttpResponse:
    user = cast(User, request.user)
    get_object_or_404(sessions.find_active(), pk=pk, user=user).delete()
    _record_ended_sessions(request, user, 1)
    return redirect("sessions")


@require_POST
def end_other_sessions(request: HttpRequest) -> HttpResponse:
    user = cast(User, request.user)
    _record_ended_sessions(request, user, sessions.end_sessions(user, keep=request.session))
    return redirect("sessions")


def _record_ended_sessions(request: HttpRequest, user: User, count: int) -> None:
    if count:
        record("session.ended", user=user, about=f"user:{user.pk}", details={"sessions": count})
    messages.success(
        request,
        ngettext("%(count)d session ended.", "%(count)d sessions ended.", count) % {"count": count},
    )


@require_POST
def set_theme(request: HttpRequest) -> HttpResponse:
    """Save the theme and redirect to the page that the user came from."""
    if request.POST.get("theme") in Theme.values:
        User.objects.filter(pk=cast(User, request.user).pk).update(theme=request.POST["theme"])
    address = request.POST.get("next", "")
    if not address.startswith("/") or not url_has_allowed_host_and_scheme(
        address, {request.get_host()}, request.is_secure()
    ):
        address = "/"
    return redirect(address)
