"""What the tests of jobs share: orders for studies that lie in a memory node."""

from collections.abc import Callable, Iterator

import pytest
from jobs_stage import PATIENT, GatedNode, put_study

from adit.accounts.models import User
from adit.jobs.kinds.selective import OrderedStudy, SelectiveOrder
from adit.jobs.lease import SHUTDOWN
from adit.jobs.models import Job
from adit.nodes.models import Node
from adit.orders import actions
from adit_engine import nodes


@pytest.fixture(autouse=True)
def _nobody_stops_the_worker() -> Iterator[None]:
    SHUTDOWN.requested = False
    yield
    SHUTDOWN.requested = False


@pytest.fixture
def gated(monkeypatch: pytest.MonkeyPatch, source: Node) -> type[GatedNode]:
    """The source hands out images only as the test allows; a node kind like any other."""
    monkeypatch.setitem(nodes.KINDS, "gated", "jobs_stage:GatedNode")  # type: ignore[arg-type]
    source.kind = "gated"
    source.save()
    GatedNode.close_gate()
    return GatedNode


@pytest.fixture
def order_studies(coordinator: User, source: Node, destination: Node) -> Callable[..., Job]:
    """Orders studies of one patient: order_studies("1", "2", images=3)."""

    def order(
        *studies: str,
        images: int = 3,
        series: int = 1,
        user: User | None = None,
        announced: tuple[str, ...] = (),
        to: Node | None = None,
        **changes: object,
    ) -> Job:
        picks = tuple(
            OrderedStudy(source.pk, put_study(source, study, images, series, **changes), PATIENT)
            for study in studies
        )
        ordered = SelectiveOrder(picks, (to or destination).pk, announced=announced)
        key = f"{len(studies)} {studies[0]} {Job.objects.count()}"
        return actions.create_job(user or coordinator, "selective", ordered, key=key)

    return order
