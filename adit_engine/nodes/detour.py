"""Detour: why the image of a C-MOVE did not reach us, as far as our own receiver can tell."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from adit_engine.errors import ConnectionLost, NodeRefused, WrongInput
from adit_engine.expectation import Fate, Reception, Sender, Stray, senders
from adit_engine.nodes import statuses
from adit_engine.nodes.attempt import Attempt
from adit_engine.nodes.base import Finding, Grade, Proposal

MOST_TOLD = 5


@dataclass(frozen=True, slots=True)
class Detour:
    """What the settings of the node `name` say of its senders: as text, and what it comes to."""

    name: str
    text: str
    known: tuple[Sender, ...]
    reception: Reception

    def findings(self, attempt: Attempt, began: datetime) -> Iterator[Finding]:
        """The attempt's own finding first, then who came instead. May look for some seconds."""
        strays = _each_once(self.reception.strays(self.name, began))
        yield attempt.finding("" if strays or _says_why(attempt) else self._nobody())
        for stray in strays[:MOST_TOLD]:
            yield self._stray(stray)

    def _nobody(self) -> str:
        title, address = self.reception.ae_title, self.reception.address
        return (
            "Our receiver saw no stranger meanwhile, so probably nothing reached it. Ask its "
            f"administrator whether {title} is registered at {address}, and the network team "
            "whether the PACS reaches that port."
        )

    def _stray(self, stray: Stray) -> Finding:
        who, title = f"{stray.calling} at {stray.address}", self.reception.ae_title
        if stray.fate is Fate.TURNED_AWAY and stray.called != title:
            what = f"Meanwhile {who} called us {stray.called}; our AE title is {title}."
            step = f"If that is {self.name}, ask its administrator to register {title} instead."
            return Finding(Grade.WARNING, what, step)
        what = {
            Fate.TURNED_AWAY: f"Meanwhile our receiver turned away {who}, whom it does not know.",
            Fate.REFUSED: f"The image came from {who}, who is no sender of this PACS; it was refused.",
            Fate.LAID_APART: f"The image came from {who}, who is no sender of this PACS; it lies in "
            "quarantine.",
        }[stray.fate]
        proposal = self._proposal(stray)
        step = f"If that belongs to {self.name}, add it to the senders: {stray.calling}@{stray.address}."
        return Finding(Grade.WARNING, what, step, (proposal,) if proposal else ())

    def _proposal(self, stray: Stray) -> Proposal | None:
        """None for a title that cannot be written so."""
        addition = f"{stray.calling}@{stray.address}"
        try:
            if [one.ae_title for one in senders(addition)] != [stray.calling]:
                return None
        except WrongInput:
            return None
        before = self.text.strip() or ", ".join(_written(one) for one in self.known)
        why = f"So images are taken that come from {stray.calling} at {stray.address}."
        return Proposal("senders", f"{before}, {addition}".strip(", "), why)


def _says_why(attempt: Attempt) -> bool:
    """Whether the error itself names what to register, and where."""
    error = attempt.error
    known = isinstance(error, NodeRefused) and error.status == statuses.UNKNOWN_DESTINATION
    return known or isinstance(error, ConnectionLost)


def _each_once(strays: Sequence[Stray]) -> list[Stray]:
    """Those that surely answer this node, and only without any, who was turned away."""
    sure = [one for one in strays if one.source] or list(strays)
    return list({(one.calling, one.called, one.address): one for one in sure}.values())


def _written(sender: Sender) -> str:
    places = [f"{sender.ae_title}@{network}" for network in sender.networks]
    return ", ".join(places) or sender.ae_title
