"""Collect the content of the page System status from rows and settings."""

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import django
import pydicom
from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.db import connection
from django.db.models import Max
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _

from adit.accounts.mails import send_now
from adit.accounts.sign_in_settings import Directory, GroupMap, OpenIdProvider
from adit.audit import outages
from adit.dates import format_datetime
from adit.jobs.models import Task, TaskState
from adit.monitoring.metrics import count_waiting_tasks, get_oldest_due_age_s
from adit.monitoring.models import DiskUsage, ProcessRole, ProcessSign
from adit.retention import cleaning
from adit.retention.models import LastCleaning
from adit.retention.periods import DataKind
from adit_engine import __version__
from adit_engine.messages import Message

ALIVE_FOR = timedelta(seconds=120)
"""A process whose last sign is older does not respond."""
MIN_HISTORY_DAYS = 3
BACKUP_FILE = "last-backup"

_COMMANDS = {
    ProcessRole.WEB: "adit web",
    ProcessRole.WORKER: "adit worker",
    ProcessRole.SCHEDULER: "adit scheduler",
    ProcessRole.RECEIVER: "adit receiver",
    ProcessRole.DICOMWEB: "adit dicomweb",
}
_PORTS = {ProcessRole.RECEIVER: "RECEIVER_PORT", ProcessRole.DICOMWEB: "DICOMWEB_PORT"}
"""The settings without which there is no such process."""


@dataclass(frozen=True, slots=True)
class RoleStatus:
    """The processes of one role on one machine; without any sign, `host` is empty."""

    role: ProcessRole
    host: str
    alive: int
    seen_at: datetime | None
    next_step: str

    @property
    def label(self) -> str | Promise:
        return self.role.label


@dataclass(frozen=True, slots=True)
class DiskStatus:
    usage: DiskUsage
    full_in_days: int | None
    """Days until the disk is full if it fills as before; None: not in sight or not known yet."""
    has_history: bool

    @property
    def used_percent(self) -> int:
        total = self.usage.total_bytes
        return 100 * (total - self.usage.free_bytes) // total if total else 0


@dataclass(frozen=True, slots=True)
class QueueStatus:
    running: int
    waiting: int
    due: int
    """Tasks that only wait for a worker."""
    oldest_s: float
    """Seconds since the order of the oldest due task; 0: none is due."""

    @property
    def oldest_minutes(self) -> int:
        return int(self.oldest_s // 60)


def list_processes() -> list[RoleStatus]:
    """Return the processes by role and machine. A role that never reported is listed as well."""
    now = timezone.now()
    by_place: dict[tuple[str, str], list[ProcessSign]] = {}
    for sign in ProcessSign.objects.order_by("host"):
        by_place.setdefault((sign.role, sign.host), []).append(sign)
    found = []
    for role in ProcessRole:
        if role in _PORTS and not getattr(settings, _PORTS[role]):
            continue
        places = [(host, signs) for (name, host), signs in by_place.items() if name == role]
        for host, signs in places or [("", [])]:
            alive = sum(sign.seen_at > now - ALIVE_FOR for sign in signs)
            seen_at = max((sign.seen_at for sign in signs), default=None)
            step = "" if alive else _explain_start(role, host)
            found.append(RoleStatus(role, host, alive, seen_at, step))
    return found


def _explain_start(role: ProcessRole, host: str) -> str:
    if settings.EMBEDDED:
        return _("Stop ADIT on the server and start it again: adit up")
    command = {"command": _COMMANDS[role], "host": host or _("one of the servers")}
    return _("Start it on %(host)s: %(command)s") % command


def list_disks() -> list[DiskStatus]:
    """Return the latest usage of each folder, with a forecast from the last 30 days."""
    since = timezone.localdate() - timedelta(days=30)
    by_folder: dict[tuple[str, str], list[DiskUsage]] = {}
    for usage in DiskUsage.objects.filter(day__gte=since).order_by("host", "folder", "day"):
        by_folder.setdefault((usage.host, usage.folder), []).append(usage)
    return [_forecast(usages[0], usages[-1]) for usages in by_folder.values()]


def _forecast(first: DiskUsage, last: DiskUsage) -> DiskStatus:
    days = (last.day - first.day).days
    if days < MIN_HISTORY_DAYS:
        return DiskStatus(last, None, has_history=False)
    filled_per_day = (first.free_bytes - last.free_bytes) / days
    left = int(last.free_bytes / filled_per_day) if filled_per_day > 0 else None
    return DiskStatus(last, left, has_history=True)


def get_queue() -> QueueStatus:
    waiting = count_waiting_tasks()
    return QueueStatus(
        running=Task.objects.filter(state=TaskState.IN_PROGRESS).count(),
        waiting=sum(waiting.values()),
        due=waiting["worker"],
        oldest_s=get_oldest_due_age_s(),
    )


def list_versions() -> Iterator[tuple[str, str]]:
    yield "ADIT", __version__
    yield "Python", platform.python_version()
    yield "Django", django.get_version()
    yield "pydicom", pydicom.__version__
    with connection.cursor() as cursor:
        is_sqlite = connection.vendor == "sqlite"
        cursor.execute("SELECT sqlite_version()" if is_sqlite else "SHOW server_version")
        yield "SQLite" if is_sqlite else "PostgreSQL", str(cursor.fetchone()[0])


def get_backup_file() -> Path:
    """Return the file that the site's backup script touches after each backup."""
    return settings.DATA_DIR / BACKUP_FILE


def get_last_cleaning() -> datetime | None:
    """Return when the scheduler last deleted expired data; None if it never did."""
    return LastCleaning.objects.aggregate(at=Max("at"))["at"]


def list_cleaning_problems() -> list[str]:
    """Return one sentence per kind of data whose last cleaning was not complete."""
    found = []
    for row in cleaning.list_problems():
        values = {"kind": DataKind(row.kind).label, "count": row.failed, "error": row.error}
        if row.error:
            text = _("%(kind)s: the cleaning ended with an error (%(error)s). ADIT tries again.")
        else:
            text = _(
                "%(kind)s: %(count)d could not be deleted. Check the folder; ADIT tries again."
            )
        found.append(text % values)
    return found


def get_last_backup() -> datetime | None:
    """Return when the backup script last reported a backup; None if it never did."""
    try:
        return datetime.fromtimestamp(get_backup_file().stat().st_mtime, UTC)
    except OSError:
        return None


def list_sign_in_settings() -> Iterator[tuple[str, str]]:
    """Yield settings of sign-in with their values, without secrets."""
    yes, no = _("yes"), _("no")
    hours = settings.SESSION_IDLE_S / 3600
    yield (
        "ADIT_SESSION_IDLE_S",
        _("Sessions end after %(hours)g hours without activity.") % {"hours": hours},
    )
    yield (
        "ADIT_SELF_REGISTRATION",
        _("People without an account may ask for one: %(answer)s.")
        % {"answer": yes if settings.SELF_REGISTRATION else no},
    )
    yield (
        "ADIT_TLS",
        _("Pages are behind a proxy with TLS: %(answer)s.")
        % {"answer": yes if settings.BEHIND_TLS else no},
    )
    yield (
        "ADIT_PROXIES",
        _("Trusted proxies in front of the pages: %(count)d.")
        % {"count": settings.ALLAUTH_TRUSTED_PROXY_COUNT},
    )
    yield "ADIT_HOSTS", ", ".join(settings.ALLOWED_HOSTS)
    yield "ADIT_URL", settings.SITE_URL
    yield (
        "ADIT_LOCAL_SIGN_IN",
        _("Accounts sign in with a password of ADIT: %(answer)s.")
        % {"answer": yes if settings.LOCAL_SIGN_IN else no},
    )
    yield "ADIT_EMERGENCY_ACCOUNTS", ", ".join(settings.EMERGENCY_ACCOUNTS) or _("none")
    yield "ADIT_OIDC_PROVIDERS", ", ".join(settings.OPENID_PROVIDERS) or _("none")
    for provider in settings.OPENID_PROVIDERS.values():
        yield from _list_provider_settings(provider)
    if settings.LDAP is None:
        yield "ADIT_LDAP_URL", _("no directory")
    else:
        yield from _list_directory_settings(settings.LDAP)


def _list_provider_settings(provider: OpenIdProvider) -> Iterator[tuple[str, str]]:
    prefix = f"ADIT_OIDC_{provider.provider_id.upper()}"
    yield f"{prefix}_NAME", provider.name
    yield f"{prefix}_ISSUER", provider.issuer
    yield f"{prefix}_CLIENT_ID", provider.client_id
    yield f"{prefix}_SCOPES", " ".join(provider.scopes)
    yield f"{prefix}_USER_NAME_CLAIM", provider.username_claim
    yield f"{prefix}_GROUPS_CLAIM", provider.groups_claim
    yield f"{prefix}_GROUPS", _describe_group_map(provider.group_map)
    yield f"{prefix}_CREATE_ACCOUNTS", _("yes") if provider.creates_accounts else _("no")


def _list_directory_settings(directory: Directory) -> Iterator[tuple[str, str]]:
    yield "ADIT_LDAP_URL", directory.url
    yield "ADIT_LDAP_START_TLS", _("yes") if directory.start_tls else _("no")
    if directory.user_dn:
        yield "ADIT_LDAP_USER_DN", directory.user_dn
    else:
        yield "ADIT_LDAP_BIND_DN", directory.bind_dn
        yield "ADIT_LDAP_BASE", directory.base
        yield "ADIT_LDAP_USER_FILTER", directory.user_filter
    yield "ADIT_LDAP_USER_NAME_ATTRIBUTE", directory.username_attribute
    yield "ADIT_LDAP_ID_ATTRIBUTE", directory.id_attribute
    if directory.group_base:
        yield "ADIT_LDAP_GROUP_BASE", directory.group_base
        yield "ADIT_LDAP_GROUP_FILTER", directory.group_filter
    yield "ADIT_LDAP_GROUPS", _describe_group_map(directory.group_map)
    yield "ADIT_LDAP_CREATE_ACCOUNTS", _("yes") if directory.creates_accounts else _("no")
    yield "ADIT_LDAP_CHECK_ACCOUNTS", _("yes") if directory.checks_accounts else _("no")


def _describe_group_map(group_map: GroupMap) -> str:
    pairs = (f"{theirs} → {', '.join(ours)}" for theirs, ours in group_map.items())
    return "; ".join(pairs) or _("none")


def list_order_settings() -> Iterator[tuple[str, str]]:
    """Yield settings of orders with their values."""
    yield (
        "ADIT_ORDERS_WITHOUT_PROJECT",
        _("Pseudonymized orders without a research project are allowed: %(answer)s.")
        % {"answer": _("yes") if settings.ORDERS_WITHOUT_PROJECT else _("no")},
    )


def list_mail_settings() -> Iterator[tuple[str, str]]:
    """Yield settings of the mail server with their values, without user and password."""
    yield "ADIT_MAIL_HOST", f"{settings.EMAIL_HOST}:{settings.EMAIL_PORT}"
    encryption = "TLS" if settings.EMAIL_USE_SSL else "STARTTLS" if settings.EMAIL_USE_TLS else ""
    yield "ADIT_MAIL_TLS", encryption or _("not encrypted")
    yield "ADIT_MAIL_FROM", settings.DEFAULT_FROM_EMAIL
    yield "ADIT_MAIL_ADMINS", ", ".join(settings.MAIL_ADMINS) or _("all administrators")


def list_outages() -> Iterator[str]:
    """Yield since when and why mails cannot be sent, or the directory cannot be used."""
    used = []
    if settings.MAIL:
        used.append((outages.MAIL, _("ADIT cannot send mails since %(since)s. %(reason)s")))
    if settings.LDAP is not None:
        sentence = _("The directory cannot be used since %(since)s. %(reason)s")
        used.append((outages.DIRECTORY, sentence))
    for service, sentence in used:
        began = outages.find_outage(service)
        if began is not None:
            reason = Message.from_json(began.details["reason"])
            yield sentence % {"since": format_datetime(began.at), "reason": reason}


def send_test_mail(address: str) -> None:
    """Send a mail at once. Raises SMTPException or OSError."""
    mail = EmailMessage(
        _("ADIT: test mail"),
        _("The mail server of ADIT works. This mail was sent from %(address)s")
        % {"address": settings.SITE_URL},
        to=[address],
        headers={"Auto-Submitted": "auto-generated"},
        connection=get_connection(timeout=settings.EMAIL_TIMEOUT),
    )
    send_now(mail)
