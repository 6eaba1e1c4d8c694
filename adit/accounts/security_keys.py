"""Security keys and passkeys as second factor (WebAuthn): forms and views. Used by the URLs.

The forms keep malformed answers of browsers from becoming server errors, and record wrong ones.
"""

import json
from ipaddress import ip_address
from typing import Any, cast

from allauth.core import context
from allauth.mfa.base import views as base
from allauth.mfa.models import Authenticator
from allauth.mfa.signals import authentication_failed
from allauth.mfa.webauthn import forms, views
from allauth.mfa.webauthn.internal import auth
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.forms import CharField, Form
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse, reverse_lazy
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from adit.accounts.models import User
from adit.accounts.signals import get_client_details
from adit.audit.trail import record

_MALFORMED = (TypeError, ValueError, KeyError, AttributeError)
"""What fido2 raises for an answer that is JSON, but not of WebAuthn."""


def security_keys(user: User) -> QuerySet[Authenticator]:
    keys = Authenticator.objects.filter(user=user, type=Authenticator.Type.WEBAUTHN)
    return keys.order_by("pk")


def supports_security_keys(request: HttpRequest) -> bool:
    """Whether browsers offer keys for this address: a host name with TLS, or localhost."""
    host = request.get_host()
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return request.is_secure() or name == "localhost" or name.endswith(".localhost")
    return False


class AddKeyForm(forms.AddWebAuthnForm):
    name = CharField(label=_lazy("Name"), max_length=64, required=False)

    def clean(self) -> dict[str, Any]:
        try:
            return dict(super().clean())
        except (*_MALFORMED, ValidationError):
            raise _not_accepted() from None


class RenameKeyForm(forms.EditWebAuthnForm):
    name = CharField(label=_lazy("Name"), max_length=64)


class _CheckedKey(Form):
    def clean_credential(self) -> Authenticator:
        try:
            return cast(Authenticator, super().clean_credential())  # type: ignore[misc]
        except (*_MALFORMED, ValidationError) as error:
            user = cast(User, self.user)  # type: ignore[attr-defined]
            authentication_failed.send(
                sender=Authenticator,
                request=context.request,
                user=user,
                authenticator=security_keys(user).first(),
                reauthentication=False,
            )
            if getattr(error, "code", "") == "too_many_login_attempts":
                raise
            raise _not_accepted() from None


class AuthenticateKeyForm(_CheckedKey, forms.AuthenticateWebAuthnForm):
    pass


class ReauthenticateKeyForm(_CheckedKey, forms.ReauthenticateWebAuthnForm):
    pass


class AddKeyView(views.AddWebAuthnView):
    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        values = super().get_context_data(**kwargs)
        return {
            **values,
            "options": json.dumps(values["js_data"]["creation_options"]),
            "is_supported": supports_security_keys(self.request),
        }


class RenameKeyView(views.EditWebAuthnView):
    success_url = reverse_lazy("mfa_index")

    def form_valid(self, form: Form) -> HttpResponse:
        user = cast(User, self.request.user)
        details = get_client_details(self.request)
        with transaction.atomic():
            response = super().form_valid(form)
            record("second_factor.renamed", user=user, about=f"user:{user.pk}", details=details)
        return cast(HttpResponse, response)


class RemoveKeyView(views.RemoveWebAuthnView):
    success_url = reverse_lazy("mfa_index")


class AuthenticateView(base.AuthenticateView):
    """Ask for a code or a key, whichever the person has."""

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        values = super().get_context_data(**kwargs)
        user = self.stage.login.user
        return {**values, **_describe_factors(self.request, user, values["js_data"])}


class ReauthenticateView(base.ReauthenticateView):
    """Ask again for a code or a key; the key is sent to `ReauthenticateKeyView`."""

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        user = cast(User, self.request.user)
        js_data = {"request_options": auth.begin_authentication(user)}
        return {
            **super().get_context_data(**kwargs),
            **_describe_factors(self.request, user, js_data),
        }


class ReauthenticateKeyView(views.ReauthenticateWebAuthnView):
    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return redirect(self.passthrough_next_url(reverse("mfa_reauthenticate")))

    def form_invalid(self, form: Form) -> HttpResponse:
        messages.error(self.request, str(form.errors["credential"][0]))
        return redirect(self.passthrough_next_url(reverse("mfa_reauthenticate")))


add_key = AddKeyView.as_view()
rename_key = RenameKeyView.as_view()
remove_key = RemoveKeyView.as_view()
authenticate = AuthenticateView.as_view()
reauthenticate = ReauthenticateView.as_view()
reauthenticate_with_key = ReauthenticateKeyView.as_view()


def _describe_factors(request: HttpRequest, user: User, js_data: Any) -> dict[str, Any]:
    has_key = security_keys(user).exists()
    factors = Authenticator.objects.filter(user=user)
    return {
        "has_app": factors.filter(type=Authenticator.Type.TOTP).exists(),
        "has_key": has_key,
        "options": json.dumps(js_data["request_options"]) if has_key else "",
        "is_supported": supports_security_keys(request),
    }


def _not_accepted() -> ValidationError:
    text = _("The security key was not accepted. Use a key that you have added to your account.")
    return ValidationError(text, code="incorrect_code")
