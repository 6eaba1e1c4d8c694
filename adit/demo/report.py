"""Report the results of the demo's jobs, as a short table and as a file."""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adit.accounts.models import User
from adit.api_tokens.models import ApiToken
from adit.api_tokens.tokens import MAX_DAYS, Scope, create_token, revoke_token
from adit.jobs import encrypted_payload
from adit.jobs.models import Job, SeriesResult
from adit.jobs.progress import count_images

LABEL = "demo"


def make_row(job: Job) -> dict[str, Any]:
    """Return the numbers of one job; `expected` is None without a trusted list."""
    items = SeriesResult.objects.filter(task__job=job)
    counts = count_images(items)
    tasks = list(job.tasks.select_related("source", "job__project"))
    pseudonyms = sorted({encrypted_payload.open_task(task).pseudonym for task in tasks})
    reasons: Counter[str] = Counter()
    for item in items:
        reasons.update({str(reason): count for reason, count in item.reasons})
    ended, started = job.ended_at, job.started_at
    return {
        "id": job.pk,
        "kind": job.kind,
        "state": job.state,
        "source": ", ".join(sorted({task.source.name for task in tasks if task.source})),
        "destination": job.destination.name if job.destination else "",
        "pseudonym": pseudonyms[0] if len(pseudonyms) == 1 else pseudonyms,
        "project": job.project.protocol_id if job.project else "",
        "expected": counts.expected,
        "delivered": counts.delivered,
        "withheld": counts.withheld,
        "skipped": counts.skipped,
        "failed": counts.failed,
        "verified": counts.delivered,
        "reasons": dict(reasons),
        "seconds": round((ended - started).total_seconds(), 1) if ended and started else None,
        "message": str(job.message or ""),
    }


def write(
    path: Path, url: str, accounts: Mapping[str, str], jobs: Sequence[Job]
) -> list[dict[str, Any]]:
    """Write the report, readable only by its owner: it contains passwords and API tokens."""
    rows = [make_row(job) for job in jobs]
    tokens = {name: _create_token(name) for name in accounts}
    report = {"url": url, "accounts": dict(accounts), "tokens": tokens, "jobs": rows}
    temp = path.with_name(path.name + ".part")
    descriptor = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    temp.rename(path)
    return rows


def _create_token(username: str) -> str:
    """Return a new API token with all scopes; those of earlier runs are revoked."""
    user = User.objects.get(username=username)
    for earlier in ApiToken.objects.filter(user=user, name=LABEL, revoked_at=None):
        revoke_token(user, earlier)
    _token, text = create_token(user, user, LABEL, Scope.values, days=MAX_DAYS, nodes=None)
    return text


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as a table for a terminal."""
    heads = (
        "job",
        "destination",
        "state",
        "expected",
        "delivered",
        "withheld",
        "verified",
        "seconds",
    )
    lines = [
        (
            str(row["id"]),
            row["destination"],
            row["state"],
            "?" if row["expected"] is None else str(row["expected"]),
            str(row["delivered"]),
            str(row["withheld"]),
            str(row["verified"]),
            "?" if row["seconds"] is None else str(row["seconds"]),
        )
        for row in rows
    ]
    widths = [max(len(line[i]) for line in (heads, *lines)) for i in range(len(heads))]
    text = [
        "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in (heads, *lines)
    ]
    reasons = {(r, n) for row in rows for r, n in row["reasons"].items()}
    return "\n".join([*text, *(f"withheld: {n} × {reason}" for reason, n in sorted(reasons))])
