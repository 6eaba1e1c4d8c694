"""Verify masked pixels: the rectangles are empty, and everything else is unchanged.

Also finds the pixel rules that must apply. Used by the verifier.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from adit_engine.errors import InstanceWithheld
from adit_engine.pseudonymize.parameters import Pseudonymization
from adit_engine.pseudonymize.verify.pixels import (
    ALLOCATED,
    COLUMNS,
    FRAMES,
    HIGH_BIT,
    PHOTOMETRIC_INTERPRETATION,
    PIXEL_REPRESENTATION,
    ROWS,
    SAMPLES,
    STORED,
    ImagePixelModule,
    has_clean_spare_bits,
    pixel_mask,
)
from adit_engine.pseudonymize.verify.reader import PIXELS
from adit_engine.values.instance import EXPLICIT_BE, EXPLICIT_LE

if TYPE_CHECKING:
    from numpy import generic
    from numpy.typing import NDArray

    from adit_engine.pseudonymize.pixel_rules import PixelRule

_PLANAR = 0x00280006
_SOP_CLASS_UID, _MANUFACTURER, _MODEL, _SOFTWARE = 0x00080016, 0x00080070, 0x00081090, 0x00181020
_CONVERSION_TYPE, _BURNED_IN_ANNOTATION = 0x00080064, 0x00280301

_STORAGE = "1.2.840.10008.5.1.4.1.1."
_RULE_REQUIRED = tuple(_STORAGE + end for end in ("6.1", "3.1", "7", "7.2", "7.3", "7.4"))
"""Ultrasound and secondary captures: they never leave without a rule."""
_ANNOTATION_REQUIRED = tuple(
    _STORAGE + end for end in ("1", "20", "12.1", "12.1.1", "12.2", "12.2.1", "481.1")
)
_CAPTURE_CONVERSION_TYPES = ("sc", "wsd", "di", "df", "si", "drw", "syn")

_DECODED_INTERPRETATION = {b"YBR_FULL_422": b"YBR_FULL", b"YBR_ICT": b"RGB", b"YBR_RCT": b"RGB"}
_MAY_DIFFER = frozenset({PHOTOMETRIC_INTERPRETATION, _PLANAR})
_KEYWORDS = {
    SAMPLES: "SamplesPerPixel",
    ROWS: "Rows",
    COLUMNS: "Columns",
    ALLOCATED: "BitsAllocated",
    STORED: "BitsStored",
    HIGH_BIT: "HighBit",
    PIXEL_REPRESENTATION: "PixelRepresentation",
    _PLANAR: "PlanarConfiguration",
}


_DECISION_REQUIRED = tuple(
    _STORAGE + end
    for end in (
        *("1", "1.1", "1.1.1", "1.2", "1.2.1", "13.1.3", "20"),
        *("12.1", "12.1.1", "12.2", "12.2.1"),
    )
)
"""Radiographs and scintigrams: their header is no proof, so the project must accept its word."""


def find_pixel_rules(
    change: Pseudonymization, image_module: ImagePixelModule, top: Mapping[int, bytes]
) -> "list[PixelRule]":
    """Return the rules of the profile that apply to the original."""
    if not image_module.pixels:
        return []
    size = (image_module.number(ROWS), image_module.number(COLUMNS))
    device = [
        _normalize(top.get(tag, b"")) for tag in (_SOP_CLASS_UID, _MANUFACTURER, _MODEL, _SOFTWARE)
    ]
    could_leave = not _detects_text(change) and _needs_no_rule(change, top)
    found = []
    for rule in change.profile.pixel_rules:
        if could_leave and rule.applies == "withheld":
            continue
        asked = [rule.sop_class, rule.manufacturer, rule.model, rule.software]
        matches = [have == want.lower() for have, want in zip(device, asked, strict=True)]
        if rule.software == "*":
            matches[3] = True
        if all(matches) and size == (rule.rows, rule.columns):
            found.append(rule)
    return found


def check_rule_coverage(change: Pseudonymization, top: Mapping[int, bytes]) -> None:
    """Raise InstanceWithheld if an original without a pixel rule needs one."""
    if not _detects_text(change) and _needs_pixel_rule(
        change, _normalize(top.get(_SOP_CLASS_UID, b""))
    ):
        raise InstanceWithheld("verify-pixel.no-rule")


def _detects_text(change: Pseudonymization) -> bool:
    """Whether images leave without a rule if no text is found in what leaves."""
    return change.profile.text_detection.value != "off"


def _needs_pixel_rule(change: Pseudonymization, kind: str) -> bool:
    return kind in _RULE_REQUIRED or (
        kind in _DECISION_REQUIRED and change.annotation_decision.value != "accept"
    )


def _needs_no_rule(change: Pseudonymization, top: Mapping[int, bytes]) -> bool:
    """Whether the header of the original is sufficient to leave without a rule for the device."""
    kind, captured, burned = (
        _normalize(top.get(t, b""))
        for t in (_SOP_CLASS_UID, _CONVERSION_TYPE, _BURNED_IN_ANNOTATION)
    )
    if _needs_pixel_rule(change, kind) or captured in _CAPTURE_CONVERSION_TYPES:
        return False
    return burned == "no" or (not burned and kind not in _ANNOTATION_REQUIRED)


def check_masked_pixels(
    source: ImagePixelModule, output: ImagePixelModule, rectangles: list[list[int]], syntax: str
) -> None:
    """Check that the output equals the original, except in rectangles of one color.

    Raises InstanceWithheld. `syntax` is the transfer syntax of the original; the output is
    uncompressed.
    """
    before, after = source.comparable(), output.comparable()
    was, now = (
        before.get(PHOTOMETRIC_INTERPRETATION, b""),
        after.get(PHOTOMETRIC_INTERPRETATION, b""),
    )
    if any(before.get(tag) != after.get(tag) for tag in {*before, *after} - _MAY_DIFFER):
        raise InstanceWithheld("verify-pixel.attribute")
    if now not in (was, _DECODED_INTERPRETATION.get(was if isinstance(was, bytes) else b"")):
        raise InstanceWithheld("verify-pixel.color")
    if set(source.pixels) != {PIXELS} or set(output.pixels) != {PIXELS}:
        raise InstanceWithheld("verify-pixel.missing")
    if output.pixels[PIXELS].encapsulated:
        raise InstanceWithheld("verify-pixel.mask-compressed")
    length = sum(len(part) for part in output.pixels[PIXELS].parts)
    if length != output.size + output.size % 2 or not has_clean_spare_bits(output):
        raise InstanceWithheld("verify-pixel.mask-trailing")
    frames = zip(_decode_frames(source, syntax), _decode_frames(output, EXPLICIT_LE), strict=True)
    colours: set[bytes] = set()
    for one, other in frames:
        _check_frame(one, other, rectangles, colours, output)
    if not colours:
        raise InstanceWithheld("verify-pixel.mask-no-frame")


def _check_frame(
    one: "NDArray[generic]",
    other: "NDArray[generic]",
    rectangles: list[list[int]],
    colours: set[bytes],
    output: ImagePixelModule,
) -> None:
    if one.shape != other.shape or one.dtype != other.dtype:
        raise InstanceWithheld("verify-pixel.mask-frame-size")
    import numpy as np  # slow to import, and few images are masked

    around = np.ones(one.shape[:2], bool)
    for left, top, width, height in rectangles:
        around[top : top + height, left : left + width] = False
    mask = np.array(pixel_mask(output), f"u{one.dtype.itemsize}")
    mine, theirs = (frame.view(mask.dtype)[around] & mask for frame in (one, other))
    if not np.array_equal(mine, theirs):
        raise InstanceWithheld("verify-pixel.mask-outside")
    inside = other[~around].reshape(-1, output.number(SAMPLES))
    colours.update(row.tobytes() for row in np.unique(inside, axis=0))
    if len(colours) != 1:
        raise InstanceWithheld("verify-pixel.mask-rectangle")


def _decode_frames(image_module: ImagePixelModule, syntax: str) -> Iterator["NDArray[generic]"]:
    """Yield each frame as rows, columns, samples, without color conversion."""
    # Imported here because they are slow to import, and few images are masked.
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.pixels.utils import iter_pixels
    from pydicom.uid import UID

    ds = Dataset()
    for tag, keyword in _KEYWORDS.items():
        if tag in image_module.values:
            setattr(ds, keyword, image_module.number(tag))
    if ds.SamplesPerPixel > 1 and "PlanarConfiguration" not in ds:
        ds.PlanarConfiguration = 0
    ds.PhotometricInterpretation = image_module.values[PHOTOMETRIC_INTERPRETATION].decode("ascii")
    ds.NumberOfFrames = int(image_module.values.get(FRAMES, b"1") or 1)
    ds.PixelData = b"".join(image_module.pixels[PIXELS].parts)
    ds["PixelData"].VR = "OB" if ds.BitsAllocated <= 8 else "OW"
    ds["PixelData"].is_undefined_length = image_module.pixels[PIXELS].encapsulated
    ds.file_meta = FileMetaDataset()
    plain = EXPLICIT_BE if image_module.big_endian else EXPLICIT_LE
    is_compressed = image_module.pixels[PIXELS].encapsulated
    ds.file_meta.TransferSyntaxUID = UID(syntax if is_compressed else plain)
    for frame in iter_pixels(ds, raw=True):
        yield frame.astype(frame.dtype.newbyteorder("="))


def _normalize(value: bytes) -> str:
    return value.decode("latin-1").strip(" \0").lower()
