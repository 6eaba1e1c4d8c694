"""The page System status, its checks, and the test mail."""

import smtplib
from typing import cast

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from adit import installation
from adit.accounts.mails import explain_failure
from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted, Right, has_right, require
from adit.audit.trail import record
from adit.monitoring import system_status
from adit.nodes import alarms


@require_safe
def status_page(request: HttpRequest) -> HttpResponse:
    user = _require_staff(request)
    context = {
        "processes": system_status.list_processes(),
        "queue": system_status.get_queue(),
        "disks": system_status.list_disks(),
        "versions": system_status.list_versions(),
        "last_backup": system_status.get_last_backup(),
        "last_cleaning": system_status.get_last_cleaning(),
        "cleaning_problems": system_status.list_cleaning_problems(),
        "backup_file": system_status.get_backup_file(),
        "orders": system_status.list_order_settings(),
        "sign_in": system_status.list_sign_in_settings(),
        "mail": system_status.list_mail_settings() if settings.MAIL else None,
        "outages": system_status.list_outages(),
        "alarms": alarms.visible_alarms(user),
    }
    return render(request, "monitoring/status.html", context)


@require_safe
def checks_page(request: HttpRequest) -> HttpResponse:
    """Run the checks of `adit doctor` on this server. Takes some seconds if services are down."""
    _require_staff(request)
    findings = list(installation.check_installation())
    problems = sum(bool(finding.next_step) for finding in findings)
    context = {"findings": findings, "problems": problems}
    return render(request, "monitoring/checks.html", context)


@require_POST
def test_mail(request: HttpRequest) -> HttpResponse:
    """Send a test mail to the user and say what the mail server answered."""
    user = _require_staff(request)
    if not settings.MAIL:
        messages.error(request, _("No mail server is configured. Set ADIT_MAIL_HOST."))
    elif not user.email:
        messages.error(request, _("Enter your mail address on the page My account first."))
    else:
        _send_test_mail(request, user)
    return redirect("system_status")


def _send_test_mail(request: HttpRequest, user: User) -> None:
    try:
        system_status.send_test_mail(user.email)
    except (smtplib.SMTPException, OSError) as error:
        reason = explain_failure(error)
        record("system.test_mail_failed", user=user, details={"reason": reason.to_json()})
        messages.error(request, _explain_to(error))
        return
    record("system.test_mail", user=user)
    messages.success(
        request, _("The mail server accepted a mail to %(address)s.") % {"address": user.email}
    )


def _explain_to(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return _("The mail server rejects your mail address. Correct it on the page My account.")
    return str(explain_failure(error))


def _require_staff(request: HttpRequest) -> User:
    user = cast(User, request.user)
    if not has_right(user, Right.MANAGE_NODES):
        try:
            require(user, Right.ADMINISTER)
        except NotPermitted as error:
            raise PermissionDenied(str(error)) from None
    return user
