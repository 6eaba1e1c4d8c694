"""The topics of the manual, and a search in them. Used by the help pages and help buttons."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from html import unescape

from django.template.loader import render_to_string
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic of the manual. Its text is templates/help/topics/<slug>.html."""

    slug: str
    title: str | Promise
    summary: str | Promise
    icon: str

    @property
    def template(self) -> str:
        return f"help/topics/{self.slug}.html"

    @property
    def text(self) -> str:
        """Return the text in the user's language, without markup."""
        page = render_to_string(self.template, {"topic": self})
        words = re.sub(r"<svg.*?</svg>|<[^>]+>", " ", page, flags=re.DOTALL)
        return re.sub(r" (?=[.,;:])", "", " ".join(unescape(words).split()))


@dataclass(frozen=True, slots=True)
class HelpHit:
    topic: Topic
    excerpt: str


TOPICS = (
    Topic(
        "start",
        _("First steps"),
        _("What ADIT does, and how to order the first transfer."),
        "bulb",
    ),
    Topic(
        "selective-transfer",
        _("New transfer"),
        _("Search for studies, select images, and send them to a research project."),
        "search",
    ),
    Topic(
        "batch-query",
        _("Batch query"),
        _("Search for a list of patients: columns of the sheet, checks, results, downloads."),
        "file-text",
    ),
    Topic(
        "batch-transfer",
        _("Batch transfer"),
        _("Transfer a list of studies: check, approval, transfer, and a result for every row."),
        "list-check",
    ),
    Topic(
        "jobs",
        _("Jobs"),
        _("States and counts of your orders, gaps, and what to do about them."),
        "list-check",
    ),
    Topic(
        "archives",
        _("Encrypted 7-Zip files"),
        _("Images in one file with a password: order, download and open it."),
        "archive",
    ),
    Topic(
        "withheld",
        _("Withheld images"),
        _("Review withheld images, mask or release a device, and retry the transfer."),
        "ban",
    ),
    Topic(
        "nodes",
        _("PACS and folders"),
        _("Sources and destinations: set up, test, pause, and grant access."),
        "server",
    ),
    Topic(
        "quarantine",
        _("Quarantine"),
        _("Images that were not requested, and rejected connections."),
        "shield-lock",
    ),
    Topic(
        "projects",
        _("Research projects"),
        _("Members, pseudonyms, re-identification, and the end of a project."),
        "report-medical",
    ),
    Topic(
        "profiles",
        _("Profiles"),
        _("What is removed from images, what is kept, and how to test a profile."),
        "shield-lock",
    ),
    Topic(
        "users",
        _("Users and groups"),
        _("Create accounts, grant permissions, reset passwords, deactivate users."),
        "users",
    ),
    Topic(
        "system-status",
        _("System status"),
        _("Whether ADIT works: processes, queue, disks, mail, and what to do about problems."),
        "device-desktop",
    ),
    Topic(
        "trail",
        _("Audit trail"),
        _("Who did what and when, and whether the record was changed."),
        "history",
    ),
    Topic(
        "sign-in",
        _("Signing in"),
        _("Your account, your password, and the colors of the pages."),
        "user-circle",
    ),
    Topic(
        "words",
        _("Glossary"),
        _("Study, series, pseudonym, withheld and other terms."),
        "book",
    ),
)

EXCERPT_LENGTH = 90


def get_topic(slug: str) -> Topic:
    """Return the topic; raise KeyError if there is none."""
    for known in TOPICS:
        if known.slug == slug:
            return known
    raise KeyError(slug)


def search_topics(words: str, topics: Iterable[Topic] = TOPICS) -> list[HelpHit]:
    """Return the topics that contain every word, matches in the title first."""
    wanted = words.casefold().split()
    hits = []
    for known in topics:
        head = f"{known.title} {known.summary}".casefold()
        text = known.text
        if wanted and all(word in head or word in text.casefold() for word in wanted):
            rank = sum(word not in head for word in wanted)
            hits.append((rank, HelpHit(known, _make_excerpt(text, wanted[0]))))
    return [hit for _rank, hit in sorted(hits, key=lambda ranked: ranked[0])]


def _make_excerpt(text: str, word: str) -> str:
    at = max(text.casefold().find(word), 0)
    start = max(at - EXCERPT_LENGTH, 0)
    start = text.rfind(" ", 0, start) + 1 if start else 0
    end = text.find(" ", min(at + EXCERPT_LENGTH, len(text)))
    end = len(text) if end < 0 else end
    return f"{'… ' if start else ''}{text[start:end]}{' …' if end < len(text) else ''}"
