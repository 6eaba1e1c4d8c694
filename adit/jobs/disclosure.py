"""Disclosure: what one person may see of a job's patients and pseudonyms; all pages ask it."""

from dataclasses import dataclass

from adit.accounts.models import User
from adit.accounts.permissions import Right, may
from adit.jobs.encrypted_payload import TaskContent
from adit.jobs.models import Job
from adit.projects import services


@dataclass(frozen=True, slots=True)
class Disclosure:
    """Pseudonyms are hidden from whoever knows the patients and may not link both.

    The owner knows the patients of the order, and the pseudonyms that the order itself gave.
    """

    identified: bool
    """May see names and birth dates on pages."""
    rows: bool
    """Knows the patients: may see them, or ordered the job."""
    given: bool
    """May see the pseudonyms that the order gave."""
    generated: bool
    """May see those that the project gave, and the folders that are named by them."""

    def shows(self, content: TaskContent) -> bool:
        """Whether the pseudonym of a task may be shown."""
        return self.given if content.is_given else self.generated


NO_PATIENTS = Disclosure(identified=False, rows=False, given=True, generated=True)
"""For output that names no patient, to a reader who sees none."""


def disclosed(user: User, job: Job) -> Disclosure:
    is_owner = job.owner_id == user.pk
    identified = may(user, Right.SEE_IDENTIFIED)
    rows = identified or is_owner
    links = not rows or services.may_link(user, job.project or services.default_project())
    return Disclosure(identified, rows, given=links or is_owner, generated=links)
