"""Settings of Python's garbage collection for processes that answer requests."""

import gc

THRESHOLD = 20_000
"""New objects between two garbage collections.

A long list, or the images of a study, create some hundred thousand objects, none of them garbage.
Collecting took half of the time of pages with lists.
"""


def reduce_collections() -> None:
    """Collect rarely, and without the objects that exist now. Call when all is imported."""
    gc.freeze()
    gc.set_threshold(THRESHOLD, 10, 10)
