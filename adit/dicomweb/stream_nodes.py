"""The two ends of a retrieval: a source limited to one image, and the client as destination."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from adit.dicomweb.errors import NotAcceptable
from adit_engine.errors import NotFound, VerificationFailed
from adit_engine.nodes.base import FindResults, SourceNode, StoreResult
from adit_engine.nodes.reencode import reencode
from adit_engine.values.instance import Instance
from adit_engine.values.query import Query
from adit_engine.values.record import Record
from adit_engine.values.references import InstanceRef, QueryLevel, Ref

_COUNT = "NumberOfSeriesRelatedInstances"


class SingleInstanceSource:
    """A source that lists and sends only one image of its series."""

    def __init__(self, source: SourceNode, image: InstanceRef) -> None:
        self.name = source.name
        self._source = source
        self._image = image
        self._is_listed = False

    def find(self, query: Query) -> FindResults:
        if query.level is QueryLevel.SERIES:
            # The list is shorter than this number on purpose.
            return FindResults(_drop_count(self._source.find(query)))
        if query.keys.get("SeriesInstanceUID") == self._image.series_uid:
            query = replace(query, keys={**query.keys, "SOPInstanceUID": self._image.instance_uid})
            return FindResults(self._note_listed(self._source.find(query)))
        return self._source.find(query)

    def _note_listed(self, records: Iterable[Record]) -> Iterator[Record]:
        for record in records:
            self._is_listed = True
            yield record

    def fetch(self, refs: Sequence[Ref], *, patient_id: str = "") -> Iterator[Instance]:
        """Fetch the image. Raise NotFound if the node lists others of its series but not this one.

        PACS answer the retrieval of an unknown image by a failure, as if they were broken.
        """
        if not self._is_listed:
            others = self._source.find(Query.uids_of(self._image.series, patient_id))
            if next(others, None) is not None:
                others.close()
                raise NotFound("dicomweb.no-image", node=self.name)
        wanted = [self._image if ref == self._image.series else ref for ref in refs]
        return self._source.fetch(wanted, patient_id=patient_id)

    def cancel_fetches(self) -> None:
        self._source.cancel_fetches()


def _drop_count(records: Iterable[Record]) -> Iterator[Record]:
    for record in records:
        values = {name: value for name, value in record.values.items() if name != _COUNT}
        yield replace(record, values=values)


class ClientDestination:
    """The client of a request: `outgoing` holds the image that was stored last.

    The caller sends it before it continues the transfer, so that at most one is held.
    """

    name = "client"

    def __init__(self, syntaxes: Sequence[str] | None) -> None:
        self.outgoing: deque[Instance] = deque()
        self.failed_check: VerificationFailed | None = None
        """The second check found something: nothing more may be sent."""
        self._syntaxes = syntaxes

    def store(self, instances: Iterable[Instance]) -> Iterator[StoreResult]:
        try:
            for instance in instances:
                sent = self._convert(instance)
                self.outgoing.append(sent)
                yield StoreResult(
                    sent.in_header.ref,
                    size_bytes=sent.size_bytes,
                    sha256=sent.sha256(),
                    class_uid=sent.sop_class_uid,
                )
                del instance, sent  # it may be large: release it before the next one is awaited
        except VerificationFailed as error:
            self.failed_check = error
            raise

    def confirm(self, stored: Sequence[StoreResult]) -> Iterator[str]:
        return (result.ref.instance_uid for result in stored)

    def _convert(self, instance: Instance) -> Instance:
        """Return the image in an accepted transfer syntax. Raise NotAcceptable."""
        syntaxes = self._syntaxes
        if syntaxes is None or instance.transfer_syntax_uid in syntaxes:
            return instance
        converted = reencode(instance, syntaxes)
        if converted is None:
            raise NotAcceptable(
                "dicomweb.syntax-not-available",
                stored=instance.transfer_syntax_uid,
                wanted=tuple(syntaxes),
            )
        return converted
