"""Probe what a DICOMweb service accepts, by requests that transfer no image.

Used by the check of the DICOMweb node.
"""

import time
from collections.abc import Iterator

from adit_engine.errors import NodeError, NodeRefused
from adit_engine.messages import Message
from adit_engine.nodes.base import Grade, NodeFinding
from adit_engine.nodes.dicomweb import dicom_json, multipart
from adit_engine.nodes.dicomweb.http import DicomwebClient, DicomwebRequest
from adit_engine.nodes.dicomweb.qido import Qido
from adit_engine.nodes.dicomweb.wado import ACCEPT

NO_STUDY = "2.25.1"
NOWHERE = f"/studies/{NO_STUDY}/series/2.25.2/instances/2.25.3"
"""An image that cannot exist."""

_STUDY_UID = "0020000D"
_KNOWS_RETRIEVAL = frozenset({200, 204, 206, 400, 404, 406, 410})
_NOT_OFFERED = frozenset({404, 405, 410, 501})
_NOT_ALLOWED = frozenset({401, 403, 407})


class DicomwebProbe:
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
        first = self._list_studies(limit="1")
        took_ms = (time.monotonic() - started) * 1000
        yield NodeFinding(
            Grade.GOOD,
            Message("test.qido", node=self._name, milliseconds=f"{took_ms:.0f}"),
        )
        if first:
            yield self._paging_finding(first)
            yield self._fuzzy_finding()
        yield self._retrieve_finding()
        yield self._store_finding()

    # Searches ----------------------------------------------------------------------------------

    def _list_studies(self, **parameters: str) -> list[str]:
        """Return the study UIDs of one page. Raises NodeError."""
        with self._qido.request("studies", list(parameters.items())) as answer:
            return [
                dicom_json.first_text(one, _STUDY_UID) for one in self._qido.read_objects(answer)
            ]

    def _paging_finding(self, first: list[str]) -> NodeFinding:
        if len(first) > 1:
            return NodeFinding(
                Grade.WARNING,
                Message("test.no-paging", count=len(first)),
                Message("step.result-cap-if-truncated"),
            )
        try:
            second = self._list_studies(limit="1", offset="1")
        except NodeRefused:
            second = first
        if second == first:
            return NodeFinding(
                Grade.WARNING,
                Message("test.first-page-only"),
                Message("step.result-cap-if-truncated"),
            )
        return NodeFinding(Grade.GOOD, Message("test.paging"))

    def _fuzzy_finding(self) -> NodeFinding:
        try:
            with self._qido.request(
                "studies", [("limit", "1"), ("fuzzymatching", "true")]
            ) as answer:
                told = " ".join(answer.warnings).lower()
                knows = answer.is_ok and "fuzzy" not in told
        except NodeError:
            knows = False
        return NodeFinding(Grade.GOOD, Message("test.fuzzy" if knows else "test.no-fuzzy"))

    # Images ------------------------------------------------------------------------------------

    def _retrieve_finding(self) -> NodeFinding:
        request = DicomwebRequest(
            "GET", f"{self._wado}{NOWHERE}", ACCEPT, Message("clause.request-wado"), 30
        )
        status = self._status(request)
        if status in _KNOWS_RETRIEVAL:
            return NodeFinding(Grade.GOOD, Message("test.wado"))
        return self._missing_finding("test.no-wado", status)

    def _store_finding(self) -> NodeFinding:
        """Probe STOW-RS with an empty upload."""
        boundary = multipart.new_boundary()
        request = DicomwebRequest(
            "POST",
            f"{self._stow}/studies",
            "application/dicom+json",
            Message("clause.request-stow"),
            30,
            (multipart.closing_boundary(boundary),),
            multipart.content_type(boundary),
        )
        status = self._status(request)
        if status is not None and status not in _NOT_OFFERED | _NOT_ALLOWED:
            return NodeFinding(Grade.GOOD, Message("test.stow", http_status=status))
        return self._missing_finding("test.no-stow", status)

    def _status(self, request: DicomwebRequest) -> int | None:
        """Return the status; None where the connection broke or the node was too busy."""
        try:
            with self._client.send(request) as answer:
                return answer.status
        except NodeError:
            return None

    def _missing_finding(self, code: str, status: int | None) -> NodeFinding:
        answer = (
            Message("clause.no-answer")
            if status is None
            else Message("clause.http-status", http_status=status)
        )
        step = "step.check-sign-in" if status in _NOT_ALLOWED else "step.check-paths"
        return NodeFinding(Grade.WARNING, Message(code, answer=answer), Message(step))
