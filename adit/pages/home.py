"""Content of the home page: open and ended jobs, the user's permissions, and the nodes."""

from dataclasses import dataclass, field
from typing import cast

from django.db.models import QuerySet, Sum
from django.http import HttpRequest

from adit.accounts import permissions
from adit.accounts.models import User
from adit.jobs import patient_id_changes, progress, task_groups, visibility
from adit.jobs.models import Job, JobState, ReviewDecision, Task, WithheldImages
from adit.jobs.progress import Progress
from adit.nodes import alarms
from adit.nodes.models import Alarm
from adit.nodes.presentation import NodeOverview, list_nodes
from adit.nodes.receiving import quarantine
from adit.pages import sample_sheets
from adit.pages.first_steps import FirstStep, list_first_steps
from adit.projects import services
from adit_engine.messages import Message

MAX_ROWS = 6
RUNNING = (JobState.IN_PROGRESS, JobState.PENDING, JobState.CANCELING)


@dataclass(frozen=True, slots=True)
class OpenJobLine:
    """One job that has not ended."""

    job: Job
    progress: Progress
    wait_reasons: Message | None


@dataclass(frozen=True, slots=True)
class HomePage:
    lines: list[OpenJobLine]
    ended_jobs: list[Job]
    node_overviews: list[NodeOverview]
    may_order: bool
    may_manage_nodes: bool
    may_see_all: bool
    may_read_trail: bool
    may_manage_projects: bool
    may_manage_users: bool
    has_projects: bool
    to_approve: int = 0
    may_review: bool = False
    to_review: int = 0
    has_quarantine: bool = False
    """Whether something is in quarantine or was rejected, for users who manage nodes."""
    to_decide: int = 0
    """Number of studies whose patient has another ID now; `decide_first` is one of them."""
    first_to_decide: Task | None = None
    samples: list[str] = field(default_factory=list)
    """Sample sheets to try a batch query with."""
    alarms: list[Alarm] = field(default_factory=list)
    first_steps: list[FirstStep] = field(default_factory=list)
    """The checklist of a new installation, for administrators."""
    more: int = 0
    groups: list[str] = field(default_factory=list)

    @classmethod
    def from_request(cls, request: HttpRequest) -> "HomePage":
        user = cast(User, request.user)
        mine = Job.objects.filter(owner=user).select_related("destination", "project")
        open_jobs = mine.filter(
            state__in=[
                *RUNNING,
                JobState.WAITING_FOR_APPROVAL,
                JobState.WAITING_FOR_OWNER,
                JobState.HELD,
            ]
        )
        lines = [_make_line(job) for job in open_jobs[:MAX_ROWS]]
        ended = list(mine.filter(state__in=progress.ENDED_JOB_STATES, archived_at=None)[:5])
        progress.set_delivered_counts(ended)
        return cls(
            lines=lines,
            ended_jobs=ended,
            node_overviews=list_nodes(user),
            may_order=permissions.has_right(user, permissions.order_right("selective")),
            may_manage_nodes=permissions.has_right(user, permissions.Right.MANAGE_NODES),
            may_see_all=permissions.has_right(user, permissions.Right.SEE_ALL_JOBS),
            may_read_trail=permissions.has_right(user, permissions.Right.READ_TRAIL),
            may_manage_projects=permissions.has_right(user, permissions.Right.MANAGE_PROJECTS),
            may_manage_users=permissions.has_right(user, permissions.Right.MANAGE_USERS),
            has_projects=services.visible_projects(user).exists(),
            to_approve=_jobs_to_approve(user).count(),
            may_review=permissions.has_right(user, permissions.Right.REVIEW_WITHHELD),
            to_review=_count_images_to_review(user),
            samples=sample_sheets.list_names(),
            to_decide=patient_id_changes.tasks_to_decide(user).count(),
            first_to_decide=patient_id_changes.tasks_to_decide(user).order_by("pk").first(),
            has_quarantine=quarantine.needs_attention(user),
            alarms=list(alarms.visible_alarms(user)[:MAX_ROWS]),
            first_steps=list_first_steps(user),
            more=max(0, open_jobs.count() - MAX_ROWS) if len(lines) == MAX_ROWS else 0,
            groups=[group.name for group in user.groups.order_by("name")],
        )

    @property
    def is_live(self) -> bool:
        return bool(self.lines)

    @property
    def has_no_rights(self) -> bool:
        return not (
            self.may_order
            or self.may_review
            or self.may_manage_nodes
            or self.may_see_all
            or self.may_read_trail
            or self.may_manage_users
        )


def _make_line(job: Job) -> OpenJobLine:
    return OpenJobLine(
        job, progress.get_progress(job), next(iter(task_groups.wait_reasons(job)), None)
    )


def _count_images_to_review(user: User) -> int:
    """Number of images that wait for a decision, for users who may decide; 0 for others."""
    if not permissions.has_right(user, permissions.Right.REVIEW_WITHHELD):
        return 0
    back = WithheldImages.objects.filter(
        decision=ReviewDecision.OPEN, item__task__job__in=visibility.visible_jobs(user)
    )
    return back.aggregate(n=Sum("images"))["n"] or 0


def _jobs_to_approve(user: User) -> QuerySet[Job]:
    """Jobs of other users that wait for this user's approval."""
    if not permissions.has_right(user, permissions.Right.APPROVE_JOBS):
        return Job.objects.none()
    waiting = visibility.visible_jobs(user).filter(state=JobState.WAITING_FOR_APPROVAL)
    return waiting.exclude(owner=user)
