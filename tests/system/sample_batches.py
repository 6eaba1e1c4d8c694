"""Sample batch jobs: a query with results, a checked list, withheld images, a changed patient ID.

Called by sample_site.py in its process. All data are synthetic; no job runs.
"""

from typing import Any

from adit_engine.messages import Message

ROOT = "1.2.826.0.1.3680043.8.498.99"
RIGHTS = (
    "review_withheld",
    "confirm_patients",
    "see_identified",
    "see_all_jobs",
    "manage_profiles",
)
NOT_SENT = 6
"""Number of images with burned-in text."""


def make_lists(owner: Any, nodes: dict[str, Any], job_held: int, password: str) -> dict[str, int]:
    """Create all sample batches, and a reviewer who may decide on them."""
    from django.contrib.auth.models import Permission

    from adit.accounts.models import User

    reviewer = User.objects.create_user("reviewer", password=password, first_name="Rita")
    reviewer.user_permissions.set(Permission.objects.filter(codename__in=RIGHTS))
    owner.user_permissions.set(
        Permission.objects.filter(codename__in=("order_batch_query", "order_batch_transfer"))
    )
    hold(job_held)
    return {
        "query": make_query(owner, nodes),
        "checked": make_transfer(owner, nodes),
        "withheld": make_withheld(),
    }


def study(number: int, **values: Any) -> Any:
    from adit_engine.values.record import Record
    from adit_engine.values.references import QueryLevel

    usual = {
        "PatientID": f"000{number}",
        "PatientName": "Beispiel^Berta",
        "PatientBirthDate": "19640812",
        "StudyDate": f"2024010{number}",
        "StudyDescription": "Thorax",
        "ModalitiesInStudy": ["CT"],
        "StudyInstanceUID": f"{ROOT}.{number}",
        "NumberOfStudyRelatedInstances": "120",
    }
    return Record(QueryLevel.STUDY, {**usual, **values})


def make_query(owner: Any, nodes: dict[str, Any]) -> int:
    """Query with four rows: two matches, a capped match, no match, not answered."""
    from adit.jobs import encrypted_payload
    from adit.jobs.kinds.base import OrderRequest, RowMatches, RowNote, SheetOptions, SheetRow
    from adit.jobs.kinds.batch_query import BatchQueryRow
    from adit.jobs.models import Job, TaskState
    from adit.orders.service import place_order
    from adit.results import sheet_rows
    from adit_engine.patient_search.search import PatientQuery, PersonCriteria

    rows = tuple(
        BatchQueryRow(
            SheetRow(line, ("my key",), f"P{line}", {"PatientID": f"000{line}"}),
            PatientQuery(PersonCriteria(patient_id=f"000{line}")),
        )
        for line in range(2, 6)
    )
    request = OrderRequest(
        "batch_query",
        rows,
        key="stage query",
        sources=(nodes["PACS1"].pk, nodes["Old archive"].pk),
        sheet=SheetOptions(own_headers=("Key",)),
    )
    (job,) = place_order(owner, request)
    answers: list[tuple[list[Any], tuple[RowNote, ...]]] = [
        ([study(1), study(2)], ()),
        ([study(3)], (RowNote.CAPPED,)),
        ([], (RowNote.NOTHING,)),
    ]
    tasks = list(job.tasks.order_by("position"))
    for task, (records, notes) in zip(tasks, answers, strict=False):
        sheet_rows.write_matches(
            encrypted_payload.get_cipher(job.project),
            {task: [RowMatches(task.position + 1, records, notes)]},
        )
    job.tasks.update(state=TaskState.SUCCESS)
    job.tasks.filter(position=4).update(
        state=TaskState.FAILURE, message=Message("association.no-free", node="PACS1")
    )
    Job.objects.filter(pk=job.pk).update(
        state="warning", message=Message("query.rows-not-answered", count=1)
    )
    return int(job.pk)


def make_transfer(owner: Any, nodes: dict[str, Any]) -> int:
    """Checked transfer with three rows: one match, several matches, no match."""
    from adit.jobs import encrypted_payload
    from adit.jobs.kinds.base import (
        ListedSeries,
        ListedStudy,
        OrderRequest,
        RowCheck,
        RowNote,
        SheetOptions,
    )
    from adit.jobs.kinds.batch_transfer import BatchTransferRow
    from adit.jobs.models import Job, TaskState
    from adit.orders import transfer_preview
    from adit.orders.service import place_order
    from adit.results import sheet_rows
    from adit_engine.transfer.study_lookup import StudyCriteria
    from adit_engine.values.record import Record
    from adit_engine.values.references import QueryLevel

    def seen(number: int) -> ListedStudy:
        values = {"SeriesInstanceUID": f"{ROOT}.{number}.1", "Modality": "CT", "SeriesNumber": "1"}
        images = {"NumberOfSeriesRelatedInstances": "120"}
        series = Record(
            QueryLevel.SERIES, {**values, **images, "StudyInstanceUID": f"{ROOT}.{number}"}
        )
        return ListedStudy(
            study(number), (ListedSeries(series, {"1.2.840.10008.5.1.4.1.1.2": 120}),)
        )

    rows = tuple(
        BatchTransferRow(n, StudyCriteria(f"000{n}", study_uid=f"{ROOT}.{n}"), user_cells=("k",))
        for n in (2, 3, 4)
    )
    request = OrderRequest(
        "batch_transfer",
        rows,
        key="stage transfer",
        destinations=(nodes["Research folder"].pk,),
        sources=(nodes["PACS1"].pk, nodes["Old archive"].pk),
        sheet=SheetOptions(own_headers=("Key",)),
    )
    (job,) = place_order(owner, request)
    task, box = job.tasks.get(), encrypted_payload.get_cipher(job.project)
    job.tasks.update(state=TaskState.IN_PROGRESS)
    for line, studies, notes in (
        (2, (seen(2),), ()),
        (3, (seen(3), seen(5)), (RowNote.SEVERAL,)),
        (4, (), (RowNote.NOTHING,)),
    ):
        facts = transfer_preview.preview_facts(job, studies)
        sheet_rows.write_check(box, task, RowCheck(line, studies, notes), facts)
    job.tasks.update(state=TaskState.SUCCESS)
    Job.objects.filter(pk=job.pk).update(state="waiting_for_owner", message=None)
    return int(job.pk)


def hold(pk: int) -> None:
    """Make the job wait because the patient ID of its study has changed."""
    from dataclasses import replace

    from adit.jobs import encrypted_payload
    from adit.jobs.models import Task
    from adit.jobs.patient_id_changes import NEW_ID

    task = Task.objects.select_related("job__project").get(job=pk)
    content = replace(
        encrypted_payload.open_task(task), patient_id="0815", payload={NEW_ID: "4711"}
    )
    task.payload = encrypted_payload.reseal_task(task, content)
    task.message = Message("patient-changed")
    task.save()


def make_withheld() -> int:
    """Add withheld ultrasound images to the job with warnings, and an earlier decision."""
    from django.utils import timezone

    from adit.accounts.models import User
    from adit.jobs.models import DeviceDecision, ReviewDecision, SeriesResult, WithheldImages
    from adit_engine.messages import Message

    item = SeriesResult.objects.get(task__job__state="warning", withheld=6)
    reason = Message("burned-in.stated")
    item.reasons = [(reason, NOT_SENT)]
    item.save()
    row = WithheldImages.objects.create(
        item=item,
        code=reason.category,
        reason=reason,
        images=NOT_SENT,
        sop_class="1.2.840.10008.5.1.4.1.1.6.1",
        manufacturer="Sample Devices",
        model="Sonar 3000",
        rows=480,
        columns=640,
    )
    project = item.task.job.project
    DeviceDecision.objects.create(
        project=project,
        decision=ReviewDecision.MASKED,
        rectangles=[[0, 0, 640, 60]],
        images=NOT_SENT,
        reason="names at the top",
        decided_by=User.objects.get(username="reviewer"),
        decided_at=timezone.now(),
        profile=project.profile,
        sop_class="1.2.840.10008.5.1.4.1.1.6.1",
        manufacturer="Sample Devices",
        model="Sonar 2000",
        rows=480,
        columns=640,
    )
    return int(row.pk)
