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
    "setting.minimum": _("{setting}: enter {minimum} or more."),
    "setting.positive-or-empty": _("{setting}: enter a number greater than 0, or leave it empty."),
    "setting.time-limits": _("Time limits must be greater than 0 seconds."),
    "setting.required": _("{setting}: enter a value."),
    "setting.ascii": _("{setting}: only ASCII characters without spaces are allowed."),
    "setting.private-key-in-certificate": _(
        "{setting}: this contains a private key. Enter the key in Client key."
    ),
    "setting.host": _("Host: enter a host name or an IP address."),
    "setting.character-set": _("{setting}: enter a DICOM term such as ISO_IR 100."),
    "setting.absolute-path": _("{setting}: enter an absolute path that begins with /."),
    "setting.octal": _("{setting}: enter octal digits such as 640."),
    "setting.unknown-group": _("{setting}: this machine has no group {group}."),
    "setting.archive-folders": _(
        "The folder for 7-Zip files and the folder for staged images are required."
    ),
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
        "The certificate of {node} is not trusted ({reason}). Enter the CA file of its issuer, or "
        "check the host name in the root URL."
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

_PSEUDONYMIZE: dict[str, Template] = {}

_VERIFY: dict[str, Template] = {}

_TRANSFER: dict[str, Template] = {}

_PATIENT_SEARCH: dict[str, Template] = {}

_CLI: dict[str, Template] = {}

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
