"""Risks: what a research project has chosen for images that bear a risk which only people judge.

Each is chosen per project, with a reason where it is accepted, and there is no default: as long as
nothing is chosen, the images are withheld.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext_lazy as _

from adit.projects.models import Project, RiskChoice
from adit_engine.errors import InvalidInput
from adit_engine.pseudonymize import admission, face_risk
from adit_engine.pseudonymize.parameters import RiskDecision
from adit_engine.pseudonymize.statistics import AppliedAction

Words = Any
"""Lazily translated."""


@dataclass(frozen=True, slots=True)
class Risk:
    """`name` is that of the project's field, and of the Change's."""

    name: str
    code: str
    """Of the withholding where the risk is not accepted."""
    mark: AppliedAction
    """Of images that left although they bear the risk."""
    title: Words
    about: Words
    """What the risk is, for the person who chooses."""
    unless: Words
    """What is withheld, before it is known what was chosen."""
    sentences: Mapping[RiskDecision, Words]
    steps: Mapping[RiskDecision, Words]
    """What to do where the images are needed."""
    why: Words
    """The question for the reason."""

    @property
    def reason(self) -> str:
        """Name of the project's field for the reason."""
        return f"{self.name}_reason"


FACES = Risk(
    "faces",
    face_risk.FACE_CODE,
    AppliedAction.FACE,
    title=_("Thin slices that may show a face"),
    about=_(
        "From thin slices of a head by CT, MR or PET the person's face can be drawn. Somebody has to "
        "choose what happens to them; what does not tell its part of the body counts as a head."
    ),
    unless=_(
        "Thin slices of a head from which a face could be drawn are withheld, unless the project has "
        "chosen otherwise."
    ),
    sentences={
        RiskDecision.ACCEPT: _(
            "Images that may show a face are sent: the risk is accepted. Reason: %(reason)s"
        ),
        RiskDecision.WITHHOLD: _(
            "Images that may show a face are withheld, as was chosen for the project."
        ),
        RiskDecision.UNDECIDED: _(
            "Images that may show a face are withheld: nobody has chosen yet what happens to them."
        ),
    },
    steps={
        RiskDecision.UNDECIDED: _(
            "If they are needed, ask a manager of research projects to choose “withhold” or “accept” "
            "on the project's page (without a project: the site's own), then order again."
        )
    },
    why=_("Say why it is accepted that a face could be drawn from these images."),
)
HEADER_WORD = Risk(
    "header_word",
    admission.UNCONFIRMED_ANNOTATION,
    AppliedAction.HEADER_WORD,
    title=_("Text in the pixels of radiographs"),
    about=_(
        "Devices write names and dates into the pixels of CR, DX, MG, XA, RF and NM images, and the "
        "header is no proof that they did not. These images are withheld unless a pixel rule or a "
        "reviewer's decision covers the device, or the project accepts the header's word: then they "
        "are sent if the header does not say that text is burned in (CR, XA, RF, NM: if it says that "
        "none is). To stop accepting it later gives all images new identifiers from then on."
    ),
    unless=_(
        "CR, DX, MG, XA, RF and NM images are withheld, unless a pixel rule covers the device or the "
        "project has chosen otherwise."
    ),
    sentences={
        RiskDecision.ACCEPT: _(
            "CR, DX, MG, XA, RF and NM images are sent on the word of their header: the risk is "
            "accepted. Reason: %(reason)s"
        ),
        RiskDecision.WITHHOLD: _(
            "CR, DX, MG, XA, RF and NM images are withheld, as was chosen for the project, unless a "
            "pixel rule covers the device."
        ),
        RiskDecision.UNDECIDED: _(
            "CR, DX, MG, XA, RF and NM images are withheld unless a pixel rule covers the device: "
            "nobody has chosen yet whether the header's word is accepted."
        ),
    },
    steps={
        RiskDecision.UNDECIDED: _(
            "If they are needed, ask a reviewer to decide about the device once they are withheld, or "
            "ask a manager of research projects to accept the header's word on the project's page "
            "(without a project: the site's own), then order again."
        ),
        RiskDecision.WITHHOLD: _(
            "If they are needed, ask a reviewer to decide about the device once they are withheld."
        ),
    },
    why=_("Say why the header's word is accepted for these images."),
)
RISKS = (FACES, HEADER_WORD)
FIELDS = tuple(name for risk in RISKS for name in (risk.name, risk.reason))
"""Of a project."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What was chosen for one risk, as it stood at the time. `chosen` is the value of a Choice."""

    risk: str
    chosen: str
    reason: str = ""

    @property
    def choice(self) -> RiskDecision:
        return RiskDecision(self.chosen)

    @property
    def known(self) -> Risk:
        return next(risk for risk in RISKS if risk.name == self.risk)

    @property
    def title(self) -> str:
        return str(self.known.title)

    @property
    def sentence(self) -> str:
        """What happens to such images, and why."""
        return str(self.known.sentences[self.choice]) % {"reason": self.reason}

    @property
    def next_step(self) -> str:
        """Empty where nobody has to do anything."""
        return str(self.known.steps.get(self.choice, ""))

    @property
    def is_accepted(self) -> bool:
        return self.choice is RiskDecision.ACCEPT

    @property
    def is_open(self) -> bool:
        return self.choice is RiskDecision.UNDECIDED


def decisions(project: Project) -> tuple[Decision, ...]:
    """One for each risk."""
    return decisions_in(facts(project))


def decisions_in(told: Mapping[str, Any]) -> tuple[Decision, ...]:
    """From `facts`."""
    return tuple(Decision(risk.name, told[risk.name], told[risk.reason]) for risk in RISKS)


def chosen(project: Project) -> dict[str, RiskDecision]:
    """As the engine's Change takes them."""
    return {one.risk: one.choice for one in decisions(project)}


def facts(project: Project) -> dict[str, Any]:
    """For the trail and the ledger."""
    told: dict[str, Any] = {}
    for risk in RISKS:
        told[risk.name] = getattr(project, risk.name) or RiskDecision.UNDECIDED.value
        told[risk.reason] = getattr(project, risk.reason)
    return told


def check(project: Project) -> None:
    """Raises WrongInput where a risk is accepted without a reason."""
    for risk in RISKS:
        if getattr(project, risk.name) != RiskChoice.ACCEPT:
            setattr(project, risk.reason, "")
        elif not getattr(project, risk.reason).strip():
            raise InvalidInput(str(risk.why))
