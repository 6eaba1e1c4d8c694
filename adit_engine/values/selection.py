"""Selection of the series of a study. Used by order previews, jobs and transfers."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from adit_engine.messages import Message
from adit_engine.values.record import Record


@dataclass(frozen=True, slots=True)
class Selection:
    """The series to include. An empty tuple does not restrict. Users choose `series_uids`."""

    series_uids: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()
    known_reasons: Mapping[str, Message] = field(default_factory=dict)
    """Why series are not in `series_uids`, by UID, where it is not the choice of a user."""

    def exclusion_reason(self, series: Record) -> Message | None:
        """Return why the series is left out, or None if it is included."""
        if self.series_uids and series.series_uid not in self.series_uids:
            return self.known_reasons.get(series.series_uid, Message("left-out.not-selected"))
        if self.modalities and not set(self.modalities) & set(series.modalities):
            return Message("left-out.modality", modalities=self.modalities)
        return None
