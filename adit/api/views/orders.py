"""Orders: previews and new jobs, from JSON or with an uploaded sheet."""

from collections.abc import Mapping
from typing import Any

from django.core.files.uploadedfile import UploadedFile
from drf_spectacular.utils import PolymorphicProxySerializer
from rest_framework.request import Request
from rest_framework.response import Response

from adit.api import order_requests
from adit.api.idempotency import was_begun_before
from adit.api.order_requests import WORKFLOWS, describe_rows
from adit.api.parsers import JsonParser, SheetFormParser, read_json
from adit.api.problems import ApiProblem, invalid_field
from adit.api.representations import find_start_time, represent_job, represent_preview
from adit.api.response_serializers import BatchQueryForm, BatchTransferForm, PreviewAnswer
from adit.api.schema import describe
from adit.api.serializers import (
    BatchQuerySerializer,
    BatchTransferSerializer,
    SelectiveSerializer,
    StrictSerializer,
)
from adit.api.views.base import ApiView, get_user
from adit.api_tokens.tokens import Scope
from adit.jobs.kinds.base import OrderRequest
from adit.jobs.kinds.batch_query import BatchQuery
from adit.jobs.kinds.batch_transfer import BatchTransfer
from adit.jobs.kinds.picked_study import PickedStudy
from adit.jobs.kinds.selective import Selective
from adit.jobs.models import Job
from adit.nodes.models import Node
from adit.orders import drafts, service
from adit.orders.service import RefusedPseudonyms
from adit_engine.messages import Message

_SERIALIZERS: Mapping[str, type[StrictSerializer]] = {
    Selective.code: SelectiveSerializer,
    BatchQuery.code: BatchQuerySerializer,
    BatchTransfer.code: BatchTransferSerializer,
}
ORDER = {
    "application/json": SelectiveSerializer,
    "multipart/form-data": PolymorphicProxySerializer(
        component_name="SheetOrder",
        serializers=[BatchQueryForm, BatchTransferForm],
        resource_type_field_name=None,
    ),
}


class OrderView(ApiView):
    """A view that reads an order. Sheets come as a form with `order` (JSON) and `sheet`."""

    parser_classes = (JsonParser, SheetFormParser)

    def read_order(self, request: Request) -> tuple[dict[str, Any], UploadedFile | None]:
        """Return the values of the order and its sheet, if its kind has one. Raises ApiProblem."""
        file = None
        data = request.data
        if not isinstance(data, Mapping):
            raise ApiProblem(
                400, Message("api.invalid"), errors={"body": [str(Message("api.not-an-object"))]}
            )
        is_form = str(request.content_type).startswith("multipart/")
        if is_form:
            file = request.FILES.get("sheet")
            text = request.FILES["order"].read() if "order" in request.FILES else data.get("order")
            if not text:
                raise invalid_field("order", Message("api.order-missing"))
            data = read_json(text)
        kind = data.get("kind") if isinstance(data, Mapping) else None
        make = _SERIALIZERS.get(kind) if isinstance(kind, str) else None
        if make is None:
            raise invalid_field("kind", Message("api.unknown-kind", kinds=tuple(_SERIALIZERS)))
        if (kind in WORKFLOWS) != is_form:
            code = "api.kind-needs-sheet" if kind in WORKFLOWS else "api.kind-has-no-sheet"
            raise ApiProblem(415, Message(code))
        if is_form and file is None:
            raise invalid_field("sheet", Message("api.sheet-missing"))
        body = make(data=data)
        body.is_valid(raise_exception=True)
        return dict(body.validated_data), file


class PreviewView(OrderView):
    scopes = {"POST": (Scope.JOBS_WRITE,)}

    @describe(
        "jobs_preview",
        "What an order would deliver and withhold, and when.",
        PreviewAnswer,
        request=ORDER,
    )
    def post(self, request: Request) -> Response:
        """Say what an order would deliver and withhold, and when it would start; make no job."""
        values, file = self.read_order(request)
        user, key = get_user(request), drafts.new_key()
        rows: dict[str, Any] = {}
        if file is not None:
            found = order_requests.make_sheet_request(request, values, file, key)
            order, rows = found.request, {"rows": describe_rows(found.sheet)}
        else:
            order = order_requests.make_selective_request(request, values, key)
        preview = _with_fields(lambda: service.preview_order(user, order))
        starts_at = None
        if not preview.needs_approval:
            starts_at = find_start_time(_nodes_of(order), urgent=order.urgent)
        return Response({**represent_preview(preview, key, starts_at), **rows})


def place(request: Request, values: Mapping[str, Any], file: UploadedFile | None, key: str) -> Job:
    """Place an order and return its job. Raises ApiProblem, and the errors of the order service."""
    user = get_user(request)
    order: OrderRequest[Any]
    if file is not None:
        order = order_requests.make_sheet_request(request, values, file, key).request
    else:
        preview = values["preview"]
        if preview:
            key = _require_usable_preview(request, preview)
        order = order_requests.make_selective_request(request, values, key)
    job, *_others = _with_fields(lambda: service.place_order(user, order))
    return job


def created(request: Request, job: Job) -> Response:
    headers = {"Location": f"/api/v1/jobs/{job.pk}"}
    return Response(represent_job(get_user(request), job), 201, headers=headers)


def _require_usable_preview(request: Request, key: str) -> str:
    """Refuse a preview that is used, unless an earlier attempt of this request has used it."""
    user = get_user(request)
    jobs = service.find_jobs(user, key) if drafts.is_key(key) else []
    if any(not was_begun_before(request, job.created_at) for job in jobs):
        raise ApiProblem(409, Message("api.preview-used"))
    if not jobs and not (drafts.is_key(key) and service.has_preview(user, key)):
        raise invalid_field("preview", Message("api.preview-unknown"))
    return key


def _with_fields(call: Any) -> Any:
    """Call the order service; pseudonyms that it refuses become errors of their studies."""
    try:
        return call()
    except RefusedPseudonyms as refused:
        errors = {
            f"studies.{position - 1}.pseudonym": [str(reason)]
            for position, reason in refused.by_position.items()
        }
        raise ApiProblem(422, refused.message, errors=errors) from None


def _nodes_of(order: OrderRequest[Any]) -> list[Node]:
    picked = [item.source for item in order.items if isinstance(item, PickedStudy)]
    return list(Node.objects.filter(pk__in={*picked, *order.sources, *order.destinations}))
