"""Explain a profile in plain words for ethics boards, from its rules. Used by projects."""

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
    Replacement.DUMMY: "replaced by a filler",
}
_LISTED_WORDS_ONLY = "stays if made of listed words"
_DATE_SHIFTS = (actions.shift_dates, actions.shift_datetimes)


def describe_rule(rule: AttributeRule | None) -> str:
    """Return in a word or two what a rule does to its element."""
    if rule is None:
        return "removed"
    if rule.opened:
        return "looked into"
    if rule.act is None:
        return _REPLACEMENT_WORDS[rule.lost]
    if rule.act is actions.map_uids:
        return "new UID"
    if rule.act in _DATE_SHIFTS:
        return "date moved"
    if rule.act in safe_text.DESCRIPTOR_ACTIONS.values():
        return _LISTED_WORDS_ONLY
    return "stays"


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
        ("What goes", _removed_lines(profile)),
        ("What is changed", _changed_lines(profile)),
        ("What stays", _kept_lines(profile)),
        ("What is withheld", _withheld_lines(profile)),
        ("Risks that remain", _remaining_risk_lines(profile)),
    )
    return "\n\n".join(f"{title}\n\n" + "\n".join(lines) for title, lines in parts) + "\n"


def _header_lines(profile: ConfidentialityProfile) -> tuple[str, list[str]]:
    done = ", ".join(f"{code} {CODE_MEANINGS[code]}" for code in sorted(profile.options))
    return f"Profile “{profile.name}”, version {profile.version}", [
        f"This page says in plain words what ADIT {__version__} does to medical images before they "
        "leave the hospital under this profile. It is made from the rules that are carried out.",
        f"Rules: Basic Application Confidentiality Profile of DICOM PS3.15, edition {tables.EDITION}"
        + (f", with the options {done}." if done else ", without any option."),
        "Anything that the rules do not understand stays in the hospital, with a reason.",
    ]


def _count_descriptions(profile: ConfidentialityProfile) -> Counter[str]:
    return Counter(describe_attributes(profile, "ct-image").values())


def _removed_lines(profile: ConfidentialityProfile) -> list[str]:
    counted = _count_descriptions(profile)
    gone = sum(counted[word] for word in _REPLACEMENT_WORDS.values())
    lines = [
        f"- Of the {counted.total()} kinds of entries that the standard lists as possibly "
        f"identifying, {gone} are removed, emptied or replaced by a filler in a CT image: names, "
        "addresses, telephone numbers, identifiers, accession numbers, birth date, physicians, "
        "staff, remarks. " + _describe_others(counted),
        "- Each entry that nobody has listed as harmless, wherever it is nested.",
        "- Drawings and texts laid over the image, small preview images, signatures, attachments, "
        "and whatever stands before or behind the image in the file.",
    ]
    if SAFE_PRIVATE not in profile.options:
        lines.append("- All entries that manufacturers have added on their own.")
    if CLEAN_DESCRIPTORS not in profile.options:
        lines.append("- All descriptions that people can type, such as study and series.")
    if not profile.options & {MODIFIED_DATES, FULL_DATES}:
        lines.append("- All dates and times.")
    return lines


def _describe_others(counted: Counter[str]) -> str:
    """Describe the other rows, so that the numbers add up."""
    told = {
        "new UID": "get a new UID",
        "date moved": "are dates that move",
        "looked into": "are lists that are looked into by the same rules",
        _LISTED_WORDS_ONLY: "stay if made of listed words",
        "stays": "stay, times of day among them",
    }
    parts = [f"{counted[word]} {text}" for word, text in told.items() if counted[word]]
    return f"Of the others, {', '.join(parts)}." if parts else ""


def _changed_lines(profile: ConfidentialityProfile) -> list[str]:
    lines = ["- Name and patient number become the pseudonym."]
    if RETAIN_UIDS not in profile.options:
        lines.append(
            "- The numbers that link images (UIDs) become new ones, worked out with a key of the "
            "trial: the same image has the same new number within the trial, and no link to "
            "another trial or to the hospital without the key."
        )
    if MODIFIED_DATES in profile.options:
        longest = MIN_SHIFT_DAYS + SHIFT_SPAN_DAYS - 1
        lines.append(
            f"- All dates of one person move back by the same {MIN_SHIFT_DAYS} to {longest} "
            "days, so that intervals stay. Times of day are not changed."
        )
    if PATIENT_CHARACTERISTICS in profile.options:
        lines.append("- Ages above 90 years become 90.")
    if CLEAN_GRAPHICS in profile.options:
        lines.append("- Graphics are cleaned by taking all of them away.")
    if CLEAN_PIXELS in profile.options:
        lines.append(
            "- In images of the devices that the profile's pixel rules name, rectangles are blanked "
            "in which the device writes text. "
            f"Number of rules: {sum(1 for rule in profile.pixel_rules if rule.rectangles)}."
        )
    lines.append("- The header says which of this was done.")
    return lines


def _kept_lines(profile: ConfidentialityProfile) -> list[str]:
    lines = [
        "- The image itself, its geometry, and the technical values needed to measure in it.",
        f"- Maker, model and software of the device, and {len(tables.safe_text_tags())} kinds of "
        "technical text that devices choose from lists, not people.",
        f"- Coded terms of {len(tables.code_schemes())} public vocabularies, such as SNOMED CT; "
        "their meanings, and the names of segments, if made of listed words alone.",
    ]
    kept, worded = (
        _patient_attribute_names(profile, "stays"),
        _patient_attribute_names(profile, _LISTED_WORDS_ONLY),
    )
    if kept:
        lines.append(f"- Of the patient: {', '.join(kept)}.")
    if worded:
        lines.append(f"- Of the patient, if made of listed words alone: {', '.join(worded)}.")
    told = {
        FULL_DATES: "All dates and times as they are.",
        DEVICE_IDENTITY: "Serial number, station name and other names of the device.",
        INSTITUTION_IDENTITY: "Name and address of the institution and its department.",
        RETAIN_UIDS: "The numbers that link images (UIDs) as the hospital's archive knows them.",
        SAFE_PRIVATE: "Entries of manufacturers that the standard lists as safe (Table E.3.10-1).",
        CLEAN_DESCRIPTORS: "Descriptions in which every word is on a reviewed list "
        f"({len(tables.safe_words())} words), and every number is short.",
        CLEAN_STRUCTURE: "Structured content as far as it is public codes and numbers.",
    }
    lines += [f"- {text}" for code, text in told.items() if code in profile.options]
    if MODIFIED_DATES in profile.options:
        lines.append("- Times of day, and the intervals between a person's examinations.")
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
        f"- Whatever is not one of {len(open_classes)} kinds of objects: {_class_names(open_classes)}.",
        "- Screen captures, dose reports and scanned documents, and images that say that text is "
        "burned into them or that the person can be recognized.",
        f"- Images of {', '.join(asking)} that do not say that no text is burned in"
        + (", unless a pixel rule covers the device." if profile.pixel_rules else "."),
        f"- Images of {_modalities_needing_decision(open_classes)}, whatever their header says of "
        "text in their pixels, "
        "unless a pixel rule covers the device or the project accepts the header's word.",
        "- Objects that are damaged, or written in a way that cannot be checked.",
        "- Thin slices by CT, MR or PET that may show a head, unless the project accepts that a face "
        "can be drawn from them; what does not tell its part of the body counts as a head.",
        "- Whatever a second, independent look at the finished object still finds of the person: "
        "it compares with the original, and one finding stops the series.",
    ]
    released = sum(1 for rule in profile.pixel_rules if not rule.rectangles)
    if released:
        lines.append(
            "- Of some devices a person has looked at images and answers for it that no text is "
            f"burned in; their images leave as they are. Number of devices: {released}."
        )
    covered = sorted({rule.sop_class for rule in profile.pixel_rules})
    if covered:
        known = tables.admitted_sop_classes()
        named = [known[uid].name if uid in known else uid for uid in covered]
        lines.append(f"- Pixel rules open devices of: {', '.join(named)}; other devices stay.")
    return lines


def _modalities_needing_decision(classes: list[tables.AdmittedSopClass]) -> str:
    return ", ".join(sorted({one.modality for one in classes if one.needs_risk_decision}))


def _class_names(classes: list[tables.AdmittedSopClass]) -> str:
    return ", ".join(sorted(one.name.removesuffix(" Storage") for one in classes))


def _remaining_risk_lines(profile: ConfidentialityProfile) -> list[str]:
    return [f"- {text}" for text in _risk_sentences(profile.options)]


def _risk_sentences(options: frozenset[str]) -> Iterator[str]:
    yield "Thin slices of a head by CT, MR or PET, where the project accepts them: a face can be drawn."
    yield (
        "Text burned into an image that does not say so, on a device that nobody has looked at: in CT, "
        "MR and PET, and where the project accepts the header's word in radiographs, too."
    )
    yield "The image itself: implants, rare findings or jewellery can tell who it is to those who know."
    yield "Whoever has the trial's key, or the list of pseudonyms, can find the person again."
    if MODIFIED_DATES in options:
        yield "Unusual intervals between examinations, or times of day, known from elsewhere."
    if FULL_DATES in options:
        yield "Dates of examinations, which are known to hospitals, insurers and the persons themselves."
    if PATIENT_CHARACTERISTICS in options:
        yield "Age, sex, size and weight together can single out a person in a small group."
    if {DEVICE_IDENTITY, INSTITUTION_IDENTITY} & options:
        yield "The device or the institution tells where the person was treated."
    if RETAIN_UIDS in options:
        yield "The UIDs lead to the original images for anyone with access to the hospital's archive."
    if CLEAN_DESCRIPTORS in options:
        yield "A description of listed words only can still be unusual."
    if SAFE_PRIVATE in options:
        yield "Manufacturers' entries are taken as safe because the standard says so."
