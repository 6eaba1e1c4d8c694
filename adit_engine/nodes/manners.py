"""Manners: how a node answers searches, learned by a few small questions about its newest studies."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import islice

from adit_engine.errors import CannotDo, NodeBusy, NodeRefused, WrongInput
from adit_engine.nodes.base import Answers, Finding, Grade, Proposal
from adit_engine.query import DateRange, Query
from adit_engine.record import Record
from adit_engine.reference import InstanceRef, Level, SeriesRef, StudyRef, checked_uid

Ask = Callable[[Query], Answers]

MOST_ANSWERS = 1000
"""A question is ended when so many answers have come."""
NEWEST_DAYS = 7
TELLING_ANSWERS = 50
"""With fewer no limit can be seen: nobody cuts lists so short."""

_REFUSALS = (CannotDo, NodeBusy, NodeRefused)
_SOUGHT = "ADIT-NO-SUCH-TEXT"
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 -_.")


@dataclass(frozen=True, slots=True)
class Heard:
    """The answers to one question that fit it. `raw`: how many came, fit or not."""

    records: tuple[Record, ...] = ()
    raw: int = 0
    is_whole: bool = True
    refusal: str = ""


def heard(ask: Ask, query: Query, most: int = MOST_ANSWERS) -> Heard:
    """At most so many answers; a refusal is an answer, too. Raises TimedOut, ConnectionLost, …"""
    try:
        with closing(ask(query)) as answers:
            came = list(islice(answers, most))
    except _REFUSALS as error:
        return Heard(refusal=str(error))
    fit = tuple(one for one in came if query.matches(one))
    return Heard(fit, len(came), len(came) < most)


def newest(ask: Ask) -> Heard:
    """Studies of the last days; of a node that has none, whatever it gives."""
    week = heard(ask, Query(Level.STUDY, {}, DateRange(_days_ago(NEWEST_DAYS), None)))
    if len(week.records) >= TELLING_ANSWERS or week.refusal:
        return week
    everything = heard(ask, Query(Level.STUDY, {}))
    return week if everything.refusal and week.records else everything


def example(ask: Ask, studies: Sequence[Record], *, by_patient: bool) -> "Example | None":
    """One study, series and its images to try things with; a small one where there is a choice.

    `by_patient`: the node wants the patient's id with each UID (patient root).
    """
    for study in sorted(filter(_has_uid, studies), key=_size)[:3]:
        found = Example.of(ask, study, by_patient=by_patient)
        if found is not None:
            return found
    return None


@dataclass(frozen=True, slots=True)
class Example:
    """One series of a study that the node listed, and the series' images as it lists them."""

    place: SeriesRef
    patient_id: str = field(repr=False)
    """Of the study where the node wants it with each UID; else empty."""
    told: int | None
    """How many images the series holds, by the node's own count."""
    images: tuple[str, ...]
    """Their UIDs, at most MOST_ANSWERS."""

    @classmethod
    def of(cls, ask: Ask, study: Record, *, by_patient: bool) -> "Example | None":
        """None for a study whose series are not told."""
        ref, patient_id = StudyRef(study.study_uid), study.patient_id if by_patient else ""
        found = heard(ask, Query.series_of(ref, patient_id)).records
        series = sorted((one for one in found if one.series_uid), key=_size)
        if not series:
            return None
        first = next((one for one in series if (one.instance_count or 0) > 1), series[0])
        place = SeriesRef(ref.study_uid, first.series_uid)
        images = heard(ask, Query.instances_of(place, patient_id)).records
        uids = tuple(one.instance_uid for one in images if one.instance_uid)
        return cls(place, patient_id, first.instance_count, uids)

    @property
    def image(self) -> InstanceRef | None:
        """The first of its images."""
        if not self.images:
            return None
        return InstanceRef(self.place.study_uid, self.place.series_uid, self.images[0])


class Manners:
    """Asks by `ask`, which hands on all that comes. `result_cap` is what the settings say now.

    Findings name no patient, no UID and no description.
    """

    def __init__(self, ask: Ask, result_cap: int | None, *, by_patient: bool = False) -> None:
        self._ask = ask
        self._result_cap = result_cap
        self._by_patient = by_patient
        self.studies: tuple[Record, ...] = ()
        """Its newest studies, once they have been asked for."""

    def findings(self) -> Iterator[Finding]:
        """Lazy; some ten questions. Raises NodeError where the node does not answer at all."""
        found = newest(self._ask)
        if found.refusal:
            yield Finding(
                Grade.WARNING,
                f"It refused to list its newest studies. {found.refusal}",
                "Ask its administrator whether searches by date alone are allowed.",
            )
            return
        if not found.records:
            yield Finding(
                Grade.WARNING,
                "It shows us no study at all.",
                "If it holds some, ask its administrator to let our account see them.",
            )
            return
        self.studies = found.records
        yield from self._limit(found)
        yield self._filled(found.records)
        sample = example(self._ask, found.records, by_patient=self._by_patient)
        if sample is None:
            yield Finding(
                Grade.WARNING,
                "It lists studies, but no series of them.",
                "Ask its administrator to allow searches at SERIES level.",
            )
            return
        yield from self._images(sample)
        yield from self._descriptions(found.records)
        yield self._across(sample)

    # How many ----------------------------------------------------------------------------------

    def _limit(self, found: Heard) -> Iterator[Finding]:
        """Asks for two halves: when they hold more than the whole, the whole was cut."""
        count = len(found.records)
        if not found.is_whole:
            yield Finding(Grade.GOOD, f"It lists {count} studies and more to one search.")
            return
        days = sorted(day for one in found.records if (day := one.study_date) is not None)
        middle = days[len(days) // 2] if days else None
        if count < TELLING_ANSWERS or middle is None or middle == days[0]:
            yield Finding(
                Grade.GOOD,
                f"It listed {count} {'study' if count == 1 else 'studies'}; whether it cuts long "
                "lists cannot be told from so few.",
            )
            return
        whole = self._count(days[0], None)
        halves = self._count(days[0], middle - timedelta(1)), self._count(middle, None)
        # What came in meanwhile makes the whole grow, too.
        if sum(halves) <= whole or self._count(days[0], None) != whole:
            yield Finding(Grade.GOOD, f"It does not cut lists of {count} studies.")
            return
        yield self._cut(whole)

    def _count(self, first: date | None, last: date | None) -> int:
        return len(heard(self._ask, Query(Level.STUDY, {}, DateRange(first, last))).records)

    def _cut(self, cap: int) -> Finding:
        what = f"It cuts its lists: no search brings more than {cap} answers."
        if self._result_cap == cap:
            return Finding(Grade.GOOD, f"{what} Its settings say so, too.")
        why = "So ADIT notices when a list may be incomplete, and says so."
        return Finding(
            Grade.WARNING,
            what,
            f"Enter {cap} as result cap.",
            (Proposal("result_cap", cap, why),),
        )

    # What is told ------------------------------------------------------------------------------

    def _filled(self, studies: Sequence[Record]) -> Finding:
        told = {
            "the number of images": "NumberOfStudyRelatedInstances",
            "the modalities": "ModalitiesInStudy",
            "the kinds of objects": "SOPClassesInStudy",
        }
        lacks = [words for words, key in told.items() if not any(one.text(key) for one in studies)]
        if not lacks:
            return Finding(Grade.GOOD, f"Of a study it tells {_and(list(told))}.")
        if lacks == ["the kinds of objects"]:
            text = (
                f"Of a study it tells {_and(list(told)[:2])}; ADIT asks each series for the rest."
            )
            return Finding(Grade.GOOD, text)
        return Finding(
            Grade.WARNING,
            f"Of a study it does not tell {_and(lacks)}; lists on the pages stay empty there.",
            "ADIT asks series by series instead. Ask its administrator whether it can fill them.",
        )

    def _images(self, sample: Example) -> Iterator[Finding]:
        if not sample.images:
            yield Finding(
                Grade.WARNING,
                "It does not list single images, so no transfer from it can be proven complete.",
                "Ask its administrator to allow searches at IMAGE level.",
            )
            return
        count = len(sample.images)
        if sample.told not in (None, count) and count < MOST_ANSWERS:
            yield Finding(
                Grade.WARNING,
                f"Of one series it says that it holds {sample.told} images, and lists {count}.",
                "ADIT goes by the list. If lists are cut, enter their length as result cap.",
            )
        else:
            yield Finding(Grade.GOOD, "It lists the single images of a series.")
        if count > 1:
            yield self._several(sample)

    def _several(self, sample: Example) -> Finding:
        uids = sample.images[:2]
        keys = Query.instances_of(sample.place, sample.patient_id).keys
        answer = heard(self._ask, Query(Level.IMAGE, {**keys, "SOPInstanceUID": uids}), 10)
        if {one.instance_uid for one in answer.records} >= set(uids) and answer.raw <= len(uids):
            return Finding(Grade.GOOD, "It takes a list of image UIDs in one search.")
        return Finding(
            Grade.GOOD,
            "It takes no list of image UIDs in one search; ADIT has it list the whole series.",
        )

    def _descriptions(self, studies: Sequence[Record]) -> Iterator[Finding]:
        """By one study whose description is known: is it found in other letters, or by any text?"""
        sample = next((one for one in studies if _has_uid(one) and _is_telling(one)), None)
        if sample is None:
            return
        text = sample.study_description
        if self._matches(sample, _SOUGHT):
            what = "It does not look at descriptions in a search; ADIT sorts its answers itself."
        elif not self._matches(sample, text):
            what = "It finds no study by its description; search by date and modality instead."
        elif self._matches(sample, text.swapcase()):
            what = "It finds descriptions whether written in capitals or not."
        else:
            what = "It finds descriptions only when capitals are typed as they are stored."
        yield Finding(Grade.GOOD, what)

    def _matches(self, study: Record, description: str) -> bool:
        patient_id = study.patient_id if self._by_patient else ""
        keys = Query.study(StudyRef(study.study_uid), patient_id).keys
        query = Query(Level.STUDY, {**keys, "StudyDescription": description})
        return heard(self._ask, query, 10).raw > 0

    def _across(self, sample: Example) -> Finding:
        query = Query(Level.SERIES, {"SeriesInstanceUID": sample.place.series_uid})
        answer = heard(self._ask, query, 10)
        if any(one.series_uid == sample.place.series_uid for one in answer.records):
            return Finding(Grade.GOOD, "It finds a series without being told its study.")
        return Finding(
            Grade.GOOD, "It finds series only in a study that is named, which is all ADIT needs."
        )


def _days_ago(days: int) -> date:
    return datetime.now(UTC).date() - timedelta(days)


def _has_uid(record: Record) -> bool:
    try:
        return bool(checked_uid(record.study_uid))
    except WrongInput:
        return False


def _size(record: Record) -> tuple[bool, int]:
    """Those of unknown size come last."""
    count = record.instance_count
    return count is None or count < 1, count or 0


def _is_telling(record: Record) -> bool:
    text = record.study_description
    return text != text.swapcase() and set(text) <= _PLAIN


def _and(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
