"""Images of a recalled patient or job that were received, but belong to no retrieval: in quarantine.

Used by recalls. Each machine has its own quarantine: that of this machine is searched.
"""

from contextlib import suppress

from adit.blocklist import blocking
from adit.blocklist.models import BlockedPatient
from adit.jobs import encrypted_payload
from adit.jobs.models import Job, TaskType
from adit.nodes.access import get_domain
from adit.nodes.models import Lane, Node
from adit.nodes.receiving import quarantine
from adit.vault.cipher import DecryptionError
from adit_engine.storage_scp.quarantine import QuarantinedInstance


def find_images(subject: BlockedPatient | Job) -> list[QuarantinedInstance]:
    """Return the images of a patient, or of the studies of a job. Raises DecryptionError."""
    if isinstance(subject, Job):
        return _find_images_of_job(subject)
    return _find_images_of_patient(subject)


def delete_images(subject: BlockedPatient | Job) -> int:
    """Delete these images; return their number. Raises DecryptionError, OSError."""
    return sum(quarantine.remove_image(image) for image in find_images(subject))


def _find_images_of_job(job: Job) -> list[QuarantinedInstance]:
    """Return the images of the series that were ordered, whoever sent them."""
    ordered: dict[str, set[str]] = {}
    for task in job.tasks.filter(type=TaskType.ORDERED).exclude(lane=Lane.SEARCH):
        with suppress(DecryptionError):  # without the key of the project nothing is known
            payload = encrypted_payload.open_task(task).payload
            if study := payload.get("study_uid"):
                ordered.setdefault(study, set()).update(payload.get("series_uids") or [""])
    if not ordered:
        return []
    return [
        image
        for image, identity in quarantine.list_identities()
        if ordered.get(identity.study_uid, set()) & {"", identity.series_uid}
    ]


def _find_images_of_patient(entry: BlockedPatient) -> list[QuarantinedInstance]:
    """Return the images of the patient; of unknown senders those with the patient ID."""
    domains: dict[str, set[str]] = {}
    for node in Node.objects.all():
        title = str(node.settings.get("called_ae_title") or "").strip()
        domains.setdefault(title, set()).add(get_domain(node))
    domains.pop("", None)
    found = []
    for image, identity in quarantine.list_identities():
        places = domains.get(image.calling.strip()) or {entry.domain}
        if identity.patient_id and any(
            blocking.is_patient(entry.index, entry.project, place, identity.patient_id)
            for place in places
        ):
            found.append(image)
    return found
