"""What each permission allows, in one sentence, by section. Used by the pages of groups and users."""

from collections.abc import Iterable, Mapping

from django.contrib.auth.models import Permission
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from adit.accounts.permissions import Right, order_right, right_label

Text = str | Promise

SECTIONS: Mapping[Text, Mapping[str, Text]] = {
    _("Orders"): {
        order_right("selective"): _("Search for single studies and transfer them."),
        order_right("batch_query"): _("Upload a list of patients and query a PACS for them."),
        order_right("batch_transfer"): _("Upload a list of studies and transfer them."),
        Right.BE_URGENT: _("Transfer outside the allowed hours of a PACS."),
        Right.USE_ARCHIVES: _("Order encrypted 7-Zip files as a destination."),
        Right.DOWNLOAD: _("Download finished 7-Zip files in the browser."),
        Right.WRITE_CLINICAL: _("Send images to a PACS that is used for patient care."),
    },
    _("Patient data"): {
        Right.SEE_IDENTIFIED: _("See names and birth dates of patients on pages and in sheets."),
        Right.TRANSFER_IDENTIFIED: _("Transfer images that are not pseudonymized."),
        Right.CHOOSE_PSEUDONYMS: _("Choose pseudonyms instead of using generated ones."),
        Right.CONFIRM_PATIENTS: _("Decide whether a changed patient ID means the same patient."),
        Right.REVIEW_WITHHELD: _("Look at withheld images, and mask or release them."),
    },
    _("Supervision"): {
        Right.SEE_ALL_JOBS: _("See the jobs of all users."),
        Right.APPROVE_JOBS: _("Approve or return the jobs of other users."),
        Right.READ_TRAIL: _("Read, verify and export the record of who did what."),
        Right.MANAGE_BLOCK_LIST: _("Block patients, and list what of them was delivered where."),
    },
    _("Administration"): {
        Right.MANAGE_NODES: _("Add, change, open and pause PACS and folders."),
        Right.MANAGE_PROJECTS: _("Accept, change and end research projects."),
        Right.MANAGE_PROFILES: _("Create and change the rules of pseudonymization."),
        Right.MANAGE_USERS: _("Create and change users and groups, within the own permissions."),
        Right.ADMINISTER: _("Grant any permission, also those that the person does not have."),
        Right.TOKENS_WITHOUT_EXPIRY: _("Create API tokens that never expire."),
    },
}


def list_by_section(
    permissions: Iterable[Permission],
) -> list[tuple[Text, list[tuple[Permission, Text, Text]]]]:
    """Return per section its permissions with label and sentence.

    Permissions without a sentence are in a section of their own at the end.
    """
    left = {permission.codename: permission for permission in permissions}
    sections: list[tuple[Text, list[tuple[Permission, Text, Text]]]] = []
    for title, texts in SECTIONS.items():
        rows: list[tuple[Permission, Text, Text]] = [
            (left.pop(name), describe_right(name), text)
            for name, text in texts.items()
            if name in left
        ]
        if rows:
            sections.append((title, rows))
    if left:
        rest: list[tuple[Permission, Text, Text]] = [
            (left[name], describe_right(name), "") for name in sorted(left)
        ]
        sections.append((_("More"), rest))
    return sections


def describe_right(name: str) -> Text:
    """Return the label of a permission, also of those to order a kind of job."""
    return _ORDER_LABELS.get(name) or right_label(name)


_ORDER_LABELS: Mapping[str, Text] = {
    order_right("selective"): _("Order transfers"),
    order_right("batch_query"): _("Order batch queries"),
    order_right("batch_transfer"): _("Order batch transfers"),
}
