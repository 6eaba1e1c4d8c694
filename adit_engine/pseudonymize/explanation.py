"""Describe a profile for ethics boards, from its rules. Used by projects."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from adit_engine import __version__
from adit_engine.messages import Message
from adit_engine.pseudonymize import actions, safe_text, tables
from adit_engine.pseudonymize.keys import MIN_SHIFT_DAYS, SHIFT_SPAN_DAYS
from adit_engine.pseudonymize.profile import (
    CLEAN_DESCRIPTORS,
    CLEAN_GRAPHICS,
    CLEAN_PIXELS,
    CLEAN_STRUCTURE,
    CODE_MEANINGS,
    DEVICE_IDENTITY,
    FULL_DATES,
    INSTITUTION_IDENTITY,
    MODIFIED_DATES,
    PATIENT_CHARACTERISTICS,
    RETAIN_UIDS,
    SAFE_PRIVATE,
    ConfidentialityProfile,
    TextDetection,
)
from adit_engine.pseudonymize.rules import AttributeRule, Replacement, compile_rules
from adit_engine.pseudonymize.text_detection.inspection import (
    INSPECTED_MODALITIES,
    must_inspect,
)

_REPLACEMENT_WORDS = {
    Replacement.NOTHING: "removed",
    Replacement.EMPTY: "emptied",
    Replacement.DUMMY: "replaced by a dummy value",
}
_LISTED_WORDS_ONLY = "kept if all words are listed"
_DATE_SHIFTS = (actions.shift_dates, actions.shift_datetimes)


def describe_rule(rule: AttributeRule | None) -> str:
    """Return in a few words what a rule does to its element."""
    if rule is None:
        return "removed"
    if rule.descend:
        return "items processed"
    if rule.action is None:
        return _REPLACEMENT_WORDS[rule.replacement]
    if rule.action is actions.map_uids:
        return "new UID"
    if rule.action in _DATE_SHIFTS:
        return "date shifted"
    if rule.action in safe_text.DESCRIPTOR_ACTIONS.values():
        return _LISTED_WORDS_ONLY
    return "kept"


def describe_attributes(profile: ConfidentialityProfile, iod: str) -> dict[int, str]:
    """Describe each row of Table E.1-1 at the top level of one IOD.

    The result is by tag, and does not consider the pseudonym, which is written later.
    """
    rules = compile_rules(profile, iod).top.rules
    return {tag: describe_rule(rules.get(tag)) for tag in sorted(tables.confidentiality())}


def explain_profile(profile: ConfidentialityProfile) -> str:
    """Return one page of plain text in the current language, in paragraphs with headings."""
    title = Message("clause.explanation.title", name=profile.name, version=profile.version)
    parts = [f"{title}\n\n" + "\n".join(map(str, _header_lines(profile)))]
    for heading, lines in (
        ("clause.explanation.removed", _removed_lines(profile)),
        ("clause.explanation.changed", _changed_lines(profile)),
        ("clause.explanation.kept", _kept_lines(profile)),
        ("clause.explanation.withheld", _withheld_lines(profile)),
        ("clause.explanation.risks", _remaining_risk_lines(profile)),
    ):
        parts.append(f"{Message(heading)}\n\n" + "\n".join(f"- {line}" for line in lines))
    return "\n\n".join(parts) + "\n"


def _header_lines(profile: ConfidentialityProfile) -> Iterator[Message]:
    yield Message("explanation.purpose", version=__version__)
    options = tuple(f"{code} {CODE_MEANINGS[code]}" for code in sorted(profile.options))
    if options:
        yield Message("explanation.rules", edition=tables.EDITION, options=options)
    else:
        yield Message("explanation.rules-without-options", edition=tables.EDITION)
    yield Message("explanation.not-processable")


def _count_descriptions(profile: ConfidentialityProfile) -> Counter[str]:
    return Counter(describe_attributes(profile, "ct-image").values())


_OTHER_ROWS = {
    "new UID": "clause.explanation.new-uid",
    "date shifted": "clause.explanation.date-shifted",
    "items processed": "clause.explanation.items-processed",
    _LISTED_WORDS_ONLY: "clause.explanation.listed-words-only",
    "kept": "clause.explanation.unchanged",
}


def _removed_lines(profile: ConfidentialityProfile) -> Iterator[Message]:
    counted = _count_descriptions(profile)
    yield Message(
        "explanation.removed-rows",
        total=counted.total(),
        removed=sum(counted[word] for word in _REPLACEMENT_WORDS.values()),
        others=tuple(
            Message(code, count=counted[word])
            for word, code in _OTHER_ROWS.items()
            if counted[word]
        ),
    )
    yield Message("explanation.unlisted-removed")
    yield Message("explanation.attachments-removed")
    if SAFE_PRIVATE not in profile.options:
        yield Message("explanation.private-removed")
    if CLEAN_DESCRIPTORS not in profile.options:
        yield Message("explanation.descriptions-removed")
    if not profile.options & {MODIFIED_DATES, FULL_DATES}:
        yield Message("explanation.dates-removed")


def _changed_lines(profile: ConfidentialityProfile) -> Iterator[Message]:
    yield Message("explanation.pseudonym")
    if RETAIN_UIDS not in profile.options:
        yield Message("explanation.new-uids")
    if MODIFIED_DATES in profile.options:
        longest = MIN_SHIFT_DAYS + SHIFT_SPAN_DAYS - 1
        yield Message("explanation.dates-shifted", shortest=MIN_SHIFT_DAYS, longest=longest)
    if PATIENT_CHARACTERISTICS in profile.options:
        yield Message("explanation.ages")
    if CLEAN_GRAPHICS in profile.options:
        yield Message("explanation.graphics")
    if CLEAN_PIXELS in profile.options:
        masking = sum(1 for rule in profile.pixel_rules if rule.rectangles)
        yield Message("explanation.masked", rules=masking)
    yield Message("explanation.header")


_KEPT_BY_OPTION = {
    FULL_DATES: "explanation.full-dates-kept",
    DEVICE_IDENTITY: "explanation.device-kept",
    INSTITUTION_IDENTITY: "explanation.institution-kept",
    RETAIN_UIDS: "explanation.uids-kept",
    SAFE_PRIVATE: "explanation.private-kept",
    CLEAN_DESCRIPTORS: "explanation.descriptions-kept",
    CLEAN_STRUCTURE: "explanation.structure-kept",
    MODIFIED_DATES: "explanation.intervals-kept",
}


def _kept_lines(profile: ConfidentialityProfile) -> Iterator[Message]:
    yield Message("explanation.image-kept")
    yield Message("explanation.technical-text-kept", attributes=len(tables.safe_text_tags()))
    yield Message("explanation.codes-kept", vocabularies=len(tables.code_schemes()))
    kept = _patient_attribute_names(profile, "kept")
    if kept:
        yield Message("explanation.patient-kept", attributes=kept)
    worded = _patient_attribute_names(profile, _LISTED_WORDS_ONLY)
    if worded:
        yield Message("explanation.patient-words-kept", attributes=worded)
    for option, code in _KEPT_BY_OPTION.items():
        if option in profile.options:
            yield Message(code, words=len(tables.safe_words()))


def _patient_attribute_names(profile: ConfidentialityProfile, how: str) -> tuple[str, ...]:
    """Return the patient attributes with this description, over all admitted SOP classes."""
    names = {tag: keyword for keyword, tag in tables.keywords().items()}
    passing: set[str] = set()
    for iod in {one.iod for one in tables.admitted_sop_classes().values()}:
        for tag, rule in compile_rules(profile, iod).top.rules.items():
            if tag >> 16 == 0x0010 and describe_rule(rule) == how:
                passing.add(_split_keyword(names.get(tag, "")))
    return tuple(sorted(passing))


def _split_keyword(keyword: str) -> str:
    """ "PatientBodyMassIndex" becomes "patient body mass index"; abbreviations stay together."""
    return " ".join(
        word if word.isupper() and len(word) > 1 else word.lower()
        for word in re.findall(
            r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+?(?=for[A-Z])|[A-Z]?[a-z0-9]+", keyword
        )
    )


def _withheld_lines(profile: ConfidentialityProfile) -> Iterator[Message]:
    known = tables.admitted_sop_classes()
    detects_text = profile.text_detection is not TextDetection.OFF
    open_classes = [
        one
        for one in known.values()
        if "rule" not in one.conditions or must_inspect(profile, one.modality)
    ]
    names = sorted(one.name.removesuffix(" Storage") for one in open_classes)
    yield Message("explanation.classes", count=len(names), classes=tuple(names))
    yield Message("explanation.stated-text")
    asking = _modalities(one for one in open_classes if "not-burned-in" in one.conditions)
    if detects_text:
        inspected = [one for one in known.values() if one.modality in INSPECTED_MODALITIES]
        yield Message("explanation.text-found", modalities=_modalities(inspected))
        if profile.text_detection is TextDetection.IMAGES_AND_SLICES:
            yield Message("explanation.text-found-in-slices")
    elif profile.pixel_rules:
        yield Message("explanation.not-stated-or-rule", modalities=asking)
    else:
        yield Message("explanation.not-stated", modalities=asking)
    if not detects_text:
        deciding = _modalities(one for one in open_classes if one.needs_risk_decision)
        yield Message("explanation.risk-decision", modalities=deciding)
    yield Message("explanation.damaged")
    yield Message("explanation.faces")
    yield Message("explanation.verification")
    released = sum(1 for rule in profile.pixel_rules if not rule.rectangles)
    if released:
        yield Message("explanation.released-devices", devices=released)
    covered = sorted({rule.sop_class for rule in profile.pixel_rules})
    if covered:
        named = tuple(known[uid].name if uid in known else uid for uid in covered)
        yield Message("explanation.rule-classes", classes=named)


def _modalities(classes: Iterable[tables.AdmittedSopClass]) -> tuple[str, ...]:
    return tuple(sorted({one.modality for one in classes}))


def _remaining_risk_lines(profile: ConfidentialityProfile) -> Iterator[Message]:
    options = profile.options
    yield Message("explanation.risk-face")
    yield Message("explanation.risk-burned-in")
    if profile.text_detection is not TextDetection.OFF:
        yield Message("explanation.risk-undetected")
    yield Message("explanation.risk-image")
    yield Message("explanation.risk-key")
    if MODIFIED_DATES in options:
        yield Message("explanation.risk-intervals")
    if FULL_DATES in options:
        yield Message("explanation.risk-dates")
    if PATIENT_CHARACTERISTICS in options:
        yield Message("explanation.risk-characteristics")
    if {DEVICE_IDENTITY, INSTITUTION_IDENTITY} & options:
        yield Message("explanation.risk-place")
    if RETAIN_UIDS in options:
        yield Message("explanation.risk-uids")
    if CLEAN_DESCRIPTORS in options:
        yield Message("explanation.risk-descriptions")
    if SAFE_PRIVATE in options:
        yield Message("explanation.risk-private")
