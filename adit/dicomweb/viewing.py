"""Series for viewers, from the viewing cache: who may see them, and how they are fetched."""

import hashlib
import secrets
from collections.abc import Callable, Hashable
from functools import partial

from django.core.cache import cache as shared_cache

from adit.accounts.permissions import Right, require
from adit.audit.trail import record
from adit.blocklist import blocking
from adit.dicomweb.client_watch import has_client_left
from adit.dicomweb.dicom_json import HeaderEncoder
from adit.dicomweb.encrypted_file import EncryptedFile
from adit.dicomweb.errors import NotAcceptable
from adit.dicomweb.frames import FrameTable, find_frames
from adit.dicomweb.image_request import ImageRequest, open_images
from adit.dicomweb.viewing_cache import (
    CachedImage,
    CachedSeries,
    NotCached,
    cache,
    make_reader,
)
from adit.nodes.access import get_domain
from adit.nodes.gateway import Purpose, require_purpose
from adit.projects import pseudonyms, risks
from adit.projects.services import get_project_key, get_trial_attributes
from adit_engine.dicom_file.transcode import to_little_endian
from adit_engine.elements import header_end_and_values
from adit_engine.errors import Malformed
from adit_engine.values.instance import Instance
from adit_engine.values.references import SeriesRef

VIEW_RECORDED_S = 3600
_INSTANCE_NUMBER = 0x00200013


def open_series(request: ImageRequest, ref: SeriesRef) -> CachedSeries:
    """Return a series that the caller may see; fetch it if it is not in the cache.

    `ref` has the UIDs of the node, or those that the images have when they leave. Raise NotCached
    if the series has to be answered without the cache, or another AditError.
    """
    series = find_series(request, ref)
    if series is not None:
        return series
    client = request.client
    fetched = cache.get_or_fetch(
        _make_key(request, ref),
        request.caller.user.pk,
        partial(has_client_left, client),
        partial(_fetch, request, ref),
    )
    request.client = client
    # Somebody else may have started the fetch: what is checked before one is checked here, too.
    if _determine_form(request, fetched.patient_id) != fetched.form:
        raise NotCached("dicomweb.not-cached")
    _note_view(request, fetched)
    return fetched


def find_series(request: ImageRequest, ref: SeriesRef) -> CachedSeries | None:
    """Return a series of the cache that the caller may see. Raise AditError if it may not."""
    key: Hashable | None = _make_key(request, ref)
    series = cache.get(key)
    if series is None:
        key = cache.find_delivered(_make_scope(request), ref)
        series = cache.get(key) if key is not None else None
    if series is None:
        return None
    if _determine_form(request, series.patient_id) != series.form:
        cache.drop(key)
        return None
    _note_view(request, series)
    return series


def _make_scope(request: ImageRequest) -> Hashable:
    return request.node.pk, request.project.pk, request.wanted


def _make_key(request: ImageRequest, ref: SeriesRef) -> Hashable:
    return _make_scope(request), ref


def _determine_form(request: ImageRequest, patient_id: str) -> Hashable:
    """Return all that determines the form of the images. Raise AditError if they may not be seen.

    These are the checks of a retrieval, except those of the connection to the node.
    """
    user, node, project = request.caller.user, request.node, request.project
    require_purpose(user, node, Purpose.RETRIEVE)
    blocking.require_not_blocked(project, get_domain(node), patient_id)
    pseudonyms.require_project(user, project, node, None)
    modalities = blocking.find_modalities(project, get_domain(node), patient_id)
    if request.wanted is None:
        require(user, Right.TRANSFER_IDENTIFIED)
        return "identified", project.pk, modalities
    name = pseudonyms.register_pseudonym(
        user, project, node, patient_id, pseudonym=request.wanted.pseudonym
    )
    decisions = tuple(sorted(risks.change_parameters(project).items()))
    trial = get_trial_attributes(project)
    key = get_project_key(project)
    return "pseudonymized", project.pk, project.profile_id, name, key, trial, decisions, modalities


def _note_view(request: ImageRequest, series: CachedSeries) -> None:
    """Remember the reader, and record the view once per person, study and hour."""
    caller, node, project = request.caller, request.node, request.project
    series.readers.add(make_reader(caller))
    parts = (caller.user.pk, node.pk, project.pk, series.delivered.study_uid)
    digest = hashlib.sha256(repr(parts).encode()).hexdigest()
    if not shared_cache.add(f"dicomweb view {digest}".replace(" ", "-"), 1, VIEW_RECORDED_S):
        return
    record(
        "dicomweb.viewed",
        user=caller.user,
        about=f"node:{node.pk}",
        details={
            "node": node.name,
            "caller": caller.label,
            "project": project.protocol_id,
            "identified": request.wanted is None,
        },
        patient=pseudonyms.seal_patient_of_node(project, node, series.patient_id),
    )


# Fetching ----------------------------------------------------------------------------------------


def _fetch(request: ImageRequest, ref: SeriesRef, is_abandoned: Callable[[], bool]) -> CachedSeries:
    """Retrieve the series into an encrypted file. Raise NotCached, or the error of the retrieval."""
    request.client, request.target = is_abandoned, ref
    marker = secrets.token_hex(16)
    try:
        file = EncryptedFile()
        images: dict[str, CachedImage] = {}
        headers: list[str] = []
        encoder = HeaderEncoder()
        delivered: SeriesRef | None = None
        with open_images(request.instances()) as instances:
            for received in instances:
                instance = to_little_endian(received)
                cache.require_room(file, instance.size_bytes)
                delivered = instance.in_header.ref.series
                images[instance.instance_uid] = _store(file, instance)
                address = f"{marker}/instances/{instance.instance_uid}/bulkdata"
                headers.append(encoder.encode(instance, address))
                del received, instance
        assert delivered is not None, "a retrieval without images raises"
        content = f"[{','.join(headers)}]".encode()
        cache.require_room(file, len(content))
        stored = file.append(content)
    except OSError:  # the disk is full, or cannot be used
        raise NotCached("dicomweb.not-cached") from None
    assert request.log is not None
    return CachedSeries(
        file,
        request.patient_id,
        _determine_form(request, request.patient_id),
        delivered,
        images,
        stored,
        marker,
        tuple(request.log.reasons),
    )


def _store(file: EncryptedFile, instance: Instance) -> CachedImage:
    frames: FrameTable | None
    try:
        frames = find_frames(instance)
    except (NotAcceptable, Malformed):
        frames = None
    return CachedImage(
        file.append(*instance.parts()),
        instance.sop_class_uid,
        instance.instance_uid,
        instance.transfer_syntax_uid,
        _read_number(instance),
        frames,
    )


def _read_number(instance: Instance) -> int:
    wanted = frozenset({_INSTANCE_NUMBER})
    _end, found = header_end_and_values(
        instance.header, instance.explicit, wanted, _INSTANCE_NUMBER
    )
    text = found.get(_INSTANCE_NUMBER, b"").strip(b" \0")
    return int(text) if text.isdigit() and len(text) < 10 else 0
