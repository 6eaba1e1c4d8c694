"""Uploaded sheets, kept encrypted as drafts until they are ordered, and their column mapping.

Used by the sheet pages.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from django.utils import timezone

from adit.accounts.models import User
from adit.jobs.kinds.base import RowNote, SheetRow
from adit.jobs.models import SheetColumns
from adit.orders import drafts
from adit.orders.archive_passwords import DraftPassword
from adit.spreadsheets import limits
from adit.spreadsheets.columns import SheetField, SheetKind
from adit.spreadsheets.mapping import ColumnMapping, guess_mapping, make_mapping
from adit.spreadsheets.reader import ReadableFile, read_sheet
from adit.spreadsheets.row_reader import DateOrder
from adit.spreadsheets.row_verdicts import DUPLICATE, RowVerdict, ValidatedRow, ValidatedSheet
from adit.spreadsheets.table import SheetTable
from adit.vault.master_key import master_cipher
from adit_engine.errors import InvalidInput
from adit_engine.messages import Message, join_messages

MAX_REMEMBERED = 50


@dataclass(frozen=True, slots=True)
class Upload:
    """An uploaded sheet.

    `mapping.sure`: the column mapping is confirmed. `left_out`: lines that the user has excluded.
    """

    key: str
    table: SheetTable = field(repr=False)
    mapping: ColumnMapping
    order: DateOrder = DateOrder.DAY_FIRST
    left_out: frozenset[int] = frozenset()
    corrected: frozenset[tuple[int, int]] = frozenset()
    """Line and column of the cells that the user has corrected. The table has the new text."""
    form_data: dict[str, list[str]] = field(default_factory=dict, repr=False)
    """The input of the order form, to be shown again."""
    job: int | None = None
    """The primary key of the query job whose results these rows are."""
    password: DraftPassword = field(default_factory=DraftPassword, repr=False)

    @property
    def kind(self) -> SheetKind:
        return self.mapping.kind

    def without(self, shown: Iterable[int], left_out: Iterable[int]) -> "Upload":
        """Return a copy in which, of the lines shown, exactly `left_out` are excluded.

        Lines that were not shown are unchanged.
        """
        kept = self.left_out - frozenset(shown)
        return replace(self, left_out=kept | frozenset(left_out))

    def with_corrections(self, texts: Mapping[tuple[int, int], str]) -> "Upload":
        """Return a copy with corrected cells, by line and column.

        A text that is the same as before changes nothing: a cell that the spreadsheet stores as a
        number stays one, and is checked as one.
        """
        fields = {column for _field, column in self.mapping.columns}
        before = {
            (line.number, column): line.cell(column).text
            for line in self.table.lines_after(self.mapping.header_line)
            for column in fields
            if (line.number, column) in texts
        }
        changed = {
            cell: texts[cell][: limits.MAX_CHARACTERS]
            for cell, text in before.items()
            if texts[cell].split() != text.split()
        }
        if not changed:
            return self
        return replace(
            self,
            table=self.table.with_texts(changed),
            corrected=self.corrected | frozenset(changed),
        )

    def save(self, user: User) -> None:
        content = {
            "kind": self.kind,
            "table": self.table.to_json(),
            "header_line": self.mapping.header_line,
            "places": dict(self.mapping.columns),
            "sure": self.mapping.is_certain,
            "order": self.order,
            "left_out": sorted(self.left_out),
            "corrected": sorted(self.corrected),
            "typed": self.form_data,
            "job": self.job,
            "password": self.password.to_json(),
        }
        drafts.save_draft(user, self.key, content)


def read_upload(
    user: User,
    file: ReadableFile,
    name: str,
    kind: SheetKind,
    order: DateOrder = DateOrder.DAY_FIRST,
) -> Upload:
    """Read a file and store it as a draft.

    Raises UnreadableSheet; then nothing is stored.
    """
    return _store_upload(user, read_sheet(file, name), kind, order=order)


def store_table(
    user: User, table: SheetTable, kind: SheetKind, *, job: int | None = None
) -> Upload:
    """Store rows that ADIT has generated as if they had been uploaded."""
    return _store_upload(user, table, kind, job=job)


def load_upload(user: User, key: str, kind: SheetKind) -> Upload | None:
    """Return the user's upload with this key; None if there is none (any more)."""
    data = drafts.load_draft(user, key) if drafts.is_key(key) else None
    if not isinstance(data, dict) or data.get("kind") != kind or "password" not in data:
        return None
    table = SheetTable.from_json(data["table"])
    return Upload(
        key=key,
        table=table,
        mapping=_restore_mapping(table, kind, data),
        order=DateOrder(data["order"]),
        left_out=frozenset(data["left_out"]),
        corrected=frozenset((line, column) for line, column in data.get("corrected", ())),
        form_data=data["typed"],
        job=data["job"],
        password=DraftPassword.from_json(data["password"]),
    )


def set_mapping(user: User, upload: Upload, mapping: ColumnMapping) -> Upload:
    """Store the column mapping for this and later sheets with the same headers.

    Beyond the upload only a keyed hash of the headers and column numbers are stored: no text.
    """
    settled = replace(upload, mapping=mapping, left_out=frozenset())
    settled.save(user)
    SheetColumns.objects.update_or_create(
        user=user,
        kind=mapping.kind,
        signature=_header_signature(mapping),
        defaults={
            "header_line": mapping.header_line,
            "columns": dict(mapping.columns),
            "used_at": timezone.now(),
        },
    )
    old = SheetColumns.objects.filter(user=user).order_by("-used_at")
    stale = list(old.values_list("pk", flat=True)[MAX_REMEMBERED:])
    SheetColumns.objects.filter(pk__in=stale).delete()
    return settled


def unprocessed_rows(upload: Upload, sheet: ValidatedSheet[Any]) -> tuple[SheetRow, ...]:
    """Return the rows that an order does not process: with errors, and excluded ones.

    The results list them too.
    """
    return tuple(
        _make_unprocessed_row(upload, sheet, row)
        for row in sheet.rows
        if row.row is None or row.line in upload.left_out
    )


def _make_unprocessed_row(
    upload: Upload, sheet: ValidatedSheet[Any], row: ValidatedRow[Any]
) -> SheetRow:
    is_invalid = row.verdict is RowVerdict.ERROR and row.line not in upload.left_out
    reasons = [
        finding.describe_for(row.line)
        for finding in row.findings
        if finding.verdict is (RowVerdict.ERROR if is_invalid else RowVerdict.LEFT_OUT)
    ]
    requested = sheet.get_requested(row)
    return SheetRow(
        row.line,
        row.user_cells,
        requested.get(SheetField.PSEUDONYM, ""),
        requested,
        join_messages(reasons) if reasons else None,
        RowNote.INVALID if is_invalid else RowNote.LEFT_OUT,
    )


def find_repeated_line(row: ValidatedRow[Any]) -> Message | None:
    """Return which earlier line a row repeats, if any."""
    for finding in row.findings:
        if finding.message.code == DUPLICATE and finding.lines[0] != row.line:
            return Message("row.repeats-line", line=finding.lines[0])
    return None


def _store_upload(user: User, table: SheetTable, kind: SheetKind, **values: Any) -> Upload:
    mapping = _recall_mapping(user, table, kind) or guess_mapping(table, kind)
    upload = Upload(drafts.new_key(), table, mapping, **values)
    upload.save(user)
    return upload


def _restore_mapping(table: SheetTable, kind: SheetKind, data: dict[str, Any]) -> ColumnMapping:
    if not data["sure"]:
        return guess_mapping(table, kind)
    return make_mapping(table, kind, data["header_line"], _restore_places(data["places"]))


def _recall_mapping(user: User, table: SheetTable, kind: SheetKind) -> ColumnMapping | None:
    """The mapping that the user chose for a sheet with the same headers in the same line."""
    for row in SheetColumns.objects.filter(user=user, kind=kind).order_by("-used_at"):
        try:
            mapping = make_mapping(table, kind, row.header_line, _restore_places(row.columns))
        except (ValueError, InvalidInput):
            continue
        if _header_signature(mapping) == row.signature:
            return mapping
    return None


def _restore_places(said: dict[str, int]) -> dict[SheetField, int]:
    return {SheetField(place): column for place, column in said.items()}


def _header_signature(mapping: ColumnMapping) -> str:
    return master_cipher().index(mapping.signature, "headers of a sheet")
