"""Page: the fault matrix as docs/faults.md. Run it to write the page again."""

import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[2]), str(HERE.parent)]

from matrix import ROWS, Row, Service  # noqa: E402

PAGE = HERE.parents[3] / "docs" / "faults.md"
HEAD = """# What goes wrong, and what comes of it

Each row is a way in which a PACS, a network or a disk fails; each column a service. Each cell is
tried by `tests/engine/faults/test_matrix.py`: a study of two series of five images is fetched from a
PACS that fails so every time, or stored in one. The test demands that the attempt ends within its
time limits and five seconds, with this end for each image of the first series; that sockets,
threads and memory are back to where they were; that the auditor finds nothing called delivered or
complete that is not; and that the next attempt, without the fault, delivers the rest.

`d` delivered and proven kept, `f` failed, `w` withheld, `-` not reached, for the next attempt. Then
the verdict of the series, or the error that ended the attempt. *test*: a test of its own shows it.
An empty cell cannot be; the reasons stand below. This page is made by
`python tests/engine/faults/page.py`.

"""

REPORTS = """
## When a PACS is to report what it keeps (Storage Commitment)

Tried by `tests/engine/nodes/dimse/test_storage_commitment.py`, on the association on which we asked
and by one that the PACS opens. No report, one for another question, one under another AE title, a
refusal, an abort, a silence, or no such service: after its time limit the images are searched for,
once and for all until the node is closed, and the outcome says so. An image that is reported as
failed, left out, named under another UID or class: failed; so is one that is reported as kept and
that a search does not find. Where no search is offered, the report alone counts. Neither a report
nor a search: failed. The same report twice: counts once. A report that is cut off, too large, of
another event, or of somebody who was not asked: refused.
"""

LONG_RUN = """
## The long run

`make chaos` draws 2,000 orders from a seed and carries them out side by side: by C-GET, C-MOVE and
WADO-RS, into a PACS by C-STORE, a DICOMweb service by STOW-RS and a folder, pseudonymized for two
projects or as is, two or three attempts each, with these faults mixed at source, wire and
destination. PACS that are to report what they keep (two of three) lie about that as well: they vouch
for what they dropped, disown what they hold, report never, twice, too early, too much, too little,
about another question, or as somebody else.

The auditor then compares each ledger with what the source truly sent and what the
destination truly holds after each attempt. That it finds out an engine that drops, mislabels or
mixes up images is tested by sabotage in `tests/engine/test_chaos.py`.

| seed | orders | transfers | faults told | kinds | images | series called complete | false | longest |
|---|---|---|---|---|---|---|---|---|
| 20261124 | 2,000 | 5,002 | 6,138 | 27 | 20,000 | 5,625 | 0 | 10.3 s |
| 20261125 | 2,000 | 5,026 | 6,481 | 42 | 20,000 | 6,075 | 0 | 15.8 s |

On two shared cores at the lowest priority, 24 November 2026: 480 s and 752 s. Of the second run,
294 series ended partial and 210 unverifiable before their last attempt; 1,804 transfers ended in an
error; every order was complete in the end, and nothing was misrouted. `make chaos SEED=20261125`
draws the same orders and faults again.
"""


def page() -> str:
    names = [service.value for service in Service]
    lines = ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    lines += ["| " + " | ".join([row.fault, *map(str, _cells(row))]) + " |" for row in ROWS]
    return HEAD + "\n".join([*lines, "", *_notes()]) + "\n" + REPORTS + LONG_RUN


def _cells(row: Row) -> Iterator[str]:
    for service in Service:
        if service in row.comes:
            images, _, rest = row.comes[service].partition(" ")
            yield f"`{images}` {_words(rest)}"
        else:
            yield "*test*" if service in row.elsewhere else ""


def _words(rest: str) -> str:
    return {
        "ConnectionLost": "connection lost",
        "TimedOut": "timed out",
        "NodeRefused": "refused",
        "NodeBusy": "busy, later again",
        "NotSupported": "not offered",
        "AssociationRejected": "rejected",
        "StorageFull": "no room here",
        "partial RuleViolation": "partial, task ends",
    }.get(rest, rest)


def _notes() -> Iterator[str]:
    yield "## Tests of their own"
    yield ""
    for row in ROWS:
        for test in dict.fromkeys(row.elsewhere.values()):
            services = ", ".join(s.value for s in Service if row.elsewhere.get(s) == test)
            yield f"- {row.fault}, {services}: `tests/engine/{test}`"
    yield ""
    yield "## What cannot be"
    yield ""
    for row in ROWS:
        for why in dict.fromkeys(row.not_here.values()):
            services = ", ".join(s.value for s in Service if row.not_here.get(s) == why)
            yield f"- {row.fault}, {services}: {why}"


if __name__ == "__main__":
    PAGE.write_text(page())
