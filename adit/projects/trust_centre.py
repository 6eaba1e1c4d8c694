"""Source: where a new patient's pseudonym comes from: the project itself, or a trust centre."""

from typing import Protocol

from django.conf import settings
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _

from adit.projects.models import Project
from adit_engine.errors import AditError, InvalidInput
from adit_engine.pseudonymize.keys import validate_pseudonym


class PseudonymSource(Protocol):
    """Plugged in by ADIT_PSEUDONYM_SOURCE, the dotted name of a class without arguments."""

    def pseudonym(self, protocol_id: str, domain: str, patient_id: str) -> str:
        """The same again for the same patient of the same project, and no other's.

        Asked outside of any transaction; has a deadline of its own. Raises an AditError that names
        no patient where it cannot answer, with `again` where trying later makes sense.
        """
        ...


class UnusablePseudonym(AditError):
    """The trust centre gave what no pseudonym can be; names no patient."""


def uses_trust_centre(project: Project) -> bool:
    """Whether a trust centre names this project's patients."""
    return bool(settings.PSEUDONYM_SOURCE) and not project.is_default


def request_pseudonym(project: Project, domain: str, patient_id: str) -> str:
    """Empty where none is plugged in, and for the site's own project. Raises AditError."""
    if not uses_trust_centre(project) or not patient_id:
        return ""
    source: PseudonymSource = import_string(settings.PSEUDONYM_SOURCE)()
    try:
        return validate_pseudonym(source.pseudonym(project.protocol_id, domain, patient_id))
    except InvalidInput:
        raise UnusablePseudonym(
            _(
                "The trust centre gave a pseudonym for the research project %(project)s that DICOM "
                "does not allow. Ask whoever runs it."
            )
            % {"project": project.protocol_id}
        ) from None
