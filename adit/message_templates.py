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

_JOBS: dict[str, Template] = {
    # Actions on jobs and tasks
    "job.not-yours": _("This is not your job. Ask its owner or a staff member."),
    "job.wrong-state": _("This action is not possible. The state of the job is “{state}”."),
    "task.wrong-state": _("This action is not possible. The state of the study is “{state}”."),
    # How a task ended, or why it starts again
    "task.canceled": _("Canceled."),
    "task.tried": ngettext("Tried {count} time.", "Tried {count} times.", "count"),
    "task.taken-over": _("Another worker has taken over this task."),
    "task.lease-expired": _("The worker could not confirm in time that it still holds this task."),
    "task.no-progress": _("No data was received for {seconds} s."),
    "task.worker-stopped": _("The worker was stopped. The task continues automatically."),
    "task.worker-lost": _("The worker stopped unexpectedly. The task starts again automatically."),
    "task.worker-lost-often": ngettext(
        "The worker stopped unexpectedly {count} time. Ask an administrator to check the log.",
        "The worker stopped unexpectedly {count} times. Ask an administrator to check the log.",
        "count",
    ),
    "task.patient-not-confirmed": _("The changed patient ID was not confirmed. Reason: {reason}"),
    # The images of a task or job
    "delivery.complete": ngettext(
        "{count} image delivered.", "All {count} images delivered.", "count"
    ),
    "delivery.all-withheld": ngettext(
        "Nothing to deliver: {count} image was withheld, as announced.",
        "Nothing to deliver: all {count} images were withheld, as announced.",
        "count",
    ),
    "delivery.rest-withheld": _("{delivered} images delivered, {count} withheld as announced."),
    "delivery.partial": _("{delivered} of {count} images delivered."),
    "delivery.nothing": _("Nothing was delivered."),
    "delivery.no-series": _("Nothing was transferred: no series of this study was selected."),
    "delivery.series-unfinished": _("One series was not finished."),
    "delivery.no-list": _(
        "The source returned no reliable list of the images of a series: not yet proven complete."
    ),
    "delivery.no-result": _("No result was received."),
    "delivery.counted": _("{count} × {reason}"),
    "delivery.more-reasons": ngettext(
        "And {count} other reason.", "And {count} other reasons.", "count"
    ),
    # The rows of a query
    "query.rows-matched": ngettext(
        "Matches found for {matched} of {count} row.",
        "Matches found for {matched} of {count} rows.",
        "count",
    ),
    "query.rows-not-queried": ngettext(
        "Canceled: {count} row was not queried.",
        "Canceled: {count} rows were not queried.",
        "count",
    ),
    "query.rows-not-answered": ngettext(
        "{count} row was not answered. See the reason in the results.",
        "{count} rows were not answered. See the reasons in the results.",
        "count",
    ),
    # How a job ended, or why it waits
    "job.not-started": _("The transfer was not started."),
    "job.check-done": _(
        "The check is finished. No image has been fetched yet. Review the rows, then start the "
        "transfer."
    ),
    "job.pilot-done": ngettext(
        "The pilot is finished: {count} image delivered. Review it, then continue.",
        "The pilot is finished: {count} images delivered. Review them, then continue.",
        "count",
    ),
    "job.held": ngettext(
        "The source has another patient ID for {count} study. An authorized user must confirm it.",
        "The source has other patient IDs for {count} studies. An authorized user must confirm "
        "them.",
        "count",
    ),
    "job.canceled": ngettext(
        "Canceled. {count} image had already been delivered.",
        "Canceled. {count} images had already been delivered.",
        "count",
    ),
    "job.studies-failed": ngettext("{count} study failed.", "{count} studies failed.", "count"),
    "job.studies-with-gaps": ngettext(
        "{count} study has gaps.", "{count} studies have gaps.", "count"
    ),
    "job.see-studies": _("See the list of studies for the reasons."),
    "job.rule-violated": _(
        "A rule that prevents mixing up patients was violated. See the failed studies."
    ),
    "job.archive-not-built": _("The 7-Zip file was not built."),
    "job.stalled": _("Job {job} has made no progress for {hours} hours. Check its page."),
    "job.no-return-reason": _("Enter the reason why the order is returned. Its owner can read it."),
}

_KINDS: dict[str, Template] = {
    "kind.uninstalled": _("This kind of job is not installed anymore."),
    "kind.unknown": _("There is no kind of job named {kind}."),
    "order-request.no-reason": _("Enter a reason why identified data must be sent."),
    "order-request.long-reason": _("The reason may have at most {limit} characters."),
    "order-request.bad-key": _("The key of an order must have 1 to {limit} characters."),
    "order-request.no-destination": _("Select at least one destination."),
    "order-request.many-destinations": _("An order can have at most {limit} destinations."),
    "order-request.repeated-destination": _("A destination is selected twice."),
    "order-request.destination-is-source": _(
        "Source and destination are the same. Select another destination."
    ),
    "batch-query.no-row": _("No row is selected. Select at least one row."),
    "batch-query.many-rows": _("A query can have at most {limit} rows. Split the sheet."),
    "batch-query.no-source": _("Select at least one PACS or folder to query."),
    "batch-query.many-sources": _("A query can have at most {limit} PACS or folders."),
    "batch-query.has-destination": _("A query sends no images. Remove the destination."),
    "batch-transfer.no-study": _("Line {line} does not identify a study."),
    "batch-transfer.no-row": _("The sheet has no row that can be ordered."),
    "batch-transfer.many-rows": _("An order can have at most {limit} rows. Split the sheet."),
    "batch-transfer.no-source": _("Select the PACS or folder to fetch from."),
    "batch-transfer.many-sources": _("An order can fetch from at most {limit} PACS or folders."),
    "batch-transfer.repeated-line": _("One line of the sheet is ordered twice."),
    "selective.no-study": _("Nothing is selected. Select at least one study or series."),
    "selective.many-studies": _("An order can have at most {limit} studies. Split the order."),
    "selective.repeated-study": _("One study is selected twice. Combine its series in one row."),
    "selective.no-patient-id": _("Study {row} has no patient ID. Enter a pseudonym for it."),
    "selective.two-pseudonyms": _("Study {row}: this patient has two different pseudonyms."),
    "selective.shared-pseudonym": _(
        "Study {row}: the pseudonym {pseudonym} is used for two patients."
    ),
}

_RESULTS: dict[str, Template] = {}

_REVIEW: dict[str, Template] = {}

_ORDERS: dict[str, Template] = {}

_WORKER: dict[str, Template] = {
    "task.database-down": _("The database did not respond."),
    "task.key-missing": _("The data of this task cannot be decrypted: the key is missing."),
    "task.internal-error": _("Internal error. Ask an administrator to check the log, then retry."),
    "task.queued": _("Waiting in the queue."),
    "query.matched": _("A match was found."),
    "query.no-match": _("No match was found."),
    "archive.no-password": _(
        "The password of the 7-Zip file is not stored anymore. Retry and enter a new password."
    ),
    "archive.no-images": _("No image was delivered, so no 7-Zip file was built."),
    "archive.more-images": _("More images are being transferred. The 7-Zip file is built again."),
    "archive.built": ngettext(
        "{images} images in one file.", "{images} images in {count} files.", "count"
    ),
    "archive.in-progress": _("The 7-Zip file is being built and tested: {percent} %."),
}

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
