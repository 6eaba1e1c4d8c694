"""From the body of an API request to an order: nodes, project, studies, and the rows of a sheet.

The order service and the order form of the pages decide whether it is valid.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from rest_framework.request import Request

from adit.accounts.permissions import Right, order_right, require
from adit.api.problems import ApiProblem, invalid_field
from adit.api.views.base import find_node, get_token, get_user
from adit.api_tokens.tokens import Scope, require_scope
from adit.jobs.kinds.base import OrderRequest, SendAsIs
from adit.jobs.kinds.picked_study import PickedStudy
from adit.jobs.kinds.selective import Selective
from adit.nodes import access, search
from adit.nodes.models import Node
from adit.orders import drafts, uploads
from adit.orders.archive_passwords import DraftPassword
from adit.orders.forms import AS_IS, PSEUDONYMIZED, names_patient
from adit.orders.views.batch_query import QUERY_WORKFLOW
from adit.orders.views.batch_transfer import TRANSFER_WORKFLOW
from adit.orders.views.sheets import SheetWorkflow, as_form_data
from adit.projects import services
from adit.spreadsheets.row_reader import DateOrder
from adit.spreadsheets.row_verdicts import RowVerdict, ValidatedSheet
from adit_engine.errors import AditError, InvalidInput
from adit_engine.messages import Message
from adit_engine.values.query import Query
from adit_engine.values.references import StudyRef

LOOKUP_BUDGET_S = 25.0
"""The studies of a larger order are not looked up any more if their patient ID is given."""
WORKFLOWS: Mapping[str, SheetWorkflow] = {
    workflow.kind: workflow for workflow in (QUERY_WORKFLOW, TRANSFER_WORKFLOW)
}
_API_FIELDS = {
    "source": "nodes",
    "sources": "nodes",
    "further": "nodes",
    "destinations": "destination",
    "archive_kept": "archive_password",
    "starts_itself": "start",
    "skips_delivered": "skip_delivered",
    "reason": "change",
    "__all__": "order",
}
"""The fields of the API for those of the order forms."""


def require_node(request: Request, nodes: QuerySet[Node], name: int | str, field: str) -> Node:
    """Return the node that the request names. Raises ApiProblem."""
    node = find_node(request, nodes, name)
    if node is None:
        raise invalid_field(field, Message("api.unknown-node"))
    return node


def make_selective_request(
    request: Request, values: Mapping[str, Any], key: str
) -> OrderRequest[PickedStudy]:
    """Return the order of picked studies. Raises ApiProblem, NotPermitted, InvalidInput."""
    user = get_user(request)
    require(user, order_right(Selective.code))
    _require_identified_scope(request, values)
    destination = _find_destination(request, values)
    picks = _pick_studies(request, values["studies"])
    title = values["title"]
    if any(names_patient(title, pick.patient) for pick in picks):
        raise invalid_field("title", Message("api.title-names-patient"))
    return OrderRequest(
        kind=Selective.code,
        items=picks,
        key=key,
        destinations=(destination.pk,),
        project=_find_project(request, values["project"]),
        change=values["change"],
        title=title,
        urgent=values["urgent"],
        mail=_may_mail(request, values),
        archive_password=values["archive_password"],
    )


def _require_identified_scope(request: Request, values: Mapping[str, Any]) -> None:
    """Identified images leave only by a token that says so, of a user who may."""
    if isinstance(values["change"], SendAsIs):
        require_scope(get_token(request), Scope.IDENTIFIED)
        require(get_user(request), Right.TRANSFER_IDENTIFIED)
    if values["urgent"]:
        require(get_user(request), Right.BE_URGENT)


def _find_destination(request: Request, values: Mapping[str, Any]) -> Node:
    nodes = access.writable_nodes(get_user(request))
    return require_node(request, nodes, values["destination"], "destination")


def _find_project(request: Request, protocol_id: str | None) -> int | None:
    """Return the primary key of a project; the order service says if it cannot be used."""
    if not protocol_id:
        return None
    projects = services.visible_projects(get_user(request)).filter(is_default=False)
    project = projects.filter(protocol_id=protocol_id).first()
    if project is None:
        raise invalid_field("project", Message("api.unknown-project"))
    return project.pk


def _may_mail(request: Request, values: Mapping[str, Any]) -> bool:
    return bool(values["mail"] and settings.MAIL and get_user(request).email)


def _pick_studies(
    request: Request, studies: Sequence[Mapping[str, Any]]
) -> tuple[PickedStudy, ...]:
    deadline = time.monotonic() + LOOKUP_BUDGET_S
    nodes: dict[int | str, Node] = {}
    picks = []
    readable = access.readable_nodes(get_user(request))
    for number, study in enumerate(studies):
        name = study["node"]
        if name not in nodes:
            nodes[name] = require_node(request, readable, name, f"studies.{number}.node")
        picks.append(_pick_study(request, nodes[name], study, number, deadline))
    return tuple(picks)


def _pick_study(
    request: Request, node: Node, study: Mapping[str, Any], number: int, deadline: float
) -> PickedStudy:
    """Return the study as its node knows it, or as given if the node cannot be asked now."""
    uid, patient_id = study["study_uid"], study["patient_id"]
    series = tuple(study["series_uids"])
    field = f"studies.{number}.study_uid"
    try:
        query = Query.study(StudyRef(uid), patient_id)
    except InvalidInput as error:
        raise invalid_field(field, error.message) from None
    given = PickedStudy.by_uid(node.pk, uid, patient_id, series, study["pseudonym"])
    given = replace(given, node=node.name, domain=access.get_domain(node))
    if patient_id and time.monotonic() > deadline:
        return given
    try:
        records = search.search_studies(get_user(request), node, query).records
    except AditError as error:
        if patient_id and error.is_transient:
            return given
        raise
    found = [one for one in records if one.study_uid == uid]
    found = [one for one in found if not patient_id or one.patient_id == patient_id.strip()]
    if len(found) != 1:
        code = "api.study-of-several-patients" if found else "api.unknown-study"
        raise ApiProblem(
            422, Message(code, node=node.name), errors={field: [str(Message(code, node=node.name))]}
        )
    return replace(given, study=found[0])


# Sheets -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SheetOrder:
    """A sheet with the verdict of each row, and its order."""

    sheet: ValidatedSheet[Any]
    request: OrderRequest[Any]


def make_sheet_request(
    request: Request, values: Mapping[str, Any], file: Any, key: str
) -> SheetOrder:
    """Return the order of an uploaded sheet, with what the order form of the pages allows.

    Raises ApiProblem (with a verdict per row), NotPermitted, UnreadableSheet.
    """
    user, workflow = get_user(request), WORKFLOWS[values["kind"]]
    require(user, order_right(workflow.kind))
    if "change" in values:
        _require_identified_scope(request, values)
    data = _form_data(request, values)
    upload = uploads.read_upload(
        user, file, file.name or "sheet", workflow.sheet, DateOrder.DAY_FIRST
    )
    drafts.delete_draft(user, upload.key)
    if not upload.mapping.is_certain:
        raise ApiProblem(
            422, Message("api.sheet-columns"), errors={"sheet": [str(Message("api.sheet-columns"))]}
        )
    upload = replace(upload, key=key, password=DraftPassword(values.get("archive_password", "")))
    sheet = workflow.validate(user, upload)
    _require_valid_rows(sheet, skip_errors=values["skip_errors"])
    form = workflow.form(as_form_data(data), user=user, upload=upload, validated=sheet, initial={})
    if not form.is_valid():
        errors = {
            _API_FIELDS.get(name, name): [str(one) for one in texts]
            for name, texts in form.errors.items()
        }
        raise ApiProblem(422, Message("api.invalid"), errors=errors)
    order = workflow.request(upload, sheet, form)
    if values.get("start") == "always":
        order = replace(order, sheet=replace(order.sheet, starts_with_gaps=True))
    return SheetOrder(sheet, order)


def describe_rows(sheet: ValidatedSheet[Any]) -> list[dict[str, Any]]:
    """Return the verdict of each row, with its reasons."""
    return [
        {
            "row": row.line,
            "verdict": row.verdict.value.replace(" ", "_"),
            "findings": [
                {
                    "code": finding.message.code,
                    "text": str(finding.describe_for(row.line)),
                    "column": finding.column,
                }
                for finding in row.findings
            ],
        }
        for row in sheet.rows
    ]


def _require_valid_rows(sheet: ValidatedSheet[Any], *, skip_errors: bool) -> None:
    rows = describe_rows(sheet)
    if not sheet.valid_rows:
        raise ApiProblem(422, Message("api.no-valid-row"), extra={"rows": rows})
    wrong = sheet.counts[RowVerdict.ERROR]
    if wrong and not skip_errors:
        raise ApiProblem(422, Message("api.rows-with-errors", count=wrong), extra={"rows": rows})


def _form_data(request: Request, values: Mapping[str, Any]) -> dict[str, list[str]]:
    """The input of the order form of the pages for this order."""
    readable = access.readable_nodes(get_user(request))
    sources = [
        str(require_node(request, readable, name, f"nodes.{number}").pk)
        for number, name in enumerate(values["nodes"])
    ]
    project = _find_project(request, values["project"])
    data = {"project": [str(project or "")], "title": [values["title"]]}
    if "destination" in values:
        data["destinations"] = [str(_find_destination(request, values).pk)]
    if "change" not in values:
        return {**data, "sources": sources}
    change = values["change"]
    switches = {
        "urgent": values["urgent"],
        "mail": values["mail"],
        "generate": values["generate"],
        "skips_delivered": values["skip_delivered"],
        "starts_itself": values["start"] != "by_hand",
        "archive_kept": True,
    }
    return {
        **data,
        "source": sources[:1],
        "further": sources[1:],
        "change": [AS_IS if isinstance(change, SendAsIs) else PSEUDONYMIZED],
        "reason": [change.reason if isinstance(change, SendAsIs) else ""],
        "pilot": [str(values["pilot"] or "")],
        **{name: ["on"] for name, is_on in switches.items() if is_on},
    }
