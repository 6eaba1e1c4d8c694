"""Request the pseudonym of a new patient from a trust centre, if one is configured.

Used when pseudonyms are registered and when a batch starts.
"""

from typing import Protocol

from django.conf import settings
from django.utils.module_loading import import_string

from adit.projects.models import Project
from adit_engine.errors import AditError, InvalidInput
from adit_engine.pseudonymize.keys import validate_pseudonym


class PseudonymSource(Protocol):
    """Interface of a trust centre.

    ADIT_PSEUDONYM_SOURCE names a class without constructor arguments.
    """

    def pseudonym(self, protocol_id: str, domain: str, patient_id: str) -> str:
        """Return the pseudonym of a patient in a project.

        It is always the same for the same patient and project, and no other patient has it. Called
        outside of any transaction; the implementation needs its own deadline. Raises
        TrustCentreError if it cannot answer.
        """
        ...


class TrustCentreError(AditError):
    """The trust centre did not return a pseudonym. Raised by the implementation.

    `detail` is shown to users and must not identify a patient. `again` is True if a later attempt
    may succeed.
    """

    def __init__(self, detail: str, *, again: bool) -> None:
        super().__init__("trust-centre.no-answer", detail=detail)
        self.is_transient = again


class UnusablePseudonym(AditError):
    """The trust centre returned an invalid pseudonym. The message contains no patient."""


def uses_trust_centre(project: Project) -> bool:
    """Return whether a trust centre assigns the pseudonyms of this project."""
    return bool(settings.PSEUDONYM_SOURCE) and not project.is_default


def request_pseudonym(project: Project, domain: str, patient_id: str) -> str:
    """Return the pseudonym from the trust centre.

    Empty if none is configured, and for the site's default project. Raises AditError.
    """
    if not uses_trust_centre(project) or not patient_id:
        return ""
    source: PseudonymSource = import_string(settings.PSEUDONYM_SOURCE)()
    try:
        return validate_pseudonym(source.pseudonym(project.protocol_id, domain, patient_id))
    except InvalidInput:
        raise UnusablePseudonym(
            "trust-centre.invalid-pseudonym", project=project.protocol_id
        ) from None
