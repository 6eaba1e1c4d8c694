"""Tryout: a profile applied to one real image, to be looked at; nothing is stored, nothing leaves."""

import secrets
from base64 import b64encode
from dataclasses import dataclass, field

from adit.accounts.rights import Person, Right, require
from adit.audit.trail import record
from adit.nodes.domain import domain_of
from adit.nodes.models import Node
from adit.nodes.sample import sample_of
from adit.profiles.header import Line, compared, lines_of
from adit.profiles.models import Profile
from adit.profiles.pictures import png_of
from adit.profiles.versions import rules_of
from adit_engine.errors import Malformed, Withhold, WrongInput
from adit_engine.instance import Instance
from adit_engine.pseudonymize.apply import apply
from adit_engine.pseudonymize.change import Pseudonymized
from adit_engine.pseudonymize.choice import Choice
from adit_engine.pseudonymize.pseudonym import TrialKey
from adit_engine.pseudonymize.transcode import little_endian
from adit_engine.pseudonymize.verify import verify
from adit_engine.reference import StudyRef

PSEUDONYM = "TRY-IT-0001"
LARGEST_PICTURE = 640


@dataclass(frozen=True, slots=True)
class Tried:
    """The header before and after; where the image would be withheld, before only, and why."""

    lines: list[Line]
    code: str = ""
    withheld: str = ""
    before: str = field(default="", repr=False)
    after: str = field(default="", repr=False)
    """Its first frame, as text that an address of an image can be; empty where none can be shown."""


def try_it(user: Person, profile: Profile, node: Node, study: StudyRef) -> Tried:
    """Under a key of no project, which is forgotten at once. Raises as `sample_of` does."""
    require(user, Right.SEE_IDENTIFIED)
    image = sample_of(user, node, study)
    tried = _tried(profile, image)
    details = {"node": node.name, "withheld": tried.code}
    patient = (domain_of(node), patient_id) if (patient_id := _patient_id(image)) else None
    record(
        "profile.tried", user=user, about=f"profile:{profile.pk}", details=details, patient=patient
    )
    return tried


def _tried(profile: Profile, image: Instance) -> Tried:
    key = TrialKey(secrets.token_bytes(32))
    # Nothing leaves, so that a risk is no reason to show nothing.
    change = Pseudonymized(rules_of(profile), PSEUDONYM, key, None, Choice.ACCEPT, Choice.ACCEPT)
    try:
        if image.fault:
            raise Withhold("fault", image.fault)
        changed = apply(change, image)
        verify(image, changed, change)
        lines = compared(little_endian(image), changed)
        return Tried(lines, before=_picture(image), after=_picture(changed))
    except Withhold as error:
        return Tried(_readable(image), error.code, str(error), before=_picture(image))


def _picture(image: Instance) -> str:
    """Stands in the page itself, so that no address and no cache holds it."""
    try:
        data = png_of(image, largest=LARGEST_PICTURE)
    except WrongInput:
        return ""
    return f"data:image/png;base64,{b64encode(data).decode('ascii')}"


def _readable(image: Instance) -> list[Line]:
    try:
        return lines_of(little_endian(image))
    except (Malformed, Withhold):
        return []


def _patient_id(image: Instance) -> str:
    try:
        return image.in_header.patient_id.decode("utf-8", "replace")
    except Malformed:
        return ""
