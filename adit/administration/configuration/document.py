"""The file: JSON with a format and a version, one list of objects per kind. Reading is strict."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from adit.administration.configuration.kinds import KINDS, Entry, FieldForm
from adit_engine.errors import InvalidInput

FORMAT = "adit-configuration"
VERSION = 1
MAX_BYTES = 2_000_000
_MAX_DIGITS = 15
_HEAD = ("format", "version")


@dataclass(frozen=True, slots=True)
class Document:
    """The objects of a file by kind, each with all its fields. Names are unique per kind."""

    entries: Mapping[str, Sequence[Entry]]

    @property
    def kinds(self) -> list[str]:
        return list(self.entries)

    def to_text(self) -> str:
        """Return the content of the file."""
        return json.dumps(self._to_json(), indent=2, ensure_ascii=False) + "\n"

    def to_line(self) -> str:
        """Return the content of the file without line breaks, for a field of a form."""
        return json.dumps(self._to_json(), separators=(",", ":"))

    def _to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, "version": VERSION, **self.entries}


def export_document(kinds: Iterable[str]) -> Document:
    """Return what this installation has of these kinds. The caller checks the permission."""
    chosen = set(kinds)
    return Document({k.key: list(k.read_all().values()) for k in KINDS if k.key in chosen})


def read_document(data: bytes) -> Document:
    """Read a file. Raise InvalidInput for anything that an export would not write."""
    if len(data) > MAX_BYTES:
        raise InvalidInput("configuration.too-large", limit=MAX_BYTES // 1_000_000)
    content = _parse(data)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InvalidInput("configuration.not-a-configuration")
    if type(content.get("version")) is not int or content["version"] != VERSION:
        raise InvalidInput(
            "configuration.wrong-version", version=str(content.get("version"))[:20], known=VERSION
        )
    kinds = {kind.key: kind for kind in KINDS}
    if unknown := [name for name in content if name not in kinds and name not in _HEAD]:
        raise InvalidInput("configuration.unknown-kind", names=_shorten(unknown))
    found: dict[str, list[Entry]] = {}
    for kind in KINDS:
        if kind.key not in content:
            continue
        rows = content[kind.key]
        if not isinstance(rows, list):
            raise InvalidInput("configuration.not-a-list", kind=kind.key)
        found[kind.key] = []
        for number, row in enumerate(rows, 1):
            entry = _read_entry(f"{kind.key} {number}", kind.fields, row)
            if kind.get_name(entry) in map(kind.get_name, found[kind.key]):
                raise InvalidInput(
                    "configuration.duplicate", kind=kind.key, name=kind.get_name(entry)
                )
            found[kind.key].append(entry)
    if not found:
        raise InvalidInput("configuration.empty")
    return Document(found)


def _parse(data: bytes) -> Any:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidInput("configuration.not-utf-8") from None
    try:
        content = json.loads(
            text,
            object_pairs_hook=_make_object,
            parse_int=_make_int,
            parse_float=_make_float,
            parse_constant=_refuse_number,
        )
    except json.JSONDecodeError as error:
        raise InvalidInput("configuration.not-json", line=error.lineno) from None
    except RecursionError:
        raise InvalidInput("configuration.not-a-configuration") from None
    return content


def _make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise InvalidInput("configuration.field-twice", field=_shorten([name])[0])
        found[name] = value
    return found


def _make_int(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        _refuse_number(text)
    return int(text)


def _make_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        _refuse_number(text)
    return number


def _refuse_number(text: str) -> None:
    raise InvalidInput("configuration.wrong-number", number=text[:20])


def _read_entry(where: str, forms: Mapping[str, FieldForm], row: Any) -> Entry:
    if not isinstance(row, dict):
        raise InvalidInput("configuration.not-an-object", where=where)
    if unknown := [name for name in row if name not in forms]:
        raise InvalidInput("configuration.unknown-fields", where=where, fields=_shorten(unknown))
    if missing := [name for name in forms if name not in row]:
        raise InvalidInput("configuration.missing-fields", where=where, fields=tuple(missing))
    for name, form in forms.items():
        if not _has_form(row[name], form):
            raise InvalidInput("configuration.wrong-value", where=where, field=name)
    return {
        name: sorted(row[name]) if form is FieldForm.NAMES else row[name]
        for name, form in forms.items()
    }


def _has_form(value: Any, form: FieldForm) -> bool:
    match form:
        case FieldForm.LINE:
            return _is_text(value) and "\n" not in value and "\t" not in value
        case FieldForm.NAME:
            return _has_form(value, FieldForm.LINE) and value != "" and value == value.strip()
        case FieldForm.TEXT:
            return _is_text(value)
        case FieldForm.FLAG:
            return isinstance(value, bool)
        case FieldForm.NUMBER:
            return _is_number(value)
        case FieldForm.OPTIONAL_NUMBER:
            return value is None or _is_number(value)
        case FieldForm.DAY:
            return value is None or _is_day(value)
        case FieldForm.NAMES:
            is_list = isinstance(value, list) and all(_has_form(n, FieldForm.NAME) for n in value)
            return is_list and len(set(value)) == len(value)
        case FieldForm.SETTINGS:
            return isinstance(value, dict) and all(map(_is_scalar, value.values()))
        case FieldForm.ROWS:
            return isinstance(value, list) and all(map(_is_row, value))


def _is_text(value: Any) -> bool:
    """Whether it is a text that every database can store."""
    if not isinstance(value, str):
        return False
    return all(c in "\n\t" or (c >= " " and not "\ud800" <= c <= "\udfff") for c in value)


def _is_number(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**31


def _is_day(value: Any) -> bool:
    try:
        return isinstance(value, str) and date.fromisoformat(value).isoformat() == value
    except ValueError:
        return False


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float) or _is_text(value)


def _is_row(row: Any) -> bool:
    return isinstance(row, dict) and all(
        _is_scalar(value) or (isinstance(value, list) and all(map(_is_text, value)))
        for value in row.values()
    )


def _shorten(names: Sequence[str]) -> tuple[str, ...]:
    """Return a few names without special characters: they come from an unknown file."""
    return tuple("".join(c for c in name[:40] if c.isprintable()) for name in names[:5])
