"""The views of the DICOMweb API (PS3.18). Each authenticates, checks, and calls one service."""

import functools
import json
import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any, Concatenate, ParamSpec, cast

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, JsonResponse, QueryDict, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.cache import patch_vary_headers
from django.views.decorators.csrf import csrf_exempt

from adit.accounts.permissions import Right, has_right
from adit.api_tokens.tokens import Scope, TokenRefused
from adit.dicomweb import bodies
from adit.dicomweb.authentication import Caller, authenticate
from adit.dicomweb.client_watch import get_client_socket
from adit.dicomweb.dicom_json import RecordEncoder, make_attribute
from adit.dicomweb.errors import TooBusy, make_error_response
from adit.dicomweb.image_request import ImageRequest
from adit.dicomweb.models import Retrieval
from adit.dicomweb.parameters import (
    ZIP_MEDIA_TYPE,
    AcceptedForm,
    choose_form,
    is_hidden,
    read_pseudonymization,
    read_search,
    require_json,
)
from adit.dicomweb.searching import find_page
from adit.dicomweb.storing import store_request
from adit_engine.errors import AditError, InvalidInput, NotFound
from adit_engine.messages import Message
from adit_engine.nodes.dicomweb import multipart
from adit_engine.values.record import Record
from adit_engine.values.references import InstanceRef, QueryLevel, Ref, SeriesRef, StudyRef

JSON_TYPE = "application/dicom+json"

log = logging.getLogger(__name__)

Parameters = ParamSpec("Parameters")
View = Callable[Concatenate[HttpRequest, Parameters], HttpResponseBase]
ApiView = Callable[Concatenate[HttpRequest, Caller, Parameters], HttpResponseBase]

_requests = threading.BoundedSemaphore(settings.DICOMWEB_REQUESTS)
"""In the web process at most half of the threads: the pages need the others."""


def api_view(method: str, scope: Scope) -> Callable[[ApiView[Parameters]], View[Parameters]]:
    """Authenticate the caller, limit the number of requests, and turn errors into answers.

    Preflight requests of the allowed origins are answered, see ADIT_API_ORIGINS. HEAD does what
    GET does up to the first byte of the body.
    """
    allowed = "GET, HEAD, OPTIONS" if method == "GET" else f"{method}, OPTIONS"

    def decorate(view: ApiView[Parameters]) -> View[Parameters]:
        @csrf_exempt
        @login_not_required
        @functools.wraps(view)
        def wrapped(
            request: HttpRequest, *args: Parameters.args, **kwargs: Parameters.kwargs
        ) -> HttpResponseBase:
            try:
                response = _respond(request, *args, **kwargs)
            except Exception:
                log.exception("%s failed", view.__name__)
                response = make_error_response(AditError("dicomweb.internal-error"))
            _keep_address_out_of_log(response)
            _allow_origin(request, response, method)
            response["Cache-Control"] = "no-store, private"
            return response

        def _respond(
            request: HttpRequest, *args: Parameters.args, **kwargs: Parameters.kwargs
        ) -> HttpResponseBase:
            if request.method == "OPTIONS":
                return HttpResponse(status=204, headers={"Allow": allowed})
            if request.method == method:
                return _answer(request, *args, **kwargs)
            if (method, request.method) == ("GET", "HEAD"):
                return _without_body(_answer(request, *args, **kwargs))
            return _refuse_method(request, method, allowed)

        def _answer(
            request: HttpRequest, *args: Parameters.args, **kwargs: Parameters.kwargs
        ) -> HttpResponseBase:
            try:
                caller = authenticate(request)
                caller.require_scope(scope)
                if not _requests.acquire(blocking=False):
                    raise TooBusy("dicomweb.too-busy")
            except AditError as error:
                return make_error_response(error)
            release = _call_once(_requests.release)
            try:
                response = view(request, caller, *args, **kwargs)
            except AditError as error:
                response = make_error_response(error)
            except BaseException:
                release()
                raise
            if isinstance(response, StreamingHttpResponse):
                cast(Any, response)._resource_closers.append(release)
            else:
                release()
            return response

        return cast(View[Parameters], wrapped)

    return decorate


def _keep_address_out_of_log(response: HttpResponseBase) -> None:
    """Django logs the address of each failed request, which names a study."""
    cast(Any, response)._has_been_logged = True


def _without_body(response: HttpResponseBase) -> HttpResponseBase:
    """Return the headers of the answer. A retrieval ends as if the client had left."""
    if isinstance(response, HttpResponse):
        response["Content-Length"] = str(len(response.content))
        response.content = b""
        return response
    for close in cast(Any, response)._resource_closers:
        close()
    # Streamed, since Django gives other answers a length: that of the images is unknown.
    return StreamingHttpResponse((), status=response.status_code, headers=dict(response.items()))


def _refuse_method(request: HttpRequest, method: str, allowed: str) -> HttpResponse:
    if "Authorization" not in request.headers and not request.user.is_authenticated:
        return make_error_response(TokenRefused("dicomweb.no-token"))
    detail = str(Message("dicomweb.wrong-method", method=method))
    return JsonResponse({"detail": detail}, status=405, headers={"Allow": allowed})


def _call_once(function: Callable[[], None]) -> Callable[[], None]:
    called: list[bool] = []

    def call() -> None:
        if not called:
            called.append(True)
            function()

    return call


def _allow_origin(request: HttpRequest, response: HttpResponseBase, method: str) -> None:
    """Let pages of the allowed origins read the answer. They need a token: no credentials."""
    origin = request.headers.get("Origin", "")
    if not origin or origin not in settings.API_ORIGINS:
        return
    response["Access-Control-Allow-Origin"] = origin
    patch_vary_headers(response, ["Origin"])
    response["Access-Control-Expose-Headers"] = "Warning, Link, Retry-After"
    if request.method == "OPTIONS":
        response["Access-Control-Allow-Methods"] = method
        response["Access-Control-Allow-Headers"] = "Authorization, Accept, Content-Type"
        response["Access-Control-Max-Age"] = "600"


# QIDO-RS -----------------------------------------------------------------------------------------


def _search(
    request: HttpRequest, caller: Caller, ae_title: str, level: QueryLevel, **fixed: str
) -> HttpResponse:
    require_json(request)
    node = caller.get_node(ae_title)
    sees = has_right(caller.user, Right.SEE_IDENTIFIED)
    wanted = read_search(request, level, fixed, sees_identified=sees)
    page = find_page(caller, node, wanted)
    root = _get_wado_root(request, ae_title)
    hides = (lambda _keyword: False) if sees else is_hidden
    encoder, found = RecordEncoder(wanted.query.returned, hides), []
    for record in page.records:
        item = encoder.encode(record)
        item["00081190"] = make_attribute("UR", _get_address(root, record))
        found.append(dict(sorted(item.items())))
    response = _json_response(found, status=200)
    add_warnings(response, page.warnings)
    return response


@api_view("GET", Scope.QUERY)
def search_studies(request: HttpRequest, caller: Caller, ae_title: str) -> HttpResponse:
    return _search(request, caller, ae_title, QueryLevel.STUDY)


@api_view("GET", Scope.QUERY)
def search_series(
    request: HttpRequest, caller: Caller, ae_title: str, study: str = ""
) -> HttpResponse:
    fixed = {"StudyInstanceUID": StudyRef(study).study_uid} if study else {}
    return _search(request, caller, ae_title, QueryLevel.SERIES, **fixed)


@api_view("GET", Scope.QUERY)
def search_instances(
    request: HttpRequest, caller: Caller, ae_title: str, study: str, series: str = ""
) -> HttpResponse:
    fixed = {"StudyInstanceUID": StudyRef(study).study_uid}
    if series:
        fixed["SeriesInstanceUID"] = SeriesRef(study, series).series_uid
    return _search(request, caller, ae_title, QueryLevel.IMAGE, **fixed)


def _get_wado_root(request: HttpRequest, ae_title: str) -> str:
    return request.build_absolute_uri(f"/api/dicom-web/{ae_title}/wadors/studies")


def _get_address(root: str, record: Record) -> str:
    address = f"{root}/{record.study_uid}"
    if record.level in (QueryLevel.SERIES, QueryLevel.IMAGE):
        address += f"/series/{record.series_uid}"
    if record.level is QueryLevel.IMAGE:
        address += f"/instances/{record.instance_uid}"
    return address


# WADO-RS -----------------------------------------------------------------------------------------


@api_view("GET", Scope.RETRIEVE)
def retrieve(
    request: HttpRequest,
    caller: Caller,
    ae_title: str,
    study: str,
    series: str = "",
    instance: str = "",
) -> HttpResponseBase:
    """Stream the images of a study or series, or one image."""
    target = make_ref(study, series, instance)
    form = choose_form(request, is_instance=isinstance(target, InstanceRef))
    wanted = make_image_request(request, caller, ae_title, target)
    wanted.syntaxes = form.syntaxes
    return _stream(request, wanted, form)


@api_view("GET", Scope.RETRIEVE)
def retrieve_metadata(
    request: HttpRequest,
    caller: Caller,
    ae_title: str,
    study: str,
    series: str = "",
    instance: str = "",
) -> HttpResponseBase:
    """Stream the headers of the images as one array."""
    require_json(request)
    wanted = make_image_request(request, caller, ae_title, make_ref(study, series, instance))
    return stream_metadata(request, wanted)


def stream_metadata(request: HttpRequest, wanted: ImageRequest) -> HttpResponseBase:
    """Return the streaming answer with the headers of the images."""
    wanted.only_headers = True
    return _stream(request, wanted, AcceptedForm(JSON_TYPE))


def make_ref(study: str, series: str, instance: str) -> Ref:
    """Return the reference in an address. Raise NotFound: no object has an invalid UID."""
    try:
        if instance:
            return InstanceRef(study, series, instance)
        return SeriesRef(study, series) if series else StudyRef(study)
    except InvalidInput as error:
        raise NotFound(error.message.code) from None


def make_image_request(
    request: HttpRequest,
    caller: Caller,
    ae_title: str,
    target: Ref,
    parameters: QueryDict | None = None,
) -> ImageRequest:
    """Return the checked request. `parameters`: the part of the query that belongs to it."""
    node = caller.get_node(ae_title)
    parameters = request.GET if parameters is None else parameters
    wanted = ImageRequest(
        caller,
        node,
        target,
        read_pseudonymization(parameters),
        client=get_client_socket(request.environ),  # type: ignore[attr-defined]
    )
    wanted.check()
    return wanted


def _stream(request: HttpRequest, wanted: ImageRequest, form: AcceptedForm) -> HttpResponseBase:
    """Return the streaming answer. Raise the error if it fails before the first byte."""
    instances, content_type = wanted.instances(), form.media_type
    if form.media_type == "multipart/related":
        boundary = multipart.new_boundary()
        content_type = multipart.content_type(boundary)
        pieces = bodies.encode_multipart(instances, boundary)
    elif form.media_type == ZIP_MEDIA_TYPE:
        pieces = bodies.encode_zip(instances)
    elif form.media_type == JSON_TYPE:
        pieces = bodies.encode_json(instances)
    else:
        pieces = bodies.encode_single(instances)
    try:
        body = bodies.StreamedBody(pieces)
    except AditError as error:
        return make_failure(request, wanted, error)
    response = StreamingHttpResponse(body, content_type=content_type)
    log = wanted.log
    assert log is not None, "it exists before the first image"
    _add_link(request, response, wanted)
    add_withheld(response, log.reasons)
    return response


def make_failure(request: HttpRequest, wanted: ImageRequest, error: AditError) -> HttpResponse:
    """Return the answer to a retrieval that failed before its first byte, with its reasons."""
    response = make_error_response(error)
    _add_link(request, response, wanted)
    return response


def _add_link(request: HttpRequest, response: HttpResponseBase, wanted: ImageRequest) -> None:
    """Name the address of the counts and reasons, if images were asked for."""
    if wanted.log is not None:
        key = wanted.log.retrieval.key
        address = reverse("dicomweb_retrieval", args=[wanted.node.api_ae_title, key])
        response["Link"] = f'<{request.build_absolute_uri(address)}>; rel="describedby"'


def add_withheld(response: HttpResponseBase, reasons: Iterable[tuple[Message, int]]) -> None:
    """Add a Warning header that says how many images were withheld, and why."""
    warnings = [
        Message("dicomweb.withheld", number=number, reason=reason) for reason, number in reasons
    ]
    add_warnings(response, warnings)


@api_view("GET", Scope.RETRIEVE)
def show_retrieval(request: HttpRequest, caller: Caller, ae_title: str, key: str) -> HttpResponse:
    """Say what an earlier retrieval of the same user delivered, and what was withheld and why."""
    node = caller.get_node(ae_title)
    found = Retrieval.objects.filter(user=caller.user, node=node, key=key).first()
    if found is None:
        raise NotFound("dicomweb.no-retrieval")
    reasons = [
        {"code": reason.code, "text": str(reason), "count": count}
        for reason, count in found.reasons
    ]
    return JsonResponse(
        {
            "state": found.state,
            "expected": found.expected,
            "delivered": found.delivered,
            "withheld": found.withheld,
            "failed": found.failed,
            "bytes": found.size_bytes,
            "reasons": reasons,
            "error": None if found.error is None else str(found.error),
            "started_at": found.started_at,
            "ended_at": found.ended_at,
        }
    )


# STOW-RS -----------------------------------------------------------------------------------------


@api_view("POST", Scope.STORE)
def store(request: HttpRequest, caller: Caller, ae_title: str, study: str = "") -> HttpResponse:
    """Store the images in the body."""
    node = caller.get_node(ae_title)
    report = store_request(caller, node, request, StudyRef(study).study_uid if study else None)
    content = report.to_json(_get_wado_root(request, ae_title))
    return _json_response(content, status=report.http_status)


# Answers -----------------------------------------------------------------------------------------


@csrf_exempt
@login_not_required
def show_unknown_address(request: HttpRequest, address: str) -> HttpResponse:
    """Answer by JSON. An error page of Django would also log the address, which names a study."""
    try:
        authenticate(request)
        response = make_error_response(NotFound("dicomweb.unknown-address"))
    except TokenRefused as error:
        response = make_error_response(error)
    _keep_address_out_of_log(response)
    return response


def _json_response(content: object, status: int) -> HttpResponse:
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return HttpResponse(text, content_type=JSON_TYPE, status=status)


def add_warnings(
    response: HttpResponseBase, warnings: "list[Message] | tuple[Message, ...]"
) -> None:
    """Add a Warning header (RFC 7234 5.5); other characters than those of ASCII are dropped."""
    texts = [str(warning).encode("ascii", "ignore").decode() for warning in warnings]
    quoted = [text.replace("\\", "").replace('"', "'").replace("\n", " ") for text in texts]
    if quoted:
        response["Warning"] = ", ".join(f'299 ADIT "{text}"' for text in quoted)
