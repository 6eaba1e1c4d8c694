"""The device that made an image, and the image size. Pixel rules are keyed on it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from adit_engine.elements import elements
from adit_engine.errors import Malformed
from adit_engine.values.instance import DEFLATED_LE, EXPLICIT_BE, Instance

CLASS, MANUFACTURER, MODEL, SOFTWARE = 0x00080016, 0x00080070, 0x00081090, 0x00181020
ROWS, COLUMNS = 0x00280010, 0x00280011

DEVICE_TAGS = frozenset({CLASS, MANUFACTURER, MODEL, SOFTWARE, ROWS, COLUMNS})
"""The tags whose values `ImagingDevice.from_values` needs."""


@dataclass(frozen=True, slots=True)
class ImagingDevice:
    """Identification of a device, as in the header, without surrounding spaces.

    Only the SOP class is always known. An image whose header was not read has no size.
    """

    sop_class: str
    manufacturer: str = ""
    model: str = ""
    software: str = ""
    rows: int = 0
    columns: int = 0

    @classmethod
    def from_instance(cls, instance: Instance) -> "ImagingDevice":
        """Read the device from the header of an instance.

        If the header cannot be read, only the SOP class given by the carrier is known.
        """
        unknown = cls(instance.sop_class_uid.strip(" \0"))
        if instance.defect or instance.transfer_syntax_uid in (DEFLATED_LE, EXPLICIT_BE):
            return unknown
        header = instance.header
        try:
            found = {
                element.tag: bytes(header[element.value : element.end])
                for element in elements(header, instance.explicit)
                if element.tag in DEVICE_TAGS and not element.undefined
            }
        except Malformed:
            return unknown
        return cls.from_values(found) if found.get(CLASS) else unknown

    @classmethod
    def from_values(cls, values: Mapping[int, bytes]) -> "ImagingDevice":
        """Create a device from encoded values of the top level, by tag."""
        kind, maker, model, software = (
            _text(values.get(tag, b"")) for tag in (CLASS, MANUFACTURER, MODEL, SOFTWARE)
        )
        rows, columns = (_number(values.get(tag, b"")) for tag in (ROWS, COLUMNS))
        return cls(kind, maker, model, software, rows, columns)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ImagingDevice":
        return cls(**data)

    def without_texts(self) -> "ImagingDevice":
        """Return a copy without texts, for images in which identifying text was found.

        The texts of the header may contain it as well.
        """
        return replace(self, manufacturer="", model="", software="")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def is_known(self) -> bool:
        """Whether the image size is known, which means that the header was read."""
        return self.rows > 0 and self.columns > 0


def _text(value: bytes) -> str:
    return value.strip(b" \0").decode("latin-1")


def _number(value: bytes) -> int:
    return int.from_bytes(value, "little") if len(value) == 2 else 0
