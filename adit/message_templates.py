"""The templates of all messages of the project: code -> sentence, one dictionary per app.

The rules are those of adit_engine/message_templates.py.
"""

from collections.abc import Mapping

from adit_engine.message_templates import Template, _, ngettext

_VAULT: dict[str, Template] = {}

_AUDIT: dict[str, Template] = {"event-detail.token": _("By the API token “{token}”.")}

_MAIL: dict[str, Template] = {
    "mail.sign-in-rejected": _("The mail server rejects the user or password (ADIT_MAIL_USER)."),
    "mail.sender-rejected": _("The mail server rejects the sender. Change ADIT_MAIL_FROM."),
    "mail.address-rejected": _(
        "The mail server rejects the address of the recipient. Correct it in the account."
    ),
    "mail.not-accepted": _(
        "The mail server did not accept the mail. Check ADIT_MAIL_TLS and its log."
    ),
    "mail.server-away": _(
        "The mail server does not answer. Check ADIT_MAIL_HOST, ADIT_MAIL_PORT and firewalls."
    ),
}

_DIRECTORY: dict[str, Template] = {
    "directory.away": _(
        "The directory does not answer in time. Check ADIT_LDAP_URL, its certificate and firewalls."
    ),
    "directory.sign-in-rejected": _(
        "The directory rejects the account of ADIT. Check ADIT_LDAP_BIND_DN and its password."
    ),
    "directory.base-missing": _(
        "The directory has no such entry. Check ADIT_LDAP_BASE and ADIT_LDAP_GROUP_BASE."
    ),
    "directory.nobody-found": _(
        "The directory finds no account. Check ADIT_LDAP_BASE and ADIT_LDAP_USER_FILTER."
    ),
    "directory.error": _("The directory reports the error {error}. Ask its administrator."),
}

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
    "signin.service-account": _(
        "This is a service account. It works with API tokens only and cannot sign in. Sign in with "
        "your own account."
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
    "user.not-a-service-account": _(
        "Administrators create API tokens for service accounts only. People create their own on the "
        "page API tokens."
    ),
    "user.still-active": _(
        "Deactivate the account first. Its jobs are then handed over or canceled."
    ),
    "user.anonymized": _(
        "This account was made anonymous for good. Create a new one if the person returns."
    ),
    "user.name-not-repeated": _("Enter the user name of the account to confirm."),
    "account-request.too-many": _(
        "Too many requests for accounts wait for an answer. Ask an administrator directly."
    ),
    "account-request.answered": _("Somebody else has answered this request already."),
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
    "link.service-account": _(
        "A service account has no password. Create an API token on its page."
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
    "api-token.node-not-granted": _("The API token may not be used for this node."),
    "api-token.revokes-itself-only": _(
        "An API token that is limited to nodes can revoke only itself. Revoke the other one on the "
        "page My account."
    ),
    "api-token.unknown-scope": _("There is no scope {scope}. Use one of: {scopes}."),
    "api-token.scope-missing": _("Choose at least one scope."),
    "api-token.name-missing": _("Enter a name that says what the token is for."),
    "api-token.invalid-days": _("Enter a number of days from 1 to {most}."),
    "audit-trail.event-changed": _("The event was changed."),
    "audit-trail.patient-changed": _("The encrypted patient of the event was changed."),
    "audit-trail.order-changed": _("The event before it was removed, added or moved."),
    "audit-trail.segment-changed": _(
        "The file {file} with old events is missing or was changed. Restore it from a backup."
    ),
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

_WEBHOOKS: dict[str, Template] = {
    "webhook.name-missing": _("Enter a name of at most {limit} visible characters."),
    "webhook.event-missing": _("Choose at least one event."),
    "webhook.unknown-event": _("There is no event {event}. Use one of: {events}."),
    "webhook.invalid-url": _(
        "Enter an address such as https://server.example.org/adit, of at most {limit} characters."
    ),
    "webhook.url-with-password": _(
        "The address must not contain a user or password. The receiver checks the signature."
    ),
    "webhook.https-needed": _("Enter an address that begins with https://."),
    "webhook.target-not-allowed": _(
        "ADIT may not call {host}. Allowed are public addresses by https. For an address in your own "
        "network, ask an administrator to allow this network (setting ADIT_WEBHOOK_NETWORKS)."
    ),
    "webhook.not-a-member": _("You are not a member of this project."),
    "webhook.too-many": ngettext(
        "You have {limit} webhook, which is the maximum. Delete one first.",
        "You have {limit} webhooks, which is the maximum. Delete one first.",
        "limit",
    ),
    "webhook.token-with-nodes": _(
        "A token that is limited to single PACS and folders cannot manage webhooks. Use one without "
        "this limit."
    ),
    "webhook.owner-not-permitted": _(
        "Not sent: the account is deactivated, or no longer a member of the project."
    ),
    "webhook.unknown-host": _("The host name {host} is unknown. Check the address."),
    "webhook.unreachable": _(
        "{host} cannot be reached. Check the address, and whether a firewall blocks it."
    ),
    "webhook.no-trusted-tls": _(
        "{host} has no valid certificate, or does not use https on this port. Ask its administrator."
    ),
    "webhook.timed-out": _("{host} did not answer within {seconds} s. It must answer at once."),
    "webhook.connection-lost": _("{host} ended the connection without a proper answer."),
    "webhook.redirect": _(
        "{host} answered with a redirect (status {http_status}), which ADIT does not follow. Enter the "
        "final address."
    ),
    "webhook.refused": _(
        "{host} did not accept the request (status {http_status}). Check the receiver."
    ),
    "webhook.not-sent": _("The request was not sent: {reason}"),
    "clause.webhook-request": _("the request of a webhook"),
}

_NOTIFICATIONS: dict[str, Template] = {
    "notification.webhook-failing": _(
        "Your webhook “{name}” could not be called for a day. Requests are lost until its receiver "
        "works again."
    ),
    "notification.webhook-disabled": _(
        "Your webhook “{name}” was disabled, since its receiver did not work for days. Enable it again "
        "on its page."
    ),
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
    "notification.account-requested": _(
        "Somebody asks for an account. Accept or decline the request on the page Users."
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
    "node-unavailable.slow": _(
        "{node} has been very slow since {since}: it needs {now} s to answer, usually {usual} s. "
        "ADIT waits, to leave it to the clinic, and tries again at {time}. You need not do anything."
    ),
    "node-unavailable.slow-one-by-one": _(
        "{node} is slow now. To leave it to the clinic, ADIT transfers one study at a time."
    ),
    "node-slow.described": _(
        "{node} has been slow since {since}: it needs {now} s to answer, usually {usual} s. To leave "
        "it to the clinic, ADIT transfers one study at a time over one connection. Jobs take longer. "
        "You need not do anything."
    ),
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
    "node-test.not-measured": _(
        "{node} is a clinical PACS or a source only. Its connections for sending are not measured, "
        "because test images would stay there."
    ),
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
    "alarm.slow": _(
        "Very slow since {since}: {now} s to answer, usually {usual} s. Jobs wait until it is faster."
    ),
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

_CONFIGURATION: dict[str, Template] = {
    "configuration.too-large": _(
        "The file is larger than {limit} MB. Export fewer kinds at a time and import them one after "
        "the other."
    ),
    "configuration.not-utf-8": _(
        "The file is not text in UTF-8. Save it in this encoding, or export it again."
    ),
    "configuration.not-json": _(
        "The file is not complete JSON: see line {line}. Export it again, or correct this line."
    ),
    "configuration.not-a-configuration": _(
        "The file is not a configuration of ADIT. Choose a file from the page Configuration file of "
        "another installation."
    ),
    "configuration.wrong-version": _(
        "The file has the format version “{version}”, and this ADIT reads version {known}. Export "
        "it with the same version of ADIT."
    ),
    "configuration.unknown-kind": _(
        "The file contains sections that this ADIT does not know: {names}. Remove them, or update "
        "ADIT."
    ),
    "configuration.not-a-list": _("The section {kind} of the file must be a list."),
    "configuration.duplicate": _(
        "The section {kind} of the file contains “{name}” twice. Remove one of them."
    ),
    "configuration.empty": _("The file contains nothing to import."),
    "configuration.field-twice": _(
        "An object in the file contains the field “{field}” twice. Remove one of them."
    ),
    "configuration.wrong-number": _("The file contains a number that is not allowed: {number}."),
    "configuration.not-an-object": _("The file has no object at {where}."),
    "configuration.unknown-fields": _(
        "The file has fields at {where} that this ADIT does not know: {fields}. Remove them, or "
        "update ADIT."
    ),
    "configuration.missing-fields": _("The file lacks these fields at {where}: {fields}."),
    "configuration.wrong-value": _(
        "The file has a wrong value at {where}, field {field}. Compare it with an exported file."
    ),
    "configuration.nothing-chosen": _("Select what to export."),
    "configuration.unknown-node-kind": _(
        "This ADIT has no PACS and folders of the kind “{kind}”. Remove it from the file."
    ),
    "configuration.other-kind": _(
        "A PACS or folder with this name exists, but of another kind. Rename one of them."
    ),
    "configuration.settings-wrong": _(
        "These settings are missing or unknown: {names}. Compare them with an exported file."
    ),
    "configuration.setting-invalid": _(
        "The setting “{setting}” is not allowed. A file contains no private keys; compare the value "
        "with an exported file."
    ),
    "configuration.profile-differs": _(
        "This version of the profile exists with other rules, and versions are never changed. Give "
        "it the next version number on the installation that exports."
    ),
    "configuration.profile-other-name": _(
        "The rules themselves give another name and version: {name}. Correct the name, the version "
        "or the rules."
    ),
    "configuration.default-project": _(
        "This project ID is reserved for jobs without a research project. Remove it from the file."
    ),
    "configuration.project-ended": _(
        "A research project with this ID was revoked here, or its key was destroyed. Use another "
        "project ID."
    ),
    "configuration.unknown-names": _(
        "This does not exist on this installation ({field}): {names}. Create it first, or export it "
        "into the same file."
    ),
    "configuration.invalid-fields": _("Correct these values: {problems}"),
    "configuration.not-exact": _(
        "These values cannot be stored as the file has them: {fields}. Compare them with an exported "
        "file."
    ),
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
    "project.incomplete": _(
        "The research project is incomplete. Missing: {fields}. Edit the project to fill this in."
    ),
    "project.no-modalities": _(
        "The research project {project} allows no modality. Ask a manager of research projects to "
        "select modalities."
    ),
    "order.project-required": _(
        "Choose a research project. Pseudonymized images are not sent without one, because "
        "unrelated work would share its pseudonyms. If you have no project, ask a manager of "
        "research projects, or propose one."
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
    "consent.not-listed": _(
        "This patient is not on the consent list of the research project {project}. Ask a person who "
        "holds the identification list of the project to add the patient, if there is a consent."
    ),
    "consent.withdrawn": _(
        "The consent of this patient for the research project {project} was withdrawn. Do not transfer "
        "images of this patient."
    ),
    "consent.expired": _(
        "The consent of this patient for the research project {project} has expired. Ask a person who "
        "holds the identification list of the project whether there is a new consent."
    ),
    "consent.other-modality": _(
        "The consent of this patient for the research project {project} does not cover the modality of "
        "this study. Select another study."
    ),
    "consent.scope-changed": _(
        "The modalities that the consent of this patient covers have changed. Order the study again."
    ),
    "consent.patient-id-invalid": _("Enter a patient ID of at most {limit} characters."),
    "consent.modalities-invalid": _("Enter modalities separated by commas, such as CT, MR."),
    "consent.unknown-domain": _("This issuer of patient IDs is unknown. Known are: {domains}."),
    "consent.withdrawn-in-future": _(
        "The date is in the future. Enter the day of the withdrawal, or an earlier end of validity."
    ),
    "consent.changed-before": _(
        "The consent of this patient was changed meanwhile. Open the consent list again."
    ),
    "consent.no-patient-column": _(
        "The column PatientID is missing. Name the columns as in the template: PatientID, Domain, "
        "Modality, ValidUntil, WithdrawnOn."
    ),
    "consent.unknown-columns": _(
        "The list has unknown columns: {columns}. Remove them, or name them as in the template: "
        "PatientID, Domain, Modality, ValidUntil, WithdrawnOn."
    ),
    "consent.uncertain-columns": _(
        "{reason} Name the columns as in the template, and upload the list again."
    ),
    "consent.no-valid-rows": _(
        "No row of the list is correct, so nothing was changed. Correct the file and upload it again."
    ),
    "consent.rows-with-errors": _(
        "The list has rows with errors, so nothing was changed. Correct the file and upload it again, "
        "or select that these rows are left out."
    ),
    "consent.no-difference": _(
        "The list says the same as the current version. Nothing was changed."
    ),
    "consent.old-version": _(
        "This is the list of version {version}, which was changed since. Nothing was changed. Upload "
        "the current list, or select that the earlier list is used."
    ),
    "consent.changed-meanwhile": _(
        "The consent list or the uploaded file was changed meanwhile, so nothing was changed now. "
        "Check the differences again."
    ),
    "consent.no-list": _("The project has no consent list in use. Nothing was changed."),
    "consent.default-project": _(
        "Transfers without a research project have no consent list. Open a research project."
    ),
    "blocklist.patient-id-invalid": _("Enter a patient ID of at most {limit} characters."),
    "blocklist.date-in-future": _("The date is in the future. Enter the day of the withdrawal."),
    "ledger.changed": _(
        "The ledger of the deleted job {job} was changed. Compare it with a backup, and tell the "
        "data protection officer."
    ),
    "ledger.missing": _(
        "The ledger of the deleted job {job} is missing. Restore it from a backup, and tell the "
        "data protection officer."
    ),
    "recall.study-recalled": _(
        "The images of this study were recalled. It is not transferred again by this job."
    ),
    "recall.job-recalled": _("All images of this job were recalled. It does not run again."),
    "recall.date-invalid": _(
        "Enter a day from today on, at most {limit} days ahead, until which recipients confirm."
    ),
    "recall.nothing-delivered": _(
        "There is nothing to recall: no image was delivered, or all are part of a recall already."
    ),
    "recall.job-not-ended": _("Job {job} has not ended. Cancel it, then recall its images."),
    "recall.entry-ended": _(
        "This entry of the block list has ended. Block the patient again, then recall the images."
    ),
    "recall.note-invalid": _("Enter how the recipient confirmed, with at most {limit} characters."),
    "recall.confirmed-before": _("This confirmation was recorded before. Nothing was changed."),
    "recall.job-deleted": _(
        "The job was deleted, so its files are not known any more. The recipient must delete them."
    ),
    "recall.destination-unknown": _(
        "The destination is not known any more. The recipient must delete the images."
    ),
    "recall.job-running": _(
        "A transfer is still running. The deletion starts when it has stopped."
    ),
    "recall.permission-lost": _(
        "The person who ordered the recall may not manage the block list any more. Another person "
        "with this permission must continue the recall on its page."
    ),
    "recall.key-destroyed": _(
        "The key of the project was destroyed, so its files are not known any more. The recipient "
        "must delete them."
    ),
    "recall.destination-away": _(
        "{destination} cannot be reached or used. The deletion is tried again in a few minutes. "
        "{reason}"
    ),
    "recall.files-changed": ngettext(
        "{count} file in {destination} was changed or replaced since the delivery, so ADIT did not "
        "delete it. Ask the recipient to delete it, then continue the recall.",
        "{count} files in {destination} were changed or replaced since the delivery, so ADIT did "
        "not delete them. Ask the recipient to delete them, then continue the recall.",
        "count",
    ),
    "recall.files-missing": ngettext(
        "{count} file is not where it was delivered, and ADIT did not delete it. Has the folder of "
        "{destination} changed? Correct it and continue the recall, or let the recipient delete "
        "the image.",
        "{count} files are not where they were delivered, and ADIT did not delete them. Has the "
        "folder of {destination} changed? Correct it and continue the recall, or let the recipient "
        "delete the images.",
        "count",
    ),
    "recall.copies-found": ngettext(
        "{count} image is still in {destination} under another name. Ask the recipient to delete "
        "it, then continue the recall.",
        "{count} images are still in {destination} under other names. Ask the recipient to delete "
        "them, then continue the recall.",
        "count",
    ),
    "recall.shared-archive": _(
        "The 7-Zip file also holds other studies, so it was kept as ordered. The recipient must "
        "delete the images from it."
    ),
    "recall.archive-not-deleted": _(
        "A 7-Zip file in {destination} could not be deleted. Ask the administrator of the folder, "
        "then continue the recall."
    ),
    "recall.archive-missing": _(
        "A 7-Zip file is not where it was created, and ADIT did not delete it. Has the folder of "
        "{destination} changed? Correct it and continue the recall, or let the recipient delete "
        "the images."
    ),
    "recall.pacs-deletes": _(
        "ADIT deletes nothing in a PACS. Give the list of UIDs to its administrator."
    ),
    "recall.list-incomplete": _(
        "{node} does not list all its images, so it is not known whether they are still there."
    ),
    "archive-file.recalled": _("Images in this file were recalled. It is not offered any more."),
    "notification.images-recalled": _(
        "Images of job {job} were recalled. Delete your copies and confirm it to the data "
        "protection officer."
    ),
    "notification.recall-overdue": ngettext(
        "Recall {recall} is overdue: {count} recipient has not confirmed the deletion.",
        "Recall {recall} is overdue: {count} recipients have not confirmed the deletion.",
        "count",
    ),
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
    "sheet-row.consent-without-patient": _("The patient ID is missing."),
    "sheet-row.domain-missing": _(
        "The issuer of the patient ID is missing. Enter it in the column Domain, or select it when "
        "you upload the list."
    ),
    "sheet-row.patient-with-consents": _(
        "The patient is on the list more than once, with different entries. Keep one row."
    ),
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
    "row.blocked": _(
        "The row is not transferred: its patient is on the block list, or the consent list of the "
        "research project does not allow it."
    ),
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
    "archive-file.blocked": _(
        "This file contains images of a patient that must not leave now. {reason} Order the other "
        "studies again."
    ),
    "archive-file.key-destroyed": _(
        "The key of the project was destroyed, so ADIT cannot check any more whether this file "
        "contains a blocked patient. If the images are still needed, order them again for another "
        "project."
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
        "The images contain burned-in text: their header says so, or it was found in the pixels. "
        "Mask the images, or keep them withheld."
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
    "review.rule-gone": _(
        "The rule of this decision is not part of the project's profile any more, so it cannot be "
        "revoked."
    ),
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
    "order.title-characters": _(
        "The title contains line breaks or invisible characters. Enter it again."
    ),
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
    "text-found": _("The images contain text, possibly a name. Ask a reviewer to mask it."),
    "text-detection": _(
        "The images could not be checked for text. Retry the transfer. If that does not help, ask "
        "the administrator."
    ),
    "conversion": _("Screenshots and scans may show names. Ask a reviewer to check the device."),
    "image-type": _NOT_RELEASABLE,
    "samples": _NOT_RELEASABLE,
    "class": _(
        "Documents and objects of this kind may contain names anywhere. They cannot be released."
    ),
    "report": _(
        "Of structured reports, only dose reports and measurement reports can be sent. This one "
        "cannot be released."
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

_API: dict[str, Template] = {
    "api.bad-request": _("The request is not understood. Check its address and its headers."),
    "api.not-authenticated": _(
        "Send an API token in the header Authorization: Token …. Create one in your account."
    ),
    "api.forbidden": _("You are not allowed to do this. Ask an administrator."),
    "api.not-found": _("There is nothing at this address, or you may not see it."),
    "api.method-not-allowed": _("This address does not accept this method. See the header Allow."),
    "api.not-acceptable": _("The answer is not available in the requested format."),
    "api.length-required": _("Send the request with its length (Content-Length), not in chunks."),
    "api.body-too-large": _("The body of the request is too large."),
    "api.unsupported-media-type": _(
        "Send JSON with the header Content-Type: application/json. Orders with a list are sent as "
        "multipart/form-data."
    ),
    "api.range": _("The file ends before the requested range. Request it from its beginning."),
    "api.too-many-requests": _(
        "Too many requests. Wait for the seconds in the header Retry-After."
    ),
    "api.unavailable": _("ADIT is not available now. Try again in a minute."),
    "api.failure": _("ADIT could not process the request. Report this to an administrator."),
    "api.invalid": _("Some values are missing or invalid. They are listed by field."),
    "api.invalid-json": _(
        "The body is no valid JSON: UTF-8, each name once in an object, numbers of at most 64 bits."
    ),
    "api.json-too-deep": _("The JSON is nested too deeply: at most {limit} levels are possible."),
    "api.json-characters": _("The JSON contains a character that cannot be stored."),
    "api.not-an-object": _("The body must be a JSON object."),
    "api.unknown-field": _("There is no such field."),
    "api.unknown-parameter": _("There is no parameter {name} at this address."),
    "api.invalid-limit": _("The number of results must be from 1 to {limit}."),
    "api.invalid-cursor": _("Use the address in “next” of the previous page."),
    "api.node-by-id-or-name": _("Give the ID, the name or the AE title of a PACS or folder."),
    "api.unknown-node": _(
        "There is no such PACS or folder, or you or this token may not use it for this."
    ),
    "api.unknown-project": _("There is no such research project, or you are not a member."),
    "api.change": _("Give “pseudonymize”, or an object with “as_is” and the reason."),
    "api.unknown-kind": _("Give one of these kinds: {kinds}."),
    "api.unknown-state": _("Give one of these states: {states}."),
    "api.kind-needs-sheet": _(
        "Orders of this kind have a list: send multipart/form-data with “order” and “sheet”."
    ),
    "api.kind-has-no-sheet": _("Orders of this kind have no list: send JSON."),
    "api.order-missing": _("The form has no field “order”. It contains the order as JSON."),
    "api.sheet-missing": _("The form has no file “sheet”, or the file is too large."),
    "api.sheet-columns": _(
        "The columns of the list are not recognized for certain. Use the headers of the template."
    ),
    "api.no-valid-row": _("There is no row that can be ordered."),
    "api.rows-with-errors": ngettext(
        "{count} row has an error. Correct it, or order with “skip_errors”.",
        "{count} rows have errors. Correct them, or order with “skip_errors”.",
        "count",
    ),
    "api.title-names-patient": _(
        "The title contains the name or ID of a patient, and everybody who sees the job can read it."
    ),
    "api.unknown-pseudonym": _("The research project has no such pseudonym."),
    "api.unknown-study": _("{node} has no such study of this patient."),
    "api.study-of-several-patients": _(
        "{node} has this study under several patient IDs. Give the patient ID."
    ),
    "api.preview-unknown": _("There is no such preview (any more). Request a new one."),
    "api.preview-used": _("A job was already ordered with this preview. Request a new one."),
    "api.many-keywords": _("At most {limit} keywords are possible in one query."),
    "api.parent-uid-missing": _("A query at this level needs this UID."),
    "api.keyword-not-permitted": _(
        "You may not search for this: you do not have the permission to see identified data."
    ),
    "api.query-value": _("The value must be a text, a whole number, or a list of these."),
    "api.choices": _("Give for each line number the number of the study, counted from 0."),
    "api.idempotency-key": _(
        "The header Idempotency-Key must have 1 to {limit} printable ASCII characters."
    ),
    "api.idempotency-key-reused": _(
        "This Idempotency-Key was used for another request. Use a new one for each request."
    ),
    "api.request-in-progress": _(
        "A request with this Idempotency-Key is being processed. Repeat it in a few seconds."
    ),
    "api.several-files": _("The job has several files. Choose one by the parameter “file”."),
    "api.waits-for-approval": _("The job waits for approval."),
    "api.waits-for-start": _("The check is finished. The job waits to be started."),
    "api.waits-for-decision": _("A study waits for the confirmation of its patient ID."),
}

_DICOMWEB: dict[str, Template] = {
    "dicomweb.no-token": _(
        "Send an API token in the header Authorization. Create one on the page My account."
    ),
    "dicomweb.sign-in-incomplete": _(
        "Your account needs a second factor. Open the pages of ADIT and set one up."
    ),
    "dicomweb.unknown-node": _(
        "There is no PACS or folder {ae_title} that you may use. Its name in the API is on its page."
    ),
    "dicomweb.unknown-address": _(
        "The DICOMweb API has no such address. It has no slash at the end."
    ),
    "dicomweb.unknown-parameter": _("The parameter {parameter} is unknown. Check its spelling."),
    "dicomweb.unknown-field": _(
        "The attribute {field} in includefield is unknown and was ignored."
    ),
    "dicomweb.one-value": _("The parameter {parameter} needs exactly one value."),
    "dicomweb.not-a-number": _("The value of {parameter} must be a whole number, not negative."),
    "dicomweb.not-a-date": _(
        "The value of {parameter} must be a date such as 20260131, or a range such as "
        "20260101-20260131."
    ),
    "dicomweb.not-true-or-false": _("The value of {parameter} must be true or false."),
    "dicomweb.hidden-key": _(
        "You need the permission to see identified data to search by {parameter}. Ask an "
        "administrator to add it to one of your groups."
    ),
    "dicomweb.not-utf-8": _("Encode the value of {parameter} in UTF-8."),
    "dicomweb.no-fuzzy-matching": _(
        "The parameter fuzzymatching is not supported. Only literal matching was performed."
    ),
    "dicomweb.more-results": ngettext(
        "There is {number} additional result that can be requested.",
        "There are {number} additional results that can be requested.",
        "number",
    ),
    "dicomweb.only-recent": _(
        "The search names no patient, study or date. Only studies of the last {days} days were "
        "searched."
    ),
    "dicomweb.result-cut": _(
        "There are more results at {node} than the first {number}. Narrow the search."
    ),
    "dicomweb.not-acceptable": _(
        "Images are available as multipart/related of application/dicom, single ones as "
        "application/dicom, studies and series also as application/zip. Change the header Accept."
    ),
    "dicomweb.only-json": _(
        "The answer is available as application/dicom+json only. Change the header Accept."
    ),
    "dicomweb.syntax-not-available": _(
        "An image is stored in the transfer syntax {stored} and cannot be converted to {wanted}. "
        "Accept transfer-syntax=*."
    ),
    "dicomweb.pseudonym-needed": _(
        "This token may not get identified images. Add the parameter pseudonym or "
        "trial_protocol_id to get pseudonymized images."
    ),
    "dicomweb.project-id-missing": _("Add the parameter trial_protocol_id, the ID of a project."),
    "dicomweb.unknown-project": _("There is no project {project} of which you are a member."),
    "dicomweb.other-project-name": _(
        "The project {project} has another name. Leave out trial_protocol_name, or correct it."
    ),
    "dicomweb.second-person": _(
        "In the project {project}, a second person must approve each transfer. Order a job instead."
    ),
    "dicomweb.client-left": _("The client closed the connection."),
    "dicomweb.interrupted": _(
        "ADIT stopped during the retrieval. Retrieve the images again. The client may have received "
        "some more images of the last seconds before."
    ),
    "dicomweb.images-missing": ngettext(
        "{number} image could not be retrieved. Request the study again.",
        "{number} images could not be retrieved. Request the study again.",
        "number",
    ),
    "dicomweb.all-withheld": _("All images are withheld: {reason}"),
    "dicomweb.withheld": ngettext(
        "{number} image or series is withheld: {reason}",
        "{number} images or series are withheld: {reason}",
        "number",
    ),
    "dicomweb.no-image": _("{node} has no such image."),
    "dicomweb.no-retrieval": _("There is no such retrieval of yours."),
    "dicomweb.not-multipart": _(
        "Send images as multipart/related with type application/dicom and a boundary."
    ),
    "dicomweb.encoded-body": _("Send the images without the header Content-Encoding."),
    "dicomweb.body-empty": _("The request contains no image."),
    "dicomweb.body-incomplete": _(
        "The request did not arrive completely, so nothing was stored. Send it again."
    ),
    "dicomweb.disk-full": _(
        "The disk of ADIT is almost full, so nothing can be received. Tell an administrator."
    ),
    "dicomweb.internal-error": _(
        "Internal error. Ask an administrator to check the log, then try again."
    ),
    "dicomweb.too-busy": _("ADIT is answering too many requests. Try again in a few seconds."),
    "dicomweb.not-cached": _(
        "The series does not fit on the disk of ADIT. Retrieve it without viewer."
    ),
    "dicomweb.no-frames": _(
        "The frames of this image cannot be sent one by one. Retrieve the whole image instead."
    ),
    "dicomweb.not-frames": _("Give the numbers of frames, separated by commas, such as 1,2."),
    "dicomweb.not-a-window": _(
        "The value of window must be center, width and linear, linear-exact or sigmoid, such as "
        "40,400,linear. The width must be at least 1, or above 0 if it is not linear."
    ),
    "dicomweb.not-a-viewport": _(
        "The value of viewport must be the width and height of the picture, up to 8192, such as "
        "512,512. A part of the image can follow, such as 512,512,0,0,256,256; it must be inside "
        "of the image. A thumbnail is always the whole image."
    ),
    "dicomweb.not-a-quality": _("The value of quality must be a whole number from 1 to 100."),
    "dicomweb.not-an-annotation": _(
        "The value of annotation must be patient, technique, or both, separated by a comma."
    ),
    "dicomweb.pictures-too-large": _(
        "The pictures are too large for one answer. Request fewer frames, or a smaller viewport."
    ),
    "dicomweb.not-a-profile": _(
        "The value of iccprofile must be no, yes, srgb, adobergb, rommrgb or displayp3."
    ),
    "dicomweb.no-profile-in-gif": _(
        "A GIF picture cannot contain an ICC profile. Request image/png, or iccprofile=no."
    ),
    "dicomweb.values-ignored": _(
        "The following {parameter} values are not supported: {values}. They were ignored."
    ),
    "dicomweb.no-bulk-data": _("The image has no such value, or it is in its metadata."),
    "dicomweb.only-octets": _(
        "This address returns application/octet-stream, in parts or for a single frame, and "
        "compressed frames also under their own media type. Correct the header Accept."
    ),
    "dicomweb.only-pictures": _(
        "This address returns image/jpeg, image/png or image/gif; several frames as image/gif or "
        "as parts of multipart/related. Correct the header Accept."
    ),
    "dicomweb.wrong-method": _("This address accepts only the method {method}."),
}

_EVENTS: dict[str, Template] = {
    "signin.done": _("{who} signed in."),
    "signin.failed": _("A sign-in failed ({object})."),
    "signin.locked": _("Sign-in was locked after too many failures ({object})."),
    "signin.refused": _("A sign-in was refused ({object})."),
    "signin.groups_missing": _(
        "{object} did not get all groups at sign-in, because ADIT has no group of this name: "
        "{groups}."
    ),
    "signout.done": _("{who} signed out."),
    "second_factor.added": _("{object} set up a second factor."),
    "second_factor.removed": _("{object} removed a second factor."),
    "second_factor.renamed": _("{object} renamed a security key."),
    "second_factor.renewed": _("{object} created new recovery codes."),
    "second_factor.failed": _("A wrong code or security key was used for {object}."),
    "session.ended": _("{who} ended sessions of {object}."),
    "password.changed": _("The password of {object} was changed."),
    "user.created": _("{who} created the account of {object}."),
    "user.changed": _("{who} changed the account of {object}."),
    "user.deactivated": _("{who} deactivated {object}."),
    "user.refused": _("{who} was refused a change of {object}: {reason}."),
    "user.reactivated": _("{who} reactivated {object}."),
    "user.anonymized": _("{who} made the account of {object} anonymous."),
    "user.requested": _("Somebody without an account asked for one."),
    "user.request_accepted": _("{who} accepted a request for an account: {object}."),
    "user.request_declined": _("{who} declined a request for an account."),
    "user.password_link": _("{who} created a link for {object} to set a password."),
    "user.service_created": _("{who} created {object}."),
    "user.password_set": _("{object} set a password by a link."),
    "user.password_forgotten": _("{object} requested a link to set a new password."),
    "user.second_factor_reset": _("{who} reset the second factor of {object}."),
    "user.linked": _("The account of {object} was linked to an account of another provider."),
    "link.refused": _("A link that is not valid was opened ({object})."),
    "user.first_administrator": _("{object} became the first administrator."),
    "setup.link": _("A link to create the first administrator was made."),
    "group.created": _("{who} created {object}."),
    "group.changed": _("{who} changed {object}."),
    "group.refused": _("{who} was refused a change of {object}: {reason}."),
    "configuration.exported": _("{who} exported the configuration as a file."),
    "configuration.imported": _("{who} imported a configuration file."),
    "budget.changed": _("{who} changed the daily budget of {object}."),
    "token.created": _("{who} created an API token for {user}."),
    "token.revoked": _("{who} revoked an API token of {user}."),
    "webhook.created": _("{who} added a webhook to {host}."),
    "webhook.deleted": _("{who} deleted the webhook “{name}”."),
    "token.refused": _("An API token of {user} was refused."),
    "node.created": _("{who} added {object}."),
    "node.changed": _("{who} changed {object}."),
    "node.removed": _("{who} deleted {object}."),
    "node.put_in_use": _("{who} put {object} in use."),
    "node.taken_out_of_use": _("{who} took {object} out of use."),
    "dicomweb.retrieved": _("{who} retrieved images from {object} through the API."),
    "dicomweb.refused": _(
        "{who} asked {object} through the API for images of a patient who may not be transferred."
    ),
    "dicomweb.viewed": _("{who} looked at a study of {object} through the API."),
    "dicomweb.stored": _("{who} sent images to {object} through the API."),
    "node.opened": _("{who} connected to {object}."),
    "node.checked": _("{who} tested {object}."),
    "node.paused": _("{who} paused {object}: {reason}."),
    "node.stopped": _("{who} stopped {object}: {reason}."),
    "node.slow": _("{object} became slow."),
    "node.slow_paused": _("ADIT paused transfers with {object}, because it was very slow."),
    "node.slow_ended": _("{object} was no longer slow."),
    "node.times_adopted": _("{who} accepted the present response time of {object} as usual."),
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
    "recall.started": _("{who} recalled delivered images."),
    "recall.continued": _("{who} continued a recall."),
    "recall.confirmed": _("{who} recorded that a recipient of recalled images deleted them."),
    "recall.quarantine_deleted": _(
        "Images of the patient of {object} were deleted from the quarantine: {images}."
    ),
    "recall.checked": _("Recalled images were deleted, or looked for at their destination."),
    "recall.ended": _("A recall ended: everything is deleted and confirmed."),
    "recall.viewed": _("{who} viewed a recall."),
    "recall.list_exported": _("{who} exported the list of recalled images."),
    "job.recalled": _("{who} recalled the images of {object}."),
    "patient.answer_exported": _("{who} exported the answer to a patient's request for access."),
    "blocklist.read": _("{who} viewed the block list."),
    "blocklist.added": _("{who} added a patient to the block list."),
    "blocklist.ended": _("{who} ended an entry of the block list."),
    "blocklist.domain_followed": _(
        "A patient was blocked also in the new patient ID domain of a PACS."
    ),
    "consent.viewed": _("{who} viewed the consent list of {object}."),
    "consent.added": _("{who} recorded the consent of a patient for {object}."),
    "consent.withdrawn": _("{who} recorded that a patient withdrew consent for {object}."),
    "consent.uploaded": _(
        "{who} replaced the consent list of {object} by an uploaded list: {added} added, {changed} "
        "changed, {withdrawn} withdrawn, {removed} removed, {rows_with_errors} rows with errors left "
        "out."
    ),
    "consent.exported": _("{who} exported the consent list of {object}: {reason}."),
    "consent.removed": _("{who} removed the consent list of {object}."),
    "blocklist.deliveries_read": _("{who} viewed the deliveries of a blocked patient."),
    "blocklist.deliveries_exported": _("{who} exported the deliveries of a blocked patient."),
    "retention.changed": _("{who} changed how long data is kept."),
    "retention.cleaned": _("Data was deleted after its retention period: {kind}, {removed}."),
    "trail.sealed": _("{removed} old events of the audit trail were moved to a file."),
    "retention.ledgers_verified": _("{who} verified the ledgers of deleted jobs."),
    "job.expired": _("{object} was deleted after its retention period."),
    "system.test_mail": _("{who} sent a test mail."),
    "system.test_mail_failed": _("{who} sent a test mail in vain: {reason}."),
    "mail.failed": _("ADIT cannot send mails: {reason}."),
    "mail.works": _("ADIT can send mails again."),
    "mail.address_refused": _("The mail server rejected the mail address of {object}."),
    "directory.failed": _("The directory cannot be used: {reason}."),
    "directory.works": _("The directory works again."),
    "directory.groups_missing": _(
        "The directory has no group of this name, but ADIT_LDAP_GROUPS names it: {groups}."
    ),
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
    "job.previewed": _(
        "{who} saw what an order for the project {project} would send. Nothing was sent."
    ),
    "order.patients_refused": _("{who} ordered images of patients who may not be transferred."),
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
    "rows.blocked": _(
        "A row of the list of {object} was refused, because its patient may not be transferred."
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
    "withheld.revoked": _("{who} revoked the rule for images of {object}: {reason}."),
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
    | _AUDIT
    | _MAIL
    | _DIRECTORY
    | _ACCOUNTS
    | _WEBHOOKS
    | _NOTIFICATIONS
    | _NODES
    | _CALENDAR
    | _RECEIVING
    | _CONFIGURATION
    | _PROJECTS
    | _SPREADSHEETS
    | _JOBS
    | _KINDS
    | _RESULTS
    | _REVIEW
    | _ORDERS
    | _WORKER
    | _INSTALLATION
    | _API
    | {f"plain.{key}": template for key, template in _PLAIN_REASONS.items()}
    | _DICOMWEB
    | {f"event.{action}": template for action, template in _EVENTS.items()}
)
