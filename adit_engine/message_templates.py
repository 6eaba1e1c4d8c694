"""The templates of all messages of the engine: code -> sentence, one dictionary per package.

Sentences are plain English that a radiology coordinator understands: what happened, where, and the
next step. They never name a patient and end with a full stop, except clauses, which are values of
other messages (codes that start with "clause."). A template of a `NodeError` names {node}.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plural:
    """Two forms of one sentence; the value named `count` decides which one is used."""

    count: str
    singular: str
    plural: str


Template = str | Plural


def _(template: str) -> str:
    """Mark a template for translation: xgettext finds it by the name of this function."""
    return template


def ngettext(singular: str, plural: str, count: str) -> Plural:
    """Mark both forms for translation; `count` is the name of the value that decides."""
    return Plural(count, singular, plural)


_GENERAL: dict[str, Template] = {
    "text": "{text}",
    "patient-changed": _(
        "The source now lists the patient of this study under another ID than in the order, for "
        "example after a merge. The transfer stopped; a person must confirm that it is the same "
        "patient."
    ),
    "node-error.with-contact": _("{error} Contact: {contact}"),
}

_VALUES: dict[str, Template] = {}

_DICOM_FILE: dict[str, Template] = {}

_DICOM_UL: dict[str, Template] = {}

_NODES: dict[str, Template] = {}

_DICOMWEB: dict[str, Template] = {}

_DIAGNOSTICS: dict[str, Template] = {}

_STORAGE_SCP: dict[str, Template] = {}

_PSEUDONYMIZE: dict[str, Template] = {}

_VERIFY: dict[str, Template] = {}

_TRANSFER: dict[str, Template] = {
    # Reasons of single images. The category is the key by which they are counted.
    "refused": "{error}",
    "warning": "{warning}",
    "not-kept": "{reason}",
    "not-kept.not-listed": _(
        "The destination accepted this image, but does not list it now. Retry the transfer."
    ),
    "not-confirmed": _(
        "This image was sent, but the destination has not confirmed that it stores it. Retry the "
        "transfer."
    ),
    "not-received": _(
        "The source listed this image, but did not send it. Retry the transfer; if it fails again, "
        "ask the PACS administrator."
    ),
    "not-reached": _("This image was not sent: the transfer failed before. Retry the transfer."),
    "canceled": _("This image was not sent: the job was canceled before."),
    "vanished": _("This image disappeared from the source during the transfer."),
    "offline": _(
        "The source reports this image as offline, so it cannot be fetched. Ask the PACS "
        "administrator to bring it online, then retry."
    ),
    "rule-broken": "{error}",
    "rejected": _("This image was rejected at the source {why}."),
    "rejection-note": _("This is a rejection note ({why}). It is not transferred."),
    "clause.rejected-for-patient-safety": _("for patient safety reasons"),
    "clause.rejected-for-quality": _("for quality reasons"),
    "clause.rejected-for-worklist-entry": _("because of an incorrect worklist entry"),
    "clause.rejected-for-retention": _("because its retention period has expired"),
    "fault": "{fault}",
    "malformed.header": "{error}",
    "two-uids": _(
        "The instance UID in the image differs from the instance UID under which the source sent "
        "it, so the image cannot be identified. Ask the PACS administrator to correct it."
    ),
    "uid-repeated": _(
        "Another series of this study contains an object with the same instance UID, and the "
        "destination might keep only one of them. Ask the PACS administrator to correct the study."
    ),
    "series-held-back": _(
        "Withheld because another image of this series did not pass the final check."
    ),
    # Notes and remarks on a series.
    "series.new-images": _(
        "New images were added to this series at the source during the transfer. Retry the "
        "transfer if any of them are missing."
    ),
    "series.foreign-object": _("The source sent an object of another series. It was ignored."),
    "series.two-objects-under-one-uid": _(
        "The source sent two different objects with the same instance UID. Ask the PACS "
        "administrator to correct the series."
    ),
    "series.not-found": _("This series was selected, but the source no longer has it."),
    "source-list.no-single-images": _(
        "The source does not list single images, so completeness cannot be verified."
    ),
    "source-list.incomplete": _(
        "The list of images from the source is incomplete ({shortfall}), so completeness cannot be "
        "verified."
    ),
    "source-list.empty": _("The source listed no images of this series."),
    "source-list.contradictory": _(
        "The source listed {listed} images of this series, but reports a total of {counted}, so "
        "completeness cannot be verified."
    ),
    "rejections.unreadable": _(
        "A key object series of this study could not be read. Some of the images may have been "
        "rejected at the source. Ask the PACS administrator to check the series."
    ),
    "rejections.sent-before": ngettext(
        "{images} image was sent before it was known to be rejected at the source. Ask the "
        "administrator of the destination to delete it.",
        "{images} images were sent before they were known to be rejected at the source. Ask the "
        "administrator of the destination to delete them.",
        "images",
    ),
    "destination.no-proof": _(
        "The destination cannot confirm which images it stores. If its response to each image is "
        "sufficient, turn off the storage proof in the settings of the node."
    ),
    "storage-proof": "{remark}",
    # Errors of a whole study.
    "study.not-found": _(
        "{node} no longer has a study with this study UID and patient. It may have been deleted. "
        "Search for it again."
    ),
    "study.foreign-series": _(
        "The source listed a series of another study than the requested one. Ask the PACS "
        "administrator to check the source."
    ),
    "study.second-patient": _(
        "The source holds images of another patient in this study. The transfer of the study was "
        "stopped. Ask the PACS administrator to correct the study, then order it again."
    ),
    "key-object.unreadable": _("The key object document cannot be read. {fault}"),
    "key-object.rare-encoding": _(
        "The key object document uses a transfer syntax that is not supported."
    ),
    "key-object.no-title": _("The key object document has no title."),
    "key-object.no-images": _("The rejection note refers to no image."),
}

_PATIENT_SEARCH: dict[str, Template] = {
    "patient-search.no-criteria": _(
        "A row needs a patient ID, an accession number, or a name and a birth date."
    ),
}

_CLI: dict[str, Template] = {
    # Nodes on the command line.
    "cli.folder-without-path": _("Add a path after folder:."),
    "cli.unknown-node-url": _(
        "{scheme}: is not a known type of node. Use dimse://CALLED@host:port, "
        "dimse+tls://CALLED@host:port, dicomweb+https://host/root, archive:FILE.7z or a path."
    ),
    "cli.archive-url": _("Write archive:FILE.7z, such as archive:/data/lung.7z."),
    "cli.dimse-url": _("Write dimse://CALLED@host:port, such as dimse://PACS1@10.0.0.5:104."),
    "cli.dicomweb-url": _(
        "Write dicomweb+https://host/root or dicomweb+https://USER@host/root?password_file=PATH."
    ),
    "cli.tls-parameter": _("{key} is allowed for dimse+tls:// only, not for dimse://."),
    "cli.transport-parameter": _("Use dimse+tls:// for TLS, or dimse:// for DICOM without TLS."),
    "cli.tls-files": _(
        "Specify certificates and key as files: ca_file, certificate_file and key_file."
    ),
    "cli.secret-in-url": _("Store the {key} in a file and add {key}_file=PATH to the URL."),
    "cli.unknown-setting": _("{key} is not a setting of {kind} nodes."),
    "cli.not-a-number": _("{key} must be a number."),
    "cli.file-unreadable": _("{path} cannot be read: {reason}."),
    "clause.not-a-text-file": _("it is not a text file"),
    # Options.
    "cli.keyword-without-value": _("{keyword}: write Keyword=value, such as PatientID=123."),
    "cli.trial-without-sponsor": _("--trial requires --sponsor, the name of the sponsor."),
    "cli.one-pseudonym-for-several-patients": _(
        "--pseudonym is for one patient, but the studies belong to several patients. Use "
        "--generate."
    ),
    "cli.option-without-reason": _("{option} requires a reason."),
    "cli.receiver-without-dimse": _(
        "--receiver requires a DIMSE node, such as dimse://PACS1@10.0.0.5:104."
    ),
    "cli.same-folder": _("Source and destination are the same folder. Choose another folder."),
    "cli.password-without-archive": _(
        "--password-file requires an archive as destination, such as archive:FILE.7z."
    ),
    "cli.file-exists": _("{file} already exists. Choose another name."),
    "cli.password-missing": _(
        "The command cannot ask for the password of the archive. Use --password-file."
    ),
    "cli.passwords-differ": _("The two passwords differ. Enter the same password twice."),
    "cli.ledger-not-writable": _(
        "The ledger cannot be written to {path}: {reason}. Choose another file with --manifest."
    ),
    "clause.no-write-permission": _("no permission to write"),
    "clause.is-a-folder": _("it is a folder"),
    # Results.
    "cli.incomplete": _("The answer of {node} is incomplete ({shortfall})."),
    "cli.study-not-found": _(
        "{node} has no study {study}. Check the study UID with adit-engine find."
    ),
    "cli.study-failed": _("Study {study}: {error}"),
    "cli.not-a-source": _(
        "{node} only receives images. It cannot be searched, and it cannot be a source."
    ),
    "cli.no-test-transfer": _("{node}: test transfers are not available for this type of node."),
    "cli.check-timed-out": _("{node} did not answer all requests within {seconds} s."),
    "cli.try-later": _("Try again when the node is less busy."),
    "cli.stopped": _("The command was stopped by a signal. Delivered images are in the ledger."),
    "cli.decide-on-faces": _(
        "Images that may show a face were withheld because there was no decision about them. Add "
        "--withhold-faces, or --accept-faces with a reason."
    ),
    "cli.decide-on-header-word": _(
        "Images were withheld because their header does not prove that their pixels contain no "
        "text. Add a pixel rule for the device to the profile, or --accept-header-word with a "
        "reason."
    ),
    "no-patient-id": _("The study has no patient ID, so no pseudonym can be generated."),
    "not-packed": _("The 7-Zip file could not be created, so this image was not delivered."),
}

TEMPLATES: Mapping[str, Template] = (
    _GENERAL
    | _VALUES
    | _DICOM_FILE
    | _DICOM_UL
    | _NODES
    | _DICOMWEB
    | _DIAGNOSTICS
    | _STORAGE_SCP
    | _PSEUDONYMIZE
    | _VERIFY
    | _TRANSFER
    | _PATIENT_SEARCH
    | _CLI
)
