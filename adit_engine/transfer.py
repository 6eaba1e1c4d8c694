"""Transfer: the one path by which images travel: found, listed, changed, proven, delivered."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from adit_engine.handoff import Stop
from adit_engine.nodes.base import Retrievable, Searchable, Storable
from adit_engine.outcome import Event, Listed, Manifest, Outcome
from adit_engine.pseudonymize.change import Change
from adit_engine.reference import StudyRef
from adit_engine.select import Selection


@dataclass(frozen=True, slots=True)
class Order:
    """One study to transfer. `patient_id` is the source's, as its record said when ordered."""

    study: StudyRef
    patient_id: str
    selection: Selection = Selection()


class Source(Searchable, Retrievable):
    """What can be found in and fetched from."""


def transfer(
    order: Order,
    source: Source,
    destination: Storable,
    change: Change,
    held: Mapping[str, Manifest],
    stop: Stop,
) -> Iterator[Listed | Event | Outcome]:
    """Finds, selects, lists, fetches, checks, changes, verifies, stores and confirms one study.

    Lazy and streaming; for each series one Listed, one Event an instance and one Outcome. `held`
    maps series UIDs to the ledgers of earlier attempts: what they hold as delivered is not fetched
    again. Raises NotFound when the study is gone, RuleBroken when a foreign patient's image came,
    Stopped between instances, NodeError.
    """
    raise NotImplementedError
