"""The templates of all messages of the engine: code -> sentence, one dictionary per package.

Sentences are plain English that a radiology coordinator understands: what happened, where, and the
next step. They never name a patient and end with a full stop, except clauses, which are values of
other messages (codes that start with "clause."). A template of a `NodeError` names {node}.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plural:
    """Two forms of one sentence; the value named `count` decides which one is used."""

    count: str
    singular: str
    plural: str


Template = str | Plural


def _(template: str) -> str:
    """Mark a template for translation: xgettext finds it by the name of this function."""
    return template


def ngettext(singular: str, plural: str, count: str) -> Plural:
    """Mark both forms for translation; `count` is the name of the value that decides."""
    return Plural(count, singular, plural)


_GENERAL: dict[str, Template] = {
    "text": "{text}",
    "patient-changed": _(
        "The source now lists the patient of this study under another ID than in the order, for "
        "example after a merge. The transfer stopped; a person must confirm that it is the same "
        "patient."
    ),
    "node-error.with-contact": _("{error} Contact: {contact}"),
}

_VALUES: dict[str, Template] = {
    "uid.invalid": _("A UID must have at most 64 characters: digits, separated by single dots."),
    "ae-title.invalid": _("An AE title must have 1 to 16 ASCII characters and no backslash."),
    "date-range.empty": _("A date range needs a first or a last day."),
    "date-range.reversed": _("The last day of the date range is before the first day."),
    "query.unknown-attribute": _("{keyword} is not a DICOM attribute."),
    "query.invalid-value": _(
        "{keyword} contains a backslash or a control character, so it cannot be used in a query. "
        "Correct it. If the value comes from a PACS, ask the PACS administrator to correct it."
    ),
    "query.response-without-uid": _(
        "The PACS sent a query response at {level} level without a valid UID."
    ),
    "left-out.not-selected": _("The series was not selected."),
    "left-out.modality": _("The modality of the series is none of: {modalities}."),
    "not-kept.unlisted": _(
        "The destination accepted this image, but does not list it as stored in its storage "
        "commitment report."
    ),
    "not-kept.reported": _(
        "The destination accepted this image, but its storage commitment report says that it is "
        "not stored: {reason} ({status})."
    ),
    "commitment-report.no-transaction": _("The storage commitment report has no transaction UID."),
    "clause.commitment.processing-failure": _("processing failure"),
    "clause.commitment.no-such-image": _("no such image"),
    "clause.commitment.class-conflict": _("an object of another SOP class has this UID"),
    "clause.commitment.class-not-supported": _("SOP class not supported"),
    "clause.commitment.duplicate-transaction": _("duplicate transaction UID"),
    "clause.commitment.no-resources": _("out of resources"),
    "clause.commitment.unknown-reason": _("unknown reason"),
    "archive-password.too-short": _("The password must have at least {minimum} characters."),
    "archive-password.too-long": _("The password must have at most {maximum} characters."),
    "archive-password.characters": _(
        "Use only ASCII letters, digits and punctuation in the password, and no blank at its "
        "start or end. Other characters are typed differently on other computers."
    ),
    "archive-password.guessable": _(
        "The password is too easy to guess. Use several unrelated words, or the suggested password."
    ),
}

_DICOM_FILE: dict[str, Template] = {
    "data-set.truncated": _("The data set ends inside the element at byte {offset}."),
    "data-set.delimiter": _("A delimiter was found at byte {offset} where an element is expected."),
    "data-set.no-vr": _("The element at byte {offset} has no valid VR."),
    "data-set.element-too-long": _("The element at byte {offset} is longer than its data set."),
    "data-set.undefined-length": _(
        "The element at byte {offset} has an undefined length, which its VR does not allow."
    ),
    "data-set.item-truncated": _("A sequence ends inside the item at byte {offset}."),
    "data-set.not-an-item": _("A sequence contains something other than an item at byte {offset}."),
    "data-set.item-too-long": _("The item at byte {offset} is longer than its sequence."),
    "data-set.sequence-too-long": _("The sequence at byte {offset} is longer than its data set."),
    "data-set.sequence-open": _(
        "A sequence of undefined length does not end before byte {offset}."
    ),
    "data-set.too-deep": _("Sequences are nested more than {limit} levels deep."),
    "data-set.value-too-long": _("The value of element {tag} is too long for its VR."),
    "data-set.value-length": _("A value has a length that is invalid for its VR {vr}."),
    "data-set.duplicate-element": _("Element {tag} occurs twice."),
    "data-set.character-set-position": _("The character set is defined after text elements."),
    "data-set.pixel-data-position": _("The pixel data are not at the expected position."),
    "data-set.frame-truncated": _("A compressed frame is truncated."),
    "data-set.no-fragment": _("The compressed pixel data have no fragment."),
    "data-set.uid-missing": _("The data set has no valid {name}."),
    "data-set.not-inflatable": _("The deflated data set cannot be decompressed."),
    "data-set.inflated-too-large": _(
        "The deflated data set is truncated, or larger than {limit_mb} MB after decompression."
    ),
    "data-set.sequence-before-uids": _(
        "A big endian sequence of undefined length precedes the UIDs."
    ),
    "dicom-file.truncated": _("The file was truncated while it was read."),
    "dicom-file.no-prefix": _("This is not a DICOM file: the prefix DICM at byte 128 is missing."),
    "dicom-file.meta-missing": _("The file meta information has no element {tag}."),
    "dicom-file.meta-uid": _("A UID in the file meta information is not ASCII text."),
    "fault": "{fault}",
    "too-large.deflated": _(
        "The deflated data set is truncated, or larger than {limit_mb} MB after decompression."
    ),
    "disk.full": _("{node}: the disk is full. Free space, then retry."),
    "disk.not-permitted": _(
        "{node}: writing is not permitted. Give write permission to the account that runs ADIT."
    ),
    "disk.not-a-folder": _(
        "{node}: a link or a file was found where a folder is expected. Check the folder."
    ),
    "disk.folder-missing": _("{node}: the folder does not exist. Create or mount it, then retry."),
    "disk.unusable": _("{node}: the folder cannot be used ({error}). Check the disk or the mount."),
    "disk.temporary-folder-full": _(
        "{node}: the temporary folder of ADIT has no space for a large image. Free space, then "
        "retry."
    ),
    "rendering.frame": _("The image has frames 1 to {frames}."),
    "rendering.unsupported": _("Images of this type cannot be displayed."),
}

_DICOM_UL: dict[str, Template] = {}

_NODES: dict[str, Template] = {}

_DICOMWEB: dict[str, Template] = {}

_DIAGNOSTICS: dict[str, Template] = {}

_STORAGE_SCP: dict[str, Template] = {}

_PSEUDONYMIZE: dict[str, Template] = {
    "malformed.data-set": _("The image is not valid DICOM. {problem}"),
    "not-understood.error": _(
        "An unexpected error occurred during pseudonymization ({error}). Report it to the "
        "administrator."
    ),
    "syntax.unsupported": _("Images of this transfer syntax cannot be checked."),
    "identity.uid-missing": _(
        "The SOP class UID, SOP instance UID, study UID or series UID is missing."
    ),
    "identity.uid-invalid": _(
        "The SOP class UID, SOP instance UID, study UID or series UID is invalid."
    ),
    "identity.uid-reserved": _(
        "The SOP instance UID, study UID or series UID is one that the DICOM standard reserves."
    ),
    "identity.class-mismatch": _(
        "The SOP class in the header differs from the SOP class under which the image was received."
    ),
    "class.unknown": _("Objects of private or unknown SOP classes cannot be pseudonymized."),
    "class.not-admitted": _("{sop_class} objects cannot be pseudonymized."),
    "pixel-rule.class": _(
        "{sop_class} objects are withheld unless a pixel rule of the profile covers the device."
    ),
    "pixel-rule.device": _("No pixel rule of the profile covers the device."),
    "image-type.screen": _("The image type indicates a screen capture or a report."),
    "recognizable.stated": _("The header states that the patient can be recognized in the image."),
    "samples.color": _("A {modality} image in color is a screen capture or a report."),
    "conversion.capture": _("The image is a secondary capture, so its pixels may contain text."),
    "burned-in.stated": _("The header states that text is burned into the pixels."),
    "burned-in-unknown.not-stated": _(
        "The header does not state that no text is burned into the pixels. {modality} images need "
        "this statement."
    ),
    "header-word.undecided": _(
        "{modality} images may contain burned-in text whatever the header states, and no pixel "
        "rule of the profile covers the device. Ask a reviewer to decide on the device, or a manager "
        "of research projects to accept this risk."
    ),
    "header-word.not-accepted": _(
        "{modality} images may contain burned-in text whatever the header states, and no pixel "
        "rule of the profile covers the device. The project does not accept this risk. Ask a "
        "reviewer to decide on the device."
    ),
    "may-be-withheld.pixel-rule": _(
        "Series of modality {modality} may be withheld: no pixel rule of the profile covers them."
    ),
    "may-be-withheld.class": _(
        "Series of modality {modality} may be withheld: their SOP classes cannot be pseudonymized."
    ),
    "may-be-withheld.device": _(
        "{modality} images may be withheld: a pixel rule of the profile must cover the device."
    ),
    "may-be-withheld.burned-in": _(
        "{modality} images may be withheld: the header must state that no text is burned in."
    ),
    "may-be-withheld.burned-in-or-device": _(
        "{modality} images may be withheld: the header must state that no text is burned in, or a "
        "pixel rule of the profile must cover the device."
    ),
    "clause.no-modality": _("(none)"),
    "face.likely": _("Thin slices of a head: the face of the patient could be reconstructed."),
    "face.possible": _(
        "Possibly thin slices of a head, from which the face of the patient could be "
        "reconstructed: the header does not rule this out."
    ),
    "face.likely-undecided": _(
        "Thin slices of a head: the face of the patient could be reconstructed. The project "
        "has no decision on such images yet."
    ),
    "face.possible-undecided": _(
        "Possibly thin slices of a head, from which the face of the patient could be "
        "reconstructed: the header does not rule this out. The project has no decision on "
        "such images yet."
    ),
    "pixel-meaning.element": _(
        "The value of element {tag} must not be delivered, but without it the image would be "
        "displayed or measured differently."
    ),
    "pixel-format.undefined": _("The header does not define how to read the pixels."),
    "pixel-format.unsupported": _("Pixel data of this type cannot be checked."),
    "pixel-format.not-maskable": _("Pixel data of this type cannot be masked."),
    "pixel-format.big-endian": _("Big endian pixel data of more than 16 bits are ambiguous."),
    "pixel-format.encapsulation": _(
        "The encoding of the pixel data does not match the transfer syntax."
    ),
    "pixel-length.too-short": _("The pixel data are shorter than the header states."),
    "pixel-length.fewer-frames": _("The pixel data have fewer frames than the header states."),
    "pixel-bits.overlay": _("An overlay uses bits of the image."),
    "pixel-bits.outside": _(
        "Pixels and the padding value use bits that the header does not assign to the image."
    ),
    "pixel-bits.compressed": _("The compressed pixel data use bits outside the image."),
    "pixel-stream.undecodable": _("The compressed pixel data cannot be decoded."),
    "pixel-stream.size": _(
        "The compressed image has another size, or another number of samples, than the header "
        "states."
    ),
    "pixel-stream.no-jpeg": _("The compressed pixel data do not start like JPEG data."),
    "pixel-stream.no-jpeg-2000": _("The compressed pixel data are not a JPEG 2000 codestream."),
    "pixel-stream.no-rle": _("The compressed pixel data do not start with a valid RLE header."),
    "pixel-stream.between-segments": _(
        "The compressed pixel data contain bytes between their segments."
    ),
    "pixel-stream.unknown-segment": _("The compressed pixel data contain an unknown segment."),
    "pixel-stream.unknown-box": _("The compressed pixel data contain an unknown JP2 box."),
    "pixel-stream.color-encoding": _(
        "The compressed pixel data define the color encoding in an application segment."
    ),
    "pixel-stream.tile": _("The compressed pixel data contain a tile longer than the codestream."),
    "pixel-stream.empty": _("The compressed pixel data contain no image."),
    "pixel-stream.unterminated": _("The compressed pixel data have no end marker."),
    "pixel-stream.ambiguous-end": _("The end of the compressed pixel data is ambiguous."),
    "pixel-stream.fewer-pixels": _(
        "The compressed pixel data contain fewer pixels than the header states."
    ),
    "pixel-stream.more-pixels": _(
        "The compressed pixel data contain more pixels than the header states."
    ),
    "pixel-stream.no-offsets": _("The start of each compressed frame is not defined."),
    "pixel-stream.offset-table": _(
        "The Extended Offset Table does not match the pixel data to be delivered."
    ),
    "pseudonym.invalid": _(
        "A pseudonym must have 1 to 64 characters: letters A-Z and a-z, digits, dot, hyphen, "
        "underscore."
    ),
    "pseudonym.no-patient-id": _("A pseudonym cannot be generated without a patient ID."),
    "project-key.length": _("A project key must have 32 bytes."),
    "project-key.file": _("{path} does not contain a project key (64 hex digits)."),
    "trial.field": _(
        "The clinical trial attribute “{field}” must have at most 64 characters, without backslash and "
        "line break (PS3.5 6.2)."
    ),
    "trial.required": _("Clinical trial attributes need a sponsor and a protocol ID."),
    "profile.line": _("Line {line}: {problem}"),
    "profile.toml": _("The profile is not valid TOML: {error}."),
    "profile.file": _("The profile {file} cannot be read as a UTF-8 file."),
    "profile.unknown-preset": _("“{name}” is not a preset. The presets are: {presets}."),
    "profile.head": _('A profile must start with name = "…" and version = a whole number.'),
    "profile.name": _("The name of a profile must have 1 to 64 characters and no backslash."),
    "profile.version": _("The version of a profile must be 1 or higher."),
    "profile.unknown-key": _("“{key}” is not a valid key. Valid keys: {keys}."),
    "profile.heading": _("Each entry needs its own heading {heading}."),
    "profile.no-code": _('A rule needs a code, for example code = "113107".'),
    "profile.first-rule": _("The first rule must have the code {option} ({meaning})."),
    "profile.unknown-option": _("{option} is not an option code of PS3.15. Example: 113107."),
    "profile.unsupported-option": _("Option {option} ({meaning}) is not supported."),
    "profile.duplicate-option": _("Option {option} occurs twice."),
    "profile.dates-conflict": _(
        "Options 113106 (full dates) and 113107 (modified dates) cannot be combined."
    ),
    "profile.pixel-option": _(
        "Option 113101 (clean pixel data) and pixel rules ([[pixels]]) must be used together."
    ),
    "profile.pixel-keys": _(
        "A pixel rule must have exactly these keys: {required}. Optional keys: {optional}."
    ),
    "profile.pixel-types": _("These keys of a pixel rule must be text: {fields}."),
    "profile.pixel-text": _(
        "{field} of a pixel rule must be ASCII text without blanks at its start or end."
    ),
    "profile.pixel-class": _(
        "sop_class of a pixel rule must be a class that can be pseudonymized."
    ),
    "profile.pixel-size": _(
        "rows and columns of a pixel rule must be whole numbers from 1 to 65535."
    ),
    "profile.pixel-applies": _('applies must be "all" or "withheld".'),
    "profile.pixel-rectangle": _(
        "Each rectangle must be [left, top, width, height] and lie inside the image."
    ),
    "profile.pixel-reason-length": _("reason must be one line of at most {limit} characters."),
    "profile.pixel-reason-missing": _(
        "A pixel rule without rectangles states that the device burns in no text. It needs a "
        "reason."
    ),
    "profile.pixel-duplicate": _("Two pixel rules are for the same device and image size."),
    "clause.explanation.title": _("Profile “{name}”, version {version}"),
    "clause.explanation.removed": _("What is removed"),
    "clause.explanation.changed": _("What is changed"),
    "clause.explanation.kept": _("What is kept"),
    "clause.explanation.withheld": _("What is withheld"),
    "clause.explanation.risks": _("Remaining risks"),
    "explanation.purpose": _(
        "This page describes how ADIT {version} changes medical images under this profile before "
        "they leave the hospital. It is generated from the rules that ADIT applies."
    ),
    "explanation.rules": _(
        "Rules: Basic Application Confidentiality Profile of DICOM PS3.15, edition {edition}, with "
        "the options {options}."
    ),
    "explanation.rules-without-options": _(
        "Rules: Basic Application Confidentiality Profile of DICOM PS3.15, edition {edition}, "
        "without options."
    ),
    "explanation.not-processable": _(
        "Images that cannot be processed by these rules are withheld, and the reason is reported."
    ),
    "explanation.removed-rows": _(
        "Of the {total} attributes that the standard lists as possibly identifying, {removed} are "
        "removed, emptied or replaced by a dummy value in a CT image: names, addresses, telephone "
        "numbers, identifiers, accession numbers, birth date, physicians, staff, comments. The "
        "others: {others}."
    ),
    "clause.explanation.new-uid": _("{count} get a new UID"),
    "clause.explanation.date-shifted": _("{count} are dates that are shifted"),
    "clause.explanation.items-processed": _(
        "{count} are sequences whose items are processed by the same rules"
    ),
    "clause.explanation.listed-words-only": _("{count} are kept if all words are listed"),
    "clause.explanation.unchanged": _("{count} are kept, including times of day"),
    "explanation.unlisted-removed": _(
        "Each attribute that is not listed as harmless, at any nesting level."
    ),
    "explanation.attachments-removed": _(
        "Overlays and annotations, preview images, signatures, attachments, and any data before or "
        "after the image in the file."
    ),
    "explanation.private-removed": _("All private attributes of manufacturers."),
    "explanation.descriptions-removed": _(
        "All free-text descriptions, such as the study and series description."
    ),
    "explanation.dates-removed": _("All dates and times."),
    "explanation.pseudonym": _("Patient name and patient ID are replaced by the pseudonym."),
    "explanation.new-uids": _(
        "The UIDs, which link images, are replaced by new ones that are derived with the key of "
        "the project. An image has the same new UID everywhere in the project. Without the key, it "
        "cannot be linked to other projects or to the hospital."
    ),
    "explanation.dates-shifted": _(
        "All dates of a patient are shifted back by the same {shortest} to {longest} days, so that "
        "intervals are kept. Times of day are not changed."
    ),
    "explanation.ages": _("Ages above 90 years are replaced by 90."),
    "explanation.graphics": _("All graphics are removed."),
    "explanation.masked": _(
        "In images of the devices that the pixel rules of the profile name, the rectangles in "
        "which the device writes text are masked. Number of rules: {rules}."
    ),
    "explanation.header": _("The header states which of these changes were made."),
    "explanation.image-kept": _(
        "The image itself, its geometry, and the technical values needed for measurements."
    ),
    "explanation.technical-text-kept": _(
        "Manufacturer, model and software of the device, and {attributes} attributes with "
        "technical text that devices choose from lists."
    ),
    "explanation.codes-kept": _(
        "Codes of {vocabularies} public vocabularies, such as SNOMED CT; their meanings, and the "
        "names of segments, if all words are listed."
    ),
    "explanation.patient-kept": _("Patient attributes: {attributes}."),
    "explanation.patient-words-kept": _(
        "Patient attributes, if all words are listed: {attributes}."
    ),
    "explanation.full-dates-kept": _("All dates and times, unchanged."),
    "explanation.device-kept": _(
        "Serial number, station name and other identifiers of the device."
    ),
    "explanation.institution-kept": _("Name and address of the institution and its department."),
    "explanation.uids-kept": _("The original UIDs of the hospital's PACS."),
    "explanation.private-kept": _(
        "Private attributes that the standard lists as safe (Table E.3.10-1)."
    ),
    "explanation.descriptions-kept": _(
        "Descriptions in which all words are on a reviewed list ({words} words) and all numbers "
        "are short."
    ),
    "explanation.structure-kept": _("Public codes and numbers in structured content."),
    "explanation.intervals-kept": _(
        "Times of day, and the intervals between the examinations of a patient."
    ),
    "explanation.classes": _("Objects of all SOP classes except these {count}: {classes}."),
    "explanation.stated-text": _(
        "Screen captures, dose reports, scanned documents, and images whose header states that "
        "text is burned in or that the patient can be recognized."
    ),
    "explanation.not-stated": _(
        "{modalities} images whose header does not state that no text is burned in."
    ),
    "explanation.not-stated-or-rule": _(
        "{modalities} images whose header does not state that no text is burned in, unless a pixel "
        "rule covers the device."
    ),
    "explanation.risk-decision": _(
        "{modalities} images, unless a pixel rule covers the device, or the project accepts the "
        "risk of burned-in text that the header does not state."
    ),
    "explanation.damaged": _(
        "Objects that are damaged or have an encoding that cannot be checked."
    ),
    "explanation.faces": _(
        "Thin CT, MR or PET slices that may show a head, unless the project accepts that a face "
        "can be reconstructed from them. Images without a body part count as head images."
    ),
    "explanation.verification": _(
        "Images in which an independent verification, which compares them with the original, finds "
        "identifying data. One such image stops the whole series."
    ),
    "explanation.released-devices": _(
        "Images of devices that, as a reviewer confirmed, burn in no text are delivered without "
        "masking. Number of devices: {devices}."
    ),
    "explanation.rule-classes": _(
        "Pixel rules release images of some devices of: {classes}. Images of other devices are "
        "withheld."
    ),
    "explanation.risk-face": _(
        "Thin CT, MR or PET slices of a head, if the project accepts them: a face can be "
        "reconstructed."
    ),
    "explanation.risk-burned-in": _(
        "Burned-in text that the header does not state, on a device that no reviewer has checked: "
        "in CT, MR and PET images, and in radiographs if the project accepts this risk."
    ),
    "explanation.risk-image": _(
        "The image itself: implants, rare findings or jewelry may identify the patient to people "
        "who know the patient."
    ),
    "explanation.risk-key": _(
        "Anyone with the key of the project or the list of pseudonyms can re-identify patients."
    ),
    "explanation.risk-intervals": _(
        "Unusual intervals between examinations, or times of day, that are known from another "
        "source."
    ),
    "explanation.risk-dates": _(
        "Dates of examinations, which hospitals, insurers and the patients themselves know."
    ),
    "explanation.risk-characteristics": _(
        "Age, sex, size and weight together may identify a patient in a small group."
    ),
    "explanation.risk-place": _(
        "The device or the institution shows where the patient was treated."
    ),
    "explanation.risk-uids": _(
        "With the UIDs, anyone with access to the hospital's PACS can find the original images."
    ),
    "explanation.risk-descriptions": _(
        "A description may be unusual even if all its words are listed."
    ),
    "explanation.risk-private": _(
        "Private attributes of manufacturers are considered safe because the standard lists them."
    ),
}

_VERIFY: dict[str, Template] = {
    "verify-name.found": _("Verification found a part of the name of a person {place}."),
    "verify-id.found": _("Verification found an identifying number {place}."),
    "verify-birth-date.found": _("Verification found the birth date {place}."),
    "verify-date.found": _("Verification found an original date {place}."),
    "verify-address.found": _("Verification found an address or telephone number {place}."),
    "verify-institution.found": _("Verification found the name of an institution {place}."),
    "verify-device.found": _("Verification found the name or number of a device {place}."),
    "verify-text.found": _("Verification found a remark about the patient {place}."),
    "clause.verify.element": _("in element {tag} of the pseudonymized image"),
    "clause.verify.pixel-data": _("in the pixel data of the pseudonymized image"),
    "clause.verify.other-spelling": _("in another spelling in a text of the pseudonymized image"),
    "verify-id.not-pseudonym": _("The patient ID in element {tag} is not the pseudonym."),
    "verify-person.not-pseudonym": _("Element {tag} contains the name of a person."),
    "verify-date.not-shifted": _("Element {tag} contains a date that could not be shifted."),
    "verify-age.above-90": _("Element {tag} contains an age above 90 years."),
    "verify-uid.unchanged": _("The image still has its original SOP instance UID."),
    "verify-uid.original": _("Element {tag} contains an original UID."),
    "verify-uid.original-in-text": _("The pseudonymized image contains an original UID."),
    "verify-uid.foreign": _("Element {tag} contains a UID that ADIT did not generate."),
    "verify-element.not-removed": _("Element {tag} must be removed under this profile."),
    "verify-element.not-replaced": _("Element {tag} still has its original value."),
    "verify-element.age": _("Element {tag} contains an age, which this profile removes."),
    "verify-element.duplicate": _("Element {tag} occurs twice."),
    "verify-element.nested-pixels": _("A sequence contains pixel data (element {tag})."),
    "verify-private.not-removed": _("Private element {tag} must be removed under this profile."),
    "verify-private.not-safe": _("Private element {tag} is not listed as safe in PS3.15."),
    "verify-group.length": _("The pseudonymized image contains the group length {tag}."),
    "verify-group.forbidden": _("Element {tag} is in a group that must be removed."),
    "verify-group.overlay": _("Overlay {tag} must be removed under this profile."),
    "verify-pseudonym.identifies": _("The pseudonym itself identifies the patient."),
    "verify-meta.instance": _(
        "The file meta information and the header have different SOP class or instance UIDs."
    ),
    "verify-meta.class": _("The SOP class differs from that of the original image."),
    "verify-meta.uid-missing": _("The study UID or the series UID is missing."),
    "verify-meta.character-set": _("The character set is not ISO_IR 192."),
    "verify-stamp.pseudonym": _("The patient name, patient ID or subject ID is not the pseudonym."),
    "verify-stamp.trial": _("The clinical trial attribute “{field}” is wrong."),
    "verify-stamp.not-marked": _("The header does not state that ADIT de-identified the image."),
    "verify-stamp.nested": _("Element {tag} is a de-identification attribute inside a sequence."),
    "verify-stamp.codes": _("The de-identification method codes do not match the profile."),
    "verify-stamp.code-scheme": _("A de-identification method code is not of the scheme DCM."),
    "verify-stamp.dates": _("The header does not state correctly how dates were changed."),
    "verify-stamp.pixels": _("The header does not state correctly whether pixels were masked."),
    "verify-stamp.burned-in": _(
        "Burned In Annotation has a value that neither the original image nor a pixel rule justifies."
    ),
    "verify-pixel.no-rule": _(
        "The pixels may contain text: no pixel rule covers the device, and the project does not "
        "accept this risk."
    ),
    "verify-pixel.attribute": _("An attribute that defines how to read the pixels was changed."),
    "verify-pixel.missing": _("The pixel data are missing or of another type."),
    "verify-pixel.encapsulation": _("The pixel data were compressed or decompressed."),
    "verify-pixel.transfer-syntax": _("The transfer syntax of the pixel data was changed."),
    "verify-pixel.length": _("The pixel data are shorter or longer than the original."),
    "verify-pixel.trailing-bytes": _("The pixel data contain bytes after the last pixel."),
    "verify-pixel.spare-bits": _("Bits that belong to no pixel are set."),
    "verify-pixel.value": _("The value of a pixel was changed."),
    "verify-pixel.frame": _("A compressed frame was changed."),
    "verify-pixel.frame-count": _("A compressed frame is missing or was added."),
    "verify-pixel.color": _("The color encoding of the masked image is wrong."),
    "verify-pixel.mask-compressed": _("The masked image is still compressed."),
    "verify-pixel.mask-trailing": _(
        "The masked image contains data after the last pixel or in bits that belong to no pixel."
    ),
    "verify-pixel.mask-no-frame": _("The masked image has no frame."),
    "verify-pixel.mask-frame-size": _("A frame of the masked image has another size."),
    "verify-pixel.mask-outside": _("A pixel outside the masked rectangles was changed."),
    "verify-pixel.mask-rectangle": _("A rectangle is not masked."),
    "verify-not-understood.unexpected": _(
        "Verification cannot read the image: an unexpected error occurred."
    ),
    "verify-not-understood.length": _(
        "Verification cannot read the image: an element or item is longer than the data set or "
        "sequence that contains it."
    ),
    "verify-not-understood.undefined-length": _(
        "Verification cannot read the image: an element that is not a sequence has an undefined "
        "length."
    ),
    "verify-not-understood.unterminated": _(
        "Verification cannot read the image: a sequence or an item has no end."
    ),
    "verify-not-understood.vr": _(
        "Verification cannot read the image: an element has no valid VR."
    ),
    "verify-not-understood.depth": _(
        "Verification cannot read the image: sequences are nested too deeply."
    ),
    "verify-not-understood.stray-item": _(
        "Verification cannot read the image: an item was found where an element is expected."
    ),
    "verify-not-understood.not-an-item": _(
        "Verification cannot read the image: a sequence contains something other than an item."
    ),
    "verify-not-understood.value-too-long": _(
        "Verification cannot read the image: a name or number is too long."
    ),
    "verify-not-understood.deflated": _(
        "Verification cannot read the image: the deflated data set is too large or truncated."
    ),
    "verify-not-understood.two-pixel-data": _(
        "Verification cannot read the image: it has two pixel data elements."
    ),
    "verify-not-understood.fragments": _(
        "Verification cannot read the image: the compressed pixel data are not a list of fragments."
    ),
    "verify-not-understood.segments": _(
        "Verification cannot read the image: a compressed frame contains an invalid segment."
    ),
    "verify-not-understood.tile": _(
        "Verification cannot read the image: a tile of a compressed frame has an invalid length."
    ),
}

_TRANSFER: dict[str, Template] = {}

_PATIENT_SEARCH: dict[str, Template] = {}

_CLI: dict[str, Template] = {}

TEMPLATES: Mapping[str, Template] = (
    _GENERAL
    | _VALUES
    | _DICOM_FILE
    | _DICOM_UL
    | _NODES
    | _DICOMWEB
    | _DIAGNOSTICS
    | _STORAGE_SCP
    | _PSEUDONYMIZE
    | _VERIFY
    | _TRANSFER
    | _PATIENT_SEARCH
    | _CLI
)
