"""A program with a token that calls the DICOMweb API, and helpers to read its answers."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.http import HttpResponse
from django.test import Client

from adit_engine.nodes.dicomweb.multipart import BodyPart, read_parts


@dataclass
class Program:
    """Calls the API below the AE title of one node."""

    root: str
    token: str

    def get(self, path: str, accept: str = "*/*", **parameters: Any) -> HttpResponse:
        return Client().get(
            f"{self.root}/{path}", parameters, headers={**self.headers, "Accept": accept}
        )

    def post(self, path: str, body: bytes, content_type: str) -> HttpResponse:
        return Client().post(
            f"{self.root}/{path}", body, content_type=content_type, headers=self.headers
        )

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Token {self.token}"}


def read_body(response: Any) -> bytes:
    assert response.status_code == 200, response.content
    return b"".join(response)


def read_images(response: Any) -> list[bytes]:
    """Return the parts of a multipart answer, which has to be whole."""
    body = read_body(response)
    parts: Iterator[BodyPart] = read_parts([body], response["Content-Type"])
    return [bytes(part.body) for part in parts]
