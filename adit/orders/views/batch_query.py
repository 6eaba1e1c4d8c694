"""The order form of a batch query and the order of a validated sheet."""

from typing import Any

from django.utils.translation import gettext_lazy as _

from adit.accounts.models import User
from adit.accounts.permissions import has_right, order_right
from adit.jobs.kinds import batch_query
from adit.jobs.kinds.base import OrderRequest, SheetOptions, SheetRow
from adit.jobs.kinds.batch_transfer import BatchTransfer
from adit.nodes import access
from adit.nodes.models import Node
from adit.orders import uploads
from adit.orders.forms import NodesField, OrderFormBase
from adit.orders.uploads import Upload
from adit.orders.views.sheets import SheetWorkflow
from adit.projects import services
from adit.results import archives
from adit.spreadsheets.columns import SheetField, SheetKind
from adit.spreadsheets.query_rows import QueryRow, validate_query_rows
from adit.spreadsheets.row_verdicts import ValidatedRow, ValidatedSheet
from adit_engine.patient_search.search import PatientQuery, PersonCriteria


class QueryForm(OrderFormBase):
    sources = NodesField(
        label=_("Sources"),
        queryset=Node.objects.none(),
        error_messages={"required": _("Select at least one PACS or folder.")},
        help_text=_("Each row is searched in every selected PACS or folder."),
    )
    destinations = NodesField(
        label=_("Destination of a later transfer"),
        queryset=Node.objects.none(),
        required=False,
        help_text=_(
            "Selected for you when you transfer the results, as are the research project and the "
            "pseudonyms. A query sends nothing."
        ),
    )

    def __init__(
        self, data: Any, *, user: User, upload: Upload, validated: Any, initial: dict[str, Any]
    ) -> None:
        readable_nodes = list(access.readable_nodes(user))
        readable = [node.pk for node in readable_nodes]
        super().__init__(data, initial={"sources": readable[:1], **initial})
        self.fields["project"].help_text = _(
            "Members of the project can see the results. They are encrypted with the project's key."
        )
        self.limit("sources", readable_nodes)
        self.limit("project", services.usable_projects(user))
        self.limit("destinations", archives.allowed_destinations(user))
        if not has_right(user, order_right(BatchTransfer.code)):
            del self.fields["destinations"]


def validate_sheet(user: User, upload: Upload) -> ValidatedSheet[QueryRow]:
    """Return the sheet with the verdicts of its rows. Raises UnreadableSheet."""
    return validate_query_rows(upload.table, upload.mapping, upload.order, left_out=upload.left_out)


def make_query_request(
    upload: Upload, sheet: ValidatedSheet[QueryRow], form: QueryForm
) -> OrderRequest[batch_query.BatchQueryRow]:
    """Return the order of a validated sheet."""
    values = form.cleaned_data
    return OrderRequest(
        kind=batch_query.BatchQuery.code,
        items=tuple(_order_row(row) for row in sheet.without(upload.left_out).valid_rows),
        key=upload.key,
        sources=tuple(node.pk for node in values["sources"]),
        project=values["project"].pk if values["project"] else None,
        title=values["title"],
        sheet=SheetOptions(
            own_headers=sheet.own_headers,
            next_destinations=tuple(node.pk for node in values.get("destinations", ())),
        ),
        unprocessed_rows=uploads.unprocessed_rows(upload, sheet),
    )


def _order_row(validated: ValidatedRow[QueryRow]) -> batch_query.BatchQueryRow:
    row = validated.row
    assert row is not None, "only good rows are ordered"
    return batch_query.BatchQueryRow(
        SheetRow(
            row.line,
            validated.user_cells,
            row.pseudonym,
            row_as_asked(row),
            uploads.find_repeated_line(validated),
        ),
        make_question(row),
    )


def make_question(row: QueryRow) -> PatientQuery:
    """Return the query of a row."""
    person = PersonCriteria(
        patient_id=row.patient_id,
        family=row.name.family if row.name else "",
        given=row.name.given if row.name else "",
        birth_date=row.birth_date,
        accession_number=row.accession,
    )
    return PatientQuery(
        person,
        row.first_day,
        row.last_day,
        row.modalities,
        row.study_description,
        row.series_description,
        row.series_number,
    )


def row_as_asked(row: QueryRow) -> dict[str, str]:
    """Return the values of the row by the headers of the template.

    An exported sheet can thus be used as input again.
    """
    name = ", ".join(part for part in (row.name.family, row.name.given) if part) if row.name else ""
    said = {
        SheetField.PATIENT_ID: row.patient_id,
        SheetField.PATIENT_NAME: name,
        SheetField.BIRTH_DATE: row.birth_date.isoformat() if row.birth_date else "",
        SheetField.ACCESSION: row.accession,
        SheetField.FROM: row.first_day.isoformat() if row.first_day else "",
        SheetField.UNTIL: row.last_day.isoformat() if row.last_day else "",
        SheetField.MODALITY: ", ".join(row.modalities),
        SheetField.STUDY_DESCRIPTION: row.study_description,
        SheetField.SERIES_DESCRIPTION: row.series_description,
        SheetField.SERIES_NUMBER: "" if row.series_number is None else str(row.series_number),
    }
    return {str(field): text for field, text in said.items() if text}


QUERY_WORKFLOW = SheetWorkflow(
    kind=batch_query.BatchQuery.code,
    code="query",
    sheet=SheetKind.QUERY,
    title=_("New batch query"),
    lead=_("Search for a list of patients. Each row returns the studies found."),
    help="batch-query",
    order_template="orders/_query_order.html",
    validate=validate_sheet,
    form=QueryForm,
    request=make_query_request,
)
