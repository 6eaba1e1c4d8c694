"""The sample sheets of the demo: one without errors, one with deliberate errors."""

from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from adit.accounts.models import User
from adit.demo import sample_sheets
from adit.orders import uploads
from adit.orders.views.batch_query import validate_sheet
from adit.spreadsheets.columns import SheetKind
from adit.spreadsheets.row_reader import DateOrder
from adit.spreadsheets.row_verdicts import RowVerdict, ValidatedSheet

pytestmark = pytest.mark.django_db


def judged(user: User, path: Path) -> ValidatedSheet:
    file = SimpleUploadedFile(path.name, path.read_bytes())
    upload = uploads.read_upload(user, file, path.name, SheetKind.QUERY, DateOrder.DAY_FIRST)
    assert upload.mapping.is_certain
    return validate_sheet(user, upload)


def test_the_good_sheet_has_no_error_and_the_faulty_sheet_has_several(
    coordinator: User, tmp_path: Path
) -> None:
    sample_sheets.write(tmp_path)
    sample_sheets.write(tmp_path)
    good = judged(coordinator, tmp_path / sample_sheets.GOOD)
    assert (good.counts[RowVerdict.ERROR], len(good.valid_rows)) == (0, 10)
    faulty = judged(coordinator, tmp_path / sample_sheets.FAULTY)
    verdicts = {row.line: row.verdict for row in faulty.rows}
    assert {line for line, verdict in verdicts.items() if verdict is RowVerdict.ERROR} >= {
        3,
        4,
        5,
        6,
        7,
    }
    assert RowVerdict.WARNING in verdicts.values()
