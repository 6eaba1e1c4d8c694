"""The requests of viewers (PS3.18 8.7, 10.4): headers of a series, frames, pictures, bulk data."""

import gzip
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from django.http import HttpRequest, HttpResponse, QueryDict, StreamingHttpResponse
from django.http.response import HttpResponseBase

from adit.api_tokens.tokens import Scope
from adit.dicomweb import viewing
from adit.dicomweb.authentication import Caller
from adit.dicomweb.dicom_json import find_bulk_value
from adit.dicomweb.errors import InvalidParameter, NotAcceptable
from adit.dicomweb.frames import find_frames
from adit.dicomweb.image_request import ImageRequest
from adit.dicomweb.parameters import (
    MAX_LIMIT,
    MULTIPART_MEDIA_TYPE,
    NEGOTIATION_PARAMETERS,
    OCTETS_MEDIA_TYPE,
    AcceptedForm,
    accepts_gzip,
    choose_octets,
    choose_picture,
    find_frame_forms,
    merge_syntaxes,
    require_json,
)
from adit.dicomweb.pictures import (
    PictureParameters,
    draw_frames,
    encode_pictures,
    read_picture_parameters,
    read_thumbnail_parameters,
)
from adit.dicomweb.viewing_cache import NotCached
from adit.dicomweb.views import (
    JSON_TYPE,
    add_warnings,
    add_withheld,
    api_view,
    make_failure,
    make_image_request,
    make_ref,
    stream_metadata,
)
from adit.nodes import search
from adit.nodes.sample_images import THUMBNAIL_PIXELS
from adit_engine.dicom_file.transcode import to_little_endian
from adit_engine.errors import AditError, NotFound
from adit_engine.nodes.dicomweb import multipart
from adit_engine.nodes.reencode import reencode
from adit_engine.rendering import count_frames
from adit_engine.values.instance import Instance
from adit_engine.values.query import Query
from adit_engine.values.record import Record
from adit_engine.values.references import InstanceRef, QueryLevel, SeriesRef, StudyRef

MAX_FRAMES = 1000
MAX_PICTURES = 100
_GZIP_LEVEL = 1
_WITHOUT_PICTURE = frozenset({"SR", "PR", "KO", "DOC", "AU", "ECG", "REG", "RTPLAN", "RTSTRUCT"})


# Headers -----------------------------------------------------------------------------------------


@api_view("GET", Scope.RETRIEVE)
def show_series_metadata(
    request: HttpRequest, caller: Caller, ae_title: str, study: str, series: str
) -> HttpResponseBase:
    """Return the headers of a series, which is then in the viewing cache."""
    require_json(request)
    ref = make_ref(study, series, "")
    assert isinstance(ref, SeriesRef)
    wanted = make_image_request(request, caller, ae_title, ref)
    try:
        found = viewing.open_series(wanted, ref)
    except NotCached:
        wanted = make_image_request(request, caller, ae_title, ref)
        return stream_metadata(request, wanted)
    except AditError as error:
        return make_failure(request, wanted, error)
    text = found.file.read(found.headers)
    text = _add_bulk_addresses(request, text, found.bulk_marker)
    response = HttpResponse(content_type=JSON_TYPE)
    response["Vary"] = "Accept-Encoding"
    if accepts_gzip(request):
        text = gzip.compress(text, _GZIP_LEVEL, mtime=0)
        response["Content-Encoding"] = "gzip"
    response.content = text
    add_withheld(response, found.withheld)
    return response


def _add_bulk_addresses(request: HttpRequest, text: bytes, marker: str) -> bytes:
    """Complete the addresses of bulk data. They need the pseudonym of this request again."""
    address = request.build_absolute_uri(request.path.removesuffix("/metadata"))
    values = request.GET.copy()
    for name in NEGOTIATION_PARAMETERS:
        values.pop(name, None)
    query = f"?{values.urlencode()}" if values else ""
    pattern = re.escape(marker.encode()) + rb"(/[0-9A-Za-z./]+)"
    return re.sub(pattern, lambda found: address.encode() + found[1] + query.encode(), text)


# Frames ------------------------------------------------------------------------------------------


@api_view("GET", Scope.RETRIEVE)
def show_frames(
    request: HttpRequest,
    caller: Caller,
    ae_title: str,
    study: str,
    series: str,
    instance: str,
    frames: str,
) -> HttpResponseBase:
    """Return frames as they are stored, in the wanted order."""
    numbers = _read_frame_numbers(frames)
    forms = find_frame_forms(request, is_single=len(numbers) == 1)
    wanted = make_image_request(request, caller, ae_title, make_ref(study, series, instance))
    bodies, syntax = _read_frames(wanted, numbers, merge_syntaxes(forms))
    form = next(one for one in forms if one.syntaxes is None or syntax in one.syntaxes)
    part_type = f"{form.part_type}; transfer-syntax={syntax}"
    if form.media_type != MULTIPART_MEDIA_TYPE:
        return HttpResponse(next(bodies), content_type=part_type)
    return _make_multipart(bodies, part_type)


def _read_frame_numbers(text: str, most: int = MAX_FRAMES) -> list[int]:
    parts = text.split(",")
    if len(parts) > most or not all(
        part.isascii() and part.isdigit() and len(part) < 10 for part in parts
    ):
        raise InvalidParameter("frames", "dicomweb.not-frames")
    return [int(part) for part in parts]


def _read_frames(
    wanted: ImageRequest, numbers: list[int], syntaxes: tuple[str, ...] | None
) -> tuple[Iterator[bytes], str]:
    """Return the frames and their transfer syntax. Each is read when it is sent."""
    target = _get_instance_ref(wanted)
    try:
        series = viewing.open_series(wanted, target.series)
    except NotCached:
        return _cut_frames(_fetch_image(wanted, target), numbers, syntaxes)
    image = series.images.get(target.instance_uid)
    if image is None:  # under the UID that it has at the node, or not in the series
        return _cut_frames(_fetch_image(wanted, target), numbers, syntaxes)
    if image.frames is None or (syntaxes is not None and image.frames.syntax not in syntaxes):
        return _cut_frames(series.read_image(image), numbers, syntaxes)
    _require_frames(numbers, len(image.frames.frames))
    table = image.frames
    found = (
        b"".join(
            series.file.read(image.stored, begin, end) for begin, end in table.frames[number - 1]
        )
        for number in numbers
    )
    return found, table.syntax


def _cut_frames(
    instance: Instance, numbers: list[int], syntaxes: tuple[str, ...] | None
) -> tuple[Iterator[bytes], str]:
    """Cut frames out of an image; it is encoded in an accepted syntax if need be."""
    instance = to_little_endian(instance)
    table = find_frames(instance)
    if syntaxes is not None and table.syntax not in syntaxes:
        converted = reencode(instance, syntaxes)
        if converted is None:
            raise NotAcceptable(
                "dicomweb.syntax-not-available", stored=table.syntax, wanted=tuple(syntaxes)
            )
        instance = converted
        table = find_frames(instance)
    _require_frames(numbers, len(table.frames))
    data = b"".join(instance.parts())
    found = (
        b"".join(data[begin:end] for begin, end in table.frames[number - 1]) for number in numbers
    )
    return found, table.syntax


def _require_frames(numbers: list[int], count: int) -> None:
    if not all(1 <= number <= count for number in numbers):
        raise NotFound("rendering.frame", frames=count)


def _make_multipart(bodies: Iterable[bytes], part_type: str) -> StreamingHttpResponse:
    boundary = multipart.new_boundary()
    root_type = multipart.media_type(part_type)
    kind = f'multipart/related; type="{root_type}"; boundary="{boundary}"'
    return StreamingHttpResponse(_encode_parts(bodies, boundary, part_type), content_type=kind)


def _encode_parts(bodies: Iterable[bytes], boundary: str, part_type: str) -> Iterator[bytes]:
    head = multipart.make_part_head(boundary, part_type)
    for body in bodies:
        yield head
        yield body
    yield multipart.closing_boundary(boundary)


# Pictures ----------------------------------------------------------------------------------------


@api_view("GET", Scope.RETRIEVE)
def show_rendered(
    request: HttpRequest,
    caller: Caller,
    ae_title: str,
    study: str,
    series: str,
    instance: str,
    frames: str = "1",
) -> HttpResponseBase:
    """Return frames as pictures; see PictureParameters for what can be chosen."""
    values: QueryDict = request.GET.copy()
    how = read_picture_parameters(values)
    numbers = _read_frame_numbers(frames, most=MAX_PICTURES)
    form = choose_picture(request, is_single=len(numbers) == 1)
    if form.part_type == "image/gif" and how.profile != "no":
        raise InvalidParameter("iccprofile", "dicomweb.no-profile-in-gif")
    target = make_ref(study, series, instance)
    wanted = make_image_request(request, caller, ae_title, target, values)
    return _show_pictures(_read_image(wanted), numbers, form, how)


@api_view("GET", Scope.RETRIEVE)
def show_thumbnail(
    request: HttpRequest,
    caller: Caller,
    ae_title: str,
    study: str,
    series: str = "",
    instance: str = "",
) -> HttpResponseBase:
    """Return a small picture: of an image, or of the middle image of a series or study."""
    values: QueryDict = request.GET.copy()
    how = read_thumbnail_parameters(values)
    form = choose_picture(request)
    target = make_ref(study, series, instance)
    wanted = make_image_request(request, caller, ae_title, target, values)
    if not isinstance(wanted.target, InstanceRef):
        wanted.target = _find_middle_image(wanted)
    image = _read_image(wanted)
    middle = count_frames(image) // 2 + 1
    return _show_pictures(image, [middle], form, how, THUMBNAIL_PIXELS)


def _show_pictures(
    image: Instance,
    numbers: list[int],
    form: AcceptedForm,
    how: PictureParameters,
    largest: int = 0,
) -> HttpResponseBase:
    kind = form.part_type
    pictures = draw_frames(image, numbers, how, largest)
    response: HttpResponseBase
    if form.media_type == MULTIPART_MEDIA_TYPE:
        response = _make_multipart([encode_pictures([one], kind, how) for one in pictures], kind)
    else:
        response = HttpResponse(encode_pictures(pictures, kind, how), content_type=kind)
    add_warnings(response, how.warnings)
    return response


def _find_middle_image(wanted: ImageRequest) -> InstanceRef:
    """Return the middle image of the series, or of the largest series of the study."""
    target = wanted.target
    if isinstance(target, StudyRef):
        found = [
            one
            for one in _search(wanted, Query.series_of(target))
            if "".join(one.texts("Modality")) not in _WITHOUT_PICTURE
        ]
        if not found:
            raise NotFound("dicomweb.no-image", node=wanted.node.name)
        largest = max(found, key=lambda one: _number(one, "NumberOfSeriesRelatedInstances"))
        target = SeriesRef(target.study_uid, largest.series_uid)
    assert isinstance(target, SeriesRef)
    keys = {"StudyInstanceUID": target.study_uid, "SeriesInstanceUID": target.series_uid}
    images = _search(wanted, Query(QueryLevel.IMAGE, keys))
    if not images:
        raise NotFound("dicomweb.no-image", node=wanted.node.name)
    images.sort(key=lambda one: (_number(one, "InstanceNumber"), one.instance_uid))
    middle = images[len(images) // 2]
    return InstanceRef(target.study_uid, target.series_uid, middle.instance_uid)


def _search(wanted: ImageRequest, query: Query) -> list[Record]:
    caller = wanted.caller
    result = search.search_records(
        caller.user, wanted.node, query, most=MAX_LIMIT, named=caller.label
    )
    return list(result.records)


def _number(record: Record, keyword: str) -> int:
    text = "".join(record.texts(keyword)).strip()
    return int(text) if text.isascii() and text.isdigit() else 0


# Bulk data ---------------------------------------------------------------------------------------


@api_view("GET", Scope.RETRIEVE)
def show_bulk_data(
    request: HttpRequest,
    caller: Caller,
    ae_title: str,
    study: str,
    series: str,
    instance: str,
    tag: str,
) -> HttpResponseBase:
    """Return a value that the metadata leave out, except pixel data, by the path to its element."""
    accepted = choose_octets(request)
    wanted = make_image_request(request, caller, ae_title, make_ref(study, series, instance))
    value = find_bulk_value(_read_image(wanted), tag)
    if value is None:
        raise NotFound("dicomweb.no-bulk-data")
    if accepted.media_type == OCTETS_MEDIA_TYPE:
        return HttpResponse(value, content_type=OCTETS_MEDIA_TYPE)
    return _make_multipart([value], OCTETS_MEDIA_TYPE)


# Images ------------------------------------------------------------------------------------------


def _get_instance_ref(wanted: ImageRequest) -> InstanceRef:
    assert isinstance(wanted.target, InstanceRef)
    return wanted.target


def _read_image(wanted: ImageRequest) -> Instance:
    """Return an image of the cache, or fetch it alone."""
    target = _get_instance_ref(wanted)
    series = viewing.find_series(wanted, target.series)
    image = series.images.get(target.instance_uid) if series is not None else None
    if series is not None and image is not None:
        return series.read_image(image)
    return _fetch_image(wanted, target)


def _fetch_image(wanted: ImageRequest, target: InstanceRef) -> Instance:
    request = replace(wanted, target=target)
    request.check()
    return next(iter(list(request.instances())))
