"""Probe what a DICOMweb service accepts, by requests that transfer no image.

Used by the check of the DICOMweb node.
"""

import time
from collections.abc import Iterator

from adit_engine.errors import NodeError, NodeRefused
from adit_engine.nodes.base import Grade, NodeFinding
from adit_engine.nodes.dicomweb import dicom_json, multipart
from adit_engine.nodes.dicomweb.http import DicomwebClient, DicomwebRequest
from adit_engine.nodes.dicomweb.qido import Qido
from adit_engine.nodes.dicomweb.wado import ACCEPT

NOWHERE = "/studies/2.25.1/series/2.25.2/instances/2.25.3"
"""An image that cannot exist."""

_STUDY_UID = "0020000D"
_KNOWS_RETRIEVAL = frozenset({200, 204, 206, 400, 404, 406, 410})
_NOT_OFFERED = frozenset({404, 405, 410, 501})
_NOT_ALLOWED = frozenset({401, 403, 407})


class WebOffers:
    """Probes a service. `prefixes` are the paths of retrieval and upload below the root URL."""

    def __init__(self, client: DicomwebClient, qido: Qido, prefixes: tuple[str, str]) -> None:
        self._client = client
        self._qido = qido
        self._wado, self._stow = prefixes
        self._name = client.server.name

    def findings(self) -> Iterator[NodeFinding]:
        """Yield the findings. Lazy.

        Raises NodeError, or InvalidInput where it cannot be searched.
        """
        started = time.monotonic()
        first = self._studies(limit="1")
        took_ms = (time.monotonic() - started) * 1000
        yield NodeFinding(Grade.GOOD, f"{self._name} answers searches (QIDO-RS, {took_ms:.0f} ms).")
        if first:
            yield self._paging(first)
            yield self._fuzzy()
        yield self._retrieving()
        yield self._storing()

    # Searches ----------------------------------------------------------------------------------

    def _studies(self, **parameters: str) -> list[str]:
        """Return the study UIDs of one page. Raises NodeError."""
        with self._qido.ask("studies", list(parameters.items())) as answer:
            return [dicom_json.first_text(one, _STUDY_UID) for one in self._qido.items(answer)]

    def _paging(self, first: list[str]) -> NodeFinding:
        if len(first) > 1:
            return NodeFinding(
                Grade.WARNING,
                f"It was asked for one study and listed {len(first)}: it does not know pages.",
                "If it cuts long lists, enter its limit as result cap.",
            )
        try:
            second = self._studies(limit="1", offset="1")
        except NodeRefused:
            second = first
        if second == first:
            return NodeFinding(
                Grade.WARNING,
                "It gives the first page of a long list and never the next one.",
                "If it cuts long lists, enter its limit as result cap.",
            )
        return NodeFinding(Grade.GOOD, "It gives long lists page by page (limit, offset).")

    def _fuzzy(self) -> NodeFinding:
        try:
            with self._qido.ask("studies", [("limit", "1"), ("fuzzymatching", "true")]) as answer:
                told = " ".join(answer.warnings).lower()
                knows = answer.is_ok and "fuzzy" not in told
        except NodeError:
            knows = False
        if knows:
            return NodeFinding(Grade.GOOD, "It takes fuzzymatching; ADIT asks for exact names.")
        return NodeFinding(Grade.GOOD, "It does not know fuzzymatching, which ADIT does not need.")

    # Images ------------------------------------------------------------------------------------

    def _retrieving(self) -> NodeFinding:
        request = DicomwebRequest(
            "GET", f"{self._wado}{NOWHERE}", ACCEPT, "the retrieval (WADO-RS)", 30
        )
        status = self._status(request)
        if status in _KNOWS_RETRIEVAL:
            return NodeFinding(Grade.GOOD, "It answers when asked for an image (WADO-RS).")
        return self._lacking("It does not let us fetch images (WADO-RS", status)

    def _storing(self) -> NodeFinding:
        """Probe STOW-RS with an empty upload."""
        boundary = multipart.new_boundary()
        request = DicomwebRequest(
            "POST",
            f"{self._stow}/studies",
            "application/dicom+json",
            "the upload (STOW-RS)",
            30,
            (multipart.closing_boundary(boundary),),
            multipart.content_type(boundary),
        )
        status = self._status(request)
        if status is not None and status not in _NOT_OFFERED | _NOT_ALLOWED:
            return NodeFinding(Grade.GOOD, f"It takes uploads (STOW-RS; an empty one: {status}).")
        return self._lacking("It does not take images from us (STOW-RS", status)

    def _status(self, request: DicomwebRequest) -> int | None:
        """Return the status; None where the connection broke or the node was too busy."""
        try:
            with self._client.send(request) as answer:
                return answer.status
        except NodeError:
            return None

    def _lacking(self, what: str, status: int | None) -> NodeFinding:
        told = "no answer" if status is None else f"status {status}"
        if status in _NOT_ALLOWED:
            step = "Ask its administrator for the right, or check sign-in and certificates."
        else:
            step = "If it should, check root URL and prefixes, or ask its administrator."
        return NodeFinding(Grade.WARNING, f"{what}; {told}).", step)
