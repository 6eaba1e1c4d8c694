"""Nodes, projects, jobs, tasks, series and rows as the API returns them.

What a user may see of patients and pseudonyms is decided by the same functions as for the pages.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from django.utils import timezone

from adit.accounts.models import User
from adit.api_tokens.models import ApiToken
from adit.api_tokens.tokens import allowed_nodes
from adit.jobs import actions, encrypted_payload, estimates, progress, task_groups
from adit.jobs.disclosure import Disclosure, get_disclosure
from adit.jobs.models import (
    Job,
    JobState,
    ResultLine,
    SeriesResult,
    Task,
    TaskType,
    name_for_programs,
)
from adit.jobs.progress import ImageCounts
from adit.jobs.views.task_labels import get_task_labels
from adit.messages import MessageCount
from adit.nodes import access, presentation
from adit.nodes.models import Lane, Node
from adit.orders.service import OrderPreview
from adit.projects.models import ProfileVersion, Project
from adit.projects.tables import describe_state
from adit.results import archives, query_results, transfer_results
from adit.results.query_results import QueryResultAccess
from adit.vault.cipher import DecryptionError
from adit.webhooks.models import Webhook, WebhookDelivery
from adit_engine.messages import Message


def represent_message(message: Message) -> dict[str, Any]:
    return {"code": message.code, "text": str(message)}


def represent_counts(reasons: Iterable[MessageCount]) -> list[dict[str, Any]]:
    return [{**represent_message(reason), "count": count} for reason, count in reasons]


def represent_token(token: ApiToken, reader: ApiToken) -> dict[str, Any]:
    """Return a token with those of its nodes that the token of the request is for."""
    nodes = allowed_nodes(reader, token.nodes.order_by("pk"))
    return {
        "id": token.pk,
        "name": token.name,
        "scopes": list(token.scopes),
        "nodes": None
        if token.all_nodes
        else [{"id": node.pk, "name": node.name} for node in nodes],
        "created_at": format_time(token.created_at),
        "expires_at": format_time(token.expires_at),
        "last_used_at": format_time(token.last_used_at),
        "revoked_at": format_time(token.revoked_at),
    }


def represent_webhook(webhook: Webhook) -> dict[str, Any]:
    return {
        "id": webhook.pk,
        "name": webhook.name,
        "url": webhook.url,
        "events": list(webhook.events),
        "project": None if webhook.project is None else webhook.project.protocol_id,
        "created_at": format_time(webhook.created_at),
        "failing_since": format_time(webhook.failing_since),
        "disabled_at": format_time(webhook.disabled_at),
    }


def represent_webhook_delivery(delivery: WebhookDelivery) -> dict[str, Any]:
    return {
        "event_id": str(delivery.event_id),
        "event": delivery.event,
        "job": delivery.job,
        "state": delivery.state,
        "attempts": delivery.attempt,
        "status": delivery.status,
        "message": None if delivery.message is None else str(delivery.message),
        "created_at": format_time(delivery.created_at),
        "last_attempt_at": format_time(delivery.last_attempt_at),
    }


def represent_nodes(user: User, nodes: Sequence[Node]) -> list[dict[str, Any]]:
    readable = set(access.readable_nodes(user).values_list("pk", flat=True))
    writable = {node.pk for node in archives.allowed_destinations(user)}
    return [
        {
            "id": node.pk,
            "name": node.name,
            "kind": node.kind,
            "ae_title": node.api_ae_title,
            "can_read": node.pk in readable,
            "can_write": node.pk in writable,
            "state": status.state,
            "reason": str(status.reason),
        }
        for node, status in ((node, presentation.get_status(node)) for node in nodes)
    ]


def represent_project(project: Project) -> dict[str, Any]:
    return {
        "id": project.protocol_id,
        "name": project.protocol_name,
        "sponsor": project.sponsor,
        "state": describe_state(project)[0],
        "profile": str(project.profile),
        "modalities": [word for word in project.modalities.split(", ") if word],
        "patient_cap": project.patient_cap,
        "second_person": project.second_person,
        "expires_on": project.expires_on.isoformat() if project.expires_on else None,
    }


def represent_profile(profile: ProfileVersion) -> dict[str, Any]:
    return {
        "id": profile.pk,
        "name": profile.name,
        "version": profile.version,
        "is_frozen": profile.frozen_at is not None,
        "created_at": format_time(profile.created_at),
    }


def represent_preview(
    preview: OrderPreview, key: str, starts_at: datetime | None
) -> dict[str, Any]:
    summary = preview.summary
    withheld = [
        {
            **represent_message(part.reason),
            "count": part.images,
            "is_certain": part.is_sure,
        }
        for part in summary.withheld
    ]
    withheld += [
        {
            "code": risk.decision.known.code,
            "text": risk.sentence,
            "count": risk.images,
            "is_certain": False,
        }
        for risk in summary.withheld_for_risks
    ]
    return {
        "expected": summary.images,
        "withheld": withheld,
        "bytes": summary.size_bytes,
        "starts_at": format_time(starts_at),
        "problems": [represent_message(one) for one in (*preview.no_space, *summary.notes)],
        "preview": key,
        "patients": summary.patients,
        "studies": summary.studies,
        "series": summary.series,
        "needs_approval": preview.needs_approval,
        "needs_archive_password": preview.makes_archive,
    }


def find_start_time(nodes: Sequence[Node], *, urgent: bool) -> datetime | None:
    """Return when the hours of all nodes allow a transfer; None if a node has to be opened first."""
    if any(not node.is_open or node.paused_at is not None for node in nodes):
        return None
    lane = Lane.URGENT if urgent else Lane.RETRIEVE
    return estimates.find_sequential_end_time(nodes, lane, 0.0)


# Jobs ---------------------------------------------------------------------------------------------


def represent_jobs(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    counts = progress.count_images_by_job(jobs)
    tasks = progress.count_tasks([job.pk for job in jobs])
    return [
        _represent_job(job, counts.get(job.pk, ImageCounts()), tasks.get(job.pk)) for job in jobs
    ]


def represent_job(user: User, job: Job) -> dict[str, Any]:
    """Return one job with its reasons, files and what the user may do with it."""
    items = SeriesResult.objects.filter(task__job=job)
    reasons = progress.count_reasons(items)
    waits_for = _find_wait_reason(job)
    return {
        **represent_jobs([job])[0],
        "reasons": represent_counts(reasons),
        "left_out": represent_counts(progress.count_left_out(items)),
        "waits_for": None if waits_for is None else str(waits_for),
        "waits_for_code": None if waits_for is None else waits_for.code,
        "ends_at": format_time(estimates.estimate_job(job).ends_at),
        "rows": _count_rows(job),
        "archives": [
            {
                "id": file.pk,
                "name": file.name,
                "bytes": file.size_bytes,
                "images": file.images,
                "expires_at": format_time(file.expires_at),
            }
            for file in job.archives.filter(removed_at=None).order_by("round", "pk")
        ],
        "actions": [*actions.allowed(user, job), *_start_action(user, job)],
    }


def _represent_job(
    job: Job, counts: ImageCounts, tasks: progress.Progress | None
) -> dict[str, Any]:
    project = job.project
    message = job.message
    return {
        "id": job.pk,
        "kind": job.kind,
        "state": name_for_programs(job.state),
        "expected": counts.expected,
        "delivered": counts.delivered,
        "withheld": counts.withheld,
        "skipped": counts.skipped,
        "failed": counts.failed,
        "message": None if message is None else str(message),
        "message_code": None if message is None else message.code,
        "title": job.title,
        "owner": job.owner.get_username(),
        "project": None if project is None or project.is_default else project.protocol_id,
        "destination": job.destination.name if job.destination else None,
        "identified": job.is_as_is,
        "urgent": job.urgent,
        "bytes": counts.size_bytes,
        "tasks": tasks.tasks if tasks else 0,
        "tasks_ended": tasks.tasks_ended if tasks else 0,
        "created_at": format_time(job.created_at),
        "started_at": format_time(job.started_at),
        "ended_at": format_time(job.ended_at),
        "archived_at": format_time(job.archived_at),
    }


def _find_wait_reason(job: Job) -> Message | None:
    """Why the job does not go on now; None if nothing prevents it."""
    if job.state == JobState.WAITING_FOR_APPROVAL:
        return Message("api.waits-for-approval")
    if job.state == JobState.WAITING_FOR_OWNER:
        return job.message or Message("api.waits-for-start")
    if job.state == JobState.HELD:
        return Message("api.waits-for-decision")
    if job.state in (JobState.PENDING, JobState.IN_PROGRESS):
        return next(iter(task_groups.wait_reasons(job)), None)
    return None


def _count_rows(job: Job) -> dict[str, int] | None:
    if job.capabilities.has_result_table:
        return {str(name): count for name, count in query_results.count_outcomes(job).items()}
    if not job.capabilities.has_transfer_rows:
        return None
    counts = progress.count_sheet_rows(job)
    names = ("rows", "delivered", "withheld", "invalid", "excluded", "not_found", "not_transferred")
    return {name: getattr(counts, name) for name in names}


def _start_action(user: User, job: Job) -> Iterator[str]:
    waits = job.state == JobState.WAITING_FOR_OWNER
    if waits and job.capabilities.has_transfer_rows and job.owner_id == user.pk:
        yield "start"


def represent_tasks(user: User, job: Job, tasks: Sequence[Task]) -> list[dict[str, Any]]:
    disclosure = get_disclosure(user, job)
    counts = progress.count_images_by_task(tasks)
    return [_represent_task(task, counts.get(task.pk), disclosure) for task in tasks]


def _represent_task(
    task: Task, counts: ImageCounts | None, disclosure: Disclosure
) -> dict[str, Any]:
    counts = counts or ImageCounts()
    labels = get_task_labels(task, disclosure)
    message = task.message
    purpose = "archive" if task.type == TaskType.PACK else "transfer"
    return {
        "number": task.position,
        "purpose": "search" if task.lane == Lane.SEARCH else purpose,
        "state": task.state,
        "source": task.source.name if task.source else None,
        "expected": counts.expected,
        "delivered": counts.delivered,
        "withheld": counts.withheld,
        "skipped": counts.skipped,
        "failed": counts.failed,
        "message": None if message is None else str(message),
        "message_code": None if message is None else message.code,
        "failures": task.failures,
        "started_at": format_time(task.started_at),
        "ended_at": format_time(task.ended_at),
        "pseudonym": labels.pseudonym,
        "patient": None
        if labels.is_masked or labels.is_closed
        else {
            "PatientID": labels.patient_id,
            "PatientName": labels.patient_name,
            "PatientBirthDate": labels.birth_date,
            "StudyDate": labels.study_date,
            "StudyDescription": labels.description,
            "AccessionNumber": labels.accession_number,
        },
        "modalities": [word for word in labels.modalities.split(", ") if word],
    }


def represent_series(items: Sequence[SeriesResult]) -> list[dict[str, Any]]:
    return [
        {
            "task": item.task.position,
            "number": item.number,
            "modality": item.modality,
            "expected": item.expected,
            "delivered": item.delivered,
            "withheld": item.withheld,
            "skipped": item.skipped,
            "failed": item.failed,
            "bytes": item.size_bytes,
            "is_final": item.is_final,
            "reasons": represent_counts(item.reasons),
            "notes": [represent_message(note) for note in item.notes],
            "left_out": None if item.skip_reason is None else represent_message(item.skip_reason),
        }
        for item in items
    ]


def represent_query_rows(user: User, job: Job, rows: Sequence[ResultLine]) -> list[dict[str, Any]]:
    """Return lines of a batch query, by the columns of its result sheet."""
    sees = get_disclosure(user, job)
    access = QueryResultAccess(identified=sees.identified, own=sees.rows, pseudonyms=sees.given)
    try:
        results = query_results.open_results(encrypted_payload.get_cipher(job.project), rows)
    except DecryptionError:
        return []
    if not access.own:
        results = [query_results.mask_invalid(result) for result in results]
    columns = [*query_results.export_columns(), *query_results.own_headers(job)]
    cells = query_results.export_rows(job, results, access)
    return [
        {
            "row": result.line,
            "state": result.outcome.value,
            "reason": query_results.describe_notes(result),
            "next_step": query_results.describe_step(result),
            "cells": dict(zip(columns, row, strict=True)),
        }
        for result, row in zip(results, cells, strict=True)
    ]


def represent_transfer_rows(
    user: User, job: Job, rows: Sequence[ResultLine]
) -> list[dict[str, Any]]:
    """Return rows of a batch transfer, by the columns of its result sheet."""
    sees = get_disclosure(user, job)
    columns = transfer_results.result_columns(job, sees)
    answers = transfer_results.get_row_results(job, rows, places=True)
    return [
        {
            "row": answer.line,
            "state": answer.state,
            "reason": answer.reason,
            "next_step": "" if answer.step is None else str(answer.step),
            "cells": dict(
                zip(columns, transfer_results.result_cells(job, answer, sees), strict=True)
            ),
        }
        for answer in (transfer_results.as_disclosed(job, one, sees) for one in answers)
    ]


def format_time(at: datetime | None) -> str | None:
    return None if at is None else timezone.localtime(at).isoformat(timespec="seconds")
