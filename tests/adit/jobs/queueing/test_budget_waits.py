"""A job over the budget of its group waits and shows the reason; other jobs continue."""

from collections.abc import Callable

import pytest
from django.contrib.auth.models import Group
from lab.jobs import work

from adit.accounts.models import User
from adit.accounts.permissions import COORDINATORS
from adit.jobs import queue, task_groups
from adit.jobs.models import Job, TaskState
from adit.nodes.models import Budget, Node
from adit_engine.messages import Message

pytestmark = pytest.mark.django_db(transaction=True)

Ordering = Callable[..., Job]


def test_a_job_over_budget_waits_with_a_reason_while_other_jobs_continue(
    order_studies: Ordering, make_user: Callable[..., User], source: Node, root: User
) -> None:
    Budget.objects.create(group=Group.objects.get(name=COORDINATORS), studies=1)
    mine, others = order_studies("1", "2"), order_studies("3", user=root)
    done = [work(), work()]

    assert work() is None
    assert [task.state for task in done if task] == [TaskState.SUCCESS] * 2
    said = [Message("budget.used-up", node=COORDINATORS, group=COORDINATORS)]
    assert list(task_groups.wait_reasons(mine)) == said
    queue.sweep()
    assert list(task_groups.wait_reasons(mine)) == said
    assert not others.tasks.filter(state=TaskState.PENDING).exists()
    Budget.objects.update(studies=2)
    last = work()
    assert last is not None
    assert last.state == TaskState.SUCCESS
