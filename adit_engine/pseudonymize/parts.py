"""Parts: one data set, taken apart at its pixels."""

from dataclasses import dataclass

from adit_engine.elements import PIXEL_TAGS, Element, elements
from adit_engine.errors import Malformed
from adit_engine.instance import Instance
from adit_engine.pseudonymize.encoding import Source


@dataclass(frozen=True, slots=True)
class Parts:
    """One data set, taken apart: elements before the pixels, the pixels, elements behind them."""

    header: Source
    found: list[Element]
    body: Source
    pixels: Element | None
    behind: list[Element]

    def values(self, wanted: frozenset[int]) -> dict[int, bytes]:
        """Of these tags on the top level, as encoded."""
        return {
            element.tag: bytes(source.data[element.value : element.end])
            for source, found in ((self.header, self.found), (self.body, self.behind))
            for element in found
            if element.tag in wanted and not element.undefined
        }

    def refuse_twice(self) -> None:
        """Raises Malformed where an element stands before the pixels, and again behind them."""
        tags = {element.tag for element in self.found}
        if any(element.tag in tags or element.tag in PIXEL_TAGS for element in self.behind):
            raise Malformed("An element stands twice, before and behind the pixel data.")


def taken_apart(instance: Instance) -> Parts:
    """Without copying pixels. Raises Malformed."""
    explicit = instance.explicit
    header = Source(bytes(instance.header), explicit)
    found = list(elements(header.data, explicit))
    if not instance.rest:
        for place, element in enumerate(found):
            if element.tag in PIXEL_TAGS:
                return Parts(header, found[:place], header, element, found[place + 1 :])
        return Parts(header, found, header, None, [])
    whole = instance.rest[0] if len(instance.rest) == 1 else b"".join(instance.rest)
    body = Source(memoryview(whole), explicit)
    first = next(elements(body.data, explicit))
    if first.tag not in PIXEL_TAGS:
        raise Malformed("The pixel data do not stand where they should.")
    is_padded = not bytes(body.data[first.end :]).strip(b"\0")
    behind = [] if is_padded else list(elements(body.data, explicit, first.end))
    return Parts(header, found, body, first, behind)
