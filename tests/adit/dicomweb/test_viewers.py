"""What viewers ask for: a series fetched once, its headers, single frames, and pictures."""

import gzip
import io
import json
import math
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any

import numpy as np
import pytest
from cryptography.exceptions import InvalidTag
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from lab import samples
from lab.dicomweb_api import Program, read_body
from lab.jobs import put_study, until
from PIL import Image, ImageCms
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames

from adit.accounts.models import User
from adit.api_tokens.models import ApiToken
from adit.audit.models import AuditEvent
from adit.blocklist.blocking import block_patient
from adit.consent.changes import Consent, save_consent
from adit.dicomweb import viewing_cache
from adit.dicomweb.dicom_json import HeaderEncoder
from adit.dicomweb.encrypted_file import CHUNK_BYTES, EncryptedFile
from adit.dicomweb.models import Retrieval
from adit.dicomweb.retrieval_log import RetrievalLog
from adit.nodes.models import Node
from adit.projects.models import Project
from adit_engine.nodes.dicomweb.multipart import BodyPart, read_parts
from adit_engine.nodes.memory import MemoryNode
from adit_engine.values.instance import Instance

pytestmark = pytest.mark.django_db

OCTETS = "application/octet-stream"
OF_OHIF = "multipart/related; type=application/octet-stream; transfer-syntax=*"
RLE = "1.2.840.10008.1.2.5"


@pytest.fixture
def may_be_identified(coordinator: User) -> User:
    codename = "transfer_identified"
    coordinator.user_permissions.add(Permission.objects.get(codename=codename))
    return coordinator


@pytest.fixture
def viewer(make_program: Callable[..., Program], may_be_identified: User) -> Program:
    return make_program("retrieve", "identified", "query")


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was fetched from memory nodes, one entry per fetch."""
    calls: list[Any] = []
    fetch = MemoryNode.fetch

    def count(self: MemoryNode, refs: Any, *, patient_id: str = "") -> Any:
        calls.append(refs)
        return fetch(self, refs, patient_id=patient_id)

    monkeypatch.setattr(MemoryNode, "fetch", count)
    return calls


def put_series(source: Node, images: int = 3) -> str:
    """Add a study with one series; return the path of the series."""
    study = put_study(source, images=images)
    return f"wadors/studies/{study}/series/{study}.1"


def put_image(source: Node, image: Instance) -> str:
    """Add an image; return its path."""
    MemoryNode.shelves.setdefault(source.name, {})[image.instance_uid] = image
    ref = image.in_header.ref
    path = f"wadors/studies/{ref.study_uid}/series/{ref.series_uid}"
    return f"{path}/instances/{ref.instance_uid}"


def read_frames(answer: Any) -> list[bytes]:
    return [bytes(part.body) for part in read_all_parts(answer)]


def read_all_parts(answer: Any) -> list[BodyPart]:
    return list(read_parts([read_body(answer)], answer["Content-Type"]))


def read_json(answer: Any) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.content
    return list(json.loads(answer.content))


def test_a_series_is_fetched_once_for_headers_and_all_frames(
    viewer: Program, source: Node, fetched: list[Any]
) -> None:
    series = put_series(source)

    headers = read_json(viewer.get(f"{series}/metadata"))
    uids = [one["00080018"]["Value"][0] for one in headers]
    frames = [
        read_frames(viewer.get(f"{series}/instances/{uid}/frames/1", accept=OF_OHIF))[0]
        for uid in uids
    ]

    assert len(fetched) == 1
    assert headers[0]["00280010"] == {"vr": "US", "Value": [16]}
    assert headers[0]["00281052"]["Value"] == [-1024]
    assert frames == [samples.ct(number).PixelData for number in (1, 2, 3)]
    assert Retrieval.objects.get().delivered == 3
    views = AuditEvent.objects.filter(action="dicomweb.viewed")
    assert [view.details["caller"] for view in views] == ["API token script"]


def test_the_series_of_a_study_are_also_listed_where_it_is_retrieved(
    viewer: Program, source: Node
) -> None:
    study = put_study(source, series=2)

    found = read_json(
        viewer.get(f"wadors/studies/{study}/series", includefield="00080021,0008103E")
    )

    assert [one["0020000E"]["Value"][0] for one in found] == [f"{study}.1", f"{study}.2"]
    assert found[0]["0008103E"]["Value"] == ["Serie 1"]


@pytest.mark.parametrize("where", [(HeaderEncoder, "encode"), (RetrievalLog, "add")])
@pytest.mark.parametrize("path", ["/metadata", "/instances/{}.1/metadata"])
def test_an_unexpected_error_is_no_client_that_left(
    path: str,
    where: tuple[type, str],
    viewer: Program,
    source: Node,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    series = put_series(source)
    path = path.format(series.rpartition("/")[2])
    monkeypatch.setattr(*where, fail)

    answer = viewer.get(f"{series}{path}")

    assert answer.status_code == 500
    assert answer.json()["code"] == "dicomweb.internal-error"
    error = Retrieval.objects.get().error
    assert error is not None
    assert error.code == "task.internal-error"


def fail(*_arguments: Any) -> None:
    raise ZeroDivisionError


def test_headers_are_compressed_for_viewers(viewer: Program, source: Node) -> None:
    series = put_series(source)
    headers = {**viewer.headers, "Accept-Encoding": "gzip, deflate"}

    answer = Client().get(f"{viewer.root}/{series}/metadata", headers=headers)

    assert answer["Content-Encoding"] == "gzip"
    assert len(json.loads(gzip.decompress(answer.content))) == 3


def test_frames_of_a_multi_frame_image_are_cut_in_the_wanted_order(
    viewer: Program, source: Node
) -> None:
    pixels = os.urandom(512 * 6)
    made = samples.ct(1, NumberOfFrames=6, PixelData=pixels, BitsStored=16, HighBit=15)
    path = put_image(source, samples.instance(made))

    answer = viewer.get(f"{path}/frames/6,2", accept=OF_OHIF)
    single = viewer.get(f"{path}/frames/3", accept=OCTETS)

    parts = read_all_parts(answer)
    assert [part.body for part in parts] == [pixels[512 * 5 :], pixels[512:1024]]
    syntax = "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1"
    assert {part.headers["content-type"] for part in parts} == {syntax}
    assert single.content == pixels[1024:1536]
    statuses = [viewer.get(f"{path}/frames/{wrong}").status_code for wrong in ("7", "0", "x", "1,")]
    assert statuses == [404, 404, 400, 400]


@pytest.mark.parametrize("stored", [True, False], ids=["explicit", "implicit"])
@pytest.mark.parametrize("wanted", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"])
def test_frames_are_the_same_in_both_little_endian_syntaxes(
    stored: bool, wanted: str, viewer: Program, source: Node
) -> None:
    path = put_image(source, samples.instance(samples.ct(1), explicit=stored))

    for _cached in range(2):
        found = viewer.get(f"{path}/frames/1", accept=f"{OCTETS}; transfer-syntax={wanted}")
        assert found.content == samples.ct(1).PixelData


def test_frames_are_read_one_after_the_other(
    viewer: Program, source: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = f"{put_series(source)}/instances/{samples.ROOT}.1.1.1"
    read_frames(viewer.get(f"{image}/frames/1"))
    lengths: list[int] = []
    read = EncryptedFile.read

    def note(*arguments: Any) -> bytes:
        lengths.append(len(found := read(*arguments)))
        return found

    monkeypatch.setattr(EncryptedFile, "read", note)
    answer = viewer.get(f"{image}/frames/1,1,1", accept=OF_OHIF)

    assert lengths == []
    assert read_frames(answer) == [samples.ct(1).PixelData] * 3
    assert lengths == [len(samples.ct(1).PixelData)] * 3


def test_compressed_frames_are_sent_as_stored_or_decoded_on_request(
    viewer: Program, source: Node
) -> None:
    made = samples.ct(1, NumberOfFrames=2, PixelData=samples.ct(1).PixelData * 2)
    file = dcmread(io.BytesIO(samples.file_bytes(made)))
    file.compress(RLE, generate_instance_uid=False)
    buffer = io.BytesIO()
    file.save_as(buffer)
    path = put_image(source, samples.part10.parse_file(buffer.getvalue()))

    stored = viewer.get(f"{path}/frames/2", accept=OF_OHIF)
    plain = viewer.get(f"{path}/frames/2", accept=f"{OCTETS}; transfer-syntax=1.2.840.10008.1.2.1")
    other = viewer.get(
        f"{path}/frames/2", accept=f"{OCTETS}; transfer-syntax=1.2.840.10008.1.2.4.50"
    )

    encoded = list(generate_frames(file.PixelData, number_of_frames=2))
    [part] = read_all_parts(stored)
    assert part.body == encoded[1]
    assert part.headers["content-type"].endswith(f"transfer-syntax={RLE}")
    assert plain.content == samples.ct(1).PixelData
    assert [other.status_code, viewer.get(f"{path}/frames/2", accept="text/html").status_code] == [
        406,
        406,
    ]
    as_rle = viewer.get(f"{path}/frames/2", accept='multipart/related; type="image/dicom-rle"')
    [part] = read_all_parts(as_rle)
    assert part.body == encoded[1]
    assert part.headers["content-type"] == f"image/dicom-rle; transfer-syntax={RLE}"
    either = "multipart/related; type=image/jls, multipart/related; type=application/octet-stream"
    [part] = read_all_parts(viewer.get(f"{path}/frames/2", accept=either))
    assert part.media_type == OCTETS
    assert viewer.get(f"{path}/frames/2", accept="image/jp2").status_code == 406


def test_pseudonymized_images_are_never_those_of_another_form(
    viewer: Program, source: Node, project: Project, fetched: list[Any]
) -> None:
    series = put_series(source)

    original = read_json(viewer.get(f"{series}/metadata"))
    changed = read_json(viewer.get(f"{series}/metadata", trial_protocol_id="LUNG"))
    again = read_json(viewer.get(f"{series}/metadata", trial_protocol_id="LUNG"))

    assert len(fetched) == 2
    assert changed == again
    assert {one["00100020"]["Value"][0] for one in original} == {"PID-4711-0815"}
    assert "Mustermann" not in json.dumps(changed)
    # A viewer asks for frames by the UIDs that the headers contain.
    study, of_series, image = (
        changed[0][tag]["Value"][0] for tag in ("0020000D", "0020000E", "00080018")
    )
    path = f"wadors/studies/{study}/series/{of_series}/instances/{image}/frames/1"
    assert len(read_frames(viewer.get(path, trial_protocol_id="LUNG"))) == 1
    assert viewer.get(path).status_code == 404
    assert len(fetched) == 2


def test_a_changed_project_is_not_answered_from_the_cache(
    viewer: Program, source: Node, project: Project, fetched: list[Any]
) -> None:
    series = put_series(source)
    viewer.get(f"{series}/metadata", trial_protocol_id="LUNG")
    project.modalities = "MR"
    project.save()

    answer = viewer.get(f"{series}/metadata", trial_protocol_id="LUNG")

    assert answer.status_code in (403, 404)


def test_a_narrowed_consent_is_not_answered_from_the_cache(
    viewer: Program, source: Node, project: Project, root: User
) -> None:
    series = put_series(source)
    save_consent(root, project, Consent("site", "PID-4711-0815", "CT, MR"), "form received")
    before = viewer.get(f"{series}/metadata", trial_protocol_id="LUNG")
    save_consent(root, project, Consent("site", "PID-4711-0815", "MR"), "narrower form")

    answer = viewer.get(f"{series}/metadata", trial_protocol_id="LUNG")

    assert before.status_code == 200
    assert answer.status_code in (403, 404)


def test_the_cache_refuses_whoever_may_not_retrieve(
    viewer: Program,
    make_program: Callable[..., Program],
    make_user: Any,
    source: Node,
    root: User,
    may_be_identified: User,
) -> None:
    series = put_series(source)
    frame = f"{series}/instances/{samples.ROOT}.1.1.1/frames/1"
    assert viewer.get(frame).status_code == 200

    stranger = make_program("retrieve", "identified", user=make_user("second", "Coordinators"))
    narrow = make_program("retrieve")
    assert [stranger.get(frame).status_code, narrow.get(frame).status_code] == [403, 400]

    block_patient(root, None, "", "PID-4711-0815", reason="objection", withdrawn_on=date.today())
    paths = (frame, f"{series}/metadata", f"{series}/instances/{samples.ROOT}.1.1.1/rendered")
    assert [viewer.get(path).status_code for path in paths] == [403, 403, 403]


def test_a_series_that_does_not_fit_is_answered_without_the_cache(
    viewer: Program, source: Node, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    series = put_series(source)
    frame = f"{series}/instances/{samples.ROOT}.1.1.2/frames/1"
    settings.VIEWING_CACHE_MB = 0

    headers = json.loads(read_body(viewer.get(f"{series}/metadata")))
    frames = read_frames(viewer.get(frame))

    assert len(headers) == 3
    assert frames == [samples.ct(2).PixelData]
    settings.VIEWING_CACHE_MB = 100
    viewing_cache.cache.clear()

    def fail(*_arguments: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("adit.dicomweb.encrypted_file.os.pwrite", fail)
    assert read_frames(viewer.get(frame)) == [samples.ct(2).PixelData]


def test_the_oldest_series_make_room_and_none_outlives_its_age(
    viewer: Program, source: Node, settings: Any, fetched: list[Any]
) -> None:
    settings.VIEWING_CACHE_MB = 1
    changes = {"Rows": 600, "Columns": 600, "PixelData": bytes(720_000)}
    first, second = (
        f"wadors/studies/{study}/series/{study}.1"
        for study in (put_study(source, name, images=1, **changes) for name in ("1", "2"))
    )

    for series in (first, first, second, second, first):
        assert viewer.get(f"{series}/metadata").status_code == 200

    assert len(fetched) == 3
    settings.VIEWING_CACHE_MINUTES = 0
    viewer.get(f"{first}/metadata")
    assert len(fetched) == 4


def test_a_series_is_dropped_when_its_last_reader_has_left(
    viewer: Program,
    make_program: Callable[..., Program],
    source: Node,
    client: Client,
    may_be_identified: User,
) -> None:
    series = put_series(source)
    client.force_login(may_be_identified)
    address = f"{viewer.root}/{series}/metadata"
    viewer.get(f"{series}/metadata")
    assert client.get(address, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200
    cache = viewing_cache.cache

    ApiToken.objects.update(revoked_at="2026-01-01T00:00Z")
    cache.sweep()
    assert len(cache._series) == 1
    client.logout()
    cache.sweep()
    assert not cache._series


def test_files_of_the_cache_are_encrypted_and_have_no_name() -> None:
    file = EncryptedFile()
    secret = b"Mustermann" * 100_000

    first, second = file.append(b"x" * 10), file.append(secret)

    on_disk = os.pread(file._file.fileno(), file.size_bytes, 0)
    assert b"Mustermann" not in on_disk
    assert os.fstat(file._file.fileno()).st_nlink == 0
    assert file.read(first) == b"x" * 10
    assert file.read(second) == secret
    edge = CHUNK_BYTES
    assert file.read(second, edge - 5, edge + 5) == secret[edge - 5 : edge + 5]
    os.pwrite(file._file.fileno(), b"?", second.position)
    with pytest.raises(InvalidTag):
        file.read(second)


@pytest.mark.django_db(transaction=True)
def test_requests_at_the_same_time_share_one_fetch(
    viewer: Program, source: Node, gated: Any
) -> None:
    series = put_series(source)

    def get(_number: int) -> bytes:
        try:
            return bytes(viewer.get(f"{series}/metadata").content)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(get, number) for number in range(4)]
        fills = viewing_cache.cache._fills
        until(lambda: sum(len(one.is_gone) for one in fills.values()) == 4)
        gated.gate.release(3)
        contents = {answer.result() for answer in answers}

    assert len(contents) == 1
    assert len(json.loads(contents.pop())) == 3
    assert Retrieval.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_fetch_that_nobody_waits_for_is_ended(
    viewer: Program, source: Node, gated: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    series = put_series(source)
    left = threading.Event()
    monkeypatch.setattr("adit.dicomweb.viewing.has_client_left", lambda _client: left.is_set())
    statuses: list[int] = []

    def get() -> None:
        statuses.append(viewer.get(f"{series}/metadata").status_code)
        connection.close()

    threads = [threading.Thread(target=get) for _number in range(2)]
    for thread in threads:
        thread.start()
    fills = viewing_cache.cache._fills
    until(lambda: sum(len(one.is_gone) for one in fills.values()) == 2)
    left.set()
    for thread in threads:
        thread.join(20)

    assert statuses == [503, 503]
    assert gated.aborted.is_set()
    assert not viewing_cache.cache._series


def test_pictures_show_the_frame_and_the_middle_image(
    viewer: Program, source: Node, fetched: list[Any]
) -> None:
    series = put_series(source, images=5)
    study = series.partition("/series/")[0]
    changed = samples.ct(3, PixelData=bytes(256) + b"\xff\x0f" * 128)
    image = put_image(source, samples.instance(changed))

    png = viewer.get(f"{image}/rendered", accept="image/png")
    frame = viewer.get(f"{image}/frames/1/rendered")
    middle = viewer.get(f"{series}/thumbnail", accept="image/png")
    of_study = viewer.get(f"{study}/thumbnail", accept="image/png")
    of_image = viewer.get(f"{image}/thumbnail?accept=image/png")

    assert len(fetched) == 5
    assert all(len(refs) == 1 for refs in fetched)
    assert frame["Content-Type"] == "image/jpeg"
    shown = Image.open(io.BytesIO(png.content))
    assert (shown.format, shown.size) == ("PNG", (16, 16))
    assert (shown.getpixel((0, 0)), shown.getpixel((15, 15))) == (0, 255)
    assert middle.content == of_study.content == of_image.content == png.content
    assert viewer.get(f"{image}/rendered", accept="text/html").status_code == 406
    assert viewer.get(f"{image}/frames/2/rendered").status_code == 404


def test_pictures_have_the_wanted_window_size_and_quality(viewer: Program, source: Node) -> None:
    numbers = np.tile(np.arange(16, dtype="<u2") * 100, (16, 1))
    image = put_image(
        source, samples.instance(samples.ct(1, PixelData=numbers.tobytes(), RescaleIntercept="0"))
    )

    def show(**parameters: str) -> Any:
        answer = viewer.get(f"{image}/rendered", accept="image/png", **parameters)
        assert answer.status_code == 200, answer.content
        return np.asarray(Image.open(io.BytesIO(answer.content)))

    row = show(window="700,401,linear")[0]
    assert (row[4], row[5], row[9], row[10]) == (0, 0, 255, 255)
    assert row[7] == round(((700 - 699.5) / 400 + 0.5) * 255)
    assert show(window="700,400,linear-exact")[0][7] == 128
    sigmoid = show(window="700,400,sigmoid")[0]
    assert (sigmoid[7], sigmoid[9]) == (128, round(255 / (1 + math.exp(-2))))
    assert show(viewport="32,64").shape == (32, 32)
    part = show(viewport="8,4,8,0,-8,4", window="700,1600,linear")
    assert part.shape == (4, 8)
    assert part[0][0] > part[0][7]
    assert np.array_equal(part[0][::-1], show(window="700,1600,linear")[0][8:])
    whole = show(window="700,1600,linear")
    assert np.array_equal(show(viewport="8,16,8", window="700,1600,linear"), whole[:, 8:])
    assert np.array_equal(show(viewport="8,8,,-4,8,8", window="700,1600,linear"), whole[4:12, :8])
    assert show(viewport="1,8").shape == (1, 1)
    assert show(viewport="8,1,0,0,16,1").shape == (1, 8)
    sizes = [len(viewer.get(f"{image}/rendered", quality=one).content) for one in ("1", "100")]
    assert sizes[0] < sizes[1]
    thumbnail = viewer.get(f"{image}/thumbnail", accept="image/png", viewport="4,9")
    assert Image.open(io.BytesIO(thumbnail.content)).size == (4, 4)
    for wrong in ({"viewport": "4,4,0,0,8,8"}, {"window": "700,1600,linear"}):
        assert viewer.get(f"{image}/thumbnail", **wrong).status_code == 400


def test_a_picture_that_gets_very_thin_has_at_least_one_pixel(
    viewer: Program, source: Node
) -> None:
    wide = samples.ct(1, Rows=1, Columns=4096, PixelData=bytes(8192))
    image = put_image(source, samples.instance(wide))

    answer = viewer.get(f"{image}/rendered", accept="image/png", viewport="100,100")

    assert Image.open(io.BytesIO(answer.content)).size == (100, 1)


def test_annotations_are_not_drawn_and_the_answer_says_so(viewer: Program, source: Node) -> None:
    image = put_image(source, samples.instance(samples.ct(1)))

    plain = viewer.get(f"{image}/rendered", accept="image/png")
    answer = viewer.get(f"{image}/rendered", accept="image/png", annotation="patient,technique")

    assert "Warning" not in plain
    assert answer.content == plain.content
    assert answer["Warning"].startswith(
        '299 ADIT "The following annotation values are not supported: patient, technique'
    )


def test_pictures_have_the_wanted_color_profile(viewer: Program, source: Node) -> None:
    """The stored profile swaps red and green, so that a conversion changes the colors."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    swapped = swap_red_and_green(srgb.tobytes())
    color = samples.ct(
        1,
        SamplesPerPixel=3,
        PhotometricInterpretation="RGB",
        PlanarConfiguration=0,
        BitsAllocated=8,
        BitsStored=8,
        HighBit=7,
        PixelData=bytes([200, 40, 40]) * 256,
        ICCProfile=swapped,
    )
    colored = put_image(source, samples.instance(color))
    gray = put_image(source, samples.instance(samples.ct(2)))

    def show(path: str, profile: str, kind: str = "image/png") -> Image.Image:
        answer = viewer.get(f"{path}/rendered", accept=kind, iccprofile=profile)
        assert answer.status_code == 200, answer.content
        return Image.open(io.BytesIO(answer.content))

    assert "icc_profile" not in show(colored, "no").info
    for kind in ("image/png", "image/jpeg"):
        assert show(colored, "yes", kind).info["icc_profile"] == swapped
        assert is_srgb(show(gray, "yes", kind).info["icc_profile"])
    assert show(colored, "yes").getpixel((0, 0)) == (200, 40, 40)
    red, green, _blue = show(colored, "srgb").getpixel((0, 0))  # type: ignore[misc]
    assert green > red
    assert is_srgb(show(colored, "srgb").info["icc_profile"])
    assert show(gray, "srgb").mode == "RGB"
    other = viewer.get(f"{colored}/rendered", iccprofile="adobergb")
    assert "iccprofile values are not supported: adobergb" in other["Warning"]
    in_gif = viewer.get(f"{colored}/rendered", accept="image/gif", iccprofile="yes")
    assert (in_gif.status_code, "iccprofile" in in_gif.json()) == (400, True)


def is_srgb(profile: bytes) -> bool:
    made = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile[36:] == made[36:]  # a date stands before


def swap_red_and_green(profile: bytes) -> bytes:
    return profile.replace(b"rXYZ", b"?XYZ").replace(b"gXYZ", b"rXYZ").replace(b"?XYZ", b"gXYZ")


@pytest.mark.parametrize("value", [b"no profile at all", b"\0" * 128])
def test_a_broken_color_profile_is_not_passed_on(
    value: bytes, viewer: Program, source: Node
) -> None:
    color = samples.ct(
        1,
        SamplesPerPixel=3,
        PhotometricInterpretation="RGB",
        PlanarConfiguration=0,
        BitsAllocated=8,
        BitsStored=8,
        HighBit=7,
        PixelData=bytes(768),
        ICCProfile=value + b"\0" * (len(value) % 2),
    )
    image = put_image(source, samples.instance(color))

    answer = viewer.get(f"{image}/rendered", accept="image/png", iccprofile="srgb")

    assert answer.status_code == 200
    assert value not in Image.open(io.BytesIO(answer.content)).info["icc_profile"]


def test_several_frames_are_parts_or_a_moving_picture(viewer: Program, source: Node) -> None:
    frames = [bytes([0, number]) * 256 for number in range(4)]
    made = samples.ct(1, NumberOfFrames=4, PixelData=b"".join(frames), BitsStored=16, HighBit=15)
    made.WindowCenter, made.WindowWidth = "-640", "768"
    path = f"{put_image(source, samples.instance(made))}/frames"

    def shades(contents: list[bytes]) -> list[Any]:
        opened = [Image.open(io.BytesIO(one)).convert("L") for one in contents]
        return [picture.getpixel((0, 0)) for picture in opened]

    single = [viewer.get(f"{path}/{n}/rendered", accept="image/png").content for n in (1, 2, 3, 4)]
    parts = viewer.get(f"{path}/3,1/rendered", accept='multipart/related; type="image/png"')
    moving = viewer.get(f"{path}/1,2,3/rendered", accept="image/gif")
    anything = viewer.get(f"{path}/1,2,3/rendered")
    refused = viewer.get(f"{path}/1,2/rendered", accept="image/jpeg, image/png")

    assert len(set(shades(single))) == 4
    assert read_frames(parts) == [single[2], single[0]]
    assert parts["Content-Type"].startswith('multipart/related; type="image/png"; boundary=')
    opened = Image.open(io.BytesIO(moving.content))
    assert (moving["Content-Type"], getattr(opened, "n_frames", 1)) == ("image/gif", 3)
    assert anything.content == moving.content
    assert refused.status_code == 406
    assert viewer.get(f"{path}/1,5/rendered").status_code == 404
    large = viewer.get(f"{path}/1,2/rendered", viewport="8000,8000")
    assert (large.status_code, large.json()["code"]) == (400, "dicomweb.pictures-too-large")
    many = ",".join(["1"] * 101)
    assert viewer.get(f"{path}/{many}/rendered").status_code == 400


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            ("window", one)
            for one in ("", "40", "40,400", "40,0,linear", "40,400,cubic", "nan,1,linear")
        ),
        *(
            ("viewport", one)
            for one in ("64", "0,64", "99999,2", "8,8,9,0,9,4", "8,8,0,0,0,4", "8,8,,,,,9")
        ),
        *(("quality", one) for one in ("0", "101", "high", "5.5")),
        *(("annotation", one) for one in ("", "patient,name", "Patient")),
        *(("iccprofile", one) for one in ("", "no,yes", "SRGB")),
    ],
)
def test_a_wrong_picture_parameter_is_named(
    name: str, value: str, viewer: Program, source: Node
) -> None:
    image = put_image(source, samples.instance(samples.ct(1)))

    answer = viewer.get(f"{image}/rendered", **{name: value})

    assert answer.status_code == 400
    assert name in answer.json()


def test_what_metadata_leave_out_is_at_its_address(viewer: Program, source: Node) -> None:
    content = os.urandom(5000)
    image = put_image(source, samples.instance(samples.ct(1, EncapsulatedDocument=content)))
    series = image.partition("/instances/")[0]

    header = read_json(viewer.get(f"{series}/metadata"))[0]
    address = header["00420011"]["BulkDataURI"]
    path = address.partition("/PACS1/")[2]

    assert address.startswith("http://testserver/api/dicom-web/PACS1/wadors/")
    assert "7FE00010" not in header
    assert read_frames(viewer.get(path)) == [content]
    assert viewer.get(path, accept=OCTETS).content == content
    assert viewer.get(path.replace("00420011", "7FE00010")).status_code == 404


def test_addresses_of_bulk_data_ask_for_the_same_pseudonym(viewer: Program, source: Node) -> None:
    content = os.urandom(3000)
    table = Dataset()
    table.LUTDescriptor = [1500, 0, 16]
    table.add_new("LUTData", "OW", content)
    image = put_image(source, samples.instance(samples.ct(1, VOILUTSequence=[table])))
    series = image.partition("/instances/")[0]

    header = read_json(viewer.get(f"{series}/metadata", pseudonym="WEB-1"))[0]
    address = header["00283010"]["Value"][0]["00283006"]["BulkDataURI"]
    answer = Client().get(address, headers=viewer.headers)

    assert header["00100020"]["Value"] == ["WEB-1"]
    assert address.endswith("?pseudonym=WEB-1")
    assert read_frames(answer) == [content]


@pytest.mark.parametrize("explicit", [True, False])
def test_long_values_in_sequences_have_an_address(
    explicit: bool, viewer: Program, source: Node
) -> None:
    curves = [os.urandom(3000), os.urandom(2000)]
    groups = []
    for curve in curves:
        multiplex, outer = Dataset(), Dataset()
        multiplex.WaveformBitsAllocated = 16
        multiplex.add_new("WaveformData", "OW", curve)
        outer.WaveformSequence = [Dataset(), multiplex]
        groups.append(outer)
    ds = samples.ct(1, ContentSequence=groups)
    image = put_image(source, samples.instance(ds, explicit=explicit))
    series = image.partition("/instances/")[0]

    header = read_json(viewer.get(f"{series}/metadata"))[0]
    items = [one["54000100"]["Value"][1] for one in header["0040A730"]["Value"]]
    paths = [one["54001010"]["BulkDataURI"].partition("/PACS1/")[2] for one in items]

    assert paths[1].endswith("/bulkdata/0040A730.2.54000100.2.54001010")
    assert [viewer.get(path, accept=OCTETS).content for path in paths] == curves
    for wrong in ("0040A730.3.54000100.2.54001010", "0040A730.x.54000100", "00100010.1"):
        assert viewer.get(f"{image}/bulkdata/{wrong}").status_code == 404, wrong
