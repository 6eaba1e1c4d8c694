"""Build the registration sheet for the administrator of a node.

Used by the node pages and the command `adit-engine sheet`.
"""

import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from adit_engine.dicom_file.part10 import IMPLEMENTATION_NAME, IMPLEMENTATION_UID
from adit_engine.dicom_ul import acceptor, statuses
from adit_engine.nodes.dimse import c_find, c_get
from adit_engine.nodes.dimse.c_move import PATIENT_ROOT_MOVE, STUDY_ROOT_MOVE
from adit_engine.values.commitment_report import STORAGE_COMMITMENT_PUSH_MODEL

_WIDTH = 30


@dataclass(frozen=True, slots=True)
class LocalApplication:
    """How other nodes reach us.

    `receiver_port` is None if no receiver runs, so that C-MOVE is impossible.
    """

    ae_title: str
    address: str
    receiver_port: int | None
    by_tls: bool = False


@dataclass(frozen=True, slots=True)
class SheetSection:
    """A heading and its lines: a label, and the value to enter or to agree on."""

    title: str
    lines: tuple[tuple[str, str], ...]


def build_sheet(kind: str, settings: Any, local: LocalApplication) -> tuple[SheetSection, ...]:
    """Return the sheet of one node; `settings` is of its kind's dataclass. No secrets."""
    made = {
        "dimse": _dimse_sections,
        "dicomweb": _dicomweb_sections,
        "folder": _folder_sections,
    }.get(kind)
    return tuple(made(settings, local)) if made is not None else ()


def format_sheet(title: str, sections: Iterable[SheetSection]) -> str:
    """Return the sheet as plain text."""
    lines = [title, "=" * len(title)]
    for section in sections:
        lines += ["", section.title, "-" * len(section.title)]
        lines += [f"{label + ':':<{_WIDTH}} {value}" for label, value in section.lines]
    return "\n".join(lines)


def find_own_address(host: str, port: int) -> str:
    """Return our local address towards a host, "" if it is unreachable.

    Sends nothing.
    """
    try:
        (family, kind, _, _, there), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        with socket.socket(family, kind) as probe:
            probe.connect(there)
            return str(probe.getsockname()[0])
    except (OSError, UnicodeError):
        return ""


# Kinds of node ----------------------------------------------------------------------------------


def _dimse_sections(settings: Any, local: LocalApplication) -> Iterator[SheetSection]:
    title = settings.calling_ae_title
    moves = local.receiver_port is not None and settings.retrieve != "get"
    reports = (
        local.receiver_port is not None
        and local.ae_title == title
        and settings.proof == "commitment"
    )
    how = "DICOM over TLS" if settings.transport == "tls" else "DICOM without TLS, not encrypted"
    yield SheetSection("Our side", tuple(_local_application_lines(local, title, moves or reports)))
    yield SheetSection(
        "Your node, as entered in ADIT",
        (
            ("AE title", settings.called_ae_title),
            ("Host and port", f"{settings.host}, port {settings.port}"),
            ("Connection to you", how),
            ("Your contact", settings.contact or "please provide one"),
        ),
    )
    yield SheetSection(
        "Please register", tuple(_registration_lines(settings, local, moves, reports))
    )
    yield SheetSection("Services that we request", tuple(_service_lines(settings, moves)))
    if moves:
        yield SheetSection("Services that we provide for your C-MOVE", tuple(_offered_contexts()))
    if reports:
        yield SheetSection(
            "Services that we provide for your reports", tuple(_offered_report_contexts())
        )


def _local_application_lines(
    local: LocalApplication, title: str, is_called: bool
) -> Iterator[tuple[str, str]]:
    yield "Our AE title", title
    yield "Our address", local.address or "please ask our administrator"
    if is_called:
        yield "Port of our receiver", f"{local.receiver_port}"
        if local.ae_title != title:
            yield "AE title of our receiver", local.ae_title
        how = "DICOM over TLS" if local.by_tls else "DICOM without TLS, not encrypted"
        yield "Connection to our receiver", how
    yield "Our software", f"{IMPLEMENTATION_NAME}, implementation class UID {IMPLEMENTATION_UID}"


def _registration_lines(
    settings: Any, local: LocalApplication, moves: bool, reports: bool
) -> Iterator[tuple[str, str]]:
    title, where = settings.calling_ae_title, local.address or "our address"
    senders = settings.senders or f"{settings.called_ae_title} from {settings.host}"
    yield (
        "Calling AE title",
        f"{title} from {where} may open associations to {settings.called_ae_title}",
    )
    if moves:
        yield "C-MOVE destination", f"{local.ae_title} = {where}, port {local.receiver_port}"
        yield "Images accepted from", f"{senders}; please tell us if there are other senders"
    if reports:
        yield (
            "Storage commitment reports to",
            f"{local.ae_title} = {where}, port {local.receiver_port}",
        )
        yield "Reports accepted from", f"{senders}; please tell us if there are other senders"
    if moves or reports:
        yield "Firewall, from you to us", f"{where}, TCP port {local.receiver_port}"
    yield "Firewall, from us to you", f"{settings.host}, TCP port {settings.port}"


def _service_lines(settings: Any, moves: bool) -> Iterator[tuple[str, str]]:
    patient = settings.query_root == "patient"
    root = "Patient Root" if patient else "Study Root"
    find = c_find.PATIENT_ROOT if patient else c_find.STUDY_ROOT
    get = c_get.PATIENT_ROOT_GET if patient else c_get.STUDY_ROOT_GET
    move = PATIENT_ROOT_MOVE if patient else STUDY_ROOT_MOVE
    yield "C-ECHO", f"Verification ({acceptor.VERIFICATION}); we are SCU"
    yield "C-FIND", f"{root} Query/Retrieve ({find}); we are SCU; study, series and image level"
    if settings.retrieve != "move":
        yield (
            "C-GET",
            f"{root} ({get}); we are SCU, and SCP of the storage classes (role selection)",
        )
    if moves:
        yield "C-MOVE", f"{root} ({move}); we are SCU"
    yield "C-STORE", "all storage classes that are sent to you; we are SCU; only if agreed"
    if settings.proof == "find":
        yield "Storage proof", "C-FIND at image level for the images sent"
    elif settings.proof == "commitment":
        name = statuses.describe_uid(STORAGE_COMMITMENT_PUSH_MODEL)
        yield (
            "Storage proof",
            f"{name} ({STORAGE_COMMITMENT_PUSH_MODEL}); we are SCU; within {settings.commitment_s:g} s",
        )
        yield "", "otherwise C-FIND at image level for the images sent"
    else:
        yield "Storage proof", "none"


def _offered_contexts() -> Iterator[tuple[str, str]]:
    yield "C-ECHO", f"Verification ({acceptor.VERIFICATION}); we are SCP"
    yield "C-STORE", "all storage classes; we are SCP"
    yield (
        "Transfer syntaxes",
        "Explicit and Implicit VR Little Endian; JPEG, JPEG-LS, JPEG 2000 and RLE as stored",
    )


def _offered_report_contexts() -> Iterator[tuple[str, str]]:
    name = statuses.describe_uid(STORAGE_COMMITMENT_PUSH_MODEL)
    yield (
        "N-EVENT-REPORT",
        f"{name} ({STORAGE_COMMITMENT_PUSH_MODEL}); we are SCU, you propose the SCP role",
    )
    yield "Transfer syntaxes", "Explicit and Implicit VR Little Endian"


def _dicomweb_sections(settings: Any, local: LocalApplication) -> Iterator[SheetSection]:
    parts = urlsplit(settings.url)
    words = {"none": "none", "basic": f"user {settings.user} and a password", "bearer": "a token"}
    certificate = "yes" if settings.client_certificate else "no"
    yield SheetSection(
        "Our side",
        (
            ("Our address", local.address or "please ask our administrator"),
            ("Our software", IMPLEMENTATION_NAME),
        ),
    )
    yield SheetSection(
        "Your node, as entered in ADIT",
        (
            ("Root URL", settings.url),
            ("Encrypted (https)", "yes" if parts.scheme == "https" else "no"),
            ("Authentication", words[settings.sign_in]),
            ("Client certificate", certificate),
            ("Your contact", settings.contact or "please provide one"),
        ),
    )
    yield SheetSection(
        "Services that we request",
        (
            ("QIDO-RS", f"GET {settings.url}{settings.qido_prefix}/studies, series and instances"),
            (
                "WADO-RS",
                f"GET {settings.url}{settings.wado_prefix}/studies/…, in the stored transfer syntax",
            ),
            ("STOW-RS", f"POST {settings.url}{settings.stow_prefix}/studies; only if agreed"),
        ),
    )


def _folder_sections(settings: Any, local: LocalApplication) -> Iterator[SheetSection]:
    yield SheetSection(
        "Folder",
        (
            ("Path on our machine", settings.path),
            ("Path for users", settings.shown_path or "the same"),
            ("Network share", "yes" if settings.network else "no"),
            ("Our machine", local.address or socket.gethostname()),
            ("Your contact", settings.contact or "please provide one"),
        ),
    )
    yield SheetSection(
        "Permissions for the account that runs ADIT",
        (
            ("As a source", "list folders and read files"),
            ("As a destination", "create and rename folders and files, delete its own files"),
            (
                "Permissions of new entries",
                f"folders {settings.folder_mode}, files {settings.file_mode}",
            ),
        ),
    )
