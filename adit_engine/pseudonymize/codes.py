"""Codes: whether a coded item is from a standard scheme, and what replaces a private one."""

import re

from adit_engine.pseudonymize.tables import code_schemes

# Letters, digits and what SNOMED, LOINC and UCUM codes are made of; no caret, as names have it.
_VALUE = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_UNIT = re.compile(rb"[A-Za-z0-9._+*/%{}()\[\]':-]{1,64}")

_VERSION = re.compile(rb"[A-Za-z0-9._-]{1,16}")

REMOVED = (b"REMOVED ", b"99ADIT", b"Removed ")
"""Code value, scheme and meaning of an item that must be there, but not as it was (PS3.3 8.8)."""


def keep_version(value: bytes, work: object) -> bytes | None:
    """Coding Scheme Version: an action, stricter than for text, as versions look all alike."""
    return value if _VERSION.fullmatch(value.strip(b" \0")) else None


def is_standard(value: bytes, scheme: bytes) -> bool:
    """The scheme is in code_schemes.tsv, and the value is written as its codes are."""
    scheme = scheme.strip(b" \0")
    pattern = _UNIT if scheme == b"UCUM" else _VALUE
    return scheme in code_schemes() and bool(pattern.fullmatch(value.strip(b" \0")))
