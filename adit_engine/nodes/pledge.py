"""Pledge: whether a PACS really reports that it keeps the test image, for a check."""

import time
from collections.abc import Iterator

from adit_engine.commitment import Image
from adit_engine.errors import CannotDo, NodeError
from adit_engine.nodes.base import Finding, Grade, Proposal
from adit_engine.nodes.committing import Committing

WITHIN_S = 20.0
WITHOUT_RECEIVER_S = 3.0
"""So long a check waits for the report at most: where it can only come on the association on which
we asked, it comes soon or never.
"""

_TO_FIND = Proposal("proof", "find", "By a search it can be told whether images are kept.")


def findings(committing: Committing, image: Image, chosen: str) -> Iterator[Finding]:
    """`chosen` is what the settings say of proof. Proposes Storage Commitment where a report came,
    and a search where that was chosen and none came. Never raises NodeError.
    """
    started = time.monotonic()
    try:
        report = committing.report([image])
    except CannotDo as error:
        if chosen == "commitment":
            yield _unfit(str(error))
        return
    except NodeError as error:
        if chosen == "commitment":
            yield _unfit(str(error))
        else:
            yield Finding(
                Grade.GOOD,
                "It offers Storage Commitment, but no report could be had, so ADIT asks by a "
                f"search. {error}",
            )
        return
    took_ms = (time.monotonic() - started) * 1000
    if not report.proves(image):
        what = f"By Storage Commitment: {report.why_not(image)}."
        step = "Ask its administrator why; leave the proof of keeping at find."
        yield Finding(Grade.WARNING, what, step, (_TO_FIND,) if chosen == "commitment" else ())
        return
    what = f"It reported that it keeps the test image (Storage Commitment, {took_ms:.0f} ms)."
    why = "Its own report came, and is the better proof."
    proposal = Proposal("proof", "commitment", why)
    yield Finding(Grade.GOOD, what, "", () if chosen == "commitment" else (proposal,))


def _unfit(text: str) -> Finding:
    step = "Choose find for the proof that images are kept, or have this mended."
    what = f"Storage Commitment is chosen, and no report could be had. {text}"
    return Finding(Grade.WARNING, what, step, (_TO_FIND,))
