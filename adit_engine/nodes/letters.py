"""Letters: in which character set a PACS answers, as far as its answers show."""

from collections.abc import Iterator, Sequence

from adit_engine.nodes.base import Finding, Grade, Proposal
from adit_engine.record import Record

READ_AS = "ISO_IR 100"
"""Records whose node names no character set have to be read as this one, so that no byte is lost."""

_UTF8 = "ISO_IR 192"
_TEXTS = ("PatientName", "StudyDescription")


def findings(records: Sequence[Record], fallback: str) -> Iterator[Finding]:
    """`fallback` is what the settings say now. Nothing of a text is repeated."""
    named = sorted({term for one in records for term in one.texts("SpecificCharacterSet")})
    if named:
        yield Finding(Grade.GOOD, f"It names the character set of its answers: {', '.join(named)}.")
    silent = [one for one in records if not one.texts("SpecificCharacterSet")]
    telling = [raw for one in silent for word in _TEXTS if (raw := _bytes(one.text(word)))]
    if not telling:
        if not named:
            yield Finding(Grade.GOOD, "It names no character set; its answers held plain letters.")
        return
    found = _UTF8 if all(_is_utf8(raw) for raw in telling) else READ_AS
    what = f"It names no character set for names with other letters; they look like {found}."
    if fallback == found:
        yield Finding(Grade.GOOD, f"{what} They are read so.")
        return
    why = "So names with umlauts and accents are read as they were meant."
    step = f"Enter {found} as character set where none is given, if names then read right."
    yield Finding(Grade.WARNING, what, step, (Proposal("character_set_fallback", found, why),))


def _bytes(text: str) -> bytes:
    """As they came; nothing where all letters are plain."""
    return b"" if text.isascii() else text.encode("latin-1", "ignore")


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
