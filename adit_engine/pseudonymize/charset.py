"""Decode text in the Specific Character Set of a data set, without guessing. Used by actions."""

import re

# PS3.3 C.12.1.1.2: defined term to Python codec. The first value of (0008,0005) applies until an
# escape sequence changes it.
_CODECS = {
    "": "ascii",
    "ISO_IR 6": "ascii",
    "ISO_IR 100": "latin-1",
    "ISO_IR 101": "iso8859-2",
    "ISO_IR 109": "iso8859-3",
    "ISO_IR 110": "iso8859-4",
    "ISO_IR 144": "iso8859-5",
    "ISO_IR 127": "iso8859-6",
    "ISO_IR 126": "iso8859-7",
    "ISO_IR 138": "iso8859-8",
    "ISO_IR 148": "iso8859-9",
    "ISO_IR 203": "iso8859-15",
    "ISO_IR 13": "shift_jis",
    "ISO_IR 166": "iso8859-11",
    "ISO_IR 192": "utf-8",
    "GB18030": "gb18030",
    "GBK": "gbk",
}
# PS3.3 Tables C.12-3 and C.12-4: escape sequence to defined term and codec of what follows.
# The multi-byte codecs need their own escape sequence in front.
_ESCAPES = {
    b"\x1b(B": ("ISO 2022 IR 6", "ascii"),
    b"\x1b-A": ("ISO 2022 IR 100", "latin-1"),
    b"\x1b-B": ("ISO 2022 IR 101", "iso8859-2"),
    b"\x1b-C": ("ISO 2022 IR 109", "iso8859-3"),
    b"\x1b-D": ("ISO 2022 IR 110", "iso8859-4"),
    b"\x1b-L": ("ISO 2022 IR 144", "iso8859-5"),
    b"\x1b-G": ("ISO 2022 IR 127", "iso8859-6"),
    b"\x1b-F": ("ISO 2022 IR 126", "iso8859-7"),
    b"\x1b-H": ("ISO 2022 IR 138", "iso8859-8"),
    b"\x1b-M": ("ISO 2022 IR 148", "iso8859-9"),
    b"\x1b-b": ("ISO 2022 IR 203", "iso8859-15"),
    b"\x1b-T": ("ISO 2022 IR 166", "iso8859-11"),
    b"\x1b)I": ("ISO 2022 IR 13", "shift_jis"),
    b"\x1b(J": ("ISO 2022 IR 13", "shift_jis"),
    b"\x1b$B": ("ISO 2022 IR 87", "iso2022_jp"),
    b"\x1b$(D": ("ISO 2022 IR 159", "iso2022_jp_2"),
    b"\x1b$)C": ("ISO 2022 IR 149", "euc_kr"),
    b"\x1b$)A": ("ISO 2022 IR 58", "gb2312"),
}
# Some devices use other separators. The number identifies the term.
_TERM = re.compile(r"ISO[ _-](2022[ _-])?IR[ _-]([0-9]+)")
_NEEDS_ESCAPE = frozenset({"iso2022_jp", "iso2022_jp_2"})


class Charset:
    """The character set of one level of a data set, from the value of (0008,0005)."""

    def __init__(self, value: bytes) -> None:
        terms = [_normalize_term(term) for term in value.decode("ascii", "replace").split("\\")]
        self._first = _CODECS.get(terms[0].replace("ISO 2022 IR", "ISO_IR"))
        self._extensions = (
            {"ISO 2022 IR 6", *terms} if len(terms) > 1 or "2022" in terms[0] else set()
        )

    def decode(self, value: bytes) -> str | None:
        """Decode a value. Return None if it is invalid in this character set."""
        if self._first is None:
            return None
        try:
            if b"\x1b" not in value:
                return value.decode(self._first)
            return self._decode_escaped(value)
        except UnicodeDecodeError:
            return None

    def _decode_escaped(self, value: bytes) -> str | None:
        first, *pieces = value.split(b"\x1b")
        text = first.decode(self._first or "ascii")
        for piece in pieces:
            whole = b"\x1b" + piece
            sequence = next((s for s in _ESCAPES if whole.startswith(s)), None)
            if sequence is None:
                return None
            term, codec = _ESCAPES[sequence]
            if term not in self._extensions:
                return None
            content = whole if codec in _NEEDS_ESCAPE else whole[len(sequence) :]
            text += content.decode(codec)
        return text


def _normalize_term(term: str) -> str:
    term = term.strip(" \0")
    found = _TERM.fullmatch(term)
    return f"ISO{' 2022 IR' if found[1] else '_IR'} {found[2]}" if found else term


DEFAULT_CHARSET = Charset(b"")
UTF8_TERM = b"ISO_IR 192"
