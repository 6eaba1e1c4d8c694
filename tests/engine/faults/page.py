"""Write the fault matrix to docs/faults.md."""

import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[2]), str(HERE.parent)]

from matrix import ROWS, Row, Service  # noqa: E402

PAGE = HERE.parents[3] / "docs" / "faults.md"
HEAD = """# Faults and their results

Each row is a fault of a PACS, a network or a disk; each column is a service. Each cell is tested by
`tests/engine/faults/test_matrix.py`: a study of two series of five images is fetched from a PACS
with this fault, or stored in one. The test requires that

- its own time limits end the attempt,
- each image of the first series has the result in the cell,
- sockets, threads and memory are released,
- no image or series is reported as delivered or complete unless it is,
- the next attempt, without the fault, delivers the rest.

`d` delivered and verified, `f` failed, `w` withheld, `-` not reached (next attempt). The result of
the series, or the error that ended the attempt, follows. *test*: covered by a separate test. Empty
cells cannot occur; the reasons are listed below. Generate this page with
`python tests/engine/faults/page.py`.

"""

REPORTS = """
## Storage Commitment

Tested by `tests/engine/nodes/dimse/test_storage_commitment.py`, over the association of the request
and over one that the PACS opens.

- No report, a report with another transaction UID or from another AE title, a refusal, an abort, a
  timeout, or service not offered: after the time limit, storage is verified by a query, once and for
  all images until the node is closed. The result of the series says so.
- An image that is reported as failed, is missing in the report, or is listed with another UID or SOP
  class: failed. The same applies if it is reported as stored and a query does not find it. If no
  query is offered, the report alone counts.
- Neither a report nor a query: failed.
- The same report twice: counted once.
- A report that is truncated, too large, of another event type, or from a sender that was not asked:
  refused.
"""

LONG_RUN = """
## Long run

`make chaos` generates 2,000 orders from a seed and executes them concurrently: by C-GET, C-MOVE and
WADO-RS, to a PACS by C-STORE, a DICOMweb service by STOW-RS and a folder, pseudonymized for two
projects or unchanged, with two or three attempts each. The faults above occur at source, network and
destination. Two of three destination PACS send Storage Commitment reports, which are also faulty:
they confirm images that were dropped, deny images that are stored, or arrive never, twice, too
early, incomplete, with additional images, for another transaction, or from another sender.

The auditor then compares each ledger with what the source sent and with what the destination stores
after each attempt. `tests/engine/test_chaos.py` verifies by sabotage that the auditor detects an
engine that drops, mislabels or mixes up images.

| seed | orders | transfers | faults | kinds | images | series reported complete | false | longest |
|---|---|---|---|---|---|---|---|---|
| 20261124 | 2,000 | 5,002 | 6,138 | 27 | 20,000 | 5,625 | 0 | 10.3 s |
| 20261125 | 2,000 | 5,026 | 6,481 | 42 | 20,000 | 6,075 | 0 | 15.8 s |

On two shared cores at the lowest priority, 24 November 2026: 480 s and 752 s. In the second run, 294
series ended partial and 210 unverifiable before their last attempt, and 1,804 transfers ended with
an error. In the end every order was complete, and no image was stored under a wrong patient or
study. `make chaos SEED=20261125` generates the same orders and faults again.
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
        "NodeBusy": "busy, retry later",
        "NotSupported": "not offered",
        "AssociationRejected": "rejected",
        "StorageFull": "disk full",
        "partial RuleViolation": "partial, task ends",
    }.get(rest, rest)


def _notes() -> Iterator[str]:
    yield "## Separate tests"
    yield ""
    for row in ROWS:
        for test in dict.fromkeys(row.elsewhere.values()):
            services = ", ".join(s.value for s in Service if row.elsewhere.get(s) == test)
            yield f"- {row.fault}, {services}: `tests/engine/{test}`"
    yield ""
    yield "## Combinations that cannot occur"
    yield ""
    for row in ROWS:
        for why in dict.fromkeys(row.not_here.values()):
            services = ", ".join(s.value for s in Service if row.not_here.get(s) == why)
            yield f"- {row.fault}, {services}: {why}"


if __name__ == "__main__":
    PAGE.write_text(page())
