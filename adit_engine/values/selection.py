"""Selection: which series of a found study come along, and the sentence why one does not."""

from dataclasses import dataclass

from adit_engine.values.record import Record


@dataclass(frozen=True, slots=True)
class Selection:
    """An empty tuple does not restrict. `series_uids` are those a person ticked."""

    series_uids: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()

    def why_not(self, series: Record) -> str:
        """Why this series stays; empty when it comes along."""
        if self.series_uids and series.series_uid not in self.series_uids:
            return "not picked"
        if self.modalities and not set(self.modalities) & set(series.modalities):
            return f"its modality is not {' or '.join(self.modalities)}"
        return ""
