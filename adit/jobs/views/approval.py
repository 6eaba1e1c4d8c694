"""What an approver sees of an order before the decision. Used by the job page."""

from dataclasses import dataclass, field

from adit.accounts.models import User
from adit.jobs import progress, visibility
from adit.jobs.models import Job, JobStage
from adit.orders.service import explain_approval, get_order_size
from adit.orders.summary import format_estimated_size
from adit_engine.messages import Message

MAX_EARLIER_JOBS = 5


@dataclass(frozen=True, slots=True)
class ApprovalFacts:
    """Why an order needs approval, its size, and what its owner ordered before.

    Counts are None if they are unknown. An order without images has only a size in rows.
    """

    reason: Message
    size: int
    ordered_size: int
    patients: int | None
    images: int | None
    size_text: str
    sources: list[str]
    earlier_jobs: list[Job] = field(default_factory=list)
    more_earlier_jobs: int = 0


def get_approval_facts(user: User, job: Job) -> ApprovalFacts:
    """Return the facts about a job that waits for approval, as far as this user may see them."""
    size = get_order_size(job)
    totals = job.order.get("totals") or {}
    ordered = totals.get("studies", size)
    # Of a pilot only the first studies are tasks so far; the approval is about all of them.
    size = ordered if job.stage == JobStage.PILOT else size
    reason = explain_approval(job.owner, size, job.kind, job.project)
    earlier = visibility.visible_jobs(user).filter(owner=job.owner, project=job.project)
    earlier = earlier.exclude(pk=job.pk).select_related("destination").order_by("-pk")
    newest = list(earlier[:MAX_EARLIER_JOBS])
    progress.set_delivered_counts(newest)
    return ApprovalFacts(
        reason=reason or Message("approval.changed-since"),
        size=size,
        ordered_size=ordered,
        patients=totals.get("patients"),
        images=totals.get("images"),
        size_text=format_estimated_size(totals["bytes"]) if totals.get("bytes") else "",
        sources=sorted(
            set(job.tasks.exclude(source=None).order_by().values_list("source__name", flat=True))
        ),
        earlier_jobs=newest,
        more_earlier_jobs=max(0, earlier.count() - len(newest)),
    )
