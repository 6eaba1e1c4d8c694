"""Uploads: a sheet on its way to an order, kept sealed until it is one; which column is what."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from django.utils import timezone

from adit.accounts.models import User
from adit.jobs.models import SheetColumns
from adit.orders import drafts
from adit.orders.archive_passwords import DraftPassword
from adit.spreadsheets import sheet
from adit.spreadsheets.sheet import DateOrder, Field, Mapping, SheetKind, Table
from adit.vault.master_key import master_box
from adit_engine.errors import InvalidInput

MOST_REMEMBERED = 50


@dataclass(frozen=True, slots=True)
class Upload:
    """`mapping.sure`: it is settled which column is what. `left_out`: lines unticked by hand."""

    key: str
    table: Table = field(repr=False)
    mapping: Mapping
    order: DateOrder = DateOrder.DAY_FIRST
    left_out: frozenset[int] = frozenset()
    typed: dict[str, list[str]] = field(default_factory=dict, repr=False)
    """What was typed into the order's form, to come back."""
    job: int | None = None
    """The query whose results these rows are."""
    password: DraftPassword = field(default_factory=DraftPassword, repr=False)

    @property
    def kind(self) -> SheetKind:
        return self.mapping.kind

    def without(self, shown: Iterable[int], left_out: Iterable[int]) -> "Upload":
        """Of the lines that were shown, those left out now; the others stay as they were."""
        kept = self.left_out - frozenset(shown)
        return replace(self, left_out=kept | frozenset(left_out))

    def keep(self, user: User) -> None:
        content = {
            "kind": self.kind,
            "table": self.table.to_json(),
            "header_line": self.mapping.header_line,
            "places": dict(self.mapping.places),
            "sure": self.mapping.sure,
            "order": self.order,
            "left_out": sorted(self.left_out),
            "typed": self.typed,
            "job": self.job,
            "password": self.password.to_json(),
        }
        drafts.keep(user, self.key, content)


def take(
    user: User,
    file: sheet.Readable,
    name: str,
    kind: SheetKind,
    order: DateOrder = DateOrder.DAY_FIRST,
) -> Upload:
    """Reads and keeps a file. Raises sheet.Unreadable, and then nothing is kept."""
    return _kept(user, sheet.read(file, name), kind, order=order)


def hand_over(user: User, table: Table, kind: SheetKind, *, job: int | None = None) -> Upload:
    """Keeps rows that ADIT itself has made, as if they had been uploaded."""
    return _kept(user, table, kind, job=job)


def load(user: User, key: str, kind: SheetKind) -> Upload | None:
    """What this person uploaded under the key; None where there is nothing (any more)."""
    data = drafts.load(user, key) if drafts.is_key(key) else None
    if not isinstance(data, dict) or data.get("kind") != kind or "password" not in data:
        return None
    table = Table.from_json(data["table"])
    return Upload(
        key=key,
        table=table,
        mapping=_mapping(table, kind, data),
        order=DateOrder(data["order"]),
        left_out=frozenset(data["left_out"]),
        typed=data["typed"],
        job=data["job"],
        password=DraftPassword.from_json(data["password"]),
    )


def settle(user: User, upload: Upload, mapping: Mapping) -> Upload:
    """Notes which column is what, for this sheet and for later ones with the same headers.

    What is remembered beyond the upload is a keyed hash of the headers, and places: no text.
    """
    settled = replace(upload, mapping=mapping, left_out=frozenset())
    settled.keep(user)
    SheetColumns.objects.update_or_create(
        user=user,
        kind=mapping.kind,
        signature=_signature(mapping),
        defaults={
            "header_line": mapping.header_line,
            "places": dict(mapping.places),
            "used_at": timezone.now(),
        },
    )
    old = SheetColumns.objects.filter(user=user).order_by("-used_at")
    stale = list(old.values_list("pk", flat=True)[MOST_REMEMBERED:])
    SheetColumns.objects.filter(pk__in=stale).delete()
    return settled


def _kept(user: User, table: Table, kind: SheetKind, **values: Any) -> Upload:
    mapping = _remembered(user, table, kind) or sheet.guess(table, kind)
    upload = Upload(drafts.new_key(), table, mapping, **values)
    upload.keep(user)
    return upload


def _mapping(table: Table, kind: SheetKind, data: dict[str, Any]) -> Mapping:
    if not data["sure"]:
        return sheet.guess(table, kind)
    return sheet.chosen(table, kind, data["header_line"], _places(data["places"]))


def _remembered(user: User, table: Table, kind: SheetKind) -> Mapping | None:
    """What this person said of a sheet with the same headers in the same line."""
    for row in SheetColumns.objects.filter(user=user, kind=kind).order_by("-used_at"):
        try:
            mapping = sheet.chosen(table, kind, row.header_line, _places(row.places))
        except (ValueError, InvalidInput):
            continue
        if _signature(mapping) == row.signature:
            return mapping
    return None


def _places(said: dict[str, int]) -> dict[Field, int]:
    return {Field(place): column for place, column in said.items()}


def _signature(mapping: Mapping) -> str:
    return master_box().index(mapping.signature, "headers of a sheet")
