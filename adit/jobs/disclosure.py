"""What a user may see of the patients and pseudonyms of a job. Used by all pages and exports."""

from dataclasses import dataclass

from adit.accounts.models import User
from adit.accounts.permissions import Right, has_right
from adit.jobs.encrypted_payload import TaskContent
from adit.jobs.models import Job
from adit.projects import services


@dataclass(frozen=True, slots=True)
class Disclosure:
    """What a user may see of a job.

    Pseudonyms are hidden from users who know the patients but do not hold the identification list
    of the project. The owner knows the patients of the order, and the pseudonyms that the order
    itself gave.
    """

    identified: bool
    """May see names and birth dates on pages."""
    rows: bool
    """Knows the patients: may see identified data, or ordered the job."""
    given: bool
    """May see the pseudonyms that the order gave."""
    generated: bool
    """May see the pseudonyms that the project generated, and the folders named after them."""

    def shows_pseudonym(self, content: TaskContent) -> bool:
        """Return whether the pseudonym of a task may be shown."""
        return self.given if content.is_given else self.generated


NO_PATIENTS = Disclosure(identified=False, rows=False, given=True, generated=True)
"""For output that names no patient, to a reader who sees no patients."""


def get_disclosure(user: User, job: Job) -> Disclosure:
    """Return what this user may see of this job."""
    is_owner = job.owner_id == user.pk
    identified = has_right(user, Right.SEE_IDENTIFIED)
    rows = identified or is_owner
    links = not rows or services.may_hold_list(user, job.project or services.default_project())
    return Disclosure(identified, rows, given=links or is_owner, generated=links)


def shows_pseudonyms(job: Job, disclosure: Disclosure) -> bool:
    """Return whether the user sees the pseudonyms that the project generated for this job."""
    return disclosure.generated and not job.is_as_is
