"""Uploads: encrypted sheets, accessible only to their owner, with remembered column mappings."""

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


def test_an_upload_can_be_loaded_only_by_its_owner_for_its_sheet_kind(
    coordinator: User, stranger: User
) -> None:
    mine = upload(coordinator)

    assert uploads.load_upload(coordinator, mine.key, QUERY) == mine
    assert uploads.load_upload(stranger, mine.key, QUERY) is None
    assert uploads.load_upload(coordinator, mine.key, SheetKind.TRANSFER) is None


def test_an_upload_is_stored_encrypted(coordinator: User) -> None:
    upload(coordinator)

    with connection.cursor() as cursor:
        cursor.execute("SELECT content FROM jobs_orderdraft")
        (content,) = cursor.fetchone()
    assert b"MUSTERMANN" not in bytes(content)


def test_an_unreadable_file_stores_no_draft(coordinator: User) -> None:
    with pytest.raises(UnreadableSheet):
        upload(coordinator, b'PatientID;x\n1;"open\n')

    assert not OrderDraft.objects.exists()


def test_a_column_mapping_is_reused_for_sheets_with_the_same_headers(
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


def test_a_remembered_mapping_contains_no_text_of_the_sheet(coordinator: User) -> None:
    """A user may select a row of patients as the header line."""
    first = upload(coordinator, b"MUSTERMANN;A1\nMUSTERFRAU;A2\n")

    uploads.set_mapping(
        coordinator, first, make_mapping(first.table, QUERY, 1, {SheetField.PATIENT_ID: 0})
    )

    assert "MUSTERMANN".lower() not in str(SheetColumns.objects.values()[0]).lower()


def test_a_column_mapping_is_not_shared_between_users(
    coordinator: User, make_user: Callable[..., User]
) -> None:
    first = upload(coordinator)
    uploads.set_mapping(
        coordinator, first, make_mapping(first.table, QUERY, 1, {SheetField.PATIENT_ID: 1})
    )

    assert not upload(make_user("other")).mapping.is_certain


def test_rows_excluded_on_other_pages_stay_excluded(coordinator: User) -> None:
    first = upload(coordinator).without([2, 3], [3]).without([4, 5], [4, 5])

    assert first.without([2, 3], []).left_out == {4, 5}
