"""The report of a job lists the UIDs and digests of the images at the destination."""

from collections.abc import Callable

import pytest
from lab.jobs import shelf, work

from adit.jobs.models import Job
from adit.nodes.models import Node
from adit.results.report import build_report

pytestmark = pytest.mark.django_db(transaction=True)


def test_the_report_lists_uids_and_digests_of_all_delivered_images(
    order_studies: Callable[..., Job], destination: Node
) -> None:
    job = order_studies("1", images=2, series=2)
    work()
    job.refresh_from_db()

    (study,) = build_report(job)["studies"]

    arrived = {
        instance.sha256(): instance.in_header.ref for instance in shelf(destination).values()
    }
    outputs = [(series, each) for series in study["series"] for each in series["outputs"]]
    assert len(outputs) == len(arrived) == 4
    for series, each in outputs:
        ref = arrived[each["sha256"]]
        named = (study["study_uid"], series["series_uid"], each["instance_uid"])
        assert named == (ref.study_uid, ref.series_uid, ref.instance_uid)
