"""Decisions of a research project about images with a risk that only people can judge. Used by
projects, orders, results and review.

Each decision is made per project. Accepting a risk requires a reason. There is no default: as long
as nothing is chosen, the images are withheld.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext_lazy as _

from adit.projects.models import Project, RiskChoice
from adit_engine.errors import InvalidInput
from adit_engine.pseudonymize import face_risk
from adit_engine.pseudonymize.face_risk import RiskDecision
from adit_engine.pseudonymize.profile import ConfidentialityProfile, TextDetection
from adit_engine.pseudonymize.statistics import AppliedAction

Words = Any
"""A lazily translated text."""


@dataclass(frozen=True, slots=True)
class Risk:
    """A risk. `name` is the field name in the project and in the Change."""

    name: str
    code: str
    """Code with which images are withheld if the risk is not accepted."""
    mark: AppliedAction
    """Mark of images that were delivered although they have the risk."""
    title: Words
    description: Words
    """Explanation of the risk for the user who decides."""
    unless: Words
    """What is withheld, for texts before the decision is known."""
    sentences: Mapping[RiskDecision, Words]
    steps: Mapping[RiskDecision, Words]
    """What to do if the images are needed."""
    reason_missing: str
    """Code of the error if the risk is accepted without a reason."""

    @property
    def reason(self) -> str:
        """Return the name of the project field for the reason."""
        return f"{self.name}_reason"


FACES = Risk(
    "faces",
    face_risk.FACE_CODE,
    AppliedAction.FACE_RISK_ACCEPTED,
    title=_("Thin slices that may show a face"),
    description=_(
        "A face can be reconstructed from thin CT, MR or PET slices of a head. Decide what happens to "
        "these images. Images that do not name the body part are treated as images of a head, unless "
        "their pixels clearly show a trunk."
    ),
    unless=_(
        "Thin slices of a head, from which a face could be reconstructed, are withheld unless the "
        "project accepts this risk."
    ),
    sentences={
        RiskDecision.ACCEPT: _(
            "Images that may show a face are sent: the risk is accepted. Reason: %(reason)s"
        ),
        RiskDecision.WITHHOLD: _(
            "Images that may show a face are withheld, as decided for the project."
        ),
        RiskDecision.UNDECIDED: _(
            "Images that may show a face are withheld: the project has no decision on them yet."
        ),
    },
    steps={
        RiskDecision.UNDECIDED: _(
            "If you need them, ask a manager of research projects to select “withhold” or “accept” on "
            "the page of the project (without a project: the site's default project), then order "
            "again."
        )
    },
    reason_missing="project.faces-reason-missing",
)
HEADER_WORD = Risk(
    "header_word",
    face_risk.UNCONFIRMED_ANNOTATION,
    AppliedAction.ANNOTATION_ACCEPTED,
    title=_("Burned-in text in radiographs"),
    description=_(
        "CR, DX, MG, XA, RF and NM images can contain burned-in names and dates, and their header "
        "does not prove the opposite. These images are withheld unless a pixel rule or a reviewer's "
        "decision covers the device, or the project accepts the risk. Then they are sent if their "
        "header does not state that text is burned in (CR, XA, RF and NM: if it states that no text "
        "is burned in). If the project withdraws this later, all images get new identifiers from "
        "then on."
    ),
    unless=_(
        "CR, DX, MG, XA, RF and NM images are withheld unless a pixel rule covers the device or the "
        "project accepts this risk."
    ),
    sentences={
        RiskDecision.ACCEPT: _(
            "CR, DX, MG, XA, RF and NM images are sent without further proof if their header allows "
            "it: the risk is accepted. Reason: %(reason)s"
        ),
        RiskDecision.WITHHOLD: _(
            "CR, DX, MG, XA, RF and NM images are withheld unless a pixel rule covers the device, as "
            "decided for the project."
        ),
        RiskDecision.UNDECIDED: _(
            "CR, DX, MG, XA, RF and NM images are withheld unless a pixel rule covers the device: the "
            "project has no decision on them yet."
        ),
    },
    steps={
        RiskDecision.UNDECIDED: _(
            "If you need them, ask a reviewer to decide on the device after the transfer, or ask a "
            "manager of research projects to accept the risk on the page of the project (without a "
            "project: the site's default project), then order again."
        ),
        RiskDecision.WITHHOLD: _(
            "If you need them, ask a reviewer to decide on the device after the transfer."
        ),
    },
    reason_missing="project.header-word-reason-missing",
)
RISKS = (FACES, HEADER_WORD)
FIELDS = tuple(name for risk in RISKS for name in (risk.name, risk.reason))
"""The fields of a project for its decisions on risks."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision on one risk, as it was at the time. `chosen` is the value of a RiskDecision."""

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
        """Return what happens to such images, and why."""
        return str(self.known.sentences[self.choice]) % {"reason": self.reason}

    @property
    def next_step(self) -> str:
        """Return what to do if the images are needed; empty if there is nothing to do."""
        return str(self.known.steps.get(self.choice, ""))

    @property
    def is_accepted(self) -> bool:
        return self.choice is RiskDecision.ACCEPT

    @property
    def is_open(self) -> bool:
        return self.choice is RiskDecision.UNDECIDED


def decisions(project: Project) -> tuple[Decision, ...]:
    """Return the decision on each risk."""
    return parse_decisions(facts(project))


def parse_decisions(stored: Mapping[str, Any]) -> tuple[Decision, ...]:
    """Return the decision on each risk from the output of `facts`."""
    return tuple(Decision(risk.name, stored[risk.name], stored[risk.reason]) for risk in RISKS)


def relevant_decisions(
    found: Iterable[Decision], profile: ConfidentialityProfile
) -> tuple[Decision, ...]:
    """Return the decisions that matter under a profile: with text detection, pixels decide."""
    detects_text = profile.text_detection is not TextDetection.OFF
    return tuple(one for one in found if not (detects_text and one.risk == HEADER_WORD.name))


def change_parameters(project: Project) -> dict[str, RiskDecision]:
    """Return the decisions as parameters of `Pseudonymization`."""
    chosen = get_chosen(project)
    return {"face_decision": chosen["faces"], "annotation_decision": chosen["header_word"]}


def get_chosen(project: Project) -> dict[str, RiskDecision]:
    """Return the decisions as arguments of the engine's Change."""
    return {one.risk: one.choice for one in decisions(project)}


def facts(project: Project) -> dict[str, Any]:
    """Return the decisions as JSON for the audit trail and the ledger."""
    values: dict[str, Any] = {}
    for risk in RISKS:
        values[risk.name] = getattr(project, risk.name) or RiskDecision.UNDECIDED.value
        values[risk.reason] = getattr(project, risk.reason)
    return values


def check(project: Project) -> None:
    """Raise InvalidInput if a risk is accepted without a reason."""
    for risk in RISKS:
        if getattr(project, risk.name) != RiskChoice.ACCEPT:
            setattr(project, risk.reason, "")
        elif not getattr(project, risk.reason).strip():
            raise InvalidInput(risk.reason_missing)
