"""Parsers of request bodies, bounded in size and depth: JSON, and forms with an uploaded sheet."""

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser, MultiPartParser

from adit.api.problems import ApiProblem
from adit_engine.messages import Message

MAX_JSON_BYTES = 2_000_000
MAX_FORM_BYTES = 6_500_000
MAX_DEPTH = 20
MAX_INTEGER = 2**63 - 1


class JsonParser(BaseParser):
    """JSON of an API request (RFC 8259), as `read_json` reads it."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        _require_length(parser_context, MAX_JSON_BYTES)
        body = stream.read(MAX_JSON_BYTES + 1)
        if len(body) > MAX_JSON_BYTES:
            raise ApiProblem(413, Message("api.body-too-large"))
        return read_json(body)


class SheetFormParser(MultiPartParser):
    """A form with the field `order` and the file `sheet`."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        _require_length(parser_context, MAX_FORM_BYTES)
        return super().parse(stream, media_type, parser_context)


def read_json(body: bytes | str) -> Any:
    """Return the values of a JSON text. Raises ApiProblem.

    Refused are repeated names, NaN and infinity, numbers beyond 64 bits, characters that cannot be
    stored, and deep nesting.
    """
    try:
        text = body if isinstance(body, str) else body.decode()
        values = json.loads(
            text,
            parse_constant=_refuse_constant,
            parse_int=_read_integer,
            object_pairs_hook=_read_object,
        )
    except RecursionError:
        raise ApiProblem(400, Message("api.json-too-deep", limit=MAX_DEPTH)) from None
    except ValueError:
        raise ApiProblem(400, Message("api.invalid-json")) from None
    _check_values(values, 0)
    return values


def _require_length(context: Any, most: int) -> None:
    length = context["request"].META.get("CONTENT_LENGTH") or "0"
    if not str(length).isdecimal():
        raise ParseError
    if int(length) > most:
        raise ApiProblem(413, Message("api.body-too-large"))


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _read_integer(text: str) -> int:
    if len(text) > 20 or abs(int(text)) > MAX_INTEGER:
        raise ValueError("too large")
    return int(text)


def _read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("repeated name")
    return values


def _check_values(value: Any, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ApiProblem(400, Message("api.json-too-deep", limit=MAX_DEPTH))
    if isinstance(value, str) and any(
        char == "\0" or "\ud800" <= char <= "\udfff" for char in value
    ):
        raise ApiProblem(400, Message("api.json-characters"))
    if isinstance(value, Mapping):
        for name, inner in value.items():
            _check_values(name, depth)
            _check_values(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _check_values(inner, depth + 1)
    elif isinstance(value, float) and value in (float("inf"), float("-inf")):
        raise ApiProblem(400, Message("api.invalid-json"))
