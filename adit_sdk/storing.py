"""Store images by STOW-RS as a stream."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
from pydicom import Dataset, dcmwrite

from adit_sdk.connection import Connection
from adit_sdk.errors import ApiError
from adit_sdk.multipart import DICOM_TYPE, encode_parts, new_boundary

CHUNK_BYTES = 256 * 1024

Image = str | os.PathLike[str] | Dataset


@dataclass(frozen=True, slots=True)
class UnstoredImage:
    """An image that was not stored. `reason` is a status of PS3.18 Table I.2-2, such as 0x0110."""

    instance_uid: str
    reason: int


@dataclass(frozen=True, slots=True)
class StoreReport:
    """What became of the images. `unreadable` is the number of those that are not DICOM."""

    stored: tuple[str, ...]
    failed: tuple[UnstoredImage, ...]
    unreadable: int

    @property
    def is_complete(self) -> bool:
        return not self.failed and not self.unreadable

    def require_complete(self) -> None:
        """Raise ApiError unless each image was stored."""
        if not self.is_complete:
            lost = len(self.failed) + self.unreadable
            text = f"{lost} of {lost + len(self.stored)} images were not stored."
            raise ApiError(text, "sdk.not-stored")


def store(connection: Connection, address: str, images: Iterable[Image]) -> StoreReport:
    """Send the images. Reads one at a time; raises ApiError if the request as a whole fails."""
    boundary = new_boundary()

    def make_body() -> dict[str, Any]:
        return {"content": encode_parts(map(_read_image, images), boundary)}

    content_type = f'multipart/related; type="{DICOM_TYPE}"; boundary="{boundary}"'
    headers = {"Content-Type": content_type, "Accept": "application/dicom+json"}
    is_repeatable = isinstance(images, list | tuple)
    response = connection.request(
        "POST",
        address,
        is_safe=is_repeatable,
        may_retry=is_repeatable,
        accepted=(409,),
        make_body=make_body,
        headers=headers,
    )
    return _read_report(response)


def expand_paths(images: Image | Iterable[Image]) -> Iterable[Image]:
    """Return files and datasets: folders are replaced by the files below them.

    A list stays one, so that a request can be repeated.
    """
    if isinstance(images, str | os.PathLike | Dataset):
        images = [images]
    found = _iter_files(images)
    return list(found) if isinstance(images, list | tuple) else found


def _iter_files(images: Iterable[Image]) -> Iterator[Image]:
    for one in images:
        if isinstance(one, Dataset) or not Path(one).is_dir():
            yield one
        else:
            yield from sorted(path for path in Path(one).rglob("*") if path.is_file())


def _read_image(image: Image) -> Iterator[bytes]:
    if isinstance(image, Dataset):
        file = BytesIO()
        dcmwrite(file, image, enforce_file_format=True)
        yield file.getvalue()
        return
    with open(image, "rb") as opened:
        while piece := opened.read(CHUNK_BYTES):
            yield piece


def _read_report(response: httpx.Response) -> StoreReport:
    found: Mapping[str, Any] = response.json()
    failed = [
        UnstoredImage(_value(item, "00081155", ""), _value(item, "00081197", 0))
        for item in _items(found, "00081198")
    ]
    stored = [_value(item, "00081155", "") for item in _items(found, "00081199")]
    return StoreReport(tuple(stored), tuple(failed), len(_items(found, "0008119A")))


def _items(found: Mapping[str, Any], tag: str) -> list[Mapping[str, Any]]:
    items: list[Mapping[str, Any]] = found.get(tag, {}).get("Value", [])
    return items


def _value(item: Mapping[str, Any], tag: str, default: Any) -> Any:
    return next(iter(item.get(tag, {}).get("Value", [])), default)
