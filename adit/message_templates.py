"""The templates of all messages of the project: code -> sentence, one dictionary per app.

The rules are those of adit_engine/message_templates.py.
"""

from collections.abc import Mapping

from adit_engine.message_templates import Template, _, ngettext

_VAULT: dict[str, Template] = {}

_ACCOUNTS: dict[str, Template] = {
    "permission.missing": _(
        "You need the permission “{permission}”. Ask an administrator to add it to one of your "
        "groups."
    ),
    "permission.account-deactivated": _(
        "This account is deactivated. Ask an administrator to activate it."
    ),
    "signin.no-account": _(
        "You have no account in ADIT yet. Ask an administrator to create one and to link it with "
        "this sign-in."
    ),
    "signin.directory-unavailable": _(
        "The directory of your hospital does not respond, so your password cannot be checked. Try "
        "again in a few minutes. Emergency accounts can still sign in."
    ),
    "signin.no-identifier": _(
        "The directory has no {attribute} for you, by which ADIT recognizes you. Tell an "
        "administrator."
    ),
    "signin.no-user-name": _(
        "The sign-in service did not send a usable user name. Ask its administrator to send it to "
        "ADIT."
    ),
    "signin.user-name-taken": _(
        "ADIT already has an account with your user name, which does not belong to this sign-in. "
        "Ask an administrator to link it, if it is yours."
    ),
    "signin.provider-unavailable": _(
        "{provider} does not respond. Try again in a few minutes, or ask its administrator."
    ),
    "signin.provider-refused": _(
        "{provider} did not sign you in. Try again; if this persists, tell an administrator."
    ),
    "signin.canceled": _("You canceled the sign-in at {provider}. Sign in again to use ADIT."),
    "signin.expired": _(
        "The sign-in took too long, or was started in another browser. Sign in again."
    ),
    "signin.wrong-issuer": _(
        "The answer does not come from {provider} as it is configured. You were not signed in. Tell "
        "an administrator."
    ),
    "signin.wrong-audience": _(
        "The answer of {provider} is for another application. You were not signed in. Tell an "
        "administrator."
    ),
    "signin.wrong-time": _(
        "The answer of {provider} has expired or is not valid yet. Sign in again; if this persists, "
        "ask an administrator to check the clocks."
    ),
    "signin.wrong-signature": _(
        "The signature of the answer of {provider} is not valid. You were not signed in. Tell an "
        "administrator."
    ),
    "signin.wrong-nonce": _(
        "The answer of {provider} belongs to another sign-in. You were not signed in. Sign in again."
    ),
    "signin.wrong-subject": _(
        "{provider} did not say clearly who you are. You were not signed in. Tell an administrator."
    ),
    "grant.not-held": _(
        "You may not change this, because you do not have all of these permissions yourself: "
        "{access}. Ask an administrator."
    ),
    "user.last-administrator": _(
        "At least one active administrator must remain. Add another user to the group "
        "Administrators first."
    ),
    "user.deactivates-itself": _(
        "You cannot deactivate your own account. Ask another person who manages users."
    ),
    "user.resets-own-second-factor": _(
        "Remove your own second factor on the page My account, or ask another administrator."
    ),
    "user.no-second-factor": _("This user has no second factor, so there is nothing to reset."),
    "user.staff-by-administrators": _("Only administrators may choose who is staff."),
    "user.successor-not-permitted": _(
        "{user} may not order all of these kinds of jobs. Choose another person, or cancel the jobs."
    ),
    "link.unknown": _(
        "The link is incomplete, or a newer one replaced it. Ask an administrator for a new link."
    ),
    "link.used": _(
        "The link was used already. Sign in, or ask an administrator for a new link if it was not "
        "you."
    ),
    "link.expired": _("The link is too old. Ask an administrator for a new one."),
    "link.account-deactivated": _(
        "The account of this link is deactivated. Ask an administrator to activate it."
    ),
    "link.administrator-exists": _(
        "There is an administrator already. New accounts are created on the page Users."
    ),
    "api-token.invalid": _("The API token is not valid. Create a new one on the page My account."),
    "api-token.revoked": _("The API token was revoked. Create a new one on the page My account."),
    "api-token.expired": _("The API token has expired. Create a new one on the page My account."),
    "api-token.scope-not-granted": _(
        "The API token does not have the scope {scope}. Create a token with this scope."
    ),
    "api-token.unknown-scope": _("There is no scope {scope}. Use one of: {scopes}."),
    "api-token.scope-missing": _("Choose at least one scope."),
    "api-token.name-missing": _("Enter a name that says what the token is for."),
    "api-token.invalid-days": _("Enter a number of days from 1 to {most}."),
    "audit-trail.event-changed": _("The event was changed."),
    "audit-trail.patient-changed": _("The encrypted patient of the event was changed."),
    "audit-trail.order-changed": _("The event before it was removed, added or moved."),
    "audit-trail.end-missing": _("Events at the end were removed."),
    "audit-trail.head-changed": _(
        "The record of the last event was removed or changed; events at the end may be missing."
    ),
    "audit-trail.kept-head-missing": _(
        "The audit trail does not contain the {count} events that were noted in the data folder on "
        "{day}: events were removed, or an older backup was restored."
    ),
    "audit-trail.kept-head-unreadable": _(
        "The file audit-head.json in the data folder was changed or belongs to another "
        "installation."
    ),
}

_NOTIFICATIONS: dict[str, Template] = {
    "notification.job-finished": _("Your job {job} is finished."),
    "notification.job-failed": _("Your job {job} has failed. Its page says why and what to do."),
    "notification.other-job-failed": _("Job {job} of {user} has failed."),
    "notification.start-needed": _("The list of your job {job} is checked. Start the job."),
    "notification.patient-confirmation": _(
        "Job {job} of {user}: confirm that a study with a changed patient ID belongs to the same "
        "patient."
    ),
    "notification.approval-asked": _("Job {job} of {user} needs an approval."),
    "notification.approved": _("Your job {job} is approved and starts automatically."),
    "notification.returned": _("Your job {job} was not approved. The reason is on its page."),
    "notification.images-released": _(
        "Withheld images of your job {job} were released. Retry the withheld images on its page."
    ),
    "notification.project-ends": ngettext(
        "The project {project} ends tomorrow.",
        "The project {project} ends in {count} days.",
        "count",
    ),
}

_NODES: dict[str, Template] = {
    # Why a PACS or folder is unavailable now
    "node-unavailable.closed": _(
        "{node} is closed. A person who manages PACS and folders has to open it."
    ),
    "node-unavailable.paused": _("{node} is paused (reason: {reason})."),
    "node-unavailable.paused-by": _("{node} was paused by {user} (reason: {reason})."),
    "node-unavailable.stopped": _("{node} is stopped (reason: {reason})."),
    "node-unavailable.stopped-by": _("{node} was stopped by {user} (reason: {reason})."),
    "node-unavailable.outside-hours": _("{node} is outside its allowed hours. It opens at {time}."),
    "node-unavailable.never-open": _(
        "{node} has no allowed hours for this. Ask a person who manages PACS and folders to add "
        "some."
    ),
    "node-unavailable.no-answer": _(
        "{node} has not answered since {since}. The next attempt is at {time}."
    ),
    "node-unavailable.retried-now": _(
        "{node} has not answered since {since}. One task is trying to connect now."
    ),
    "node-unavailable.in-use": _("{node}: {used} of {total} connections are in use."),
    "node-unavailable.gap": _("{node}: pause of {gap} s between two studies."),
    "node-unavailable.limit-too-low": _(
        "{node}: a C-MOVE needs {least} connections at the same time, but the limit is {total}. "
        "Raise the limit."
    ),
    "node-unavailable.no-second-connection": _(
        "{node}: no second connection is free for a C-MOVE."
    ),
    "node-unavailable.limit-lowered": _("{node} allows fewer connections from now on."),
    "node-unavailable.connection-ended": _("{user} ended this connection with {node}."),
    "node-unavailable.too-many-searches": _(
        "{node}: too many searches are running. Try again in a moment."
    ),
    "budget.used-up": _(
        "The daily budget of the group {group} is used up. Work continues after midnight."
    ),
    "budget.exceeded": ngettext(
        "The daily budget of the group {group} allows {left} more study today. The other studies "
        "are fetched after midnight.",
        "The daily budget of the group {group} allows {left} more studies today. The other studies "
        "are fetched after midnight.",
        "left",
    ),
    # Access, and changes of PACS and folders
    "node-access.not-readable": _(
        "None of your groups may fetch from {node}. Ask a person who manages PACS and folders."
    ),
    "node-access.not-writable": _(
        "None of your groups may send to {node}. Ask a person who manages PACS and folders."
    ),
    "node-access.source-only": _("{node} is a source only. No images can be sent to it."),
    "node-access.signed-out": _("Sign in to use a PACS or folder."),
    "node-access.node-removed": _("{node} was removed."),
    "node.in-jobs": _("{node} is used by jobs and cannot be removed. Close it instead."),
    "node.name-taken": _("There already is a PACS or folder named {node}. Choose another name."),
    "node.settings-unknown": _(
        "{node}: the kind {kind} has no settings {names}. Open the form of {node} and save it again."
    ),
    "node-pause.reason-length": _(
        "Enter a reason of at most {max_length} characters. Users whose jobs wait can read it."
    ),
    "connection.already-ended": _("This connection has already ended."),
    # Searches, sample images and tests
    "node-search.canceled": _("The search was canceled."),
    "node-search.too-slow": _(
        "{node} did not answer completely within {seconds} s. Narrow the search."
    ),
    "node-search.too-broad": _(
        "Fill in at least one field besides the modality: patient ID, name, birth date, accession "
        "number, description or a date range."
    ),
    "sample-image.none": _("{node} returned no image of this study. Check the Study Instance UID."),
    "node-test.too-slow": _("{node} did not complete the test in time. Test again later."),
    "node-test.not-possible": _("A PACS or folder of this kind cannot be tested with an image."),
    "node-test.proposal-outdated": _(
        "This proposal is outdated, because a newer test was run. Use the proposals of that test."
    ),
    "node-test.setting-unknown": _("{node} has no setting {setting}."),
    # Folders
    "node-folder.not-a-path": _("{node}: the folder is not a valid path. Enter another one."),
    "node-folder.reserved": _(
        "{node}: the folder {path} is inside or above {reserved}, which is used for {purpose}. "
        "Choose a folder that is used for nothing else, for example below /mnt, /srv or {own}."
    ),
    "node-folder.reserved-or-empty": _(
        "{node}: the folder {path} is inside or above {reserved}, which is used for {purpose}. "
        "Choose a folder that is used for nothing else, for example below /mnt, /srv or {own}, or "
        "leave the field empty."
    ),
    "node-folder.file-not-deleted": _("{node}: a 7-Zip file could not be deleted."),
    "node-folder.checked": _("Folders of {node}."),
    "clause.linked-path": _("{path} (a link to {target})"),
    "clause.used-by-adit": _("ADIT's own files"),
    "clause.used-by-program": _("the program itself"),
    "clause.used-by-system": _("the operating system"),
    "clause.used-for-own-images": _("images that it collects for 7-Zip files"),
    "clause.used-for-images": _("images that {node} collects for 7-Zip files"),
    "clause.used-for-files": _("files of {node}"),
    "shared-folder.different": _(
        "{node}: the folder {folder} on the server {host} is not the one that the other servers "
        "use. Another server tries again later. Ask an administrator to run “adit doctor” on "
        "{host}."
    ),
    "shared-folder.not-writable": _("{node}: ADIT cannot write to the folder {folder}."),
    "shared-folder.checked": _("Folder {folder}, shared by all servers."),
    "shared-folder.not-mounted": _(
        "This is not the folder that the other servers use. Mount that folder here ({setting}). If "
        "the folder is new for all servers, create a file {file} in it that contains {mark}."
    ),
    # Alarms
    "alarm.no-answer": _("No answer since {since}. Failed attempts in a row: {failures}."),
    "alarm.hours-changed": _("{user} changed: {fields}."),
    "alarm.disk-almost-full": _(
        "The disk of the folder “{folder}” on the server {host} has only {percent} % free space. "
        "Free some space."
    ),
    "alarm.quarantine-used": ngettext(
        "{count} image that was not requested is in quarantine. Check its sender.",
        "{count} images that were not requested are in quarantine. Check their senders.",
        "count",
    ),
    "clause.allowed-hours": _("allowed hours"),
    "clause.special-days": _("special days"),
    "clause.transfer-connections": _("connections for transfers"),
    "clause.search-connections": _("connections for searches"),
    "clause.gap": _("seconds between two studies"),
    "clause.rate": _("speed"),
}

_CALENDAR: dict[str, Template] = {
    "hours.not-a-list": _("The allowed hours must be a list of rows."),
    "hours.wrong-keys": _(
        "A row of the allowed hours has the keys days, from and to, and optionally limit and lane."
    ),
    "hours.wrong-days": _("The days of a row must be some of {days}."),
    "hours.wrong-limit": _("The number of connections of a row must be an integer, 0 or more."),
    "hours.wrong-lane": _("The lane of a row must be retrieve or search."),
    "hours.wrong-time": _("Enter times in the form 20:00."),
    "hours.empty": _(
        "Hours from {time} until {time} are empty. For a whole day enter 00:00 until 00:00."
    ),
    "hours.overlap": _(
        "{day}: {first} and {second} overlap. Combine them, or let one end when the other begins."
    ),
    "special-days.not-a-list": _("The special days must be a list of rows."),
    "special-days.wrong-keys": _(
        "A row of the special days has the keys from and as, and optionally to and why."
    ),
    "special-days.wrong-date": _("Enter dates in the form 2026-12-24."),
    "special-days.wrong-range": _(
        "Special days must end on or after the day on which they begin, and within a year."
    ),
    "special-days.wrong-hours": _(
        "A special day must be closed or have the hours of a weekday, for example sun."
    ),
    "special-days.reason-too-long": _("Enter a reason of at most {max_length} characters."),
    "special-days.overlap": _("{day} is in two rows. Let one row end before the other begins."),
}

_RECEIVING: dict[str, Template] = {
    "receiver.images-not-forwarded": _(
        "{node}: images wait there, but did not reach the worker within {seconds} s. Ask an "
        "administrator whether RabbitMQ runs. Work continues as soon as it does."
    ),
    "receiver.image-not-stored": _(
        "{node}: an image could not be written to the spool ({problem}). Ask an administrator."
    ),
    "clause.receiver-address": _("{host}, port {port}"),
    "clause.receiver-address-tls": _("{host}, port {port}, with TLS"),
    "clause.this-server": _("this server"),
    "clause.receiver-server": _("the server of the receiver"),
    "receiver.port": _("Receiver on port {port}."),
    "receiver.answers": _("The receiver on port {port} answers (C-ECHO)."),
    "receiver.wants-certificate": _(
        "The receiver on port {port} answers and requires a certificate."
    ),
    "receiver.not-started": _("The receiver on port {port} is not running. `adit up` starts it."),
    "receiver.start": _(
        "Start it with `adit up` or `adit receiver`, on this server or where it should run."
    ),
    "receiver.no-images": _("No image can be received by C-MOVE until this is fixed."),
    "receiver.certificate": _("The certificate of the receiver."),
    "certificate.checked": _("{owner}: certificate {name}, valid until {expires}."),
    "certificate.unreadable": _("{owner}: certificate."),
    "certificate.expired": _(
        "It has expired: connections with it fail. Replace it by a renewed one."
    ),
    "certificate.expires-soon": ngettext(
        "It expires in {days} day. Replace it by a renewed one before.",
        "It expires in {days} days. Replace it by a renewed one before.",
        "days",
    ),
    "clause.own-client-certificate": _("{node}, our client certificate"),
    "clause.ca-certificate": _("{node}, its CA certificate"),
}

_PROJECTS: dict[str, Template] = {
    "project.not-signed-in": _("Sign in first."),
    "project.not-member": _(
        "None of your groups is a member of the research project {project}. Ask its manager to add "
        "one of them."
    ),
    "project.not-list-holder": _(
        "You do not hold the identification list of the research project {project}. Ask a person "
        "who manages research projects to add one of your groups."
    ),
    "project.not-reidentifier": _(
        "You may not re-identify patients of the research project {project}. Ask a person who "
        "manages research projects to add one of your groups."
    ),
    "project.not-accepted": _(
        "The research project {project} is not accepted yet. A manager of research projects must "
        "accept it first."
    ),
    "project.revoked": _("The research project {project} was revoked. Nothing is sent for it."),
    "project.ended": _("The research project {project} has ended. Ask its manager to extend it."),
    "project.document-too-large": _(
        "The file is larger than {limit} MB. Save the document with smaller pictures, or scan it "
        "with a lower resolution."
    ),
    "project.document-no-pdf": _(
        "The file is not a complete PDF file. Save or scan the document as PDF and select it again."
    ),
    "project.not-extendable": _(
        "The research project {project} cannot be extended: it has no end date, is not accepted or "
        "was revoked."
    ),
    "project.end-not-later": _(
        "Enter a day that is later than the present end of the research project {project} and has "
        "not passed."
    ),
    "project.end-after-deletion": _(
        "The recipient must delete the data by {day}. Enter an earlier end, or first edit the project "
        "and change that day."
    ),
    "project.end-needs-reason": _(
        "A later end requires a reason. Keep the end date here and select “Extend” on the page of "
        "the project."
    ),
    "project.key-destroyed": _(
        "The key of the research project {project} was destroyed. The project has ended permanently."
    ),
    "project.node-not-allowed": _(
        "The research project {project} does not allow {node}. Ask its manager to allow it."
    ),
    "project.patient-limit": ngettext(
        "The research project {project} has reached its limit of {limit} patient. Ask its manager "
        "to raise the limit.",
        "The research project {project} has reached its limit of {limit} patients. Ask its manager "
        "to raise the limit.",
        "limit",
    ),
    "project.own-proposal": _(
        "You cannot accept your own proposal. Another manager of research projects must accept it."
    ),
    "project.fixed-fields": _(
        "The research project already has patients. Fields that are written to images cannot be "
        "changed any more."
    ),
    "project.invalid-fields": _("{problems}"),
    "project.faces-reason-missing": _("Enter the reason why images that may show a face are sent."),
    "project.header-word-reason-missing": _(
        "Enter the reason why images are sent although only their header states that they contain "
        "no text."
    ),
    "project.default-key": _(
        "The key of the site's default project cannot be destroyed, because other data depend on it."
    ),
    "project.id-not-confirmed": _("The project ID does not match. Enter it exactly as shown."),
    "reason.invalid": _(
        "Enter a reason of at most {limit} characters. It is recorded in the audit trail."
    ),
    "identified.reason-missing": _(
        "Enter the reason why identified data are sent. It is recorded in the audit trail."
    ),
    "pseudonym.is-patient-id": _("The pseudonym is the patient ID. Enter another pseudonym."),
    "pseudonym.needed-without-patient-id": _(
        "The study has no patient ID. Enter a pseudonym for it."
    ),
    "pseudonym.patient-has-other": _(
        "This patient already has another pseudonym in the research project {project}. Leave the "
        "pseudonym empty to use that one."
    ),
    "blocklist.blocked-everywhere": _(
        "This patient must not be transferred (block list of all projects). Ask the data "
        "protection officer if you need to know more."
    ),
    "blocklist.blocked-in-project": _(
        "This patient must not be transferred (block list of the research project {project}). Ask "
        "the data protection officer if you need to know more."
    ),
    "blocklist.archive-not-created": _(
        "The 7-Zip file is not created, because it would contain a blocked patient. {reason} Order "
        "the other studies again."
    ),
    "blocklist.patient-id-invalid": _("Enter a patient ID of at most {limit} characters."),
    "blocklist.date-in-future": _("The date is in the future. Enter the day of the withdrawal."),
    "blocklist.ended-before": _("This entry has ended already. Nothing was changed."),
    "pseudonym.taken": _(
        "{pseudonym} already belongs to another patient in the research project {project}. Enter "
        "another pseudonym."
    ),
    "pseudonym.merge-needs-new-identifiers": _(
        "The patient ID already has the pseudonym {before}, and images may have been sent with it. "
        "To use {after} instead, select that all images of the project get new identifiers."
    ),
    "pseudonym.both-ids-have-one": _(
        "Both patient IDs have their own pseudonym in the research project. Ask a person who "
        "holds its identification list to merge them on the page of the project first."
    ),
    "pseudonym.unreadable": _(
        "The patient of {pseudonym} cannot be decrypted with the key of the project."
    ),
    "pseudonym-pattern.invalid": _(
        "A pseudonym pattern contains one sequence of # for the number, as in LUNG-####. The other "
        "characters are letters, digits, dots, hyphens and underscores, at most {limit} in total."
    ),
    "trust-centre.no-answer": _("The trust centre did not return a pseudonym: {detail}"),
    "trust-centre.invalid-pseudonym": _(
        "The trust centre returned an invalid pseudonym for the research project {project}. Ask the "
        "administrator of the trust centre."
    ),
    "pseudonym-import.rejected": _("Nothing was imported. {problems}"),
    "pseudonym-import.too-large": _("The file is larger than {limit} MB. Split it."),
    "pseudonym-import.not-utf8": _("The file is not UTF-8 text. Save it as “CSV UTF-8”."),
    "pseudonym-import.not-csv": _("The file is not a CSV file."),
    "pseudonym-import.too-many-rows": _("The file has more than {limit} rows. Split it."),
    "pseudonym-import.no-rows": _("The file has headers but no rows."),
    "pseudonym-import.row": _("Row {row}: {problem}"),
    "pseudonym-import.quotation-mark": _("A quotation mark is in the wrong place."),
    "pseudonym-import.headers": _("The headers must be patient_id and pseudonym, and no others."),
    "pseudonym-import.cell-count": ngettext(
        "The row has {count} cell instead of two.",
        "The row has {count} cells instead of two.",
        "count",
    ),
    "pseudonym-import.empty-cell": _("The patient ID or the pseudonym is empty."),
    "pseudonym-import.invalid-patient-id": _(
        "The patient ID is invalid. It has at most {limit} characters, without backslashes and "
        "control characters."
    ),
    "pseudonym-import.repeated": _("The patient is already in row {first}."),
    "pseudonym-import.more": ngettext(
        "{count} more row has an error.", "{count} more rows have errors.", "count"
    ),
    "profile-version.too-long": _("A profile has at most {limit} characters."),
    "profile-version.name-too-long": _("The name of a profile has at most {limit} characters."),
    "profile-version.wrong-number": _(
        "The next version of {name} is {version}: write version = {version}."
    ),
    "profile-version.exists": _("Another user has just saved this version. Reload the page."),
    "profile-version.changes-delivered-images": _(
        "The rule would also change images that are already sent without it. Change the profile "
        "instead."
    ),
}

_SPREADSHEETS: dict[str, Template] = {
    # The file. These are the reasons in "sheet.unreadable" and the two codes after it.
    "sheet.unreadable": _("{file}: {reason}"),
    "sheet.unreadable-line": _("{file}, line {line}: {reason}"),
    "sheet.unreadable-cell": _("{file}, line {line}, column {column}: {reason}"),
    "sheet.file-empty": _("The file is empty."),
    "sheet.empty": _("The sheet is empty."),
    "sheet.no-rows": _("The sheet has no rows below the headers."),
    "sheet.too-large": _(
        "The file is larger than {limit} MB. Split it, or remove images and formatting."
    ),
    "sheet.too-many-rows": _(
        "The sheet has more than {limit} rows. Split it. If the list is shorter, delete the cells "
        "far below it."
    ),
    "sheet.too-many-columns": _(
        "The sheet has more than {limit} columns. Delete those that are not needed."
    ),
    "sheet.cell-too-long": _("The cell has more than {limit} characters. Shorten the text."),
    "sheet.too-complex": _(
        "The file needs too much time or memory. Copy only the list, without formatting, into a "
        "new workbook, or save it as CSV."
    ),
    "sheet.unpacked-too-large": _(
        "The unpacked workbook is larger than {limit} MB, or consists mainly of repeated data. "
        "Copy only the list into a new workbook."
    ),
    "sheet.unsupported": _(
        "Only .xlsx and .csv files are supported. Save the list as one of them."
    ),
    "sheet.wrong-extension": _(
        "The content of the file does not match its extension. Open it in Excel or LibreOffice and "
        "save it as .xlsx."
    ),
    "sheet.old-or-encrypted": _(
        "The workbook is in the old .xls format or has a password. Save it as .xlsx, without a "
        "password."
    ),
    "sheet.macros": _(
        "Workbooks with macros are not supported. Save the workbook as .xlsx, without macros."
    ),
    "sheet.binary-workbook": _("The file is a binary workbook (.xlsb). Save it as .xlsx."),
    "sheet.not-excel": _("The file is not an Excel workbook. Save the list as .xlsx or as CSV."),
    "sheet.damaged": _(
        "The file is damaged or is not an Excel workbook. Open it in Excel or LibreOffice and save "
        "it as .xlsx."
    ),
    "sheet.binary-data": _(
        "The file contains binary data instead of text. Save it as .xlsx or as CSV."
    ),
    "sheet.unknown-encoding": _(
        "The encoding of the file is neither UTF-8 nor Windows-1252. Save it as .xlsx, or as CSV "
        "UTF-8."
    ),
    "sheet.quotation-mark": _(
        'A quotation mark (") is opened and not closed, or is inside a cell. Double it, remove it, '
        "or save the sheet as .xlsx."
    ),
    # The columns.
    "sheet.no-headers": _("The sheet has no headers. Select the columns."),
    "sheet.headers-in-line": _(
        "Line {line} is used as the header line. Check whether it is correct."
    ),
    "sheet.columns-missing": _("Required columns are missing, or their headers are unknown."),
    "sheet.column-may-be": _(
        "Column {column} ({header}) may be {field}. Check whether it is correct."
    ),
    "sheet.columns-alike": _(
        "Columns {first} and {second} both match {field}. Select one of them."
    ),
    "sheet.column-may-be-study-date": _(
        "Column {column} ({header}) may be a study date. A batch query uses only the columns From "
        "and Until: select one of them, or keep the column as your own."
    ),
    "sheet.column-mapped-twice": _(
        "A column can have only one meaning, and each meaning only one column."
    ),
    "sheet.unknown-field": _("A sheet of this kind cannot have this column."),
    "sheet.no-such-column": _("The sheet does not have this column."),
    "sheet.no-such-line": _("The sheet has no line {line}, or the line is empty."),
    # The rows.
    "sheet-row.in-lines": ngettext("Line {lines}: {finding}", "Lines {lines}: {finding}", "count"),
    "sheet-row.in-cells": ngettext(
        "Line {lines}, column {column}: {finding}",
        "Lines {lines}, column {column}: {finding}",
        "count",
    ),
    "sheet-row.with-other-lines": _("{finding} Other lines: {lines}."),
    "sheet-row.in-column": _("{column}: {finding}"),
    "sheet-row.hidden": _(
        "The row is hidden in the workbook, for example by a filter. Check whether it is needed."
    ),
    "sheet-row.example": _("The row is an example of the template. It is excluded."),
    "sheet-row.no-result": _("The query found nothing for this row. It is excluded."),
    "sheet-row.error-value": _(
        "The cell contains a spreadsheet error. Correct it in the spreadsheet."
    ),
    "sheet-row.formula-without-value": _(
        "The cell contains a formula without a calculated value. Open the sheet in Excel or "
        "LibreOffice, save it, and upload it again."
    ),
    "sheet-row.merged-cell": _(
        "The cell is merged with a cell above. The value of that cell is used."
    ),
    "sheet-row.padded-number": _(
        "The cell is a number that is displayed with leading zeros. The displayed value is used."
    ),
    "sheet-row.number-cell": _(
        "The cell is a number. If the ID has leading zeros, they are missing: format the column as "
        "text and enter the ID again."
    ),
    "sheet-row.fraction": _(
        "The cell is a number with a fraction or a sign. Format the column as text and enter the ID "
        "again."
    ),
    "sheet-row.too-many-digits": _(
        "The cell is a number of more than {limit} digits, and spreadsheets change the last digits. "
        "Format the column as text and enter the ID again."
    ),
    "sheet-row.shortened-number": _(
        "A spreadsheet has shortened the number, and digits are missing. Format the column as text "
        "and enter the number again."
    ),
    "sheet-row.date-cell": _(
        "The cell is a date. Format the column as text and enter the ID again."
    ),
    "sheet-row.apostrophe": _(
        "The text begins with an apostrophe. Delete it if it does not belong to the ID."
    ),
    "sheet-row.wildcard": _("The wildcards * and ? are not allowed here. Enter the full value."),
    "sheet-row.control-character": _(
        "Backslashes, line breaks and control characters are not allowed here."
    ),
    "sheet-row.too-long": _("The text is too long. At most {limit} characters are allowed."),
    "sheet-row.no-date": _("The value is not a date. Enter it as 2026-01-31 or 31.01.2026."),
    "sheet-row.no-such-day": _("The date does not exist."),
    "sheet-row.year-too-early": _("The year is before {year}. Correct the date."),
    "sheet-row.days-reversed": _("The last day is before the first day."),
    "sheet-row.birth-date-in-future": _("The birth date is in the future."),
    "sheet-row.no-number": _("The value is not a whole number from 0 to {limit}."),
    "sheet-row.no-modality": _(
        "The value is not a modality. Enter DICOM codes such as CT, MR or US."
    ),
    "sheet-row.modality-read-as": _("The modality is read as {modalities}."),
    "sheet-row.unknown-modality": _(
        "DICOM does not define this modality, so possibly nothing is found. Common modalities are "
        "CT, MR and US."
    ),
    "person-name.no-family-name": _("The family name is missing. Enter the name as Last, First."),
    "person-name.not-separated": _(
        "Family name and given name are not separated. Enter the name as Last, First."
    ),
    "sheet-row.family-name-missing": _("The family name is missing."),
    "sheet-row.family-name-only": _(
        "The row has only a family name, so other patients may be found too. Add the given name."
    ),
    "sheet-row.birth-date-missing": _("The birth date is missing. It is required with a name."),
    "sheet-row.name-missing": _("The name is missing. It is required with a birth date."),
    "sheet-row.query-incomplete": _(
        "The row does not identify a patient or study. Enter a patient ID, or name and birth date, "
        "or an accession number."
    ),
    "sheet-row.transfer-incomplete": _(
        "The row does not identify a study. Enter patient ID and study UID, or an accession number, "
        "or patient ID, study date and modality."
    ),
    "sheet-row.patient-id-missing": _(
        "The patient ID is missing. It is required with a study UID."
    ),
    "sheet-row.study-uid-missing": _("The study UID is missing. It is required with a series UID."),
    "sheet-row.study-missing": _(
        "The patient ID alone does not identify a study. Enter a study UID, or study date and "
        "modality."
    ),
    "sheet-row.modality-missing": _("The modality is missing. It is required with a study date."),
    "sheet-row.pseudonym-missing": _("The pseudonym is missing."),
    "sheet-row.duplicate": _("The row occurs more than once. It is processed once."),
    "sheet-row.similar-ids": _(
        "These patient IDs differ only by leading zeros or by upper and lower case. Check whether "
        "they are the same patient."
    ),
    "sheet-row.study-of-patients": _("One study has several patients. Correct the patient ID."),
    "sheet-row.patient-with-pseudonyms": _(
        "One patient has several pseudonyms. Use one pseudonym for each patient."
    ),
    "sheet-row.pseudonym-of-patients": _(
        "One pseudonym is used for several patients. Use a different pseudonym for each patient."
    ),
    "sheet-row.study-with-visits": _(
        "These rows name the same study with different visits. A study belongs to one visit."
    ),
    "sheet-row.study-with-pseudonyms": _(
        "One study has several pseudonyms. Use one pseudonym for each study."
    ),
    "sheet-row.series-in-studies": _("One series is in several studies. Correct the study UID."),
    "sheet-row.series-covered": _(
        "The series is already included, because another line names the whole study."
    ),
}

_JOBS: dict[str, Template] = {
    # Actions on jobs and tasks
    "job.archived": _("This job is archived. Unarchive it first."),
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
    "delivery.rest-withheld": ngettext(
        "{delivered} image delivered, {count} withheld as announced.",
        "{delivered} images delivered, {count} withheld as announced.",
        "delivered",
    ),
    "delivery.partial": ngettext(
        "{delivered} of {count} image delivered.",
        "{delivered} of {count} images delivered.",
        "count",
    ),
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
    # The rows of a list that were not delivered or not searched for
    "job.rows-delivered": ngettext(
        "{delivered} of {count} row delivered.",
        "{delivered} of {count} rows delivered.",
        "count",
    ),
    "job.rows-withheld": ngettext(
        "All images of {count} row were withheld.",
        "All images of {count} rows were withheld.",
        "count",
    ),
    "job.rows-invalid": ngettext("{count} row has an error.", "{count} rows have errors.", "count"),
    "job.rows-excluded": ngettext(
        "{count} row was excluded.", "{count} rows were excluded.", "count"
    ),
    "job.rows-not-found": ngettext(
        "{count} row was not found.", "{count} rows were not found.", "count"
    ),
    "job.rows-not-transferred": ngettext(
        "{count} row was not transferred. See the reason in the result sheet.",
        "{count} rows were not transferred. See the reasons in the result sheet.",
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
    "job.delivered-as-ordered-withheld": _("Delivered as ordered, {count} withheld."),
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
    "row.invalid": _("The row has an error in the list. Correct it and upload it again."),
    "row.blocked": _("The row is not transferred: its patient is on the block list."),
    "row.pseudonym-conflict": _(
        "The row is not transferred with this pseudonym. Correct it and upload it again, or exclude "
        "the rows that are wrong."
    ),
    "row.pseudonym-taken": _(
        "The pseudonym already belongs to another patient in the research project {project}. Enter "
        "another pseudonym."
    ),
    "row.pseudonym-changed": _(
        "Meanwhile the research project {project} has another pseudonym for this patient, or another "
        "patient with this pseudonym. Check the row and order it again."
    ),
    "row.repeats-line": _("The row repeats line {line}."),
    "row.series-delivered-before": ngettext(
        "{count} series was delivered before and is skipped.",
        "{count} series were delivered before and are skipped.",
        "count",
    ),
    "row.waiting-for-approval": _("The job is waiting for approval."),
    # The next step for a row that was not delivered or not found, in the result sheet
    "row-step.correct": _(
        "Compare the row with the PACS. Correct it in the sheet of failed rows, and upload that "
        "sheet again."
    ),
    "row-step.blocked": _(
        "Do not transfer this patient. Remove the row from your list, or ask the data protection "
        "officer."
    ),
    "row-step.correct-error": _(
        "Correct the cell that the reason names in the sheet of failed rows, and upload that sheet "
        "again."
    ),
    "row-step.correct-pseudonym": _(
        "Correct the pseudonym or the patient ID in the sheet of failed rows, and upload that sheet "
        "again."
    ),
    "row-step.correct-series": _(
        "Correct the series UID, or leave it empty to transfer the whole study. Then upload the "
        "row again."
    ),
    "row-step.correct-archive": _(
        "Ask the PACS administrator to correct the study. Then order it again."
    ),
    "row-step.choose": _(
        "Select a study on the page of the rows before the start. After the start, enter the study "
        "UID in the sheet of failed rows, and upload that sheet again."
    ),
    "row-step.retry": _(
        "Choose “Retry missing images” on the page of the job. If the reason stays the same, ask "
        "the PACS administrator."
    ),
    "row-step.ask-source": _(
        "Ask the PACS administrator about the reason. Then upload the sheet of failed rows again."
    ),
    "row-step.upload-again": _("To transfer this row, upload it again. Otherwise nothing to do."),
    "row-step.delivered-before": _("Nothing to do: the images are already at the destination."),
    "row-step.wait": _("Nothing to do yet: the job has not finished."),
    "row-step.start": _("Review the rows on the page of the job, then start the transfer."),
    "row-step.continue": _("Review the pilot on the page of the job, then continue the transfer."),
    "row-step.approve": _("Ask a person who may approve jobs."),
    "row-step.confirm-patient": _(
        "Open the study on the page of the job and have the changed patient ID confirmed."
    ),
    "row-step.withheld": _(
        "If the withheld images are needed, ask a person who may review withheld images."
    ),
    "row-step.narrow": _("Restrict the row by dates, and query it again."),
    "row-step.check-patients": _("Check which of the patients is meant before you transfer."),
    "restart.staff-only": _(
        "Only staff can restart from the beginning. Retry transfers only missing images."
    ),
    "delete.job-not-finished": _("The job is not finished. Cancel it first."),
    "delete.images-stored": _(
        "Images of this job were sent, so its records are kept. Archive the job instead of deleting "
        "it."
    ),
    "archiving.nothing-stored": _("No image of this job was sent. Delete the job instead."),
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
        "{node}: the quota of this folder ({quota}) is used up. Free space in the folder and archive "
        "jobs that are no longer needed, or choose another destination."
    ),
    "storage-quota.too-small": _(
        "{node}: {used} of the {quota} quota of this folder are used, and about {needed} are needed. "
        "Free space in the folder and archive jobs that are no longer needed, or choose another "
        "destination."
    ),
    "storage-quota.nearly-used-up": _(
        "{used} of the {quota} quota of this folder are used. Free space in the folder and archive "
        "jobs that are no longer needed, or increase the quota."
    ),
}

_REVIEW: dict[str, Template] = {
    "review.no-rectangle": _("Draw at least one rectangle, or release the device."),
    "review.too-many-rectangles": _("At most {limit} rectangles are allowed."),
    "review.invalid-mask": _("A mask consists of rectangles with four numbers each."),
    "review.text-announced": _(
        "The headers of the images state that they contain burned-in text. Mask the images, or keep "
        "them withheld."
    ),
    "review.still-withheld": _("The images would still be withheld: {reason}"),
    "review.not-releasable": _("Images that are withheld for this reason cannot be released."),
    "review.unnamed-device": _(
        "The images do not name their device, so no pixel rule can be created for it."
    ),
    "review.own-order": _(
        "You ordered one of these jobs. Another person who may review withheld images must decide."
    ),
    "review.kept-withheld": _(
        "Other images of this device were kept withheld. Reopen the decision on them first."
    ),
    "review.already-decided": _("The decision on these images was already made."),
    "review.image-unavailable": _("{node} does not return this image any more."),
    "review.key-destroyed": _(
        "The images cannot be identified, because the key of the project was destroyed."
    ),
    "review.not-withheld": _("These images are not withheld any more."),
    "review.nothing-to-retry": _(
        "No withheld image would be treated differently with the current rules."
    ),
}

_ORDERS: dict[str, Template] = {
    "left-out.delivered-before": _("The series was delivered before, by job {job}."),
    "left-out.delivered-by-deleted-job": _(
        "The series was delivered before, by a job that was deleted."
    ),
    "approval.own-order": _(
        "You cannot approve your own order. Ask another person with the permission to approve jobs."
    ),
    "approval.second-person": _(
        "The research project {project} requires that a second person approves each transfer."
    ),
    "approval.many-studies": ngettext(
        "The order has {count} study. Orders of more than {limit} need approval.",
        "The order has {count} studies. Orders of more than {limit} need approval.",
        "count",
    ),
    "approval.many-rows": ngettext(
        "The list has {count} row. Lists of more than {limit} need approval.",
        "The list has {count} rows. Lists of more than {limit} need approval.",
        "count",
    ),
    "approval.changed-since": _(
        "The order was changed after its approval, or the limits were changed since the order."
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
    "remove.images-stored": _(
        "Images of this study were sent, so its records are kept. It stays in the job."
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
    "order.patients-blocked": ngettext(
        "Study {studies}: {reason} Remove it from the order.",
        "Studies {studies}: {reason} Remove them from the order.",
        "count",
    ),
    "order.pseudonyms-refused": _("Pseudonyms were refused. {studies}"),
    "order.pseudonym-of-study": _("Study {study}: {reason}"),
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
    "start.study-with-visits": _(
        "Lines {lines} mean the same study with different visits. Exclude one of them."
    ),
    "start.row-refused": _("Line {line}: {reason}"),
    "start.more-rows-refused": ngettext(
        "{count} more row has a problem.", "{count} more rows have a problem.", "count"
    ),
    "start.preparing-rows": _("Preparing row {number} of {total}."),
    "start.registering-pseudonyms": _("Registering pseudonyms: patient {number} of {total}."),
    "start.preparing-studies": _("Preparing study {number} of {total}."),
    "start.invalid-pilot": _("Pilot: enter a number of studies, or leave the field empty."),
    "start.invalid-lines": _("Lines to exclude: enter line numbers, for example 3, 7-12."),
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
        "Packed into one file. Images: {images}.",
        "Packed into {count} files. Images: {images}.",
        "count",
    ),
    "archive.in-progress": _("The 7-Zip file is being built and tested: {percent} %."),
}

_INSTALLATION: dict[str, Template] = {
    "demo.study-missing": _(
        "The demo PACS has lost its first study. Delete its folder and start the demo again."
    ),
    "demo.uid-mismatch": _("The SOP Instance UIDs of the data set and the file meta differ."),
    "demo.uids-invalid": _("The data set contains no valid UIDs."),
    "demo.unreadable": _("The file cannot be read as a DICOM object."),
}

_DEVICE_TO_REVIEW = _("The images may show names or dates. Ask a reviewer to check the device.")
_NOT_RELEASABLE = _("Screenshots and reports may show names. They cannot be released.")
_UNKNOWN_ENCODING = _(
    "ADIT cannot check how these images are encoded. Ask an administrator whether this can be "
    "changed at the source."
)
_FINAL_CHECK = _(
    "The final check found data that may identify the patient. The images cannot be released. Ask "
    "an administrator, and name the number of this job."
)
_FINAL_CHECK_FAILED = _(
    "The final check could not confirm that the images are correct. Ask an administrator, and name "
    "the number of this job."
)

_PLAIN_REASONS: dict[str, Template] = {
    # For users without knowledge of DICOM: what is the matter, and what to do. The key is the
    # category or the code of the message that gives the detail, see plain_message().
    "pixel-rule": _DEVICE_TO_REVIEW,
    "header-word": _DEVICE_TO_REVIEW,
    "burned-in-unknown": _DEVICE_TO_REVIEW,
    "burned-in": _("The images contain text, possibly a name. Ask a reviewer to mask it."),
    "conversion": _("Screenshots and scans may show names. Ask a reviewer to check the device."),
    "image-type": _NOT_RELEASABLE,
    "samples": _NOT_RELEASABLE,
    "class": _(
        "Documents and objects of this kind may contain names anywhere. They cannot be released."
    ),
    "recognizable": _("The patient can be recognized in the images. They cannot be released."),
    "face": _(
        "The images may show the face of the patient. Ask a manager of research projects whether "
        "the project accepts this."
    ),
    "malformed": _("The images are damaged. Ask the PACS administrator to check the study."),
    "fault": _("The images are damaged. Ask the PACS administrator to check the study."),
    "too-large": _("The images are too large to be checked. Ask an administrator."),
    "not-understood": _("ADIT cannot check these images. Ask an administrator."),
    "identity": _(
        "The images cannot be identified without doubt. Ask the PACS administrator to check the "
        "study."
    ),
    "two-uids": _(
        "The images cannot be identified without doubt. Ask the PACS administrator to check the "
        "study."
    ),
    "uid-repeated": _(
        "The images cannot be identified without doubt. Ask the PACS administrator to check the "
        "study."
    ),
    "syntax": _UNKNOWN_ENCODING,
    "pixel-meaning": _UNKNOWN_ENCODING,
    "pixel-format": _UNKNOWN_ENCODING,
    "pixel-length": _UNKNOWN_ENCODING,
    "pixel-bits": _UNKNOWN_ENCODING,
    "pixel-stream": _UNKNOWN_ENCODING,
    "verify-name": _FINAL_CHECK,
    "verify-id": _FINAL_CHECK,
    "verify-birth-date": _FINAL_CHECK,
    "verify-date": _FINAL_CHECK,
    "verify-address": _FINAL_CHECK,
    "verify-institution": _FINAL_CHECK,
    "verify-device": _FINAL_CHECK,
    "verify-text": _FINAL_CHECK,
    "verify-person": _FINAL_CHECK,
    "verify-age": _FINAL_CHECK,
    "verify-uid": _FINAL_CHECK,
    "verify-element": _FINAL_CHECK,
    "verify-private": _FINAL_CHECK,
    "verify-group": _FINAL_CHECK,
    "verify-pseudonym": _(
        "The pseudonym may identify the patient. Order the study again with another pseudonym."
    ),
    "verify-visit": _(
        "The visit may identify the patient. Order the study again with another visit."
    ),
    "verify-meta": _FINAL_CHECK_FAILED,
    "verify-stamp": _FINAL_CHECK_FAILED,
    "verify-pixel": _FINAL_CHECK_FAILED,
    "verify-not-understood": _FINAL_CHECK_FAILED,
    "series-held-back": _(
        "Another image of this series cannot be sent safely, so the whole series is withheld."
    ),
    "refused": _(
        "The destination did not accept the images. Retry; if it happens again, ask its "
        "administrator."
    ),
}

_EVENTS: dict[str, Template] = {
    "signin.done": _("{who} signed in."),
    "signin.failed": _("A sign-in failed ({object})."),
    "signin.locked": _("Sign-in was locked after too many failures ({object})."),
    "signin.refused": _("A sign-in was refused ({object})."),
    "signout.done": _("{who} signed out."),
    "second_factor.added": _("{object} set up a second factor."),
    "second_factor.removed": _("{object} removed a second factor."),
    "second_factor.renewed": _("{object} created new recovery codes."),
    "second_factor.failed": _("A wrong code was entered for {object}."),
    "session.ended": _("{who} ended sessions of {object}."),
    "password.changed": _("The password of {object} was changed."),
    "user.created": _("{who} created the account of {object}."),
    "user.changed": _("{who} changed the account of {object}."),
    "user.deactivated": _("{who} deactivated {object}."),
    "user.reactivated": _("{who} reactivated {object}."),
    "user.password_link": _("{who} created a link for {object} to set a password."),
    "user.password_set": _("{object} set a password by a link."),
    "user.password_forgotten": _("{object} requested a link to set a new password."),
    "user.second_factor_reset": _("{who} reset the second factor of {object}."),
    "user.linked": _("The account of {object} was linked to an account of another provider."),
    "link.refused": _("A link that is not valid was opened ({object})."),
    "user.first_administrator": _("{object} became the first administrator."),
    "setup.link": _("A link to create the first administrator was made."),
    "group.created": _("{who} created {object}."),
    "group.changed": _("{who} changed {object}."),
    "budget.changed": _("{who} changed the daily budget of {object}."),
    "token.created": _("{who} created an API token for {user}."),
    "token.revoked": _("{who} revoked an API token of {user}."),
    "node.created": _("{who} added {object}."),
    "node.changed": _("{who} changed {object}."),
    "node.removed": _("{who} deleted {object}."),
    "node.put_in_use": _("{who} put {object} in use."),
    "node.taken_out_of_use": _("{who} took {object} out of use."),
    "node.opened": _("{who} connected to {object}."),
    "node.checked": _("{who} tested {object}."),
    "node.paused": _("{who} paused {object}: {reason}."),
    "node.stopped": _("{who} stopped {object}: {reason}."),
    "node.reopened": _("{who} ended the pause of {object}."),
    "node.connection_ended": _("{who} ended a connection with {object}."),
    "node.remembered": _("{who} saw an earlier answer of {object}."),
    "search.run": ngettext(
        "{who} searched in {object} and found {found} entry.",
        "{who} searched in {object} and found {found} entries.",
        "found",
    ),
    "identified.allowed": _(
        "{who} was allowed to transfer identified data from {object}: {reason}."
    ),
    "quarantine.viewed": _("{who} viewed the quarantine."),
    "quarantine.deleted": _("{who} deleted images from the quarantine."),
    "quarantine.forgotten": _("{who} cleared the list of rejected senders."),
    "project.created": _("{who} created {object}."),
    "project.proposed": _("{who} proposed {object}."),
    "project.accepted": _("{who} accepted {object}."),
    "project.changed": _("{who} changed {object}."),
    "project.extended": _("{who} extended {object}: {reason}."),
    "project.document_stored": _("{who} stored the approval document of {object}."),
    "project.record_exported": _("{who} exported the record for the data protection officer."),
    "blocklist.read": _("{who} viewed the block list."),
    "blocklist.added": _("{who} added a patient to the block list."),
    "blocklist.ended": _("{who} ended an entry of the block list."),
    "blocklist.deliveries_read": _("{who} viewed the deliveries of a blocked patient."),
    "blocklist.deliveries_exported": _("{who} exported the deliveries of a blocked patient."),
    "system.test_mail": _("{who} sent a test mail."),
    "system.key_backed_up": _("{who} confirmed that the master key is backed up."),
    "project.revoked": _("{who} revoked {object}."),
    "project.key_destroyed": _("{who} destroyed the key of {object}: {reason}."),
    "project.key_exported": _("{who} exported the key of {object}."),
    "project.map_exported": _("{who} exported the patients and pseudonyms of {object}: {reason}."),
    "project.uids_exported": _("{who} exported the original and new UIDs of {object}."),
    "patient.reidentified": _("{who} looked up the patient of a pseudonym in {object}: {reason}."),
    "patient.joined": _("{who} joined two patient IDs in {object}: {reason}."),
    "pseudonym.registered": _("A patient got a pseudonym in {object}."),
    "pseudonyms.imported": _("{who} imported pseudonyms into {object}."),
    "pseudonyms.seen": _("{who} saw patients with their pseudonyms in {object}."),
    "basket.seen": _("{who} saw patients with their pseudonyms in the basket ({object})."),
    "profile.created": _("{who} created {object}."),
    "profile.tried": _("{who} tested {object} on an image."),
    "job.created": ngettext(
        "{who} ordered {object}: {tasks} study to {destination}, project {project}.",
        "{who} ordered {object}: {tasks} studies to {destination}, project {project}.",
        "tasks",
    ),
    "job.created.query": ngettext(
        "{who} ordered {object}: a query of {tasks} row in {sources}.",
        "{who} ordered {object}: a query of {tasks} rows in {sources}.",
        "tasks",
    ),
    "job.started": ngettext(
        "{who} started {object} after the check: {tasks} study.",
        "{who} started {object} after the check: {tasks} studies.",
        "tasks",
    ),
    "job.continued": ngettext(
        "{who} continued {object} after the pilot: {tasks} study.",
        "{who} continued {object} after the pilot: {tasks} studies.",
        "tasks",
    ),
    "job.approved": _("{who} approved {object}."),
    "job.returned": _("{who} returned {object} to its owner."),
    "job.resumed": _("{who} resumed {object}."),
    "job.retried": _("{who} retried what failed in {object}."),
    "job.made_urgent": _("{who} made {object} urgent."),
    "job.mail_wanted": _("{who} asked for a mail at the end of {object}."),
    "job.mail_unwanted": _("{who} turned off the mail at the end of {object}."),
    "job.canceled": _("{who} canceled {object}."),
    "job.restarted": _("{who} restarted {object}."),
    "job.deleted": _("{who} deleted {object}."),
    "job.archived": _("{who} archived {object}."),
    "job.unarchived": _("{who} moved {object} back from the archive."),
    "job.withheld_retried": _("{who} transferred released images of {object} again."),
    "job.handed_over": _("{who} handed {object} over from {from} to {to}."),
    "job.ended": _("{object} ended."),
    "job.seen": _("{who} viewed patient data of {object}."),
    "job.results_downloaded": _("{who} downloaded the results of {object}."),
    "job.result_downloaded": _("{who} downloaded the result sheet of {object}."),
    "job.names_downloaded": _("{who} downloaded the result sheet with pseudonyms of {object}."),
    "job.report_downloaded": _("{who} downloaded the report of {object}."),
    "rows.answered": ngettext(
        "{node} answered {rows} row of {object}.",
        "{node} answered {rows} rows of {object}.",
        "rows",
    ),
    "task.ended": ngettext(
        "Study {task} of {object} ended: {delivered} image delivered, {withheld} withheld, "
        "{failed} failed.",
        "Study {task} of {object} ended: {delivered} images delivered, {withheld} withheld, "
        "{failed} failed.",
        "delivered",
    ),
    "task.lost": _("The worker of study {task} of {object} stopped answering."),
    "task.again": _("Study {task} of {object} is tried again."),
    "task.tried": _("Study {task} of {object} was tried without success."),
    "task.canceled": _("Study {task} of {object} was canceled."),
    "task.held": _("Study {task} of {object} waits, because its patient ID has changed."),
    "task.patient_confirmed": _(
        "{who} confirmed the changed patient ID of study {task} of {object}: {reason}."
    ),
    "task.patient_refused": _(
        "{who} rejected the changed patient ID of study {task} of {object}: {reason}."
    ),
    "task.retried": _("{who} retried study {task} of {object}."),
    "task.reset": _("{who} restarted study {task} of {object} from the beginning."),
    "task.stopped": _("{who} canceled study {task} of {object}."),
    "task.deleted": _("{who} removed study {task} from {object}."),
    "withheld.seen": _("{who} viewed withheld images of {object}."),
    "withheld.left": _("{who} kept images of {object} withheld: {reason}."),
    "withheld.masked": _("{who} masked withheld images of {object} by a rule: {reason}."),
    "withheld.released": _("{who} released withheld images of {object} by a rule: {reason}."),
    "withheld.reopened": _("{who} reopened the decision on images of {object}: {reason}."),
    "archive.built": _("The 7-Zip file of {object} was built."),
    "archive.downloaded": _("{who} downloaded a 7-Zip file of {object}."),
    "archive.removed": _("A 7-Zip file of {object} was deleted."),
    "trail.read": _("{who} read the audit trail."),
    "trail.patient_searched": _("{who} asked where the images of a patient went."),
    "trail.exported": ngettext(
        "{who} exported {events} event of the audit trail.",
        "{who} exported {events} events of the audit trail.",
        "events",
    ),
    "trail.verified": _("{who} verified the audit trail."),
    "trail.end_accepted": _("The end of the audit trail was accepted after a restore: {reason}."),
}
"""The sentence of each action of the audit trail, by action."""

EVENT_ACTIONS = frozenset(_EVENTS)

TEMPLATES: Mapping[str, Template] = (
    _VAULT
    | _ACCOUNTS
    | _NOTIFICATIONS
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
    | {f"plain.{key}": template for key, template in _PLAIN_REASONS.items()}
    | {f"event.{action}": template for action, template in _EVENTS.items()}
)
