"""Probe how a node answers searches and in which character set, by a few small searches.

Used by the checks of the DIMSE and DICOMweb nodes.
"""

from collections.abc import Iterator, Sequence
from datetime import date, timedelta

from adit_engine.nodes.base import Grade, NodeFinding, SettingProposal
from adit_engine.nodes.diagnostics.sample_series import (
    ENOUGH_ANSWERS,
    MAX_ANSWERS,
    FindCall,
    ProbeResult,
    SampleSeries,
    find_newest_studies,
    find_sample_series,
    has_uid,
    run_query,
)
from adit_engine.values.query import DateRange, Query
from adit_engine.values.record import Record
from adit_engine.values.references import QueryLevel, StudyRef

ASSUMED_CHARACTER_SET = "ISO_IR 100"
"""The character set in which undeclared texts have to be read, so that no byte is lost."""

_UTF8 = "ISO_IR 192"
_TEXT_KEYWORDS = ("PatientName", "StudyDescription")


def check_character_set(records: Sequence[Record], fallback: str) -> Iterator[NodeFinding]:
    """Propose a character set. `fallback` is the current setting.

    The findings quote no text of the records.
    """
    named = sorted({term for one in records for term in one.texts("SpecificCharacterSet")})
    if named:
        yield NodeFinding(
            Grade.GOOD, f"It names the character set of its answers: {', '.join(named)}."
        )
    silent = [one for one in records if not one.texts("SpecificCharacterSet")]
    telling = [
        raw for one in silent for word in _TEXT_KEYWORDS if (raw := _original_bytes(one.text(word)))
    ]
    if not telling:
        if not named:
            yield NodeFinding(
                Grade.GOOD, "It names no character set; its answers held plain letters."
            )
        return
    found = _UTF8 if all(_is_utf8(raw) for raw in telling) else ASSUMED_CHARACTER_SET
    what = f"It names no character set for names with other letters; they look like {found}."
    if fallback == found:
        yield NodeFinding(Grade.GOOD, f"{what} They are read so.")
        return
    why = "So names with umlauts and accents are read as they were meant."
    step = f"Enter {found} as character set where none is given, if names then read right."
    yield NodeFinding(
        Grade.WARNING, what, step, (SettingProposal("character_set_fallback", found, why),)
    )


def _original_bytes(text: str) -> bytes:
    """Return the original bytes of a text; empty where all characters are ASCII."""
    return b"" if text.isascii() else text.encode("latin-1", "ignore")


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


_UNMATCHABLE_TEXT = "ADIT-NO-SUCH-TEXT"
_PLAIN_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 -_.")


class QueryProbe:
    """Searches by `ask`, which returns every answer. `result_cap` is the current setting.

    Findings contain no patient, no UID and no description.
    """

    def __init__(self, ask: FindCall, result_cap: int | None, *, by_patient: bool = False) -> None:
        self._ask = ask
        self._result_cap = result_cap
        self._by_patient = by_patient
        self.studies: tuple[Record, ...] = ()
        """The newest studies, once they have been requested."""

    def findings(self) -> Iterator[NodeFinding]:
        """Yield the findings. Lazy; about ten searches.

        Raises NodeError where the node does not answer at all.
        """
        found = find_newest_studies(self._ask)
        if found.refusal:
            yield NodeFinding(
                Grade.WARNING,
                f"It refused to list its newest studies. {found.refusal}",
                "Ask its administrator whether searches by date alone are allowed.",
            )
            return
        if not found.records:
            yield NodeFinding(
                Grade.WARNING,
                "It shows us no study at all.",
                "If it holds some, ask its administrator to let our account see them.",
            )
            return
        self.studies = found.records
        yield from self._limit(found)
        yield self._filled(found.records)
        sample = find_sample_series(self._ask, found.records, by_patient=self._by_patient)
        if sample is None:
            yield NodeFinding(
                Grade.WARNING,
                "It lists studies, but no series of them.",
                "Ask its administrator to allow searches at SERIES level.",
            )
            return
        yield from self._images(sample)
        yield from self._descriptions(found.records)
        yield self._across(sample)

    # Result cap --------------------------------------------------------------------------------

    def _limit(self, found: ProbeResult) -> Iterator[NodeFinding]:
        """Search for two halves: if they hold more than the whole, the whole was truncated."""
        count = len(found.records)
        if not found.is_whole:
            studies = "1 study" if count == 1 else f"{count} studies"
            yield NodeFinding(Grade.GOOD, f"It lists {studies} and more to one search.")
            return
        days = sorted(day for one in found.records if (day := one.study_date) is not None)
        middle = days[len(days) // 2] if days else None
        if count < ENOUGH_ANSWERS or middle is None or middle == days[0]:
            yield NodeFinding(
                Grade.GOOD,
                f"It listed {count} {'study' if count == 1 else 'studies'}; whether it cuts long "
                "lists cannot be told from so few.",
            )
            return
        whole = self._count(days[0], None)
        halves = self._count(days[0], middle - timedelta(1)), self._count(middle, None)
        # Studies that arrive meanwhile make the whole grow too.
        if sum(halves) <= whole or self._count(days[0], None) != whole:
            yield NodeFinding(Grade.GOOD, f"It does not cut lists of {count} studies.")
            return
        yield self._cut(whole)

    def _count(self, first: date | None, last: date | None) -> int:
        return len(
            run_query(self._ask, Query(QueryLevel.STUDY, {}, DateRange(first, last))).records
        )

    def _cut(self, cap: int) -> NodeFinding:
        what = f"It cuts its lists: no search brings more than {cap} answers."
        if self._result_cap == cap:
            return NodeFinding(Grade.GOOD, f"{what} Its settings say so, too.")
        why = "So ADIT notices when a list may be incomplete, and says so."
        return NodeFinding(
            Grade.WARNING,
            what,
            f"Enter {cap} as result cap.",
            (SettingProposal("result_cap", cap, why),),
        )

    # Returned attributes -----------------------------------------------------------------------

    def _filled(self, studies: Sequence[Record]) -> NodeFinding:
        told = {
            "the number of images": "NumberOfStudyRelatedInstances",
            "the modalities": "ModalitiesInStudy",
            "the kinds of objects": "SOPClassesInStudy",
        }
        lacks = [words for words, key in told.items() if not any(one.text(key) for one in studies)]
        if not lacks:
            return NodeFinding(Grade.GOOD, f"Of a study it tells {_join_words(list(told))}.")
        if lacks == ["the kinds of objects"]:
            text = f"Of a study it tells {_join_words(list(told)[:2])}; ADIT asks each series for the rest."
            return NodeFinding(Grade.GOOD, text)
        return NodeFinding(
            Grade.WARNING,
            f"Of a study it does not tell {_join_words(lacks)}; lists on the pages stay empty there.",
            "ADIT asks series by series instead. Ask its administrator whether it can fill them.",
        )

    def _images(self, sample: SampleSeries) -> Iterator[NodeFinding]:
        if not sample.images:
            yield NodeFinding(
                Grade.WARNING,
                "It does not list single images, so no transfer from it can be proven complete.",
                "Ask its administrator to allow searches at IMAGE level.",
            )
            return
        count = len(sample.images)
        if sample.told not in (None, count) and count < MAX_ANSWERS:
            yield NodeFinding(
                Grade.WARNING,
                f"Of one series it says that it holds {sample.told} images, and lists {count}.",
                "ADIT goes by the list. If lists are cut, enter their length as result cap.",
            )
        else:
            yield NodeFinding(Grade.GOOD, "It lists the single images of a series.")
        if count > 1:
            yield self._several(sample)

    def _several(self, sample: SampleSeries) -> NodeFinding:
        uids = sample.images[:2]
        keys = Query.instances_of(sample.place, sample.patient_id).keys
        answer = run_query(self._ask, Query(QueryLevel.IMAGE, {**keys, "SOPInstanceUID": uids}), 10)
        if {one.instance_uid for one in answer.records} >= set(uids) and answer.raw <= len(uids):
            return NodeFinding(Grade.GOOD, "It takes a list of image UIDs in one search.")
        return NodeFinding(
            Grade.GOOD,
            "It takes no list of image UIDs in one search; ADIT has it list the whole series.",
        )

    def _descriptions(self, studies: Sequence[Record]) -> Iterator[NodeFinding]:
        """Probe with the known description of one study.

        Is matching case-sensitive, and does the node match descriptions at all?
        """
        sample = next(
            (one for one in studies if has_uid(one) and _has_plain_description(one)), None
        )
        if sample is None:
            return
        text = sample.study_description
        if self._matches(sample, _UNMATCHABLE_TEXT):
            what = "It does not look at descriptions in a search; ADIT sorts its answers itself."
        elif not self._matches(sample, text):
            what = "It finds no study by its description; search by date and modality instead."
        elif self._matches(sample, text.swapcase()):
            what = "It finds descriptions whether written in capitals or not."
        else:
            what = "It finds descriptions only when capitals are typed as they are stored."
        yield NodeFinding(Grade.GOOD, what)

    def _matches(self, study: Record, description: str) -> bool:
        patient_id = study.patient_id if self._by_patient else ""
        keys = Query.study(StudyRef(study.study_uid), patient_id).keys
        query = Query(QueryLevel.STUDY, {**keys, "StudyDescription": description})
        return run_query(self._ask, query, 10).raw > 0

    def _across(self, sample: SampleSeries) -> NodeFinding:
        query = Query(QueryLevel.SERIES, {"SeriesInstanceUID": sample.place.series_uid})
        answer = run_query(self._ask, query, 10)
        if any(one.series_uid == sample.place.series_uid for one in answer.records):
            return NodeFinding(Grade.GOOD, "It finds a series without being told its study.")
        return NodeFinding(
            Grade.GOOD, "It finds series only in a study that is named, which is all ADIT needs."
        )


def _has_plain_description(record: Record) -> bool:
    text = record.study_description
    return text != text.swapcase() and set(text) <= _PLAIN_CHARACTERS


def _join_words(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
