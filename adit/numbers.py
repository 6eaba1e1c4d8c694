"""Read numbers from requests: addresses, parameters and form fields that no form checks."""

MAX_NUMBER = 2**31 - 1


def parse_number(text: str, maximum: int = MAX_NUMBER) -> int | None:
    """Return a whole number from 0 to `maximum`; None for anything else.

    Only ASCII digits count: `str.isdecimal` accepts those of other scripts, and `int` fails at more
    than 4,300 digits.
    """
    if not (text.isascii() and text.isdecimal()) or len(text) > len(str(maximum)):
        return None
    number = int(text)
    return number if number <= maximum else None
