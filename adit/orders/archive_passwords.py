"""The password of a 7-Zip file while an order is prepared.

It is proposed once and stored encrypted with the draft. Used by the order pages.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from adit.accounts.models import User
from adit.jobs.models import Job
from adit.orders import drafts
from adit.results import archives
from adit_engine.errors import InvalidInput
from adit_engine.values.archive_password import generate_password

FIELD, AGAIN, KEPT = "archive_password", "archive_password_again", "archive_kept"


@dataclass(frozen=True, slots=True)
class DraftPassword:
    """The proposed password of one draft, and the last entries of both fields."""

    proposal: str = field(default_factory=generate_password, repr=False)
    entered: str | None = field(default=None, repr=False)
    """None until a form was submitted."""
    repetition: str = field(default="", repr=False)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "DraftPassword":
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        return {"proposal": self.proposal, "entered": self.entered, "repetition": self.repetition}

    @property
    def value(self) -> str:
        """The value of the first field."""
        return self.proposal if self.entered is None else self.entered

    def with_entries(self, posted: Mapping[str, Any]) -> "DraftPassword":
        """Return a copy with the posted entries; unchanged if the form has no password."""
        if FIELD not in posted:
            return self
        return replace(self, entered=posted[FIELD], repetition=posted.get(AGAIN, ""))

    def validate(self, posted: Mapping[str, Any]) -> str:
        """Return the validated password. Raises InvalidInput.

        The proposal needs no second entry. Every form has to confirm that the password was noted.
        """
        password = archives.validate_archive_password(self.value)
        if self.repetition != password and (self.repetition or password != self.proposal):
            raise InvalidInput("archive-file.passwords-differ")
        if not posted.get(KEPT):
            raise archives.password_not_saved()
        return password


def for_next_file(user: User, job: Job) -> DraftPassword:
    """Return the user's draft password for an ended job; create it on first use."""
    kept = drafts.load_draft(user, _key(job))
    if kept is not None:
        return DraftPassword.from_json(kept)
    password = DraftPassword()
    keep_for_next_file(user, job, password)
    return password


def keep_for_next_file(user: User, job: Job, password: DraftPassword) -> None:
    drafts.save_draft(user, _key(job), password.to_json())


def drop_for_next_file(user: User, job: Job) -> None:
    drafts.delete_draft(user, _key(job))


def _key(job: Job) -> str:
    return f"password.{job.pk}"
