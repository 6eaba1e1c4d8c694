"""Faces: what a research project has chosen for images from which a face could be drawn, in words."""

from typing import Any

from django.utils.translation import gettext as _

from adit.profiles.models import Faces, Trial
from adit_engine.errors import WrongInput
from adit_engine.pseudonymize.face import Faces as Chosen


def chosen(trial: Trial) -> Chosen:
    """As the engine takes it; nothing is chosen for anyone."""
    return Chosen(trial.faces) if trial.faces else Chosen.UNDECIDED


def check(trial: Trial) -> None:
    """Raises WrongInput where the risk is accepted without a reason."""
    if trial.faces == Faces.ACCEPT and not trial.faces_reason.strip():
        raise WrongInput(_("Say why it is accepted that a face could be drawn from these images."))
    if trial.faces != Faces.ACCEPT:
        trial.faces_reason = ""


def facts(trial: Trial) -> dict[str, Any]:
    """For the trail."""
    return {"faces": chosen(trial).value, "faces_reason": trial.faces_reason}


def sentence(how: Chosen, reason: str = "") -> str:
    """What happens to such images, and why."""
    if how is Chosen.ACCEPT:
        return _("Images that may show a face are sent: the risk is accepted. Reason: %s") % reason
    if how is Chosen.WITHHOLD:
        return _("Images that may show a face are withheld, as was chosen for the project.")
    return _(
        "Images that may show a face are withheld: nobody has chosen yet what happens to them."
    )


def next_step(how: Chosen) -> str:
    """Empty where nobody has to do anything."""
    if how is not Chosen.UNDECIDED:
        return ""
    return _(
        "If they are needed, ask a manager of research projects to choose “withhold” or “accept” "
        "on the project's page (without a project: the site's own), then order again."
    )
