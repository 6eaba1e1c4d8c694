"""The order form of a batch transfer and the order of a validated sheet."""

from typing import Any

from django import forms
from django.conf import settings
from django.utils.translation import gettext_lazy as _

from adit.accounts.models import User
from adit.accounts.permissions import Right, has_right
from adit.jobs.kinds.base import OrderRequest, Pseudonymize, SendAsIs, SheetOptions
from adit.jobs.kinds.batch_transfer import BatchTransfer, BatchTransferRow
from adit.jobs.models import Job, Task
from adit.nodes import access
from adit.nodes.models import Node
from adit.orders import uploads
from adit.orders.forms import PSEUDONYMIZED, NodesField, TransferFormBase
from adit.orders.uploads import Upload
from adit.orders.views.sheets import SheetWorkflow
from adit.projects import services
from adit.results import archives
from adit.spreadsheets.columns import SheetKind
from adit.spreadsheets.row_verdicts import ValidatedRow, ValidatedSheet, format_line_numbers
from adit.spreadsheets.transfer_rows import TransferRow, validate_transfer_rows
from adit_engine.errors import InvalidInput
from adit_engine.transfer.study_lookup import StudyCriteria

MAX_PILOT = 10_000


class TransferForm(TransferFormBase):
    source = forms.ModelChoiceField(
        label=_("Fetch from"),
        queryset=Node.objects.none(),
        empty_label=None,
        error_messages={"required": _("Choose the PACS or folder to fetch from.")},
    )
    further = NodesField(
        label=_("Additional sources"),
        queryset=Node.objects.none(),
        required=False,
        help_text=_("Searched in this order for studies that the first source does not have."),
    )
    pilot = forms.IntegerField(
        label=_("Pilot: number of studies to transfer first"),
        required=False,
        min_value=1,
        max_value=MAX_PILOT,
        help_text=_("The other studies wait until you have checked the pilot and continue."),
    )
    generate = forms.BooleanField(
        label=_("Generate a pseudonym for rows without one"), required=False
    )
    skips_delivered = forms.BooleanField(
        label=_("Skip series that this project has already delivered there"), required=False
    )
    starts_itself = forms.BooleanField(
        label=_("Start automatically if every row matches exactly one study"), required=False
    )
    mail = forms.BooleanField(label=_("Mail me when the job has finished"), required=False)
    archive_kept = forms.BooleanField(required=False)

    def __init__(
        self,
        data: Any,
        *,
        user: User,
        upload: Upload,
        validated: ValidatedSheet[TransferRow],
        initial: dict[str, Any],
    ) -> None:
        initial = initial or {**_DEFAULTS, **_initial_from_query(upload)}
        super().__init__(data, initial=initial)
        self.validated = validated
        self.password = upload.password
        self.limit("source", access.readable_nodes(user))
        self.limit("further", access.readable_nodes(user))
        places = archives.allowed_destinations(user)
        self.archive_nodes = list(filter(archives.is_archive, places))
        chosen = self["destinations"].value() or []
        chosen = set(map(str, chosen if isinstance(chosen, list) else [chosen]))
        self.has_archive = any(str(node.pk) in chosen for node in self.archive_nodes)
        self.limit("destinations", places)
        self.limit("project", services.usable_projects(user))
        self.remove_forbidden_fields(
            send_identified=has_right(user, Right.TRANSFER_IDENTIFIED),
            be_urgent=has_right(user, Right.BE_URGENT),
        )
        if not (settings.MAIL and user.email):
            del self.fields["mail"]

    def clean(self) -> dict[str, Any]:
        values = super().clean()
        if any(map(archives.is_archive, values.get("destinations") or ())):
            try:
                values["archive_password"] = self.password.validate(values)
            except InvalidInput as error:
                self.add_error("archive_kept", str(error))
        if self.is_as_is:
            return values
        bare = [row.line for row in self.validated.valid_rows if row.row and not row.row.pseudonym]
        if bare and not values.get("generate"):
            text = _(
                "These rows have no pseudonym (line %(lines)s). Select this option, or add the "
                "pseudonyms to the list."
            )
            self.add_error("generate", text % {"lines": format_line_numbers(bare)})
        return values


def _initial_from_query(upload: Upload) -> dict[str, Any]:
    """The sources, project and destinations of a query, if the rows are the results of one."""
    if upload.job is None:
        return {}
    asked = Task.objects.filter(job=upload.job).order_by("pk").values_list("source", flat=True)
    first, *further = dict.fromkeys(asked) or [None]
    query = Job.objects.filter(pk=upload.job).first()
    return {
        "source": first,
        "further": further,
        "project": query.project_id if query else None,
        "destinations": query.order.get("next_destinations", []) if query else [],
    }


_DEFAULTS = {"generate": True, "skips_delivered": True, "change": PSEUDONYMIZED}


def validate_sheet(user: User, upload: Upload) -> ValidatedSheet[TransferRow]:
    """Return the sheet with the verdicts of its rows. Raises UnreadableSheet."""
    return validate_transfer_rows(
        upload.table, upload.mapping, upload.order, left_out=upload.left_out
    )


def make_transfer_request(
    upload: Upload, sheet: ValidatedSheet[TransferRow], form: TransferForm
) -> OrderRequest[BatchTransferRow]:
    """Return the order of a validated sheet. Raises InvalidInput."""
    values = form.cleaned_data
    return OrderRequest(
        kind=BatchTransfer.code,
        items=tuple(_order_row(row) for row in sheet.without(upload.left_out).valid_rows),
        key=upload.key,
        destinations=tuple(node.pk for node in values["destinations"]),
        sources=(values["source"].pk, *(node.pk for node in values["further"])),
        project=values["project"].pk if values["project"] else None,
        change=SendAsIs(values["reason"]) if form.is_as_is else Pseudonymize(),
        title=values["title"],
        urgent=values.get("urgent", False),
        mail=values.get("mail", False),
        archive_password=values.get("archive_password", ""),
        sheet=SheetOptions(
            own_headers=sheet.own_headers,
            skips_delivered=values["skips_delivered"],
            starts_itself=values["starts_itself"],
            pilot=values["pilot"] or 0,
        ),
        unprocessed_rows=uploads.unprocessed_rows(upload, sheet),
    )


def _order_row(validated: ValidatedRow[TransferRow]) -> BatchTransferRow:
    row = validated.row
    assert row is not None, "only good rows are ordered"
    return BatchTransferRow(
        line=row.line,
        criteria=StudyCriteria(
            patient_id=row.patient_id,
            study_uid=row.study_uid,
            accession_number=row.accession,
            study_date=row.study_date,
            days=row.days,
            modalities=row.modalities,
        ),
        series_uid=row.series_uid,
        pseudonym=row.pseudonym,
        user_cells=validated.user_cells,
        visit=row.visit,
        finding=uploads.find_repeated_line(validated),
    )


TRANSFER_WORKFLOW = SheetWorkflow(
    kind=BatchTransfer.code,
    code="transfer",
    sheet=SheetKind.TRANSFER,
    title=_("New batch transfer"),
    lead=_("Transfer a list of studies. It is checked first, and each row gets a result."),
    help="batch-transfer",
    order_template="orders/_transfer_order.html",
    validate=validate_sheet,
    form=TransferForm,
    request=make_transfer_request,
)
