"""The client of one ADIT installation."""

import json
import os
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from adit_sdk import storing
from adit_sdk.connection import Connection, check_url
from adit_sdk.download import DownloadReport, StudyDownload, download_archives
from adit_sdk.errors import ApiError, NotFound
from adit_sdk.job import Job
from adit_sdk.retrieval import Retrieval, make_params
from adit_sdk.storing import Image, StoreReport
from adit_sdk.values import (
    Identified,
    Node,
    Preview,
    SearchResult,
    Study,
    read_reasons,
)


class Client:
    """Calls one ADIT with an API token. Use it in one thread at a time.

    All methods raise ApiError and its subclasses.

    `timeout` (seconds) is how long to wait for the next part of an answer, not for a whole one.
    Requests that may be repeated safely are repeated up to `retries` times, at the times that ADIT
    names. `verify` is the path of a CA file or an SSLContext, if the certificate of ADIT is not
    signed by a public authority. `dicomweb_url` is the address of the DICOMweb service, if it has
    one of its own. `allow_http` permits an unencrypted connection to another machine.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        dicomweb_url: str | None = None,
        timeout: float = 120.0,
        retries: int = 4,
        verify: bool | str | ssl.SSLContext = True,
        allow_http: bool = False,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._connection = Connection(
            url,
            token,
            timeout=timeout,
            retries=retries,
            verify=verify,
            allow_http=allow_http,
            sleep=sleep,
        )
        root = self._connection.url
        if dicomweb_url is not None:
            root = check_url(dicomweb_url, allow_http=allow_http)
        self._dicomweb = f"{root}/api/dicom-web"
        self._sleep = sleep
        self._nodes: dict[str | int, Node] = {}

    def __repr__(self) -> str:
        return f"<Client of {self._connection.url}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def me(self) -> dict[str, Any]:
        """Return user, permissions and token: its name, scopes and end."""
        found: dict[str, Any] = self._connection.get_json("/api/v1/me")
        return found

    def nodes(self) -> list[Node]:
        """Return the PACS and folders that the token may be used for."""
        names = Node.__slots__
        found = [
            Node(**{name: one[name] for name in names})
            for one in self._connection.list_all("/api/v1/nodes")
        ]
        self._nodes = {one.id: one for one in found} | {one.name: one for one in found}
        return found

    # Search ---------------------------------------------------------------------------------------

    def search(
        self, node: str | int, level: str = "study", *, limit: int | None = None, **query: Any
    ) -> SearchResult:
        """Search in one node. `level` is study, series or instance.

        The query is given by DICOM keywords: `search("PACS", PatientID="4711",
        StudyDate="20240101-20241231")`. Series need a StudyInstanceUID, instances a
        SeriesInstanceUID as well.
        """
        body: dict[str, Any] = {"node": node, "level": level, "query": query}
        if limit is not None:
            body["limit"] = limit
        found = self._post("/api/v1/searches", body, is_safe=True)
        notes = tuple(note["text"] for note in found["notes"])
        return SearchResult(node, found["results"], found["complete"], notes)

    # Jobs -----------------------------------------------------------------------------------------

    def preview(
        self,
        studies: Sequence[Study],
        destination: str | int,
        *,
        project: str | None = None,
        as_is: str | None = None,
        **options: Any,
    ) -> Preview:
        """Say what `transfer` with the same arguments would deliver and withhold."""
        order = _make_order(studies, destination, project, as_is, options)
        found = self._post("/api/v1/jobs/preview", order, is_safe=True)
        begin = found["starts_at"]
        return Preview(
            expected=found["expected"],
            withheld=read_reasons(found["withheld"]),
            bytes=found["bytes"],
            starts_at=None if begin is None else datetime.fromisoformat(begin),
            problems=tuple(one["text"] for one in found["problems"]),
            needs_approval=found["needs_approval"],
            id=found["preview"],
        )

    def transfer(
        self,
        studies: Sequence[Study],
        destination: str | int,
        *,
        project: str | None = None,
        as_is: str | None = None,
        idempotency_key: str = "",
        **options: Any,
    ) -> Job:
        """Order a transfer and return its job.

        Images are pseudonymized. `as_is` is the reason to send them as they are instead; that needs
        the scope `identified` and the permission. `idempotency_key` of an `ApiError` repeats the
        same order without a second job. Options: `title`, `urgent`, `mail`, `archive_password`,
        `preview` (the ID of a preview).
        """
        order = _make_order(studies, destination, project, as_is, options)
        return self._create(lambda: {"json": order}, idempotency_key)

    def batch(
        self,
        file: str | os.PathLike[str],
        *,
        nodes: Sequence[str | int],
        destination: str | int | None = None,
        project: str | None = None,
        as_is: str | None = None,
        start: str = "by_hand",
        idempotency_key: str = "",
        **options: Any,
    ) -> Job:
        """Order a batch query, or with a destination a batch transfer, by an Excel or CSV list.

        `start` of a transfer: by_hand (check the list, then `Job.start`), if_all_found or always. If
        the list is refused, `InvalidRequest.rows` has the verdict of each row. `idempotency_key` is
        that of `transfer`. Options: `title`, `skip_errors`, and of a transfer `urgent`, `mail`,
        `pilot`, `generate`, `skip_delivered`, `archive_password`.
        """
        order: dict[str, Any] = {"kind": "batch_query", "nodes": list(nodes), "project": project}
        if destination is not None:
            transfer = {"kind": "batch_transfer", "destination": destination, "start": start}
            order |= transfer | _make_change(as_is)
        order |= options
        path = Path(file)
        content = path.read_bytes()
        return self._create(
            lambda: {
                "data": {"order": json.dumps(order)},
                "files": {"sheet": (path.name, content)},
            },
            idempotency_key,
        )

    def job(self, number: int) -> Job:
        found = self._connection.get_json(f"/api/v1/jobs/{number:d}")
        return Job(self._connection, found, self._sleep)

    def jobs(self, **filters: str) -> Iterator[dict[str, Any]]:
        """Yield the jobs, newest first. Filters: text, kind, state, project, since, until."""
        yield from self._connection.list_all("/api/v1/jobs", filters)

    # Images ---------------------------------------------------------------------------------------

    def retrieve(
        self,
        node: str | int,
        study: str,
        *,
        pseudonym: str | Identified = "",
        project: str | None = None,
        series: str | None = None,
        instance: str | None = None,
    ) -> Retrieval:
        """Retrieve the images of a study, or one series or image of it, one after the other.

        They are pseudonymized by the rules of the project as in a transfer; without a pseudonym by
        that which the patient has in the project, or a new one. Raises IncompleteAnswer if not all
        of them arrive, ValueError without pseudonym and project.
        """
        address = f"{self._dicomweb}/{self._find_ae_title(node)}/wadors/studies/{study}"
        if series is not None:
            address += f"/series/{series}"
        if instance is not None:
            address += f"/instances/{instance}"
        return Retrieval(self._connection, address, make_params(pseudonym, project))

    def store(
        self, node: str | int, images: Image | Iterable[Image], *, study: str | None = None
    ) -> StoreReport:
        """Store files, folders of files or datasets in a node, as they are.

        Check `is_complete` of the report, or call its `require_complete`. With `study`, images of
        other studies are refused.
        """
        address = f"{self._dicomweb}/{self._find_ae_title(node)}/stowrs/studies"
        if study is not None:
            address += f"/{study}"
        return storing.store(self._connection, address, storing.expand_paths(images))

    def download(
        self,
        source: Job | Sequence[Study],
        folder: str | os.PathLike[str],
        *,
        project: str | None = None,
        state_folder: str | os.PathLike[str] | None = None,
    ) -> DownloadReport:
        """Write studies, or the 7-Zip files of a job, into a folder.

        A download that was interrupted continues when it is called again with the same arguments:
        complete series (or the beginning of a 7-Zip file) are not retrieved again. The files of
        studies are `study UID/series UID/image UID.dcm`; `index.csv` lists them with SHA-256 and
        acquisition parameters. Which series are complete is noted in `state_folder`, by default in
        your state folder, until the download has ended.
        """
        if isinstance(source, Job):
            return download_archives(self._connection, source, Path(folder))
        state = None if state_folder is None else Path(state_folder)
        download = StudyDownload(self, Path(folder), project, state)
        return download.run(source)

    # ----------------------------------------------------------------------------------------------

    def _find_ae_title(self, node: str | int) -> str:
        if node not in self._nodes:
            self.nodes()
        if node not in self._nodes:
            raise NotFound(f"There is no node {node!r} for this token.", "sdk.unknown-node")
        return self._nodes[node].ae_title

    def _post(self, path: str, body: Mapping[str, Any], *, is_safe: bool) -> Any:
        address = f"{self._connection.url}{path}"
        return self._connection.request(
            "POST", address, is_safe=is_safe, make_body=lambda: {"json": body}
        ).json()

    def _create(self, make_body: Callable[[], dict[str, Any]], key: str) -> Job:
        key = key or str(uuid4())
        try:
            response = self._connection.request(
                "POST",
                f"{self._connection.url}/api/v1/jobs",
                is_safe=True,  # the key makes ADIT execute it once
                make_body=make_body,
                headers={"Idempotency-Key": key},
            )
        except ApiError as error:
            error.idempotency_key = key
            raise
        return Job(self._connection, response.json(), self._sleep)


def _make_order(
    studies: Sequence[Study],
    destination: str | int,
    project: str | None,
    as_is: str | None,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    return {
        "kind": "selective",
        "destination": destination,
        "project": project,
        "studies": [_describe_study(study) for study in studies],
        **_make_change(as_is),
        **options,
    }


def _describe_study(study: Study) -> dict[str, Any]:
    if isinstance(study.pseudonym, Identified):
        raise ValueError("To transfer identified images, give the reason in as_is.")
    return {
        "node": study.node,
        "study_uid": study.study_uid,
        "patient_id": study.patient_id,
        "series_uids": list(study.series_uids),
        "pseudonym": study.pseudonym,
    }


def _make_change(as_is: str | None) -> dict[str, Any]:
    return {"change": "pseudonymize" if as_is is None else {"as_is": as_is}}
