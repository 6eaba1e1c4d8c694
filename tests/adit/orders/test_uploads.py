"""Uploads: sheets are kept sealed, for their owner alone, and answers about columns are remembered."""

import io
from collections.abc import Callable

import pytest
from django.db import connection

from adit.accounts.models import User
from adit.jobs.models import OrderDraft, SheetColumns
from adit.orders import uploads
from adit.spreadsheets.columns import SheetField, SheetKind
from adit.spreadsheets.mapping import make_mapping
from adit.spreadsheets.table import UnreadableSheet

pytestmark = pytest.mark.django_db

QUERY = SheetKind.QUERY
LIST = b"Fallnr.;Wer\nA1;MUSTERMANN\n"


def upload(user: User, data: bytes = LIST) -> uploads.Upload:
    return uploads.read_upload(user, io.BytesIO(data), "list.csv", QUERY)


def test_an_upload_is_kept_for_its_owner_alone(coordinator: User, stranger: User) -> None:
    mine = upload(coordinator)

    assert uploads.load_upload(coordinator, mine.key, QUERY) == mine
    assert uploads.load_upload(stranger, mine.key, QUERY) is None
    assert uploads.load_upload(coordinator, mine.key, SheetKind.TRANSFER) is None


def test_an_upload_is_sealed(coordinator: User) -> None:
    upload(coordinator)

    with connection.cursor() as cursor:
        cursor.execute("SELECT content FROM jobs_orderdraft")
        (content,) = cursor.fetchone()
    assert b"MUSTERMANN" not in bytes(content)


def test_an_unreadable_file_leaves_nothing_behind(coordinator: User) -> None:
    with pytest.raises(UnreadableSheet):
        upload(coordinator, b'PatientID;x\n1;"open\n')

    assert not OrderDraft.objects.exists()


def test_which_column_is_what_is_remembered_for_sheets_with_the_same_headers(
    coordinator: User,
) -> None:
    first = upload(coordinator)
    assert not first.mapping.is_certain
    said = make_mapping(first.table, QUERY, 1, {SheetField.PATIENT_ID: 1})

    settled = uploads.set_mapping(coordinator, first, said)
    again = upload(coordinator, b"Fallnr.;Wer\nA2;OTHER\n")
    other = upload(coordinator, b"Wer;Fallnr.\nOTHER;A2\n")

    assert uploads.load_upload(coordinator, first.key, QUERY) == settled
    assert again.mapping.is_certain
    assert again.mapping.columns == said.columns
    assert not other.mapping.is_certain


def test_what_is_remembered_holds_nothing_of_the_sheet(coordinator: User) -> None:
    """Somebody may take a row of people for the headers."""
    first = upload(coordinator, b"MUSTERMANN;A1\nMUSTERFRAU;A2\n")

    uploads.set_mapping(
        coordinator, first, make_mapping(first.table, QUERY, 1, {SheetField.PATIENT_ID: 0})
    )

    assert "MUSTERMANN".lower() not in str(SheetColumns.objects.values()[0]).lower()


def test_answers_of_one_person_are_not_taken_for_another(
    coordinator: User, make_user: Callable[..., User]
) -> None:
    first = upload(coordinator)
    uploads.set_mapping(
        coordinator, first, make_mapping(first.table, QUERY, 1, {SheetField.PATIENT_ID: 1})
    )

    assert not upload(make_user("other")).mapping.is_certain


def test_rows_of_other_pages_stay_left_out(coordinator: User) -> None:
    first = upload(coordinator).without([2, 3], [3]).without([4, 5], [4, 5])

    assert first.without([2, 3], []).left_out == {4, 5}
