"""The page for a sign-in that a provider or the directory caused to be refused."""

from allauth.account.adapter import get_adapter
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from adit.accounts.external_accounts import SignInRefused, find_user
from adit.audit.trail import record

_UNAVAILABLE = ("signin.provider-unavailable", "signin.directory-unavailable")


def refuse_sign_in(request: HttpRequest, provider_id: str, error: SignInRefused) -> HttpResponse:
    """Record the refusal, and respond with a page that says why."""
    user = find_user(provider_id, error.subject) if error.subject else None
    code = error.message.code
    details = {
        "provider": provider_id,
        "reason": code,
        "subject": error.subject,
        "address": get_adapter(request).get_client_ip(request),
    }
    record("signin.refused", about=f"user:{user.pk}" if user else "", details=details)
    context = {"message": error.message, "subject": error.subject}
    status = 503 if code in _UNAVAILABLE else 403
    return render(request, "accounts/sign_in_refused.html", context, status=status)
