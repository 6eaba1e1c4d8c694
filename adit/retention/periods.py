"""The kinds of data that are deleted after a time, with defaults and bounds. Used by many apps."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from adit.retention.models import RetentionPeriod


class DataKind(models.TextChoices):
    JOBS = "jobs", _("Finished jobs")
    DRAFTS = "drafts", _("Drafts, search results and uploaded lists")
    COLUMNS = "columns", _("Column choices for lists")
    ARCHIVES = "archives", _("7-Zip files")
    QUARANTINE = "quarantine", _("Images in quarantine")
    NOTIFICATIONS = "notifications", _("Notifications")
    TOKENS = "tokens", _("Expired API tokens and links")
    REQUESTS = "requests", _("Requests for accounts")
    SESSIONS = "sessions", _("Ended sessions")
    USAGE = "usage", _("Usage records and past alarms")
    TRAIL = "trail", _("Audit trail in the database")


@dataclass(frozen=True, slots=True)
class PeriodRule:
    """Default and bounds of a period in days, and why.

    `longest` None: may be kept for ever. `default` None: is kept for ever.
    """

    default: int | None
    shortest: int
    longest: int | None
    contents: str | Promise
    reason: str | Promise


_RULES: Mapping[DataKind, PeriodRule] = {
    DataKind.JOBS: PeriodRule(
        730,
        30,
        None,
        _("Jobs with their studies, rows, results and mails, counted from the end of the job."),
        _("Questions about a transfer come within two years. The sealed ledger stays longer."),
    ),
    DataKind.DRAFTS: PeriodRule(
        1,
        1,
        7,
        _("Prepared orders, baskets, found studies and lists that were uploaded, not ordered."),
        _("They name patients and are only needed while an order is prepared."),
    ),
    DataKind.COLUMNS: PeriodRule(
        365,
        30,
        None,
        _("Which column of a list means what. No text of a list."),
        _("Lists of one study often come once a year. There is no patient data."),
    ),
    DataKind.ARCHIVES: PeriodRule(
        14,
        1,
        365,
        _("Encrypted files for download, and images that were collected for them."),
        _("Two weeks are enough to fetch a file; each copy of images is a risk."),
    ),
    DataKind.QUARANTINE: PeriodRule(
        30,
        1,
        365,
        _("Images that arrived without being requested, on the server of the scheduler."),
        _("They are identified; a month is enough to find out who sent them."),
    ),
    DataKind.NOTIFICATIONS: PeriodRule(
        90,
        7,
        730,
        _("Notifications and their mails, read or not."),
        _("After three months nobody acts on them. They name no patient."),
    ),
    DataKind.TOKENS: PeriodRule(
        90,
        7,
        730,
        _("Tokens and one-time links that do not work any more, counted from their end."),
        _("Long enough to find out who used a token. The audit trail keeps the record."),
    ),
    DataKind.REQUESTS: PeriodRule(
        30,
        1,
        365,
        _("Requests for accounts that nobody has accepted or declined, with name and address."),
        _("Who still needs the account asks again. Answered requests are deleted at once."),
    ),
    DataKind.SESSIONS: PeriodRule(
        0,
        0,
        30,
        _("Sessions of browsers that have ended, with address and browser."),
        _("Nobody needs them after their end. The audit trail keeps each sign-in."),
    ),
    DataKind.USAGE: PeriodRule(
        90,
        90,
        730,
        _("Daily and hourly use of PACS, use by persons, ended alarms, and mails about them."),
        _("The charts and monthly sheets of PACS show three months."),
    ),
    DataKind.TRAIL: PeriodRule(
        None,
        1095,
        None,
        _(
            "Older events are moved to signed files; the trail stays verifiable, but pages show"
            " and search only the events in the database."
        ),
        _("Laws differ, so nothing is moved unless you choose it."),
    ),
}


def get_rule(kind: DataKind) -> PeriodRule:
    return _RULES[kind]


def get_default_days(kind: DataKind) -> int | None:
    return settings.ARCHIVE_DAYS if kind is DataKind.ARCHIVES else _RULES[kind].default


def get_days(kind: DataKind) -> int | None:
    """Return the period in days; None: kept for ever."""
    chosen = RetentionPeriod.objects.filter(kind=kind).first()
    return get_default_days(kind) if chosen is None else chosen.days


def get_cutoff(kind: DataKind) -> datetime | None:
    """Return the time before which data of this kind is deleted; None: kept for ever."""
    days = get_days(kind)
    return None if days is None else timezone.now() - timedelta(days=days)
