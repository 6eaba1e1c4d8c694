"""The OpenAPI schema of the API, and how views describe themselves for it."""

from collections.abc import Callable
from functools import cache
from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers

from adit.api.pagination import MAX_LIMIT
from adit.api.problems import CONTENT_TYPE
from adit.api.response_serializers import ProblemAnswer

View = Callable[..., Any]
Answer = type[serializers.Serializer] | str | tuple[str, ...] | None

_FILE = {"type": "string", "format": "binary"}
_OBJECT = {"type": "object", "additionalProperties": {}}
_PROBLEMS = {(status, CONTENT_TYPE): ProblemAnswer for status in ("4XX", "5XX")}
PAGE_PARAMETERS = [
    OpenApiParameter("cursor", str, description="From `next` of the previous page."),
    OpenApiParameter("limit", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT}),
]


class TokenExtension(OpenApiAuthenticationExtension):
    """Describes `Authorization: Bearer …`; `Token …` is accepted as well."""

    target_class = "adit.api.authentication.TokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer"}


def describe(
    name: str,
    summary: str,
    answer: Answer = None,
    *,
    status: int = 200,
    request: Any = None,
    parameters: list[OpenApiParameter] | None = None,
    empty: str = "",
) -> Callable[[View], View]:
    """Describe a method of a view.

    `answer` is a serializer, the media types of a file, or None; `empty` says when it is a 204.
    """
    found: dict[Any, Any]
    if isinstance(answer, str | tuple):
        content = _OBJECT if answer == "application/json" else _FILE
        media_types = (answer,) if isinstance(answer, str) else answer
        found = {(status, media): OpenApiResponse(content, summary) for media in media_types}
    else:
        found = {status: OpenApiResponse(answer, summary)}
    if empty:
        found[204] = OpenApiResponse(None, empty)
    return extend_schema(
        operation_id=name,
        summary=summary,
        description=summary,
        request=request,
        responses={**found, **_PROBLEMS},
        parameters=parameters,
        tags=[name.partition("_")[0]],
    )


@cache
def build_schema() -> dict[str, Any]:
    """Return the schema as JSON values. It does not change while the process runs."""
    generator = SchemaGenerator(patterns=None)
    return dict(generator.get_schema(request=None, public=True))
