"""Profile: ordered de-identification rules, read from a file, refused when ambiguous."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Profile:
    name: str
    version: int
    options: frozenset[str]
    """The option codes of PS3.15 that it uses beside 113100, as in {"113107"}."""
