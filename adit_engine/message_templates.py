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
    "patient-changed": _(
        "The source now lists the patient of this study under another ID than in the order, for "
        "example after a merge. The transfer stopped; a person must confirm that it is the same "
        "patient."
    ),
    "node-error.with-contact": _("{error} Contact: {contact}"),
}

_VALUES: dict[str, Template] = {
    "uid.invalid": _("A UID must have at most 64 characters: digits, separated by single dots."),
    "ae-title.invalid": _("An AE title must have 1 to 16 ASCII characters and no backslash."),
    "date-range.empty": _("A date range needs a first or a last day."),
    "date-range.reversed": _("The last day of the date range is before the first day."),
    "query.unknown-attribute": _("{keyword} is not a DICOM attribute."),
    "query.not-a-search-key": _(
        "“{keyword}” says nothing about images or patients. Search by another attribute."
    ),
    "query.invalid-value": _(
        "{keyword} contains a backslash or a control character, so it cannot be used in a query. "
        "Correct it. If the value comes from a PACS, ask the PACS administrator to correct it."
    ),
    "query.response-without-uid": _(
        "The PACS sent a query response at {level} level without a valid UID."
    ),
    "left-out.not-selected": _("The series was not selected."),
    "left-out.modality": _("The modality of the series is none of: {modalities}."),
    "not-kept.unlisted": _(
        "The destination accepted this image, but does not list it as stored in its storage "
        "commitment report."
    ),
    "not-kept.reported": _(
        "The destination accepted this image, but its storage commitment report says that it is "
        "not stored: {reason} ({status})."
    ),
    "commitment-report.no-transaction": _("The storage commitment report has no transaction UID."),
    "clause.commitment.processing-failure": _("processing failure"),
    "clause.commitment.no-such-image": _("no such image"),
    "clause.commitment.class-conflict": _("an object of another SOP class has this UID"),
    "clause.commitment.class-not-supported": _("SOP class not supported"),
    "clause.commitment.duplicate-transaction": _("duplicate transaction UID"),
    "clause.commitment.no-resources": _("out of resources"),
    "clause.commitment.unknown-reason": _("unknown reason"),
    "archive-password.too-short": _("The password must have at least {minimum} characters."),
    "archive-password.too-long": _("The password must have at most {maximum} characters."),
    "archive-password.characters": _(
        "Use only ASCII letters, digits and punctuation in the password, and no blank at its "
        "start or end. Other characters are typed differently on other computers."
    ),
    "archive-password.guessable": _(
        "The password is too easy to guess. Use several unrelated words, or the suggested password."
    ),
}

_DICOM_FILE: dict[str, Template] = {
    "data-set.truncated": _("The data set ends inside the element at byte {offset}."),
    "data-set.delimiter": _("A delimiter was found at byte {offset} where an element is expected."),
    "data-set.no-vr": _("The element at byte {offset} has no valid VR."),
    "data-set.element-too-long": _("The element at byte {offset} is longer than its data set."),
    "data-set.undefined-length": _(
        "The element at byte {offset} has an undefined length, which its VR does not allow."
    ),
    "data-set.item-truncated": _("A sequence ends inside the item at byte {offset}."),
    "data-set.not-an-item": _("A sequence contains something other than an item at byte {offset}."),
    "data-set.item-too-long": _("The item at byte {offset} is longer than its sequence."),
    "data-set.sequence-too-long": _("The sequence at byte {offset} is longer than its data set."),
    "data-set.sequence-open": _(
        "A sequence of undefined length does not end before byte {offset}."
    ),
    "data-set.too-deep": _("Sequences are nested more than {limit} levels deep."),
    "data-set.value-too-long": _("The value of element {tag} is too long for its VR."),
    "data-set.value-length": _("A value has a length that is invalid for its VR {vr}."),
    "data-set.duplicate-element": _("Element {tag} occurs twice."),
    "data-set.character-set-position": _("The character set is defined after text elements."),
    "data-set.pixel-data-position": _("The pixel data are not at the expected position."),
    "data-set.frame-truncated": _("A compressed frame is truncated."),
    "data-set.no-fragment": _("The compressed pixel data have no fragment."),
    "data-set.uid-missing": _("The data set has no valid {name}."),
    "data-set.not-inflatable": _("The deflated data set cannot be decompressed."),
    "data-set.inflated-too-large": _(
        "The deflated data set is truncated, or larger than {limit_mb} MB after decompression."
    ),
    "data-set.sequence-before-uids": _(
        "A big endian sequence of undefined length precedes the UIDs."
    ),
    "dicom-file.truncated": _("The file was truncated while it was read."),
    "dicom-file.no-prefix": _("This is not a DICOM file: the prefix DICM at byte 128 is missing."),
    "dicom-file.meta-missing": _("The file meta information has no element {tag}."),
    "dicom-file.meta-uid": _("A UID in the file meta information is not ASCII text."),
    "fault": "{fault}",
    "too-large.deflated": _(
        "The deflated data set is truncated, or larger than {limit_mb} MB after decompression."
    ),
    "disk.full": _("{node}: the disk is full. Free space, then retry."),
    "disk.not-permitted": _(
        "{node}: writing is not permitted. Give write permission to the account that runs ADIT."
    ),
    "disk.not-a-folder": _(
        "{node}: a link or a file was found where a folder is expected. Check the folder."
    ),
    "disk.folder-missing": _("{node}: the folder does not exist. Create or mount it, then retry."),
    "disk.unusable": _("{node}: the folder cannot be used ({error}). Check the disk or the mount."),
    "disk.temporary-folder-full": _(
        "{node}: the temporary folder of ADIT has no space for a large image. Free space, then "
        "retry."
    ),
    "rendering.frame": _("The image has frames 1 to {frames}."),
    "rendering.unsupported": _("Images of this type cannot be displayed."),
}

_DICOM_UL: dict[str, Template] = {
    # Connections. `hint` is one of the clauses below.
    "connection.lost": _("The connection to {node} was lost. {hint}"),
    "connection.closed": _(
        "{node} closed the connection before the operation was finished. {hint}"
    ),
    "connection.not-open": _("The connection to {node} is no longer open. {hint}"),
    "connection.timed-out": _("{node} did not {awaited} within {seconds} s. {hint}"),
    "connection.total-time-exceeded": _("{node} exceeded the total time limit. {hint}"),
    "clause.hint-negotiation": _(
        "Check that the port is a DICOM port without TLS, and that the PACS knows our address "
        "and AE title."
    ),
    "clause.hint-retry": _(
        "Retry. If it happens again, ask the administrator of the PACS to check its log."
    ),
    "clause.hint-tls": _(
        "Check that this port uses TLS, and that the PACS knows our address and AE title."
    ),
    "clause.hint-tls-without-certificate": _(
        "Check that this port uses TLS, that the PACS requires no client certificate, and that it "
        "knows our address and AE title."
    ),
    "clause.hint-tls-caller": _(
        "Ask its administrator whether it uses TLS and trusts our certificate."
    ),
    "host.no-dns-answer": _(
        "{node}: the name server did not respond for {host}. Check the network."
    ),
    "host.unknown": _(
        "{node}: the host name {host} is unknown. Check the address in the settings."
    ),
    "host.connection-refused": _(
        "{node}: no service listens on {host} port {port}. Check the address in the settings, and "
        "whether the service is running."
    ),
    "host.connect-timeout": _(
        "{node}: {host} port {port} did not respond within {seconds} s. Check the address in the "
        "settings and the firewall."
    ),
    "host.unreachable": _(
        "{node}: no connection to {host} port {port} ({reason}). Check the address in the "
        "settings and the network."
    ),
    "clause.no-address": _("no address"),
    # What was awaited when a connection timed out.
    "clause.await-association": _("respond to the association request"),
    "clause.await-association-request": _("request an association"),
    "clause.await-release": _("release the association"),
    "clause.await-next-request": _("send the next request"),
    "clause.await-accept-data": _("accept our data"),
    "clause.await-echo": _("respond to the C-ECHO request"),
    "clause.await-query": _("respond to the query"),
    "clause.await-retrieval": _("continue the retrieval"),
    "clause.await-cancel": _("cancel the retrieval"),
    "clause.await-first-image": _("send an image"),
    "clause.await-next-image": _("send the next image"),
    "clause.await-store": _("respond to a stored image"),
    "clause.await-commitment": _("respond to the Storage Commitment request"),
    "clause.await-commitment-report": _("send the Storage Commitment report"),
    "clause.await-tls": _("finish the TLS handshake"),
    # Requests.
    "clause.request-echo": _("the C-ECHO request"),
    "clause.request-query": _("the query"),
    "clause.request-retrieval": _("the retrieval"),
    "clause.request-store": _("the C-STORE request"),
    "clause.request-commitment": _("the Storage Commitment request"),
    # Associations and protocol errors.
    "association.unexpected-answer": _(
        "{node} sent an unexpected response to the association request. {hint}"
    ),
    "association.invalid-answer": _(
        "{node} sent an invalid response to the association request. {hint}"
    ),
    "association.request-expected": _("{node} did not start with an association request. {hint}"),
    "association.invalid-request": _("{node} sent an invalid association request. {hint}"),
    "association.not-dicom": _("{node} sent data that is not DICOM. {hint}"),
    "association.aborted": _("{node} aborted the association. {hint}"),
    "association.aborted-for-title": _(
        "{node} aborted the association. Some PACS do this if {calling_title} has no permission "
        "for the request. {hint}"
    ),
    "association.pdu-limit": _("{node} accepts only PDUs that are too small for messages. {hint}"),
    "association.message-too-large": _("{node} sent a message that is too large. {hint}"),
    "association.command-expected": _("{node} sent data instead of a command. {hint}"),
    "association.unknown-context": _(
        "{node} used a presentation context that was not negotiated. {hint}"
    ),
    "association.invalid-command": _("{node} sent an invalid command. {hint}"),
    "association.mixed-messages": _("{node} mixed the data of two messages. {hint}"),
    "association.released": _(
        "{node} released the association before the operation was finished. {hint}"
    ),
    "association.unexpected-pdu": _("{node} sent an unexpected PDU. {hint}"),
    "association.invalid-pdu": _("{node} sent an invalid PDU. {hint}"),
    "association.empty-data": _("{node} sent many fragments without content. {hint}"),
    "association.wrong-response": _("{node} did not respond correctly to {request}. {hint}"),
    "association.no-free": _("{node} has no free association at the moment. Try again later."),
    "association.unknown-calling-title": _(
        "{node} rejected our AE title {calling_title}. Ask its administrator to register it."
    ),
    "association.unknown-called-title": _(
        "{node} does not accept the AE title {called_title}. Check Called AE title in the settings."
    ),
    "association.rejected-temporarily": _(
        "{node} rejected the association temporarily. Try again later."
    ),
    "association.protocol-version": _("{node} does not support our version of the DICOM protocol."),
    "association.rejected": _(
        "{node} rejected the association without a reason. Ask its administrator whether "
        "{calling_title} and our address are registered."
    ),
    "association.service-not-offered": _(
        "{node} does not offer {service} to us. Ask its administrator to allow it."
    ),
    # Statuses of responses (PS3.7 Annex C).
    "status.busy": _("{node} refused {request} (status {status}): {reason}. Try again later."),
    "status.refused": _("{node} refused {request} (status {status}): {reason}."),
    "status.failed": _(
        "{node} refused {request} (status {status}): {reason}. Retry. If it happens again, ask "
        "its administrator to check its log."
    ),
    "status.canceled": _(
        "{node} canceled {request}. Retry. If it happens again, ask its administrator to check its "
        "log."
    ),
    "status.no-image-sent": _(
        "{node} could not send any of the requested images (status {status}). Try again later. If "
        "it happens again, use C-MOVE, or ask its administrator to check its log."
    ),
    "clause.status-unknown-attribute": _("unknown attribute"),
    "clause.status-invalid-attribute": _("invalid attribute value"),
    "clause.status-processing-failure": _("processing failed"),
    "clause.status-invalid-instance": _("invalid instance UID"),
    "clause.status-unknown-class": _("unknown SOP class"),
    "clause.status-class-conflict": _("SOP class and instance do not match"),
    "clause.status-missing-attribute": _("missing attribute"),
    "clause.status-missing-value": _("missing attribute value"),
    "clause.status-unsupported-class": _("the SOP class is not supported"),
    "clause.status-not-authorized": _(
        "not authorized, ask its administrator to allow it for our AE title"
    ),
    "clause.status-duplicate-message": _("duplicate message number"),
    "clause.status-unknown-operation": _("unknown operation"),
    "clause.status-invalid-message": _("invalid message"),
    "clause.status-out-of-resources": _("out of resources"),
    "clause.status-class-mismatch": _("the data set does not match its SOP class"),
    "clause.status-cannot-process": _("it cannot be processed"),
    "clause.status-unknown": _("no known reason"),
    # Results of stored images: the categories are "refused" and "warning".
    "refused.status": _("The destination refused the image (status {status}): {reason}."),
    "refused.busy": _(
        "The destination refused the image (status {status}): {reason}. Try again later."
    ),
    "refused.sop-class": _("The destination does not accept {sop_class}."),
    "refused.transfer-syntax": _(
        "The destination does not accept {transfer_syntax}, and the image could not be re-encoded."
    ),
    "warning.already-stored": _("The destination already contained the image."),
    "warning.elements-changed": _(
        "The destination stored the image, but changed or removed elements (status {status})."
    ),
    "warning.status": _("The destination stored the image with a warning (status {status})."),
    "warning.re-encoded": _(
        "The image was re-encoded without loss as {transfer_syntax}, which the destination accepts."
    ),
    "warning.re-encoded-with-warning": _(
        "{warning} The image was re-encoded without loss as {transfer_syntax}, which the "
        "destination accepts."
    ),
    # Reading of messages.
    "association-request.invalid": _("The association request is invalid."),
    "association-response.invalid": _("The response to the association request is invalid."),
    "association-item.too-long": _("An item of the negotiation is longer than the PDU."),
    "command-set.truncated": _("The command ends inside an element at byte {offset}."),
    "command-set.invalid": _("The command is invalid at byte {offset}."),
    "message-buffer.limit-exceeded": _("A response is larger than the limit."),
    "identifier.unknown-attribute": _("{keyword} is not a DICOM attribute."),
    "identifier.invalid-value": _(
        "The value of {keyword} is too long, or it is not a number that this attribute can hold. "
        "Correct it."
    ),
    "identifier.unsupported-attribute": _(
        "{keyword}: attributes of type {vr} cannot be used in a query."
    ),
    # TLS. `setting` is the label of the setting or file.
    "tls.expected-by-peer": _(
        "{node} uses TLS, but its settings here say plain DICOM. Set both sides to TLS."
    ),
    "tls.not-offered": _(
        "{node} does not use TLS on this port. Ask its administrator for the TLS port."
    ),
    "tls.plain-caller": _(
        "{node} uses plain DICOM on a TLS port. Ask its administrator to enable TLS."
    ),
    "tls.handshake-lost": _("The connection to {node} was lost during the TLS handshake. {hint}"),
    "tls.closed-at-start": _("{node} closed the connection when TLS was started. {hint}"),
    "tls.failed": _("The TLS connection to {node} failed ({reason}). {hint}"),
    "clause.certificate": _("certificate"),
    "clause.client-certificate": _("client certificate"),
    "clause.no-reason-given": _("no reason given"),
    "tls.certificate-name": _(
        "The {certificate} of {node} is not issued for {name}. Check the host, or enter the name "
        "in the certificate as Name in the certificate."
    ),
    "tls.certificate-expired": _(
        "The {certificate} of {node}, or that of its issuer, has expired. Ask its administrator "
        "to renew it."
    ),
    "tls.certificate-not-yet-valid": _(
        "The {certificate} of {node} is not valid yet. Check the clocks of both machines."
    ),
    "tls.certificate-revoked": _(
        "The {certificate} of {node} was revoked. Ask its administrator for a new one."
    ),
    "tls.certificate-not-for-servers": _(
        "The certificate of {node} is not valid for servers. Ask its administrator for one that is."
    ),
    "tls.certificate-not-for-clients": _(
        "The client certificate of {node} is not valid for clients. Ask its administrator for one "
        "that is."
    ),
    "tls.certificate-weak": _(
        "The {certificate} of {node} uses a key or digest that is no longer secure. Ask its "
        "administrator for a new one."
    ),
    "tls.certificate-untrusted": _(
        "The {certificate} of {node} is not issued by a trusted authority. Verify the certificate "
        "with its administrator, then add it, or that of its issuer, to {setting}."
    ),
    "tls.certificate-rejected": _(
        "The {certificate} of {node} is not accepted ({reason}). Ask its administrator for another "
        "one."
    ),
    "tls.client-certificate-required": _(
        "{node} requires a client certificate. Enter one that its administrator accepts, with its "
        "key."
    ),
    "tls.no-client-certificate": _(
        "{node} presents no client certificate. Ask its administrator to configure one for our "
        "receiver."
    ),
    "tls.own-certificate-untrusted": _(
        "{node} does not accept our certificate ({setting}). Give its administrator the "
        "certificate of the issuer."
    ),
    "tls.own-certificate-expired": _(
        "{node} reports that our certificate has expired ({setting}). Renew it."
    ),
    "tls.own-certificate-revoked": _(
        "{node} reports that our certificate was revoked ({setting}). Renew it."
    ),
    "tls.version": _(
        "{node} offers no TLS version that we allow (1.2 or newer). Ask its administrator to "
        "enable one."
    ),
    "tls.ciphers": _(
        "{node} has no cipher in common with us. Ask its administrator to allow those of BCP 195: "
        "ECDHE with AES-GCM."
    ),
    "tls.unknown-name": _(
        "{node} does not know the name {name}. Check the host and Name in the certificate."
    ),
    "tls.handshake-refused-without-certificate": _(
        "{node} refused the TLS handshake. It may require a client certificate: ask its "
        "administrator."
    ),
    "tls.handshake-refused": _(
        "{node} refused the TLS handshake. Ask its administrator to check its log."
    ),
    "tls.file-unreadable": _("{setting}: {path} cannot be read ({reason})."),
    "clause.not-text": _("not a text file"),
    "tls.name-invalid": _("{setting}: this is not a valid host name."),
    "tls.certificate-missing": _("{setting}: a certificate is required for TLS."),
    "tls.key-without-certificate": _("{setting}: the certificate of this key is missing."),
    "tls.certificate-invalid": _("This is not a certificate in PEM format."),
    "tls.certificate-text-invalid": _(
        "{setting}: this is not a certificate in PEM format. Enter the text from "
        "-----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----."
    ),
    "tls.key-missing": _("{setting}: enter the private key of the certificate, in PEM format."),
    "tls.key-password": _(
        "{setting}: the key has a password. Enter it without one; ADIT stores it encrypted."
    ),
    "tls.key-mismatch": _("{setting}: the key does not match {certificate_setting}."),
    "tls.key-too-short": _("{setting}: the key is too short to be secure. Create a new one."),
    "tls.key-invalid": _("{setting}: this is not a private key in PEM format."),
}

_NODES: dict[str, Template] = {
    "node.stopped": _("The operation on {node} was stopped."),
    "node.unknown-kind": _("{kind} is not a node kind. Known kinds: {known}."),
    "stream.closed": _("The images are no longer needed."),
    # Settings. `setting` is the label of the setting.
    "setting.invalid": _("{setting}: {error}"),
    "setting.choice": _("{setting}: choose one of {choices}."),
    "setting.range": _("{setting}: enter a number from {minimum} to {maximum}."),
    "setting.factor": _("{setting}: enter 0, or a number from {min} to {max}."),
    "setting.minimum": _("{setting}: enter {minimum} or more."),
    "setting.positive-or-empty": _("{setting}: enter a number greater than 0, or leave it empty."),
    "setting.time-limits": _("Time limits must be greater than 0 seconds."),
    "setting.required": _("{setting}: enter a value."),
    "setting.ascii": _("{setting}: only ASCII characters without spaces are allowed."),
    "setting.private-key-in-certificate": _(
        "{setting}: this contains a private key. Enter the key in Client key."
    ),
    "setting.too-long": _("{setting}: enter at most {maximum} characters."),
    "setting.host": _("Host: enter a host name or an IP address."),
    "setting.character-set": _("{setting}: enter a DICOM term such as ISO_IR 100."),
    "setting.absolute-path": _("{setting}: enter an absolute path that begins with /."),
    "setting.octal": _("{setting}: enter octal digits such as 640."),
    "setting.unknown-group": _("{setting}: this machine has no group {group}."),
    "setting.archive-folders": _(
        "The folder for 7-Zip files and the folder for staged images are required."
    ),
    # Why a node gets fewer associations at once than its settings allow.
    "association-limit.slower": _("Several connections were slower than one."),
    "association-limit.busy": _("The node was busy and refused a further connection."),
    "association-limit.not-served": _("The node did not serve a further connection."),
    "association-limit.lost": _("The node ended a further connection early."),
    "association-limit.mixed": _("The node sent images that another connection had requested."),
    "association-limit.lists": _("The node does not send single images on request."),
    # Searches.
    "c-find.endless": _(
        "{node} sends search results without end. Ask its administrator to check its log."
    ),
    "c-find.invalid-data": _("{node} sent invalid search results. {error}"),
    "clause.truncated-list": _("returned a truncated list"),
    "clause.unreadable-files": ngettext(
        "contains {count} file or folder that cannot be read (check its permissions or remove it)",
        "contains {count} files or folders that cannot be read (check their permissions or remove "
        "them)",
        "count",
    ),
    # Retrieval.
    "retrieval.study-not-found": _("{node} no longer has this study. Search for it again."),
    "retrieval.series-not-found": _("{node} no longer has this series. Search for it again."),
    "retrieval.no-status": _("{node} ended the retrieval without a status."),
    "retrieval.no-receiver": _(
        "{node} is set to C-MOVE, but no receiver is running here. Set Retrieve by to get, or run "
        "a receiver."
    ),
    "retrieval.patient-id-required": _(
        "{node} uses the patient root. Enter the patient ID in addition to the UIDs."
    ),
    "c-get.no-progress": _(
        "{node} reports that the retrieval is running, but sends no more images. Retry. If it "
        "happens again, ask its administrator to check its log."
    ),
    "clause.images-by-c-get": _("images of these SOP classes by C-GET"),
    "c-move.association-ended": _(
        "{node} ended the association after the C-MOVE request. It may not know where to send the "
        "images: ask its administrator to register the AE title {ae_title} at {address}."
    ),
    "c-move.unknown-destination": _(
        "{node} does not know where to send images for {ae_title} (status {status}). Ask its "
        "administrator to register the AE title {ae_title} at {address}. Some PACS also report this "
        "if our receiver refused their images: check Senders in the settings of the PACS."
    ),
    "c-move.no-image-sent": _(
        "{node} could not send its images to us (status {status}). Ask its administrator whether "
        "{ae_title} is registered at {address} and whether a firewall blocks the connection. Check "
        "Senders in the settings of the PACS: images from other senders are refused. Try again "
        "later."
    ),
    "c-move.failed": _(
        "{node} could not process the retrieval (status {status}). Some PACS report this if they "
        "cannot reach us: ask its administrator whether {ae_title} is registered at {address}. Try "
        "again later."
    ),
    "c-move.cannot-count": _(
        "{node} has no resources to count the images to send (status {status}). Try again later."
    ),
    # Storage.
    "c-store.context-lost": _("{node} accepted this SOP class before, but not any more."),
    "refused.different-object": _(
        "Another object with the same UID already exists at the destination. It was not replaced."
    ),
    "proof.disabled": _(
        "Storage was not verified, since the check is disabled in the settings of the destination. "
        "Only its response to each image is known."
    ),
    "proof.by-query": _("Storage was verified by a query instead of Storage Commitment. {error}"),
    "not-kept.no-report-no-query": _(
        "The destination accepted the image, sent no report that it is stored, and does not allow "
        "queries."
    ),
    "not-kept.not-found": _(
        "The destination accepted the image and reports that it is stored, but a query does not "
        "find it."
    ),
    "commitment.report-too-large": _(
        "{node} sent a Storage Commitment report that is too large. {hint}"
    ),
    "commitment.report-expected": _(
        "{node} sent another message instead of the Storage Commitment report. {hint}"
    ),
    "commitment.no-report": _(
        "{node} sent no Storage Commitment report within {seconds} s. Ask its administrator to "
        "which address it sends its reports."
    ),
    # Folders and 7-Zip files.
    "folder.not-a-folder": _("{node}: the path is a file, not a folder."),
    "folder.not-mounted": _("{node}: the network folder is not mounted. Mount it, then retry."),
    "folder.too-many-files": _(
        "{node}: the folder contains more than {limit} files and folders. Divide it, and add each "
        "part as a folder of its own."
    ),
    "folder.file-unreadable": _("The file cannot be read."),
    "folder.two-objects": _("The folder contains two different objects with the same UID."),
    "folder.test-file-differs": _(
        "{node}: a test file could not be read back as it was written. Check the disk."
    ),
    "storage.insufficient-space": _(
        "{node}: {free} GB are available, about {needed} GB are required. Free disk space, then "
        "retry."
    ),
    "storage.almost-full": _("{node}: the disk is almost full. Free disk space, then retry."),
    "delivery-list.file-missing": _("The image was delivered, but the file no longer exists."),
    "archive.staged-images-changed": _(
        "{node}: staged images were removed or changed before the 7-Zip file was created. Start "
        "the transfer again from the beginning."
    ),
    "archive.verification-failed": _(
        "{node}: the 7-Zip file could not be read back as it was written. Check the disk, then "
        "retry."
    ),
    "archive.cannot-open": _(
        "The 7-Zip file cannot be opened: the password is wrong or the file is damaged."
    ),
    "archive.damaged": _("A file in the 7-Zip file is damaged."),
    "re-encoding.uid-changed": _("Re-encoding changed a UID."),
}

_DICOMWEB: dict[str, Template] = {
    "clause.request-qido": _("the query (QIDO-RS)"),
    "clause.request-wado": _("the retrieval (WADO-RS)"),
    "clause.request-stow": _("the upload (STOW-RS)"),
    "clause.await-accept-request": _("accept the data of {request}"),
    "clause.await-response": _("respond to {request}"),
    "clause.await-response-end": _("continue its response to {request}"),
    "root-url.forbidden-characters": _("{setting}: ?, # and .. are not allowed."),
    "root-url.invalid": _("{setting}: this is not a valid URL."),
    "root-url.scheme": _("{setting}: enter https://host/path, or http:// if necessary."),
    "root-url.port": _("{setting}: the port must be between 1 and 65535."),
    "root-url.credentials": _("{setting}: enter user and password in their own fields."),
    "setting.user": _("{setting}: enter a name without a colon."),
    "host.not-allowed": _(
        "{node}: {host} resolves to {kind}, which is not allowed. Check the root URL; an "
        "administrator can allow it in the settings."
    ),
    "clause.address-of-many": _("a multicast or reserved address"),
    "clause.address-link-local": _("a link-local or metadata address"),
    "clause.address-loopback": _("this machine"),
    "host.tls-failed": _(
        "{node}: {host} port {port} does not accept an encrypted connection. Check the root URL "
        "and the TLS settings."
    ),
    "dicomweb.certificate-untrusted": _(
        "The certificate of {node} is not trusted ({reason}). Enter the CA certificate of its "
        "issuer, or check the host name in the root URL."
    ),
    "dicomweb.busy": _("{node} is too busy for {request} (status {http_status}). Try again later."),
    "dicomweb.busy-until": _(
        "{node} is too busy for {request} (status {http_status}). Try again in {seconds} s."
    ),
    "dicomweb.redirect": _(
        "{node} responded to {request} with a redirect (status {http_status}), which ADIT does not "
        "follow. Enter the final address as root URL."
    ),
    "dicomweb.not-offered": _(
        "{node} does not offer {request} at this address (status {http_status})."
    ),
    "dicomweb.failed": _(
        "{node} failed to process {request} (status {http_status}). Try again later. If it happens "
        "again, ask its administrator to check its log."
    ),
    "dicomweb.refused": _("{node} refused {request} (status {http_status}): {reason}."),
    "clause.http-400": _("invalid request, check the root URL and the paths"),
    "clause.http-401": _(
        "sign-in failed, check user and password or token in the settings; a token may have expired"
    ),
    "clause.http-403": _("our account has no permission, ask its administrator"),
    "clause.http-404": _("nothing exists at this address, check the root URL and the paths"),
    "clause.http-406": _(
        "it cannot respond in the requested format, ask its administrator whether it supports "
        "DICOMweb"
    ),
    "clause.http-407": _(
        "a proxy requires a sign-in, ask the network administrator for direct access"
    ),
    "clause.http-410": _("the requested object no longer exists, search for it again"),
    "clause.http-413": _("the upload is too large, ask its administrator to raise the limit"),
    "clause.http-414": _("the address is too long"),
    "clause.http-415": _("DICOM is not accepted at this address, check the root URL and the paths"),
    "clause.http-421": _("it does not respond under this host name, check the root URL"),
    "clause.http-495": _("our client certificate is not accepted"),
    "clause.http-496": _("a client certificate is required, enter one in the settings"),
    "dicomweb.web-page": _(
        "{node} responded to {request} with a web page. Check the root URL, the paths and the "
        "sign-in."
    ),
    "dicomweb.not-dicom": _(
        "{node} responded to {request} with data that is not DICOM. Check the root URL, the paths "
        "and the sign-in."
    ),
    "dicomweb.encoding": _(
        "{node} responded to {request} in an encoding that was not requested. {hint}"
    ),
    "dicomweb.truncated": _("{node} did not complete its response to {request}. {hint}"),
    "dicomweb.response-too-large": _("{node} sent a too large response to {request}. {hint}"),
    "dicomweb.invalid-json": _("{node} sent invalid JSON in response to {request}. {hint}"),
    "dicomweb.endless-list": _("{node} sent an endless list in response to {request}. {hint}"),
    "dicomweb.no-length": _(
        "{node} sent a file without its length in response to {request}. {hint}"
    ),
    "dicomweb.invalid-multipart": _(
        "{node} sent an incomplete or invalid response to {request}. {hint}"
    ),
    "dicomweb.invalid-parts": ngettext(
        "{node} sent {count} part that is not DICOM in response to {request}. {hint}",
        "{node} sent {count} parts that are not DICOM in response to {request}. {hint}",
        "count",
    ),
    "dicomweb.not-http": _(
        "{node} did not respond to {request} like a web server. Check the root URL, or retry."
    ),
    "dicomweb.headers-too-long": _("{node} sent headers that are too long. {hint}"),
    "qido.no-patient-level": _("{node} cannot list patients (DICOMweb). Search for studies."),
    "wado.study-not-found": _(
        "{node} no longer has this study. Search for it again. If it is found, check the root URL "
        "and Path for retrieval in the settings."
    ),
    "wado.series-not-found": _(
        "{node} no longer has this series. Search for it again. If it is found, check the root URL "
        "and Path for retrieval in the settings."
    ),
    "refused.too-large": _(
        "The image is too large for the destination. Ask its administrator to raise the limit."
    ),
    "refused.object-or-encoding": _(
        "The destination does not accept this kind of object or encoding."
    ),
    "refused.http-status": _("The destination could not store the image (status {http_status})."),
    "refused.not-confirmed": _(
        "The destination did not confirm that the image is stored, and a query does not find it."
    ),
    "warning.not-confirmed": _(
        "The destination did not confirm that the image is stored, but a query finds it."
    ),
    "json.trailing-text": _("Text follows the JSON array."),
    "json.invalid": _("This is not valid JSON."),
    "json.not-an-object": _("This is not a JSON object."),
    "json.too-much-space": _("The JSON contains too much white space."),
    "json.incomplete-array": _("The JSON array is incomplete."),
    "json.no-objects": _("The JSON array contains values that are not objects."),
    "json.too-deep": _("The JSON is nested too deeply, or contains invalid values."),
    "json.object-too-large": _("The JSON contains an object that is too large or invalid."),
    "json.truncated": _("The JSON is incomplete."),
    "json.not-utf8": _("The JSON is not in UTF-8."),
    "multipart.no-boundary": _("This is not a multipart body: its type has no boundary."),
    "multipart.headers-too-long": _("The headers of a part are too long."),
    "multipart.truncated": _("The multipart body ends before its last boundary."),
    "multipart.wrong-boundary": _("The body does not use the boundary in its type."),
}

_DIAGNOSTICS: dict[str, Template] = {
    # What the test of a node found. Codes "step." are next steps, "proposal." reasons of proposals.
    "step.fix-pacs": _("Fix this before using the PACS."),
    "step.fix-folder": _("Fix this before using the folder."),
    "step.fix-archive": _("Fix this before using 7-Zip files."),
    "step.fix-destination": _("Fix this before sending images to this node."),
    # Folders.
    "test.folder-exists": _("The folder of {node} exists."),
    "test.folder-writable": _("ADIT can write to it."),
    "test.folder-read-only": _("ADIT can read it, but cannot write to it."),
    "step.grant-write": _(
        "To use it as a destination, grant write permission to the account that runs ADIT."
    ),
    "test.mounted": _("It is mounted."),
    "test.mounted-as": _("It is mounted ({filesystem})."),
    "test.network-folder": _(
        "It is a network folder ({filesystem}), but its settings do not say so."
    ),
    "step.mark-network-folder": _("Select Network folder in the settings."),
    "proposal.network": _(
        "ADIT then writes nothing into the empty folder while the share is not mounted."
    ),
    "test.space-low": _("Only {free} GB are free."),
    "step.free-space": _("Free disk space."),
    "test.space": _("{free} GB are free."),
    "test.file-not-written": _("A test file could not be written. {error}"),
    "test.file-written": _(
        "A test file was written, flushed, renamed and removed ({milliseconds} ms)."
    ),
    "test.file-written-slowly": _(
        "A test file was written, flushed, renamed and removed ({milliseconds} ms). This is slow."
    ),
    "step.slow-disk": _(
        "Transfers of many small images will take long. Ask the administrator of the disk or share."
    ),
    "test.other-filesystem": _("New folders in it are on another file system than the folder."),
    "step.other-filesystem": _("Enter the folder of that file system instead."),
    "test.memory": ngettext(
        "{node} holds {count} image in memory.", "{node} holds {count} images in memory.", "count"
    ),
    # Associations.
    "test.echo": _("{node} responds (C-ECHO, {milliseconds} ms)."),
    "test.encrypted": _("The connection is encrypted ({version})."),
    "test.encrypted-until": _(
        "The connection is encrypted ({version}). The certificate is valid until {day}."
    ),
    "test.certificate-expires": _(
        "The connection is encrypted ({version}). The certificate expires on {day}."
    ),
    "step.renew-certificate": _(
        "Ask its administrator to renew it before that day. Transfers fail afterwards."
    ),
    "clause.any-size": _("unlimited"),
    "clause.up-to-bytes": _("up to {size} bytes"),
    "clause.unnamed": _("unknown"),
    "test.implementation": _("Software: {name}. PDU size: {pdu_size}."),
    "test.small-pdu": _("Software: {name}. PDU size: {pdu_size}. We accept only {own_size} bytes."),
    "step.max-pdu": _("Enter {size} as Maximum PDU size."),
    "proposal.max-pdu": _("Small PDUs slow down the transfer of each image."),
    "test.no-search": _("It does not allow searches (C-FIND)."),
    "test.search-roots": _("It supports searches (C-FIND) by {roots} root."),
    "test.search-roots-relational": _(
        "It supports searches (C-FIND) by {roots} root, also across studies (relational)."
    ),
    "step.query-root": _("Choose {root} as Query root."),
    "proposal.query-root": _("It does not accept searches by {root} root."),
    "test.no-retrieval": _("It does not allow retrieval of images."),
    "test.c-get-without-images": _(
        "It does not allow retrieval of images. It accepts C-GET, but sends no images by it."
    ),
    "test.retrieval": _("Images can be retrieved by {methods}."),
    "step.retrieve-by": _("Choose {method} for Retrieve by."),
    "proposal.method-not-offered": _("It does not offer {method} to us."),
    "test.accepts-images": _("It accepts images from us (C-STORE)."),
    "test.refuses-images": _("It does not accept images from us (C-STORE)."),
    "step.allow-for-title": _(
        "If it should, ask its administrator to allow it for the AE title {ae_title}."
    ),
    "test.commitment-used": _("It offers Storage Commitment, which is used."),
    "test.commitment-offered": _(
        "It offers Storage Commitment. Send a test image to see whether its report arrives."
    ),
    "test.commitment-missing": _(
        "Storage Commitment is set, but it is not offered. ADIT verifies storage by a query."
    ),
    "step.choose-find": _("Choose find for Verification of storage."),
    "proposal.commitment-missing": _("It does not offer Storage Commitment to us."),
    "test.commitment-not-needed": _(
        "It does not offer Storage Commitment. ADIT verifies storage by a query."
    ),
    "test.no-proof": _(
        "It offers neither Storage Commitment nor searches, so storage cannot be verified."
    ),
    "step.allow-proof": _(
        "Ask its administrator to allow one of them for the AE title {ae_title}."
    ),
    # Searches.
    "test.character-set-named": _("It declares the character set of its results: {names}."),
    "test.character-set-plain": _(
        "It declares no character set. Its results contain ASCII characters only."
    ),
    "test.character-set-known": _(
        "It declares no character set for non-ASCII characters. ADIT reads them as {name}."
    ),
    "test.character-set-unknown": _(
        "It declares no character set for non-ASCII characters. They appear to be {name}."
    ),
    "step.character-set": _(
        "Enter {name} as Default character set, then check that names are shown correctly."
    ),
    "proposal.character-set": _("Names with umlauts and accents are then read correctly."),
    "test.newest-refused": _("It refused to list its newest studies. {error}"),
    "step.allow-search-by-date": _(
        "Ask its administrator whether searches by date alone are allowed."
    ),
    "test.no-studies": _("It lists no studies."),
    "step.no-studies": _(
        "If it contains studies, ask its administrator to grant our account access."
    ),
    "test.no-series": _("It lists studies, but no series of them."),
    "step.allow-series-level": _("Ask its administrator to allow searches at SERIES level."),
    "test.many-studies": ngettext(
        "It lists {count} study and more in one search.",
        "It lists {count} studies and more in one search.",
        "count",
    ),
    "test.few-studies": ngettext(
        "It listed {count} study. That is too few to see whether it truncates long lists.",
        "It listed {count} studies. That is too few to see whether it truncates long lists.",
        "count",
    ),
    "test.not-truncated": ngettext(
        "It does not truncate lists of {count} study.",
        "It does not truncate lists of {count} studies.",
        "count",
    ),
    "test.truncated": _("It truncates lists: a search returns at most {count} results."),
    "test.truncated-known": _(
        "It truncates lists: a search returns at most {count} results. Its settings say so."
    ),
    "step.result-cap": _("Enter {count} as Result limit."),
    "proposal.result-cap": _("ADIT then reports when a list may be incomplete."),
    "clause.number-of-images": _("the number of images"),
    "clause.modalities": _("the modalities"),
    "clause.sop-classes": _("the SOP classes"),
    "test.attributes": _("For studies it returns: {attributes}."),
    "test.attributes-without-classes": _(
        "For studies it returns: {attributes}. ADIT queries each series for the SOP classes."
    ),
    "test.attributes-missing": _(
        "For studies it does not return: {attributes}. These columns stay empty in lists."
    ),
    "step.attributes-missing": _(
        "ADIT queries each series instead. Ask its administrator whether it can return them."
    ),
    "test.no-image-level": _(
        "It does not list single images, so transfers from it cannot be verified as complete."
    ),
    "step.allow-image-level": _("Ask its administrator to allow searches at IMAGE level."),
    "test.image-count-differs": _(
        "For one series it reports {reported} images, but lists {listed}."
    ),
    "step.image-count-differs": _(
        "ADIT uses the list. If lists are truncated, enter their length as Result limit."
    ),
    "test.image-level": _("It lists the single images of a series."),
    "test.uid-lists": _("It accepts a list of image UIDs in one search."),
    "test.no-uid-lists": _(
        "It does not accept a list of image UIDs in one search. ADIT lists the whole series instead."
    ),
    "test.descriptions-ignored": _(
        "It ignores descriptions in searches. ADIT filters the results itself."
    ),
    "test.descriptions-not-found": _(
        "It finds no study by its description. Search by date and modality instead."
    ),
    "test.descriptions-any-case": _("It finds descriptions in upper and lower case."),
    "test.descriptions-exact-case": _(
        "It finds descriptions only if upper and lower case are entered as stored."
    ),
    "test.series-across-studies": _("It finds a series without its study."),
    "test.series-within-study": _(
        "It finds a series only together with its study. ADIT always gives both."
    ),
    "retrieval.no-test-image": _("{node} lists no image. Choose a study by its UID."),
    "retrieval.no-test-image-in-study": _(
        "{node} lists no image of this study. Choose another study by its UID."
    ),
    # DICOMweb.
    "test.qido": _("{node} responds to searches (QIDO-RS, {milliseconds} ms)."),
    "test.unencrypted": _("Images are transferred unencrypted (http)."),
    "test.unencrypted-sign-in": _("Images and sign-in are transferred unencrypted (http)."),
    "step.use-https": _("Use https, unless both are in one protected network."),
    "test.no-paging": _(
        "It returned {count} studies when one was requested: it does not support pages."
    ),
    "test.first-page-only": _("It returns only the first page of a long list."),
    "step.result-cap-if-truncated": _(
        "If it truncates long lists, enter the limit as Result limit."
    ),
    "test.paging": _("It returns long lists page by page (limit, offset)."),
    "test.fuzzy": _("It supports fuzzymatching. ADIT searches for exact names."),
    "test.no-fuzzy": _("It does not support fuzzymatching. ADIT does not need it."),
    "test.wado": _("It responds to retrieval requests (WADO-RS)."),
    "test.no-wado": _("It does not allow retrieval of images (WADO-RS; {answer})."),
    "test.stow": _("It accepts uploads (STOW-RS; status {http_status} for an empty one)."),
    "test.no-stow": _("It does not accept images from us (STOW-RS; {answer})."),
    "clause.no-answer": _("no response"),
    "clause.http-status": _("status {http_status}"),
    "step.check-sign-in": _(
        "Ask its administrator for the permission, or check sign-in and certificates."
    ),
    "step.check-paths": _(
        "If it should, check the root URL and the paths, or ask its administrator."
    ),
    # Test transfers.
    "clause.by-reading": _("reading the folder"),
    "clause.few-kilobytes": _("a few kB"),
    "clause.megabytes": _("{size} MB"),
    "test.image-received": _("The image was received by {method}: {size} in {duration}."),
    "test.image-not-received": _("The image was not received by {method} ({duration}). {reason}"),
    "fetch.nothing-sent": _("The PACS reported success, but sent nothing."),
    "fetch.nothing-in-time": _("Nothing was received within {seconds} s."),
    "fetch.unreadable": _("The received data cannot be read. {error}"),
    "fetch.other-image": _("Another image was received than announced."),
    "test.no-receiver": _("C-MOVE was not tested: no receiver is running here."),
    "test.other-method": _("Images of {node} are received by {method}, but another method is set."),
    "test.connections": _(
        "Images per second with the number of connections for fetching: {rates}."
    ),
    "test.sending-connections": _(
        "Images per second with the number of connections for sending: {rates}."
    ),
    "test.sending-connections-failed": _(
        "Sending over {count} connections at the same time failed. {reason}"
    ),
    "test.connections-failed": _(
        "Fetching over {count} connections at the same time failed. {reason}"
    ),
    "test.connections-few-images": _(
        "The number of connections was not measured. Enter a study with a series of at least "
        "{images} images for that."
    ),
    "test.connections-not-free": _(
        "The number of connections was not measured: not enough connections are free or allowed."
    ),
    "proposal.retrieve-associations": _("This was clearly faster than fewer connections."),
    "proposal.one-connection": _("More connections were not clearly faster."),
    "proposal.retrieve-by": _("The image was received by {method}."),
    "step.no-sender": _(
        "No unknown sender called our receiver, so probably nothing reached it. Ask its "
        "administrator whether {ae_title} is registered at {address}, and the network team whether "
        "the PACS can reach this port."
    ),
    "test.wrong-called-title": _(
        "{sender} at {sender_address} called us {called_title}, but our AE title is {ae_title}."
    ),
    "step.correct-called-title": _(
        "If this is {node}, ask its administrator to register {ae_title} instead."
    ),
    "test.sender-rejected": _(
        "Our receiver rejected {sender} at {sender_address}, which it does not know."
    ),
    "test.sender-refused": _(
        "The image was sent by {sender} at {sender_address}, which is not a sender of this PACS. It "
        "was refused."
    ),
    "test.sender-quarantined": _(
        "The image was sent by {sender} at {sender_address}, which is not a sender of this PACS. It "
        "is in quarantine."
    ),
    "step.add-sender": _(
        "If this belongs to {node}, add it to Senders: {sender}@{sender_address}."
    ),
    "proposal.senders": _("Images from {sender} at {sender_address} are then accepted."),
    "test.image-refused": _("{node} did not accept the test image. {reason}"),
    "step.allow-storing": _("Ask its administrator to allow us to store images."),
    "test.image-accepted": _("{node} accepted the test image ({milliseconds} ms)."),
    "test.image-accepted-with-warning": _(
        "{node} accepted the test image ({milliseconds} ms). {warning}"
    ),
    "test.storage-unverifiable": _("Whether the test image is stored cannot be verified. {error}"),
    "test.image-stored": _("{node} stored it as patient {patient_id}. It can be deleted there."),
    "test.image-not-listed": _("{node} did not list the test image afterwards."),
    "step.image-not-listed": _(
        "It may file images late, or under another patient. Ask its administrator where patient "
        "{patient_id} is."
    ),
    "test.commitment-reported": _(
        "It reported that the test image is stored (Storage Commitment, {milliseconds} ms)."
    ),
    "test.commitment-negative": _("Storage Commitment: {reason}"),
    "test.commitment-without-report": _(
        "It offers Storage Commitment, but no report was received. ADIT verifies storage by a "
        "query. {error}"
    ),
    "test.commitment-unusable": _("Storage Commitment is set, but no report was received. {error}"),
    "step.commitment-negative": _(
        "Ask its administrator for the reason. Use find for Verification of storage."
    ),
    "step.commitment-unusable": _(
        "Choose find for Verification of storage, or ask its administrator to fix this."
    ),
    "proposal.find": _("A query can verify whether images are stored."),
    "proposal.commitment": _("Its report was received. It is a better proof than a query."),
}

_STORAGE_SCP: dict[str, Template] = {
    "receiver.spool-full": _(
        "{node}: the disk is too full to receive images. Free disk space, then retry."
    ),
    "receiver.spool-unusable": _(
        "{node}: the folder {path} cannot be used ({reason}). Ask the administrator of ADIT."
    ),
    "receiver.port-unusable": _("The receiver cannot use port {port} ({reason})."),
    "clause.no-such-port": _("no such port"),
    "clause.this-machine": _("the address of this machine, port {port}"),
    "receiver.unsupported-request": _(
        "{node} sent a request that the receiver does not support. {hint}"
    ),
    "senders.invalid-address": _(
        "{network} is not a valid address. Enter one such as 10.0.0.5 or 10.0.0.0/24."
    ),
    "c-move.conflict": _("{node}: another retrieval of this study is running. Retry later."),
}

_PSEUDONYMIZE: dict[str, Template] = {
    "malformed.data-set": _("The image is not valid DICOM. {problem}"),
    "not-understood.error": _(
        "An unexpected error occurred during pseudonymization ({error}). Report it to the "
        "administrator."
    ),
    "syntax.unsupported": _("Images of this transfer syntax cannot be checked."),
    "identity.uid-missing": _(
        "The SOP class UID, SOP instance UID, study UID or series UID is missing."
    ),
    "identity.uid-invalid": _(
        "The SOP class UID, SOP instance UID, study UID or series UID is invalid."
    ),
    "identity.uid-reserved": _(
        "The SOP instance UID, study UID or series UID is one that the DICOM standard reserves."
    ),
    "identity.class-mismatch": _(
        "The SOP class in the header differs from the SOP class under which the image was received."
    ),
    "class.unknown": _("Objects of private or unknown SOP classes cannot be pseudonymized."),
    "class.not-admitted": _("{sop_class} objects cannot be pseudonymized."),
    "pixel-rule.class": _(
        "{sop_class} objects are withheld unless a pixel rule of the profile covers the device."
    ),
    "pixel-rule.device": _("No pixel rule of the profile covers the device."),
    "image-type.screen": _("The image type indicates a screen capture or a report."),
    "recognizable.stated": _("The header states that the patient can be recognized in the image."),
    "samples.color": _("A {modality} image in color is a screen capture or a report."),
    "report.template": _(
        "Only dose reports (TID 10011) and measurement reports (TID 1500) can be pseudonymized."
    ),
    "report.by-reference": _(
        "The report refers to its own content by position, which changes when content is removed."
    ),
    "conversion.capture": _("The image is a secondary capture, so its pixels may contain text."),
    "burned-in.stated": _("The header states that text is burned into the pixels."),
    "burned-in-unknown.not-stated": _(
        "The header does not state that no text is burned into the pixels. {modality} images need "
        "this statement."
    ),
    "header-word.undecided": _(
        "{modality} images may contain burned-in text whatever the header states, and no pixel "
        "rule of the profile covers the device. Ask a reviewer to decide on the device, or a manager "
        "of research projects to accept this risk."
    ),
    "header-word.not-accepted": _(
        "{modality} images may contain burned-in text whatever the header states, and no pixel "
        "rule of the profile covers the device. The project does not accept this risk. Ask a "
        "reviewer to decide on the device."
    ),
    "may-be-withheld.pixel-rule": _(
        "Series of modality {modality} may be withheld: no pixel rule of the profile covers them."
    ),
    "may-be-withheld.class": _(
        "Series of modality {modality} may be withheld: their SOP classes cannot be pseudonymized."
    ),
    "may-be-withheld.report": _(
        "Structured reports may be withheld: only dose and measurement reports can be sent."
    ),
    "may-be-withheld.text": _(
        "{modality} images are checked for text in their pixels before they are sent. Images with "
        "text are withheld."
    ),
    "may-be-withheld.device": _(
        "{modality} images may be withheld: a pixel rule of the profile must cover the device."
    ),
    "may-be-withheld.burned-in": _(
        "{modality} images may be withheld: the header must state that no text is burned in."
    ),
    "may-be-withheld.burned-in-or-device": _(
        "{modality} images may be withheld: the header must state that no text is burned in, or a "
        "pixel rule of the profile must cover the device."
    ),
    "clause.no-modality": _("(none)"),
    "text-found.text": _("Text was found in the pixels. Ask a reviewer to mask it."),
    "text-found.identity": _(
        "Identifying data of the patient were found in the pixels. Ask a reviewer to mask them."
    ),
    "text-found.code": _(
        "A barcode or QR code was found in the pixels. It may contain the patient ID. "
        "Ask a reviewer to mask it."
    ),
    "text-found.beside-masks": _(
        "Text was still found in the pixels after masking. Ask a reviewer to extend the mask."
    ),
    "text-detection.not-installed": _(
        "The profile requires that the pixels are checked for text, but the text detection is not "
        "installed. Ask the administrator of ADIT to install it (adit[ocr])."
    ),
    "text-detection.timed-out": _(
        "The check for text in the pixels took too long. Retry the transfer. If it happens again, "
        "ask the administrator."
    ),
    "text-detection.failed": _(
        "The check for text in the pixels failed. Retry the transfer. If it happens again, ask the "
        "administrator."
    ),
    "text-detection.unreadable": _(
        "The pixels cannot be checked for text: this type of pixel data is not supported."
    ),
    "face.likely": _("Thin slices of a head: the face of the patient could be reconstructed."),
    "face.possible": _(
        "Possibly thin slices of a head, from which the face of the patient could be "
        "reconstructed: the header does not rule this out."
    ),
    "face.likely-undecided": _(
        "Thin slices of a head: the face of the patient could be reconstructed. The project "
        "has no decision on such images yet."
    ),
    "face.possible-undecided": _(
        "Possibly thin slices of a head, from which the face of the patient could be "
        "reconstructed: the header does not rule this out. The project has no decision on "
        "such images yet."
    ),
    "pixel-meaning.element": _(
        "The value of element {tag} must not be delivered, but without it the image would be "
        "displayed or measured differently."
    ),
    "pixel-format.undefined": _("The header does not define how to read the pixels."),
    "pixel-format.unsupported": _("Pixel data of this type cannot be checked."),
    "pixel-format.not-maskable": _("Pixel data of this type cannot be masked."),
    "pixel-format.big-endian": _("Big endian pixel data of more than 16 bits are ambiguous."),
    "pixel-format.encapsulation": _(
        "The encoding of the pixel data does not match the transfer syntax."
    ),
    "pixel-length.too-short": _("The pixel data are shorter than the header states."),
    "pixel-length.fewer-frames": _("The pixel data have fewer frames than the header states."),
    "pixel-bits.overlay": _("An overlay uses bits of the image."),
    "pixel-bits.outside": _(
        "Pixels and the padding value use bits that the header does not assign to the image."
    ),
    "pixel-bits.compressed": _("The compressed pixel data use bits outside the image."),
    "pixel-stream.undecodable": _("The compressed pixel data cannot be decoded."),
    "pixel-stream.size": _(
        "The compressed image has another size, or another number of samples, than the header "
        "states."
    ),
    "pixel-stream.no-jpeg": _("The compressed pixel data do not start like JPEG data."),
    "pixel-stream.no-jpeg-2000": _("The compressed pixel data are not a JPEG 2000 codestream."),
    "pixel-stream.no-rle": _("The compressed pixel data do not start with a valid RLE header."),
    "pixel-stream.between-segments": _(
        "The compressed pixel data contain bytes between their segments."
    ),
    "pixel-stream.unknown-segment": _("The compressed pixel data contain an unknown segment."),
    "pixel-stream.unknown-box": _("The compressed pixel data contain an unknown JP2 box."),
    "pixel-stream.color-encoding": _(
        "The compressed pixel data define the color encoding in an application segment."
    ),
    "pixel-stream.tile": _("The compressed pixel data contain a tile longer than the codestream."),
    "pixel-stream.empty": _("The compressed pixel data contain no image."),
    "pixel-stream.unterminated": _("The compressed pixel data have no end marker."),
    "pixel-stream.ambiguous-end": _("The end of the compressed pixel data is ambiguous."),
    "pixel-stream.fewer-pixels": _(
        "The compressed pixel data contain fewer pixels than the header states."
    ),
    "pixel-stream.more-pixels": _(
        "The compressed pixel data contain more pixels than the header states."
    ),
    "pixel-stream.no-offsets": _("The start of each compressed frame is not defined."),
    "pixel-stream.offset-table": _(
        "The Extended Offset Table does not match the pixel data to be delivered."
    ),
    "pseudonym.invalid": _(
        "A pseudonym must have 1 to 64 characters: letters A-Z and a-z, digits, dot, hyphen, "
        "underscore."
    ),
    "pseudonym.no-patient-id": _("A pseudonym cannot be generated without a patient ID."),
    "project-key.length": _("A project key must have 32 bytes."),
    "project-key.file": _("{path} does not contain a project key (64 hex digits)."),
    "trial.field": _(
        "The clinical trial attribute “{field}” must have at most 64 characters, without backslash and "
        "line break (PS3.5 6.2)."
    ),
    "trial.required": _("Clinical trial attributes need a sponsor and a protocol ID."),
    "visit.no-id": _("Enter the visit, such as V1 or Baseline."),
    "visit.too-long": _("At most {limit} characters are possible."),
    "visit.invalid-character": _(
        "Backslashes, line breaks and invisible characters are not possible in a visit."
    ),
    "visit.looks-like-date": _(
        "This visit looks like a date. It is written to the images as it is. Use a name such as V1."
    ),
    "visit.looks-like-patient-id": _(
        "This visit looks like a number of the patient. It is written to the images as it is. Use a "
        "name such as V1."
    ),
    "profile.line": _("Line {line}: {problem}"),
    "profile.toml": _("The profile is not valid TOML: {error}."),
    "profile.too-deep": _("The profile is not valid: its lists are nested too deeply."),
    "profile.file": _("The profile {file} cannot be read as a UTF-8 file."),
    "profile.unknown-preset": _("“{name}” is not a preset. The presets are: {presets}."),
    "profile.head": _('A profile must start with name = "…" and version = a whole number.'),
    "profile.name": _("The name of a profile must have 1 to 64 characters and no backslash."),
    "profile.version": _("The version of a profile must be 1 or higher."),
    "profile.unknown-key": _("“{key}” is not a valid key. Valid keys: {keys}."),
    "profile.heading": _("Each entry needs its own heading {heading}."),
    "profile.no-code": _('A rule needs a code, for example code = "113107".'),
    "profile.first-rule": _("The first rule must have the code {option} ({meaning})."),
    "profile.text-detection": _("text_detection must be one of: {allowed}."),
    "profile.unknown-option": _("{option} is not an option code of PS3.15. Example: 113107."),
    "profile.unsupported-option": _("Option {option} ({meaning}) is not supported."),
    "profile.duplicate-option": _("Option {option} occurs twice."),
    "profile.dates-conflict": _(
        "Options 113106 (full dates) and 113107 (modified dates) cannot be combined."
    ),
    "profile.pixel-option": _(
        "Option 113101 (clean pixel data) and pixel rules ([[pixels]]) must be used together."
    ),
    "profile.pixel-keys": _(
        "A pixel rule must have exactly these keys: {required}. Optional keys: {optional}."
    ),
    "profile.pixel-types": _("These keys of a pixel rule must be text: {fields}."),
    "profile.pixel-text": _(
        "{field} of a pixel rule must be ASCII text without blanks at its start or end."
    ),
    "profile.pixel-class": _(
        "sop_class of a pixel rule must be a class that can be pseudonymized."
    ),
    "profile.pixel-size": _(
        "rows and columns of a pixel rule must be whole numbers from 1 to 65535."
    ),
    "profile.pixel-applies": _('applies must be "all" or "withheld".'),
    "profile.pixel-rectangle": _(
        "Each rectangle must be [left, top, width, height] and lie inside the image."
    ),
    "profile.pixel-reason-length": _("reason must be one line of at most {limit} characters."),
    "profile.pixel-reason-missing": _(
        "A pixel rule without rectangles states that the device burns in no text. It needs a "
        "reason."
    ),
    "profile.pixel-duplicate": _("Two pixel rules are for the same device and image size."),
    "clause.explanation.title": _("Profile “{name}”, version {version}"),
    "clause.explanation.removed": _("What is removed"),
    "clause.explanation.changed": _("What is changed"),
    "clause.explanation.kept": _("What is kept"),
    "clause.explanation.withheld": _("What is withheld"),
    "clause.explanation.risks": _("Remaining risks"),
    "explanation.purpose": _(
        "This page describes how ADIT {version} changes medical images under this profile before "
        "they leave the hospital. It is generated from the rules that ADIT applies."
    ),
    "explanation.rules": _(
        "Rules: Basic Application Confidentiality Profile of DICOM PS3.15, edition {edition}, with "
        "the options {options}."
    ),
    "explanation.rules-without-options": _(
        "Rules: Basic Application Confidentiality Profile of DICOM PS3.15, edition {edition}, "
        "without options."
    ),
    "explanation.not-processable": _(
        "Images that cannot be processed by these rules are withheld, and the reason is reported."
    ),
    "explanation.removed-rows": _(
        "Of the {total} attributes that the standard lists as possibly identifying, {removed} are "
        "removed, emptied or replaced by a dummy value in a CT image: names, addresses, telephone "
        "numbers, identifiers, accession numbers, birth date, physicians, staff, comments. The "
        "others: {others}."
    ),
    "clause.explanation.new-uid": _("{count} get a new UID"),
    "clause.explanation.date-shifted": _("{count} are dates that are shifted"),
    "clause.explanation.items-processed": _(
        "{count} are sequences whose items are processed by the same rules"
    ),
    "clause.explanation.listed-words-only": _("{count} are kept if all words are listed"),
    "clause.explanation.unchanged": _("{count} are kept, including times of day"),
    "explanation.unlisted-removed": _(
        "Each attribute that is not listed as harmless, at any nesting level."
    ),
    "explanation.attachments-removed": _(
        "Overlays and annotations, preview images, signatures, attachments, and any data before or "
        "after the image in the file."
    ),
    "explanation.private-removed": _("All private attributes of manufacturers."),
    "explanation.descriptions-removed": _(
        "All free-text descriptions, such as the study and series description."
    ),
    "explanation.dates-removed": _("All dates and times."),
    "explanation.pseudonym": _("Patient name and patient ID are replaced by the pseudonym."),
    "explanation.new-uids": _(
        "The UIDs, which link images, are replaced by new ones that are derived with the key of "
        "the project. An image has the same new UID everywhere in the project. Without the key, it "
        "cannot be linked to other projects or to the hospital."
    ),
    "explanation.dates-shifted": _(
        "All dates of a patient are shifted back by the same {shortest} to {longest} days, so that "
        "intervals are kept. Times of day are not changed."
    ),
    "explanation.ages": _("Ages above 90 years are replaced by 90."),
    "explanation.graphics": _("All graphics are removed."),
    "explanation.masked": _(
        "In images of the devices that the pixel rules of the profile name, the rectangles in "
        "which the device writes text are masked. Number of rules: {rules}."
    ),
    "explanation.header": _("The header states which of these changes were made."),
    "explanation.image-kept": _(
        "The image itself, its geometry, and the technical values needed for measurements."
    ),
    "explanation.technical-text-kept": _(
        "Manufacturer, model and software of the device, and {attributes} attributes with "
        "technical text that devices choose from lists."
    ),
    "explanation.codes-kept": _(
        "Codes of {vocabularies} public vocabularies, such as SNOMED CT; their meanings, and the "
        "names of segments, if all words are listed."
    ),
    "explanation.patient-kept": _("Patient attributes: {attributes}."),
    "explanation.patient-words-kept": _(
        "Patient attributes, if all words are listed: {attributes}."
    ),
    "explanation.full-dates-kept": _("All dates and times, unchanged."),
    "explanation.device-kept": _(
        "Serial number, station name and other identifiers of the device."
    ),
    "explanation.institution-kept": _("Name and address of the institution and its department."),
    "explanation.uids-kept": _("The original UIDs of the hospital's PACS."),
    "explanation.private-kept": _(
        "Private attributes that the standard lists as safe (Table E.3.10-1)."
    ),
    "explanation.descriptions-kept": _(
        "Descriptions in which all words are on a reviewed list ({words} words) and all numbers "
        "are short."
    ),
    "explanation.structure-kept": _("Public codes and numbers in structured content."),
    "explanation.intervals-kept": _(
        "Times of day, and the intervals between the examinations of a patient."
    ),
    "explanation.classes": _("Objects of all SOP classes except these {count}: {classes}."),
    "explanation.stated-text": _(
        "Screen captures, dose reports, scanned documents, and images whose header states that "
        "text is burned in or that the patient can be recognized."
    ),
    "explanation.not-stated": _(
        "{modalities} images whose header does not state that no text is burned in."
    ),
    "explanation.not-stated-or-rule": _(
        "{modalities} images whose header does not state that no text is burned in, unless a pixel "
        "rule covers the device."
    ),
    "explanation.risk-decision": _(
        "{modalities} images, unless a pixel rule covers the device, or the project accepts the "
        "risk of burned-in text that the header does not state."
    ),
    "explanation.text-found": _(
        "{modalities} images in whose pixels a barcode, a QR code or text is found, other than marks "
        "such as L and R and measures such as 10 cm."
    ),
    "explanation.text-found-in-slices": _(
        "CT, MR and PET images in whose pixels text or a code is found. Samples of each series are "
        "checked."
    ),
    "explanation.damaged": _(
        "Objects that are damaged or have an encoding that cannot be checked."
    ),
    "explanation.faces": _(
        "Thin CT, MR or PET slices that may show a head, unless the project accepts that a face "
        "can be reconstructed from them. Images without a body part count as head images."
    ),
    "explanation.verification": _(
        "Images in which an independent verification, which compares them with the original, finds "
        "identifying data. One such image stops the whole series."
    ),
    "explanation.released-devices": _(
        "Images of devices that, as a reviewer confirmed, burn in no text are delivered without "
        "masking. Number of devices: {devices}."
    ),
    "explanation.rule-classes": _(
        "Pixel rules release images of some devices of: {classes}. Images of other devices are "
        "withheld."
    ),
    "explanation.risk-face": _(
        "Thin CT, MR or PET slices of a head, if the project accepts them: a face can be "
        "reconstructed."
    ),
    "explanation.risk-burned-in": _(
        "Burned-in text that the header does not state, on a device that no reviewer has checked: "
        "in CT, MR and PET images, and in radiographs if the project accepts this risk."
    ),
    "explanation.risk-undetected": _(
        "Burned-in text that the text detection does not find, for example because it is very small "
        "or faint, or in a script that it does not know."
    ),
    "explanation.risk-image": _(
        "The image itself: implants, rare findings or jewelry may identify the patient to people "
        "who know the patient."
    ),
    "explanation.risk-key": _(
        "Anyone with the key of the project or the list of pseudonyms can re-identify patients."
    ),
    "explanation.risk-intervals": _(
        "Unusual intervals between examinations, or times of day, that are known from another "
        "source."
    ),
    "explanation.risk-dates": _(
        "Dates of examinations, which hospitals, insurers and the patients themselves know."
    ),
    "explanation.risk-characteristics": _(
        "Age, sex, size and weight together may identify a patient in a small group."
    ),
    "explanation.risk-place": _(
        "The device or the institution shows where the patient was treated."
    ),
    "explanation.risk-uids": _(
        "With the UIDs, anyone with access to the hospital's PACS can find the original images."
    ),
    "explanation.risk-descriptions": _(
        "A description may be unusual even if all its words are listed."
    ),
    "explanation.risk-private": _(
        "Private attributes of manufacturers are considered safe because the standard lists them."
    ),
}

_VERIFY: dict[str, Template] = {
    "verify-name.found": _("Verification found a part of the name of a person {place}."),
    "verify-id.found": _("Verification found an identifying number {place}."),
    "verify-birth-date.found": _("Verification found the birth date {place}."),
    "verify-date.found": _("Verification found an original date {place}."),
    "verify-address.found": _("Verification found an address or telephone number {place}."),
    "verify-institution.found": _("Verification found the name of an institution {place}."),
    "verify-device.found": _("Verification found the name or number of a device {place}."),
    "verify-text.found": _("Verification found a remark about the patient {place}."),
    "clause.verify.element": _("in element {tag} of the pseudonymized image"),
    "clause.verify.pixel-data": _("in the pixel data of the pseudonymized image"),
    "clause.verify.other-spelling": _("in another spelling in a text of the pseudonymized image"),
    "verify-id.not-pseudonym": _("The patient ID in element {tag} is not the pseudonym."),
    "verify-person.not-pseudonym": _("Element {tag} contains the name of a person."),
    "verify-date.not-shifted": _("Element {tag} contains a date that could not be shifted."),
    "verify-age.above-90": _("Element {tag} contains an age above 90 years."),
    "verify-uid.unchanged": _("The image still has its original SOP instance UID."),
    "verify-uid.original": _("Element {tag} contains an original UID."),
    "verify-uid.original-in-text": _("The pseudonymized image contains an original UID."),
    "verify-uid.foreign": _("Element {tag} contains a UID that ADIT did not generate."),
    "verify-element.not-removed": _("Element {tag} must be removed under this profile."),
    "verify-element.not-replaced": _("Element {tag} still has its original value."),
    "verify-element.age": _("Element {tag} contains an age, which this profile removes."),
    "verify-element.duplicate": _("Element {tag} occurs twice."),
    "verify-element.nested-pixels": _("A sequence contains pixel data (element {tag})."),
    "verify-private.not-removed": _("Private element {tag} must be removed under this profile."),
    "verify-private.not-safe": _("Private element {tag} is not listed as safe in PS3.15."),
    "verify-group.length": _("The pseudonymized image contains the group length {tag}."),
    "verify-group.forbidden": _("Element {tag} is in a group that must be removed."),
    "verify-group.overlay": _("Overlay {tag} must be removed under this profile."),
    "verify-pseudonym.identifies": _("The pseudonym itself identifies the patient."),
    "verify-visit.identifies": _(
        "The name of the visit itself identifies the patient. Choose another name for the visit."
    ),
    "verify-meta.instance": _(
        "The file meta information and the header have different SOP class or instance UIDs."
    ),
    "verify-meta.class": _("The SOP class differs from that of the original image."),
    "verify-meta.uid-missing": _("The study UID or the series UID is missing."),
    "verify-meta.character-set": _("The character set is not ISO_IR 192."),
    "verify-stamp.pseudonym": _("The patient name, patient ID or subject ID is not the pseudonym."),
    "verify-stamp.trial": _("The clinical trial attribute “{field}” is wrong."),
    "verify-stamp.visit": _("The {field} of the visit is wrong."),
    "verify-stamp.not-marked": _("The header does not state that ADIT de-identified the image."),
    "verify-stamp.nested": _("Element {tag} is a de-identification attribute inside a sequence."),
    "verify-stamp.codes": _("The de-identification method codes do not match the profile."),
    "verify-stamp.code-scheme": _("A de-identification method code is not of the scheme DCM."),
    "verify-stamp.dates": _("The header does not state correctly how dates were changed."),
    "verify-stamp.pixels": _("The header does not state correctly whether pixels were masked."),
    "verify-stamp.burned-in": _(
        "Burned In Annotation has a value that neither the original image nor a pixel rule justifies."
    ),
    "verify-pixel.no-rule": _(
        "The pixels may contain text: no pixel rule covers the device, and the project does not "
        "accept this risk."
    ),
    "verify-pixel.attribute": _("An attribute that defines how to read the pixels was changed."),
    "verify-pixel.missing": _("The pixel data are missing or of another type."),
    "verify-pixel.encapsulation": _("The pixel data were compressed or decompressed."),
    "verify-pixel.transfer-syntax": _("The transfer syntax of the pixel data was changed."),
    "verify-pixel.length": _("The pixel data are shorter or longer than the original."),
    "verify-pixel.trailing-bytes": _("The pixel data contain bytes after the last pixel."),
    "verify-pixel.spare-bits": _("Bits that belong to no pixel are set."),
    "verify-pixel.value": _("The value of a pixel was changed."),
    "verify-pixel.frame": _("A compressed frame was changed."),
    "verify-pixel.frame-count": _("A compressed frame is missing or was added."),
    "verify-pixel.color": _("The color encoding of the masked image is wrong."),
    "verify-pixel.mask-compressed": _("The masked image is still compressed."),
    "verify-pixel.mask-trailing": _(
        "The masked image contains data after the last pixel or in bits that belong to no pixel."
    ),
    "verify-pixel.mask-no-frame": _("The masked image has no frame."),
    "verify-pixel.mask-frame-size": _("A frame of the masked image has another size."),
    "verify-pixel.mask-outside": _("A pixel outside the masked rectangles was changed."),
    "verify-pixel.mask-rectangle": _("A rectangle is not masked."),
    "verify-not-understood.unexpected": _(
        "Verification cannot read the image: an unexpected error occurred."
    ),
    "verify-not-understood.length": _(
        "Verification cannot read the image: an element or item is longer than the data set or "
        "sequence that contains it."
    ),
    "verify-not-understood.undefined-length": _(
        "Verification cannot read the image: an element that is not a sequence has an undefined "
        "length."
    ),
    "verify-not-understood.unterminated": _(
        "Verification cannot read the image: a sequence or an item has no end."
    ),
    "verify-not-understood.vr": _(
        "Verification cannot read the image: an element has no valid VR."
    ),
    "verify-not-understood.depth": _(
        "Verification cannot read the image: sequences are nested too deeply."
    ),
    "verify-not-understood.stray-item": _(
        "Verification cannot read the image: an item was found where an element is expected."
    ),
    "verify-not-understood.not-an-item": _(
        "Verification cannot read the image: a sequence contains something other than an item."
    ),
    "verify-not-understood.value-too-long": _(
        "Verification cannot read the image: a name or number is too long."
    ),
    "verify-not-understood.deflated": _(
        "Verification cannot read the image: the deflated data set is too large or truncated."
    ),
    "verify-not-understood.two-pixel-data": _(
        "Verification cannot read the image: it has two pixel data elements."
    ),
    "verify-not-understood.fragments": _(
        "Verification cannot read the image: the compressed pixel data are not a list of fragments."
    ),
    "verify-not-understood.segments": _(
        "Verification cannot read the image: a compressed frame contains an invalid segment."
    ),
    "verify-not-understood.tile": _(
        "Verification cannot read the image: a tile of a compressed frame has an invalid length."
    ),
}

_TRANSFER: dict[str, Template] = {
    # Reasons of single images. The category is the key by which they are counted.
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
    "source-list.incomplete": _("The source {shortfall}, so completeness cannot be verified."),
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
    "cli.text-detection-not-installed": _(
        "The text detection is not installed. Install adit[ocr], or use --text-detection off."
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
    "cli.incomplete": _("The answer is incomplete: {node} {shortfall}."),
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
