"""Retrieve images by WADO-RS as a stream."""

import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import IO, Any, Self, TypeVar
from urllib.parse import urlsplit

import httpx
from pydicom import Dataset, dcmread

from adit_sdk.connection import Connection
from adit_sdk.errors import IncompleteAnswer, NotFound
from adit_sdk.multipart import DICOM_TYPE, PartReader
from adit_sdk.values import Identified, Reason, read_reasons

SPOOL_BYTES = 32 * 1024 * 1024
"""A larger image is kept in a temporary file while it arrives."""
MAX_ERROR_TEXT = 1000

F = TypeVar("F", bound="IO[bytes]")


@dataclass(frozen=True, slots=True)
class RetrievalSummary:
    """What a retrieval delivered. `expected` is None if the number is not known."""

    state: str
    expected: int | None
    delivered: int
    withheld: int
    failed: int
    reasons: tuple[Reason, ...]


class Retrieval(Iterator[Dataset]):
    """An iterator of the images of one WADO-RS request, in the order of the PACS.

    Holds one image in memory. Raises IncompleteAnswer if the answer is cut, and ApiError. Use it
    with `with`, or call `close`, to leave early.
    """

    def __init__(self, connection: Connection, address: str, params: Mapping[str, str]) -> None:
        self._connection = connection
        self._address = address
        self._params = params
        self._summary_path = ""
        self._files = self.files(_new_spool)

    def __next__(self) -> Dataset:
        with next(self._files) as file:
            return dcmread(file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the request; ADIT then ends its association with the PACS."""
        self._files.close()

    def files(self, make_file: Callable[[], F]) -> Generator[F, None, None]:
        """Yield DICOM files instead of datasets, at their beginning; the caller closes them.

        `make_file` returns an empty file opened for writing and reading.
        """
        accept = {"Accept": f'multipart/related; type="{DICOM_TYPE}"'}
        with self._connection.stream(
            "GET", self._address, headers=accept, params=self._params
        ) as response:
            self._summary_path = _read_link(response)
            content_type = response.headers.get("Content-Type", "")
            with closing(self._connection.iter_bytes(response)) as pieces:
                parts = PartReader(pieces, content_type)
                for headers, body in parts:
                    if headers.get("content-type", DICOM_TYPE).lower() != DICOM_TYPE:
                        # ADIT writes its error as the last part.
                        text = parts.read_rest(MAX_ERROR_TEXT).decode(errors="replace").strip()
                        raise IncompleteAnswer(text, "sdk.failed-in-stream")
                    yield _write(body, make_file())

    def summary(self) -> RetrievalSummary:
        """Return what was delivered, and what was withheld and why. After the last image."""
        if not self._summary_path:
            raise NotFound("There is no summary before the first image.", "sdk.no-summary")
        # Only the path: behind a proxy the server may know itself by another address.
        root = urlsplit(self._address)
        address = f"{root.scheme}://{root.netloc}{self._summary_path}"
        found: dict[str, Any] = self._connection.request("GET", address).json()
        counts = {name: found[name] for name in ("expected", "delivered", "withheld", "failed")}
        return RetrievalSummary(found["state"], **counts, reasons=read_reasons(found["reasons"]))


def make_params(pseudonym: str | Identified, project: str | None) -> dict[str, str]:
    """Return the parameters of a retrieval. Raises ValueError unless it says what is wanted."""
    if isinstance(pseudonym, Identified):
        if project:
            raise ValueError("A project pseudonymizes. Give no project for identified images.")
        return {}
    params = {"pseudonym": pseudonym.strip(), "trial_protocol_id": (project or "").strip()}
    params = {name: text for name, text in params.items() if text}
    if not params:
        raise ValueError("Give a pseudonym or a project, or IDENTIFIED for identified images.")
    return params


def _new_spool() -> "tempfile.SpooledTemporaryFile[bytes]":
    return tempfile.SpooledTemporaryFile(SPOOL_BYTES)


def _write(body: Iterator[bytes], file: F) -> F:
    try:
        for piece in body:
            file.write(piece)
        file.seek(128)
        if file.read(4) != b"DICM":
            raise IncompleteAnswer("An image in the answer is not a DICOM file.", "sdk.not-dicom")
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def _read_link(response: httpx.Response) -> str:
    address = response.links.get("describedby", {}).get("url", "")
    return urlsplit(address).path
