"""The OpenAPI schema, and the page that lists all calls. Both need no sign-in."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from adit.api.schema import build_schema

METHODS = ("get", "post", "delete")


@login_not_required
@require_safe
def schema(request: HttpRequest) -> HttpResponse:
    return JsonResponse(build_schema())


@dataclass(frozen=True)
class Field:
    name: str
    type: str
    is_required: bool
    help: str


@dataclass(frozen=True)
class Call:
    """One call of the API, as the page shows it."""

    method: str
    path: str
    summary: str
    parameters: list[Field]
    bodies: list[tuple[str, list[str]]]
    """The names of the possible objects by media type."""
    answers: list[tuple[str, list[str]]]


@login_not_required
@require_safe
def docs(request: HttpRequest) -> HttpResponse:
    document = build_schema()
    schemas = document["components"]["schemas"]
    context = {
        "calls": list(_list_calls(document)),
        "objects": [
            (name, _list_fields(schemas[name])) for name in schemas if "properties" in schemas[name]
        ],
    }
    return render(request, "api/docs.html", context)


def _list_calls(document: Mapping[str, Any]) -> Iterator[Call]:
    for path, operations in document["paths"].items():
        for method in METHODS:
            if method not in operations:
                continue
            operation = operations[method]
            answers = [
                media
                for status, answer in operation["responses"].items()
                if status.startswith("2")
                for media in answer.get("content", {}).items()
            ]
            yield Call(
                method.upper(),
                path,
                operation.get("summary", ""),
                [
                    Field(
                        one["name"],
                        _name_type(one["schema"]),
                        one.get("required", False),
                        one.get("description", ""),
                    )
                    for one in operation.get("parameters", [])
                ],
                _name_objects(
                    document, operation.get("requestBody", {}).get("content", {}).items()
                ),
                _name_objects(document, answers),
            )


def _name_objects(
    document: Mapping[str, Any], content: Iterable[tuple[str, Any]]
) -> list[tuple[str, list[str]]]:
    return [(media, _object_names(document, each["schema"])) for media, each in content]


def _object_names(document: Mapping[str, Any], schema: Mapping[str, Any]) -> list[str]:
    if "$ref" not in schema:
        return []
    name = _name_type(schema)
    choices = document["components"]["schemas"][name].get("oneOf", [])
    return [_name_type(one) for one in choices] or [name]


def _list_fields(schema: Mapping[str, Any]) -> list[Field]:
    required = schema.get("required", [])
    return [
        Field(name, _name_type(one), name in required, one.get("description", ""))
        for name, one in schema["properties"].items()
    ]


def _name_type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "oneOf" in schema:
        return " or ".join(dict.fromkeys(map(_name_type, schema["oneOf"])))
    if schema.get("type") == "array":
        return f"list of {_name_type(schema['items'])}"
    if "enum" in schema:
        return ", ".join(str(one) for one in schema["enum"])
    kinds = schema.get("type", "value")
    return " or ".join(kinds) if isinstance(kinds, list) else str(kinds)
