"""The templates of all messages of the project: code -> sentence, one dictionary per app.

The rules are those of adit_engine/message_templates.py.
"""

from collections.abc import Mapping

from adit_engine.message_templates import Template, _, ngettext

_VAULT: dict[str, Template] = {}

_ACCOUNTS: dict[str, Template] = {}

_NODES: dict[str, Template] = {}

_CALENDAR: dict[str, Template] = {}

_RECEIVING: dict[str, Template] = {}

_PROJECTS: dict[str, Template] = {}

_SPREADSHEETS: dict[str, Template] = {}

_JOBS: dict[str, Template] = {}

_KINDS: dict[str, Template] = {}

_RESULTS: dict[str, Template] = {
    "row.not-found": _("No match was found."),
    "row.not-queried": _("The row was not queried."),
    "row.not-queried-yet": _("The row has not been queried yet."),
    "row.more-results": _(
        "There may be more results: the source limits their number. Narrow the dates."
    ),
    "row.several-patients": _(
        "Studies of several patient IDs match. Correct the row, or ask the PACS administrator."
    ),
    "row.different-patient": _(
        "The source has this number under a different name, birth date or patient ID. Correct the "
        "row."
    ),
    "row.filtered-by-adit": _("The PACS rejected a search condition. ADIT filtered the results."),
    "row.several-studies": _("Several studies match. Select one."),
    "row.series-missing": _("The study does not contain this series."),
    "row.source-failed": _("The source reported an error for this row."),
    "row.delivered-before": _("Skipped: the study was delivered before."),
    "row.excluded": _("Excluded before the start."),
    "row.series-delivered-before": ngettext(
        "{count} series was delivered before and is skipped.",
        "{count} series were delivered before and are skipped.",
        "count",
    ),
    "row.waiting-for-approval": _("The job is waiting for approval."),
    "results.task-taken-over": _("Another worker has taken over this task."),
    "restart.staff-only": _(
        "Only staff can restart from the beginning. Retry transfers only missing images."
    ),
    "delete.job-not-finished": _("The job is not finished. Cancel it first."),
    "archive-file.new-password-needed": _(
        "Enter a new password for the 7-Zip file. The previous password is no longer stored."
    ),
    "archive-file.password-missing": _(
        "Enter the password of the 7-Zip file. The file cannot be opened without it."
    ),
    "archive-file.password-too-common": _(
        "This password is too common. Choose another, or use the proposed password."
    ),
    "archive-file.password-not-saved": _(
        "Write down the password, then confirm with the checkbox that you have done so."
    ),
    "archive-file.download-not-permitted": _(
        "You do not have the permission to download files. Ask an administrator to add this "
        "permission to one of your groups."
    ),
    "archive-file.identified": _(
        "This file contains identified images. You do not have the permission to transfer "
        "identified data."
    ),
    "storage-quota.used-up": _(
        "{node}: the quota of this folder ({quota}) is used up. Free space in the folder and delete "
        "jobs that are no longer needed, or choose another destination."
    ),
    "storage-quota.too-small": _(
        "{node}: {used} of the {quota} quota of this folder are used, and about {needed} are needed. "
        "Free space in the folder and delete jobs that are no longer needed, or choose another "
        "destination."
    ),
    "storage-quota.nearly-used-up": _(
        "{used} of the {quota} quota of this folder are used. Free space in the folder and delete "
        "jobs that are no longer needed, or increase the quota."
    ),
}

_REVIEW: dict[str, Template] = {}

_ORDERS: dict[str, Template] = {
    "approval.own-order": _(
        "You cannot approve your own order. Ask another person with the permission to approve jobs."
    ),
    "approval.not-awaited": _("This job is not waiting for approval."),
    "approval.refused": _("Not approved. Reason: {reason}"),
    "cancel.before-start": _("Canceled before the start."),
    "urgent.owner-not-permitted": _(
        "The owner of this job does not have the permission for urgent jobs."
    ),
    "urgent.approved-and-running": _(
        "The job is running as approved. Cancel it first, then make it urgent."
    ),
    "remove.only-study": _("This is the only study of the job. Delete the job instead."),
    "remove.job-running": _("The job is running. Stop the study or cancel the job first."),
    "order.source-not-permitted": _(
        "You do not have the permission to fetch from this PACS or folder. Choose another source."
    ),
    "order.destination-not-permitted": _(
        "You do not have the permission to send to this PACS or folder. Choose another destination."
    ),
    "order.project-missing": _(
        "This research project does not exist anymore. Choose another project."
    ),
    "order.pseudonyms-refused": _("Pseudonyms were refused. {studies}"),
    "order.pseudonym-of-study": _("Study {study}: {reason}"),
    "start.not-your-job": _("This is not your job. Ask its owner or staff."),
    "start.check-not-finished": _("The check is not finished yet."),
    "start.rows-to-check": ngettext(
        "The transfer did not start automatically: {count} row has to be checked.",
        "The transfer did not start automatically: {count} rows have to be checked.",
        "count",
    ),
    "start.not-automatic": _("The transfer did not start automatically. {reason}"),
    "start.no-row-left": _(
        "The transfer cannot start: no row identifies exactly one study. Select studies below, or "
        "correct the rows and upload them again."
    ),
    "start.rows-refused": _("The transfer cannot start. {rows}"),
    "start.row-refused": _("Line {line}: {reason}"),
    "start.more-rows-refused": ngettext(
        "{count} more row has a problem.", "{count} more rows have a problem.", "count"
    ),
    "start.preparing-rows": _("Preparing row {number} of {total}."),
    "start.registering-pseudonyms": _("Registering pseudonyms: patient {number} of {total}."),
    "start.preparing-studies": _("Preparing study {number} of {total}."),
    "start.invalid-pilot": _("Pilot: enter a number of studies, or leave the field empty."),
    "start.invalid-lines": _("Lines to exclude: enter line numbers, for example 3, 7-12."),
    "result-sheet.reason-missing": _("Enter a reason for downloading patients with pseudonyms."),
    "columns.duplicate-field": _(
        "The same field is assigned to two columns. Assign each field to one column only."
    ),
    "columns.missing-for-query": _(
        "Assign at least the patient ID, or patient name and birth date, or the accession number."
    ),
    "columns.missing-for-transfer": _(
        "Assign at least patient ID and study UID, or the accession number, or patient ID, study "
        "date and modality."
    ),
    "selective.search-canceled": _("The search was canceled before {node} responded."),
    "selective.more-studies": _(
        "{node}: only the first {count} matching studies are shown. Narrow the search."
    ),
    "selective.limited-results": _(
        "{node} returns at most {count} results per search; there may be more. Narrow the search."
    ),
    "selective.source-not-permitted": _(
        "You do not have the permission to fetch from this source anymore."
    ),
    "archive-file.passwords-differ": _(
        "The passwords are different. Enter the same password in both fields."
    ),
}

_WORKER: dict[str, Template] = {}

_INSTALLATION: dict[str, Template] = {}

TEMPLATES: Mapping[str, Template] = (
    _VAULT
    | _ACCOUNTS
    | _NODES
    | _CALENDAR
    | _RECEIVING
    | _PROJECTS
    | _SPREADSHEETS
    | _JOBS
    | _KINDS
    | _RESULTS
    | _REVIEW
    | _ORDERS
    | _WORKER
    | _INSTALLATION
)
