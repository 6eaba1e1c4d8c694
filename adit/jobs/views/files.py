"""Files: what pages say of a finished 7-Zip file, and whether this person may have it."""

from collections.abc import Iterable
from dataclasses import dataclass

from adit.accounts.models import User
from adit.jobs.files import archives
from adit.jobs.models import Archive
from adit.nodes import shelf


@dataclass(frozen=True, slots=True)
class FileRow:
    file: Archive
    why_not: str
    """Why this person may not download it; empty when so."""
    place: str
    """Where users find it without a browser."""


def file_rows(user: User, files: Iterable[Archive]) -> list[FileRow]:
    return [
        FileRow(
            one,
            archives.why_no_download(user, one),
            shelf.path_for_users(one.job.destination, one.name) if one.job.destination else "",
        )
        for one in files
    ]
