"""Images that were given out through the API. ADIT cannot delete them: their receivers have to.

`adit.dicomweb`, which lies above, registers the function that finds them.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext as _

from adit.accounts.models import User
from adit.audit.trail import keyed_patient_index
from adit.blocklist import blocking
from adit.projects.models import Project
from adit.vault.cipher import ValueCipher
from adit_engine.values.references import InstanceRef


@dataclass(frozen=True, slots=True)
class GivenOutImage:
    """An image under the UIDs with which it was sent."""

    ref: InstanceRef
    sha256: str


@dataclass(frozen=True, slots=True)
class ApiRetrieval:
    """What one request sent of a patient."""

    at: datetime
    user: User
    caller: str
    """The API token, or that it was a page."""
    project: Project
    is_identified: bool
    only_headers: bool
    images: tuple[GivenOutImage, ...]

    @property
    def username(self) -> str:
        return self.user.username

    @property
    def receiver(self) -> str:
        whole = f"{self.username}, {self.caller}"
        return _("%s (only headers)") % whole if self.only_headers else whole


Finder = Callable[[Collection[str]], Iterable[ApiRetrieval]]
"""Finds the retrievals of the patients with these indexes, see `compute_index`."""
_finders: list[Finder] = []


def compute_index(cipher: ValueCipher, domain: str, patient_id: str) -> str:
    """Return the keyed hash of a patient, without leading zeros and case."""
    return keyed_patient_index(cipher, domain, blocking.normalize_patient_id(patient_id))


def register_finder(finder: Finder) -> None:
    _finders.append(finder)


def find_retrievals(indexes: Collection[str]) -> list[ApiRetrieval]:
    """Return what was given out of the patients with these indexes, newest first."""
    found = [one for finder in _finders for one in finder(indexes)]
    return sorted(found, key=lambda one: one.at, reverse=True)
