"""Selection of the series of a study. Used by order previews, jobs and transfers."""

from dataclasses import dataclass

from adit_engine.values.record import Record


@dataclass(frozen=True, slots=True)
class Selection:
    """The series to include. An empty tuple does not restrict. Users choose `series_uids`."""

    series_uids: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()

    def why_not(self, series: Record) -> str:
        """Return why the series is left out, or an empty text if it is included."""
        if self.series_uids and series.series_uid not in self.series_uids:
            return "not picked"
        if self.modalities and not set(self.modalities) & set(series.modalities):
            return f"its modality is not {' or '.join(self.modalities)}"
        return ""
