"""Usage of nodes is counted while a task runs and stored when it has finished."""

from collections.abc import Callable

import pytest
from lab.jobs import GatedNode, claimed, in_thread, until

from adit.jobs.models import Job, Task, TaskState
from adit.nodes.models import Lane, Node, NodeDailyUsage, Slot, UserDailyUsage

pytestmark = pytest.mark.django_db(transaction=True)

Ordering = Callable[..., Job]


def test_usage_is_counted_during_a_transfer_and_stored_afterwards(
    order_studies: Ordering, gated: type[GatedNode], source: Node, destination: Node
) -> None:
    job = order_studies("1", images=3)
    thread = in_thread(claimed())
    for _ in range(2):
        gated.gate.release()
    until(lambda: source.slots.get().images == 2)

    slot = source.slots.get()
    assert (slot.user, slot.job, slot.weight) == (job.owner, job.pk, 1)
    assert slot.size_bytes > 0
    gated.gate.release()
    thread.join(20)

    assert Task.objects.get().state == TaskState.SUCCESS
    assert not Slot.objects.exists()
    taken, given = (
        NodeDailyUsage.objects.get(node=source, lane=Lane.RETRIEVE),
        NodeDailyUsage.objects.get(node=destination),
    )
    assert (taken.connections, taken.images) == (given.connections, given.images) == (1, 3)
    assert taken.size_bytes >= slot.size_bytes
    spent = UserDailyUsage.objects.get()
    assert (spent.user, spent.studies, spent.size_bytes) == (job.owner, 1, taken.size_bytes)
