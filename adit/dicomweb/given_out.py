"""Tell recalls which images of a patient were sent through the DICOMweb API."""

from collections.abc import Callable, Collection, Iterator
from typing import Any

from django.db.models import Q

from adit.dicomweb.authentication import describe_caller
from adit.dicomweb.models import Retrieval
from adit.dicomweb.retrieval_log import SENT, seal_context
from adit.projects import services
from adit.recall.api_retrievals import ApiRetrieval, GivenOutImage
from adit_engine.values.outcome import SeriesLedger
from adit_engine.values.references import InstanceRef

_INDEXES_PER_QUERY = 500


def find_retrievals(indexes: Collection[str]) -> Iterator[ApiRetrieval]:
    """Yield the retrievals of the patients with these indexes that sent images, or do so now."""
    wanted = list(indexes)
    sent = Q(delivered__gt=0) | Q(state=Retrieval.State.RUNNING)
    for at in range(0, len(wanted), _INDEXES_PER_QUERY):
        some = wanted[at : at + _INDEXES_PER_QUERY]
        rows = Retrieval.objects.filter(sent, patient_index__in=some)
        for retrieval in rows.select_related("user", "project").iterator(chunk_size=50):
            yield _describe(retrieval)


def _describe(retrieval: Retrieval) -> ApiRetrieval:
    project = retrieval.project
    # The index was computed with the key of the project, so the key exists.
    content = services.get_project_cipher(project).open(
        retrieval.sealed or b"", seal_context(retrieval)
    )
    return ApiRetrieval(
        retrieval.ended_at or retrieval.started_at,
        retrieval.user,
        describe_caller(retrieval.token_name),
        project,
        retrieval.is_identified,
        retrieval.only_headers,
        tuple(_list_images(content, _get_uid_mapper(retrieval, content))),
    )


def _get_uid_mapper(retrieval: Retrieval, content: dict[str, Any]) -> Callable[[str], str]:
    """Return a function from an original UID to the one that was sent."""
    if retrieval.is_identified or content.get("keeps_uids"):
        return str
    generation = content.get("generation", retrieval.project.generation)
    return services.get_project_key(retrieval.project, generation).uid


def _list_images(content: dict[str, Any], uid_of: Callable[[str], str]) -> Iterator[GivenOutImage]:
    for ledger in map(SeriesLedger.from_json, content["series"]):
        for uid, entry in ledger.entries.items():
            if entry.state in SENT:
                study, series = uid_of(ledger.ref.study_uid), uid_of(ledger.ref.series_uid)
                yield GivenOutImage(InstanceRef(study, series, uid_of(uid)), entry.sha256)
