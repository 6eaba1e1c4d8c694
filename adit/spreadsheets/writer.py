"""Columns of the sheets that ADIT writes. Used by the exports of queries and result sheets."""

from collections.abc import Sequence

from adit.spreadsheets.columns import normalize_header

QUERY_RESULT_COLUMNS = (
    "Pseudonym",
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "ModalitiesInStudy",
    "StudyDate",
    "StudyTime",
    "StudyDescription",
    "NumberOfStudyRelatedInstances",
    "AccessionNumber",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesDescription",
    "SeriesNumber",
)
"""Columns of a batch query export. A batch transfer accepts them unchanged."""
RESULT_LINE = "ADIT line"
RESULT_OUTCOME = "ADIT outcome"
RESULT_REASON = "ADIT reason"
RESULT_STEP = "ADIT what to do"
"""Column with the next step for a row that was not delivered or not found."""
RESULT_SOURCE = "ADIT source"
RESULT_FOUND = "ADIT found"
"""Column of a query export: `no` for a row without a result. A batch transfer leaves such rows
out.
"""
"""Headers that begin with ADIT and a space are results. An upload does not read them as data."""


def add_own_columns(columns: Sequence[str], user_cells: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of an export, followed by the user's own columns.

    Own columns whose names collide with ours are renamed.
    """
    taken = {normalize_header(column) for column in columns}
    named = (f"{name} (own)" if normalize_header(name) in taken else name for name in user_cells)
    return (*columns, *named)
