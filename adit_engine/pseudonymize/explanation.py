"""Describe a profile for ethics boards, from its rules. Used by projects."""

import re
from collections import Counter
from collections.abc import Iterator

from adit_engine import __version__
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
)
from adit_engine.pseudonymize.rules import AttributeRule, Replacement, compile_rules

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
    if rule.opened:
        return "items processed"
    if rule.act is None:
        return _REPLACEMENT_WORDS[rule.lost]
    if rule.act is actions.map_uids:
        return "new UID"
    if rule.act in _DATE_SHIFTS:
        return "date shifted"
    if rule.act in safe_text.DESCRIPTOR_ACTIONS.values():
        return _LISTED_WORDS_ONLY
    return "kept"


def describe_attributes(profile: ConfidentialityProfile, iod: str) -> dict[int, str]:
    """Describe each row of Table E.1-1 at the top level of one IOD.

    The result is by tag, and does not consider the pseudonym, which is written later.
    """
    rules = compile_rules(profile, iod).top.rules
    return {tag: describe_rule(rules.get(tag)) for tag in sorted(tables.confidentiality())}


def explain_profile(profile: ConfidentialityProfile) -> str:
    """Return one page of plain text, in paragraphs with headings."""
    parts = (
        _header_lines(profile),
        ("What is removed", _removed_lines(profile)),
        ("What is changed", _changed_lines(profile)),
        ("What is kept", _kept_lines(profile)),
        ("What is withheld", _withheld_lines(profile)),
        ("Remaining risks", _remaining_risk_lines(profile)),
    )
    return "\n\n".join(f"{title}\n\n" + "\n".join(lines) for title, lines in parts) + "\n"


def _header_lines(profile: ConfidentialityProfile) -> tuple[str, list[str]]:
    done = ", ".join(f"{code} {CODE_MEANINGS[code]}" for code in sorted(profile.options))
    return f"Profile “{profile.name}”, version {profile.version}", [
        f"This page describes how ADIT {__version__} changes medical images under this profile before "
        "they leave the hospital. It is generated from the rules that ADIT applies.",
        f"Rules: Basic Application Confidentiality Profile of DICOM PS3.15, edition {tables.EDITION}"
        + (f", with the options {done}." if done else ", without any option."),
        "Images that cannot be processed by these rules are withheld, and the reason is reported.",
    ]


def _count_descriptions(profile: ConfidentialityProfile) -> Counter[str]:
    return Counter(describe_attributes(profile, "ct-image").values())


def _removed_lines(profile: ConfidentialityProfile) -> list[str]:
    counted = _count_descriptions(profile)
    gone = sum(counted[word] for word in _REPLACEMENT_WORDS.values())
    lines = [
        f"- Of the {counted.total()} attributes that the standard lists as possibly "
        f"identifying, {gone} are removed, emptied or replaced by a dummy value in a CT image: names, "
        "addresses, telephone numbers, identifiers, accession numbers, birth date, physicians, "
        "staff, comments. " + _describe_others(counted),
        "- Each attribute that is not listed as harmless, at any nesting level.",
        "- Overlays and annotations, preview images, signatures, attachments, and any data before or "
        "after the image in the file.",
    ]
    if SAFE_PRIVATE not in profile.options:
        lines.append("- All private attributes of manufacturers.")
    if CLEAN_DESCRIPTORS not in profile.options:
        lines.append("- All free-text descriptions, such as the study and series description.")
    if not profile.options & {MODIFIED_DATES, FULL_DATES}:
        lines.append("- All dates and times.")
    return lines


def _describe_others(counted: Counter[str]) -> str:
    """Describe the other rows, so that the numbers add up."""
    told = {
        "new UID": "get a new UID",
        "date shifted": "are dates that are shifted",
        "items processed": "are sequences whose items are processed by the same rules",
        _LISTED_WORDS_ONLY: "are kept if all words are listed",
        "kept": "are kept, including times of day",
    }
    parts = [f"{counted[word]} {text}" for word, text in told.items() if counted[word]]
    return f"Of the others, {', '.join(parts)}." if parts else ""


def _changed_lines(profile: ConfidentialityProfile) -> list[str]:
    lines = ["- Patient name and patient ID are replaced by the pseudonym."]
    if RETAIN_UIDS not in profile.options:
        lines.append(
            "- The UIDs, which link images, are replaced by new ones that are derived with the key of "
            "the project. An image has the same new UID everywhere in the project. Without the key, "
            "it cannot be linked to other projects or to the hospital."
        )
    if MODIFIED_DATES in profile.options:
        longest = MIN_SHIFT_DAYS + SHIFT_SPAN_DAYS - 1
        lines.append(
            f"- All dates of a patient are shifted back by the same {MIN_SHIFT_DAYS} to {longest} "
            "days, so that intervals are kept. Times of day are not changed."
        )
    if PATIENT_CHARACTERISTICS in profile.options:
        lines.append("- Ages above 90 years are replaced by 90.")
    if CLEAN_GRAPHICS in profile.options:
        lines.append("- All graphics are removed.")
    if CLEAN_PIXELS in profile.options:
        lines.append(
            "- In images of the devices that the pixel rules of the profile name, the rectangles in "
            "which the device writes text are masked. "
            f"Number of rules: {sum(1 for rule in profile.pixel_rules if rule.rectangles)}."
        )
    lines.append("- The header states which of these changes were made.")
    return lines


def _kept_lines(profile: ConfidentialityProfile) -> list[str]:
    lines = [
        "- The image itself, its geometry, and the technical values needed for measurements.",
        f"- Manufacturer, model and software of the device, and {len(tables.safe_text_tags())} "
        "attributes with technical text that devices choose from lists.",
        f"- Codes of {len(tables.code_schemes())} public vocabularies, such as SNOMED CT; their "
        "meanings, and the names of segments, if all words are listed.",
    ]
    kept, worded = (
        _patient_attribute_names(profile, "kept"),
        _patient_attribute_names(profile, _LISTED_WORDS_ONLY),
    )
    if kept:
        lines.append(f"- Patient attributes: {', '.join(kept)}.")
    if worded:
        lines.append(f"- Patient attributes, if all words are listed: {', '.join(worded)}.")
    told = {
        FULL_DATES: "All dates and times, unchanged.",
        DEVICE_IDENTITY: "Serial number, station name and other identifiers of the device.",
        INSTITUTION_IDENTITY: "Name and address of the institution and its department.",
        RETAIN_UIDS: "The original UIDs of the hospital's PACS.",
        SAFE_PRIVATE: "Private attributes that the standard lists as safe (Table E.3.10-1).",
        CLEAN_DESCRIPTORS: "Descriptions in which all words are on a reviewed list "
        f"({len(tables.safe_words())} words) and all numbers are short.",
        CLEAN_STRUCTURE: "Public codes and numbers in structured content.",
    }
    lines += [f"- {text}" for code, text in told.items() if code in profile.options]
    if MODIFIED_DATES in profile.options:
        lines.append("- Times of day, and the intervals between the examinations of a patient.")
    return lines


def _patient_attribute_names(profile: ConfidentialityProfile, how: str) -> list[str]:
    """Return the patient attributes with this description, over all admitted SOP classes."""
    names = {tag: keyword for keyword, tag in tables.keywords().items()}
    passing: set[str] = set()
    for iod in {one.iod for one in tables.admitted_sop_classes().values()}:
        for tag, rule in compile_rules(profile, iod).top.rules.items():
            if tag >> 16 == 0x0010 and describe_rule(rule) == how:
                passing.add(_split_keyword(names.get(tag, "")))
    return sorted(passing)


def _split_keyword(keyword: str) -> str:
    """ "PatientBodyMassIndex" becomes "patient body mass index"; abbreviations stay together."""
    return " ".join(
        word if word.isupper() and len(word) > 1 else word.lower()
        for word in re.findall(
            r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+?(?=for[A-Z])|[A-Z]?[a-z0-9]+", keyword
        )
    )


def _withheld_lines(profile: ConfidentialityProfile) -> list[str]:
    open_classes = [one for one in tables.admitted_sop_classes().values() if "rule" not in one.asks]
    asking = sorted({one.modality for one in open_classes if "not-burned-in" in one.asks})
    lines = [
        f"- Objects of all SOP classes except these {len(open_classes)}: {_class_names(open_classes)}.",
        "- Screen captures, dose reports, scanned documents, and images whose header states that text "
        "is burned in or that the patient can be recognized.",
        f"- {', '.join(asking)} images whose header does not state that no text is burned in"
        + (", unless a pixel rule covers the device." if profile.pixel_rules else "."),
        f"- {_modalities_needing_decision(open_classes)} images, unless a pixel rule covers the device, "
        "or the project accepts the risk of burned-in text that the header does not state.",
        "- Objects that are damaged or have an encoding that cannot be checked.",
        "- Thin CT, MR or PET slices that may show a head, unless the project accepts that a face can "
        "be reconstructed from them. Images without a body part count as head images.",
        "- Images in which an independent verification, which compares them with the original, finds "
        "identifying data. One such image stops the whole series.",
    ]
    released = sum(1 for rule in profile.pixel_rules if not rule.rectangles)
    if released:
        lines.append(
            "- Images of devices that, as a reviewer confirmed, burn in no text are delivered without "
            f"masking. Number of devices: {released}."
        )
    covered = sorted({rule.sop_class for rule in profile.pixel_rules})
    if covered:
        known = tables.admitted_sop_classes()
        named = [known[uid].name if uid in known else uid for uid in covered]
        lines.append(
            f"- Pixel rules release images of some devices of: {', '.join(named)}. Images of other "
            "devices are withheld."
        )
    return lines


def _modalities_needing_decision(classes: list[tables.AdmittedSopClass]) -> str:
    return ", ".join(sorted({one.modality for one in classes if one.needs_risk_decision}))


def _class_names(classes: list[tables.AdmittedSopClass]) -> str:
    return ", ".join(sorted(one.name.removesuffix(" Storage") for one in classes))


def _remaining_risk_lines(profile: ConfidentialityProfile) -> list[str]:
    return [f"- {text}" for text in _risk_sentences(profile.options)]


def _risk_sentences(options: frozenset[str]) -> Iterator[str]:
    yield (
        "Thin CT, MR or PET slices of a head, if the project accepts them: a face can be "
        "reconstructed."
    )
    yield (
        "Burned-in text that the header does not state, on a device that no reviewer has checked: in "
        "CT, MR and PET images, and in radiographs if the project accepts this risk."
    )
    yield (
        "The image itself: implants, rare findings or jewelry may identify the patient to people who "
        "know the patient."
    )
    yield "Anyone with the key of the project or the list of pseudonyms can re-identify patients."
    if MODIFIED_DATES in options:
        yield "Unusual intervals between examinations, or times of day, that are known from another source."
    if FULL_DATES in options:
        yield "Dates of examinations, which hospitals, insurers and the patients themselves know."
    if PATIENT_CHARACTERISTICS in options:
        yield "Age, sex, size and weight together may identify a patient in a small group."
    if {DEVICE_IDENTITY, INSTITUTION_IDENTITY} & options:
        yield "The device or the institution shows where the patient was treated."
    if RETAIN_UIDS in options:
        yield "With the UIDs, anyone with access to the hospital's PACS can find the original images."
    if CLEAN_DESCRIPTORS in options:
        yield "A description may be unusual even if all its words are listed."
    if SAFE_PRIVATE in options:
        yield "Private attributes of manufacturers are considered safe because the standard lists them."
