"""Plain: the engine's page for an ethics board, in sections that a template can lay out."""

from dataclasses import dataclass

from adit_engine.pseudonymize.explain import explained
from adit_engine.pseudonymize.profile import Profile

_BULLET = "- "


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    sentences: list[str]
    points: list[str]


def plain_sections(rules: Profile) -> list[Section]:
    """A title and its lines by turns, with an empty line between; points begin with a hyphen."""
    blocks = explained(rules).strip().split("\n\n")
    return [_section(*pair) for pair in zip(blocks[::2], blocks[1::2], strict=True)]


def _section(title: str, body: str) -> Section:
    lines = body.splitlines()
    return Section(
        title,
        [line for line in lines if not line.startswith(_BULLET)],
        [line.removeprefix(_BULLET) for line in lines if line.startswith(_BULLET)],
    )
