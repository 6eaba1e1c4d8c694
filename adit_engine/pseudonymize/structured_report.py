"""Structured reports that may leave: the allowed templates of PS3.16, and what stays of their content.

Codes, numbers, coordinates and references stay; text and times stay for the concepts listed here;
names, everything about the person, and content without a public code are removed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from adit_engine.elements import Element, EncodedElements, elements, items
from adit_engine.errors import InstanceWithheld
from adit_engine.pseudonymize.safe_text import is_standard_code

CONTENT_SEQUENCE = 0x0040A730
_TEMPLATE_SEQUENCE, _MAPPING_RESOURCE, _TEMPLATE = 0x0040A504, 0x00080105, 0x0040DB00
_CONCEPT_NAME, _CONCEPT_CODE, _VALUE_TYPE = 0x0040A043, 0x0040A168, 0x0040A040
_CODE_VALUE, _SCHEME, _REFERENCED_ITEM = 0x00080100, 0x00080102, 0x0040DB73

Code = tuple[bytes, bytes]
"""Code value and coding scheme designator."""


def _dcm(*values: bytes) -> frozenset[Code]:
    return frozenset((value, b"DCM") for value in values)


@dataclass(frozen=True, slots=True)
class ReportTemplate:
    """A template whose documents may leave. All sets hold concept names.

    Text stays if its words are public ones as well (see `safe_text.vocabulary_action`).
    """

    identifier: bytes
    titles: frozenset[Code]
    texts: frozenset[Code]
    times: frozenset[Code]


DOSE_REPORT = ReportTemplate(
    b"10011",
    titles=_dcm(b"113701"),
    texts=_dcm(b"125203", b"113605", b"121014", b"121015"),
    times=_dcm(b"111526", b"111527", b"113809", b"113810"),
)
"""CT radiation dose. Texts: acquisition protocol, event label, manufacturer and model of the device."""
MEASUREMENT_REPORT = ReportTemplate(
    b"1500",
    titles=_dcm(b"126000", b"126001", b"126002", b"126003"),
    texts=_dcm(b"112039", b"121014", b"121015"),
    times=_dcm(b"111060", b"111061"),
)
"""Imaging measurements. Texts: tracking identifier, manufacturer and model of the device."""

_CODED_VALUES = frozenset({b"NUM", b"CODE", b"UIDREF"})
_REFERENCES = frozenset({b"CONTAINER", b"IMAGE", b"COMPOSITE", b"SCOORD", b"SCOORD3D", b"TCOORD"})
_TIMES = frozenset({b"DATETIME", b"DATE", b"TIME"})
_ABOUT_THE_PERSON = _dcm(
    *(b"121028", b"121029", b"121030", b"121031", b"121032", b"121033", b"121034", b"121118")
) | {
    *((b"8302-2", b"LN"), (b"29463-7", b"LN"), (b"30525-0", b"LN"), (b"21112-8", b"LN")),
    *((b"50373000", b"SCT"), (b"27113001", b"SCT"), (b"397669002", b"SCT"), (b"424144002", b"SCT")),
}
"""Subject context (TID 1007), patient characteristics, height, weight, age, birth date."""


def find_template(source: EncodedElements, found: Iterable[Element]) -> ReportTemplate:
    """Return the template of a document from its top-level elements.

    Raises InstanceWithheld if it is not an allowed one, and Malformed.
    """
    level = {element.tag: element for element in found}
    title = _read_code(source, level, _CONCEPT_NAME)
    for item in _read_items(source, level, _TEMPLATE_SEQUENCE):
        resource, identifier = (_value(source, item, t) for t in (_MAPPING_RESOURCE, _TEMPLATE))
        for template in (DOSE_REPORT, MEASUREMENT_REPORT):
            if (resource, identifier) == (
                b"DCMR",
                template.identifier,
            ) and title in template.titles:
                return template
    raise InstanceWithheld("report.template")


def may_stay(template: ReportTemplate, source: EncodedElements, found: Iterable[Element]) -> bool:
    """Return whether a content item stays; its own content is judged item by item.

    Raises InstanceWithheld for references to other items by position, which would point to
    something else after items were removed.
    """
    level = {element.tag: element for element in found}
    if _REFERENCED_ITEM in level:
        raise InstanceWithheld("report.by-reference")
    kind, concept = _value(source, level, _VALUE_TYPE), _read_code(source, level, _CONCEPT_NAME)
    if concept in _ABOUT_THE_PERSON:
        return False
    if concept is None:
        return kind in _REFERENCES and _CONCEPT_NAME not in level
    if kind == b"TEXT":
        return concept in template.texts
    if kind in _TIMES:
        return concept in template.times
    if kind == b"CODE":
        return _read_code(source, level, _CONCEPT_CODE) is not None
    return kind in _CODED_VALUES or kind in _REFERENCES


def _read_code(source: EncodedElements, level: Mapping[int, Element], tag: int) -> Code | None:
    """Return the code of a sequence with one item; None if it is not a public one."""
    found = _read_items(source, level, tag)
    if len(found) != 1:
        return None
    value, scheme = (_value(source, found[0], part) for part in (_CODE_VALUE, _SCHEME))
    return (value, scheme) if is_standard_code(value, scheme) else None


def _read_items(
    source: EncodedElements, level: Mapping[int, Element], tag: int
) -> list[dict[int, Element]]:
    element = level.get(tag)
    if element is None:
        return []
    return [
        {
            one.tag: one
            for one in elements(
                source.data, source.explicit, item.value, item.value_end, source.depth + 1
            )
        }
        for item in items(source.data, source.explicit, element, source.depth)
    ]


def _value(source: EncodedElements, level: Mapping[int, Element], tag: int) -> bytes:
    element = level.get(tag)
    if element is None or element.undefined:
        return b""
    return bytes(source.data[element.value : element.end]).strip(b" \0")
