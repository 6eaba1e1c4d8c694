"""Preview of a found study: series to transfer, estimated size, expected withholding.

Used by the check and by the start of a batch transfer.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from adit.jobs.estimates import estimate_face_risk, typical_image_bytes
from adit.jobs.kinds.base import ListedSeries, ListedStudy
from adit.jobs.models import DeliveredSeries, Job
from adit.projects import risks, services
from adit.results import deliveries
from adit_engine.messages import Message
from adit_engine.pseudonymize import admission
from adit_engine.pseudonymize.face_risk import FaceRisk
from adit_engine.pseudonymize.profile import ConfidentialityProfile
from adit_engine.values.selection import Selection


@dataclass(frozen=True, slots=True)
class SeriesPlan:
    """The series of one study: those to send, and those delivered before."""

    to_send: tuple[ListedSeries, ...]
    delivered: tuple[ListedSeries, ...] = ()
    not_allowed: tuple[ListedSeries, ...] = ()
    """Series of modalities that the project does not allow."""
    left_out: Mapping[str, Message] = field(default_factory=dict)
    """Why the other series are not sent, by UID."""


def plan_series(job: Job, study: ListedStudy) -> SeriesPlan:
    """Divide the series of a study into new, delivered and not allowed ones.

    A delivered series counts as delivered only if the source has no more images of it now.
    """
    selection = Selection(modalities=job.project.allowed_modalities if job.project else ())
    why = {one.record.series_uid: selection.exclusion_reason(one.record) for one in study.series}
    left_out = {uid: reason for uid, reason in why.items() if reason is not None}
    allowed = [one for one in study.series if one.record.series_uid not in left_out]
    others = tuple(one for one in study.series if one.record.series_uid in left_out)
    made: Mapping[str, DeliveredSeries] = {}
    if job.order.get("skips_delivered"):
        made = deliveries.find_delivered(job, (one.record.series_uid for one in allowed))
    there = tuple(one for one in allowed if _is_delivered(one, made))
    new = tuple(one for one in allowed if not _is_delivered(one, made))
    for one in there:
        left_out[one.record.series_uid] = _delivered_before(made[one.record.series_uid])
    return SeriesPlan(new, there, others, left_out)


def preview_facts(job: Job, studies: Sequence[ListedStudy]) -> dict[str, Any]:
    """Return counts and reasons for the matching study; empty unless it is one."""
    if len(studies) != 1:
        return {}
    study, parts = studies[0], plan_series(job, studies[0])
    project = job.project or services.default_project()
    profile = None if job.is_as_is else _parse_profile(project.profile.text)
    decisions = risks.decisions(project)
    return {
        "series": len(parts.to_send),
        "images": _sum_known(one.images for one in parts.to_send),
        "bytes": sum(_estimate_bytes(one) for one in parts.to_send),
        "there": len(parts.delivered),
        "not_allowed": len(parts.not_allowed),
        "withheld": _expect_withheld(parts.to_send, profile, decisions) if profile else [],
        "risks": (
            _risks(study, parts.to_send, risks.relevant_decisions(decisions, profile))
            if profile
            else []
        ),
    }


@lru_cache(maxsize=8)
def _parse_profile(text: str) -> ConfidentialityProfile:
    """Cached: thousands of rows use the same profile."""
    return ConfidentialityProfile.from_toml(text)


def announced_codes(facts: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the codes of withholding shown to the owner; they do not count as gaps."""
    codes: set[str] = set()
    for one in facts:
        for reason, is_sure, _n in one.get("withheld", []):
            codes |= {Message.from_json(reason).category} if is_sure else set()
        codes |= {code for code, _n in one.get("risks", [])}
    return tuple(sorted(codes))


def _is_delivered(series: ListedSeries, made: Mapping[str, DeliveredSeries]) -> bool:
    delivery = made.get(series.record.series_uid)
    images = series.images
    return delivery is not None and images is not None and images <= delivery.images


def _delivered_before(delivery: DeliveredSeries) -> Message:
    if delivery.job_id is None:
        return Message("left-out.delivered-by-deleted-job")
    return Message("left-out.delivered-before", job=delivery.job_id)


def _expect_withheld(
    series: Iterable[ListedSeries],
    profile: ConfidentialityProfile,
    decisions: Iterable[risks.Decision],
) -> list[list[Any]]:
    """[reason, whether it is certain, images], the reason as JSON of a message."""
    word = next(one.choice for one in decisions if one.risk == risks.HEADER_WORD.name)
    parts: Counter[tuple[Message, bool]] = Counter()
    for one in series:
        for uid, count in (one.classes or {}).items():
            if why := admission.sop_class_refusal(uid, profile):
                parts[why, True] += count
        if not one.classes or not any(
            admission.sop_class_refusal(uid, profile) for uid in one.classes
        ):
            modality = one.record.text("Modality")
            if perhaps := admission.modality_warning(modality, profile, word):
                parts[perhaps, False] += one.images or 0
    return [[why.to_json(), is_sure, images] for (why, is_sure), images in parts.most_common()]


def _risks(
    study: ListedStudy, series: Iterable[ListedSeries], decisions: Iterable[risks.Decision]
) -> list[list[Any]]:
    """[code, images] for each risk that some series have and that is not accepted."""
    found = []
    for decision in decisions:
        risky = [one for one in series if _applies(decision.risk, study, one)]
        if risky and not decision.is_accepted:
            found.append([decision.known.code, sum(one.images or 0 for one in risky)])
    return found


def _applies(risk: str, study: ListedStudy, series: ListedSeries) -> bool:
    modality = series.record.text("Modality")
    return estimate_face_risk(risk, study.record, series.record, modality) is not FaceRisk.NONE


def _estimate_bytes(series: ListedSeries) -> int:
    return typical_image_bytes(series.record.modalities) * (series.images or 0)


def _sum_known(counts: Iterable[int | None]) -> int | None:
    known = list(counts)
    return None if None in known else sum(count or 0 for count in known)
