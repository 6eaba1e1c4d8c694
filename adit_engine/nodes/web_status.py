"""Web statuses: what the numbers of a DICOMweb answer mean, in words with a next step (RFC 9110)."""

import time
from email.utils import parsedate_to_datetime

from adit_engine.errors import AditError, CannotDo, NodeBusy, NodeRefused

OK = frozenset({200, 206})
EMPTY = 204
GONE = frozenset({404, 410})
BUSY = frozenset({429, 503})

_AGAIN = frozenset({408, 425, 500, 502, 504, 507})
_MEANINGS = {
    400: "it did not understand the request. Check the root URL and the prefixes",
    401: "it did not accept our sign-in. Check user and password or token in its settings; "
    "a token may have expired",
    403: "our account may not do this. Ask its administrator for the right",
    404: "nothing is known under this address. Check the root URL and the prefixes",
    406: "it cannot answer in the form that we asked for. Ask its administrator whether it "
    "speaks DICOMweb",
    407: "a proxy stands between. Ask the network's administrator for a direct way",
    410: "what was asked for is gone. Search for it again",
    413: "this is too large for it. Ask its administrator to raise the limit",
    414: "the address is too long for it",
    415: "it does not take DICOM here. Check the root URL and the prefixes",
    421: "it does not answer under this name. Check the root URL",
    495: "it did not accept our client certificate",
    496: "it wants a client certificate. Give one in its settings",
}


def problem(node: str, what: str, status: int, retry_after_s: float | None) -> AditError:
    """The error for a status that is no success; a node's own text may name a patient."""
    if status in BUSY:
        when = "later" if retry_after_s is None else f"in {retry_after_s:.0f} s"
        return NodeBusy(node, f"is too busy for {what} (status {status}). Try again {when}.")
    if 300 <= status < 400:
        return NodeRefused(
            node,
            f"answered {what} with a redirect (status {status}); ADIT follows none. "
            "Enter the final address as root URL.",
        )
    if status in (405, 501):
        return CannotDo(node, f"does not offer {what} here (status {status}).")
    if status in _AGAIN or status > 507:
        return NodeBusy(
            node,
            f"failed at {what} (status {status}). Try again later; if it stays, ask its "
            "administrator to look into its log.",
        )
    meaning = _MEANINGS.get(status, "it gave no reason that we know")
    return NodeRefused(node, f"refused {what} (status {status}): {meaning}.")


def wrong_type(node: str, what: str, media_type: str) -> NodeRefused:
    """A success that holds something else than DICOM, such as a sign-in page."""
    kind = "a web page" if "html" in media_type else "something else than DICOM"
    return NodeRefused(
        node,
        f"answered {what} with {kind}. Check the root URL, the prefixes and the sign-in.",
    )


def retry_after_s(value: str | None) -> float | None:
    """Seconds to wait, from a number or a date (RFC 9110 10.2.3); None where it says nothing."""
    if not value:
        return None
    if value.strip().isdecimal():
        return float(value.strip()[:9])
    try:
        return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return None
