"""Apply a change to one instance. Used by transfer. Anything unknown is withheld."""

import re
from functools import lru_cache

from adit_engine.dicom_file.transcode import to_little_endian
from adit_engine.elements import encode_element
from adit_engine.errors import InstanceWithheld, Malformed
from adit_engine.pseudonymize import (
    admission,
    body_outline,
    deid_attributes,
    face_risk,
    pixel_format,
    pixel_rules,
    safe_text,
    structured_report,
    tables,
)
from adit_engine.pseudonymize.actions import ActionContext
from adit_engine.pseudonymize.admission import RuleCoverage
from adit_engine.pseudonymize.encapsulated_pixel_data import STRIP_FUNCTIONS
from adit_engine.pseudonymize.parameters import AsIs, Change, Pseudonymization
from adit_engine.pseudonymize.pixel_data import (
    NATIVE_SYNTAXES,
    OFFSET_TABLE_TAGS,
    PIXEL_DATA,
    SplitDataset,
    build_pixel_data,
    check_overlays,
    check_word_order,
    split_dataset,
)
from adit_engine.pseudonymize.pixel_format import PixelFormat
from adit_engine.pseudonymize.pixel_masking import mask_pixels
from adit_engine.pseudonymize.pixel_rules import PixelRule, Rectangle
from adit_engine.pseudonymize.profile import RETAIN_UIDS, SAFE_PRIVATE, TextDetection
from adit_engine.pseudonymize.rewrite import ElementCache, Rewriter
from adit_engine.pseudonymize.rules import CompiledRules, compile_rules
from adit_engine.pseudonymize.statistics import (
    AppliedAction,
    ChangeStatistics,
    InstanceChanges,
    count_changes,
)
from adit_engine.pseudonymize.structured_report import ReportTemplate
from adit_engine.pseudonymize.tables import AdmittedSopClass, well_known_uids
from adit_engine.pseudonymize.text_detection import findings
from adit_engine.pseudonymize.text_detection.inspection import (
    INSPECTED_MODALITIES,
    PixelInspector,
    must_inspect,
)
from adit_engine.values.instance import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE, Instance

_SOP_CLASS_UID = 0x00080016
_SOP_INSTANCE_UID = 0x00080018
_STUDY_UID = 0x0020000D
_SERIES_UID = 0x0020000E
_IDENTITY_TAGS = frozenset({_SOP_CLASS_UID, _SOP_INSTANCE_UID, _STUDY_UID, _SERIES_UID})
_UID = re.compile(r"[0-9.]{1,64}")
_DATE_TAGS = frozenset({deid_attributes.PATIENT_BIRTH_DATE, deid_attributes.STUDY_DATE})
_PHOTOMETRIC = 0x00280004
_PLANAR = 0x00280006
_PATIENT_NAME = 0x00100010
_REQUIRED_TAGS = frozenset(
    {
        deid_attributes.BURNED_IN_ANNOTATION,
        _PATIENT_NAME,
        _PLANAR,
        *OFFSET_TABLE_TAGS,
        *_IDENTITY_TAGS,
        *_DATE_TAGS,
        *admission.REQUIRED_TAGS,
        *face_risk.REQUIRED_TAGS,
        *pixel_format.REQUIRED_TAGS,
        *body_outline.REQUIRED_TAGS,
        *pixel_rules.DEVICE_TAGS,
        *findings.REQUIRED_TAGS,
    }
)
_SUPPORTED_SYNTAXES = NATIVE_SYNTAXES | STRIP_FUNCTIONS.keys()


def apply(
    change: Change,
    instance: Instance,
    statistics: ChangeStatistics | None = None,
    cache: ElementCache | None = None,
    inspector: PixelInspector | None = None,
) -> Instance:
    """Return the instance as it may leave. Raises InstanceWithheld, and nothing else.

    AsIs returns the instance itself. Pixel buffers are not copied unless a rule alters them. The
    same input and change give the same bytes, with or without `cache` from other images.
    `statistics` is updated if the instance may leave. `inspector` knows the series that it screens;
    without one, the instance counts as the first of its series.
    """
    if isinstance(change, AsIs):
        return instance
    if cache is None or cache.change is not change:
        cache = ElementCache(change)
    try:
        made, traces = _pseudonymize_instance(cache, instance, inspector)
    except InstanceWithheld:
        raise
    except Malformed as error:
        raise InstanceWithheld("malformed.data-set", problem=error.message) from None
    except Exception as error:  # noqa: BLE001
        # An unforeseen error must not let an object through. Its text could contain a value of the
        # header, so only the type of the error is reported.
        kind = type(error).__name__
        raise InstanceWithheld("not-understood.error", error=kind) from None
    if statistics is not None:
        statistics.add(count_changes(traces))
    return made


def _pseudonymize_instance(
    cache: ElementCache, instance: Instance, inspector: PixelInspector | None
) -> tuple[Instance, InstanceChanges]:
    change = cache.change
    was_big_endian = instance.transfer_syntax_uid == EXPLICIT_BE
    instance = to_little_endian(instance)
    if instance.transfer_syntax_uid not in _SUPPORTED_SYNTAXES:
        raise InstanceWithheld("syntax.unsupported")
    parts = split_dataset(instance)
    values = parts.values(_REQUIRED_TAGS)
    uids = {tag: values.get(tag, b"").strip(b" \0") for tag in _IDENTITY_TAGS}
    sop_class_uid = uids[_SOP_CLASS_UID].decode("latin-1") or instance.sop_class_uid.strip(" \0")
    refused = admission.sop_class_refusal(sop_class_uid, change.profile) if sop_class_uid else None
    if refused is not None:
        raise InstanceWithheld(refused.code, **refused.values)
    _check_identity(uids, instance)
    reports = tables.report_sop_classes()
    admitted = (tables.admitted_sop_classes() | reports)[sop_class_uid]
    template = (
        structured_report.find_template(parts.header, parts.before)
        if sop_class_uid in reports
        else None
    )
    rules: tuple[PixelRule, ...] = ()
    if change.profile.pixel_rules and parts.pixels is not None:
        rules = pixel_rules.matching_rules(change.profile.pixel_rules, values)
        if change.profile.text_detection is TextDetection.OFF and not admission.needs_pixel_rule(
            admitted, values, change.annotation_decision
        ):
            rules = tuple(rule for rule in rules if rule.applies == pixel_rules.APPLIES_TO_ALL)
    where = tuple(rectangle for rule in rules for rectangle in rule.rectangles)
    is_inspected = parts.pixels is not None and must_inspect(change.profile, admitted.modality)
    cover = (
        RuleCoverage.MASKED if where
        else RuleCoverage.RELEASED if rules
        else RuleCoverage.INSPECTED if is_inspected and admitted.modality in INSPECTED_MODALITIES
        else RuleCoverage.NOTHING
    )  # fmt: skip
    on_its_word = admission.check(admitted, values, change.annotation_decision, cover)
    if was_big_endian and parts.pixels is not None:
        check_word_order(parts.pixels, values)
    may_show_face = _check_face_risk(change, admitted, parts, values, instance)
    book = compile_rules(change.profile, admitted.iod)
    rewriter = _make_rewriter(
        cache, book, instance.explicit, values.get(_PATIENT_NAME, b""), template
    )
    out = _apply_rules(rewriter, book, parts)
    by_rules = tuple(out)
    _add_required_attributes(change, parts, values, out, instance.explicit)
    made = (
        _mask_instance(change, parts, values, (out, where), instance)
        if where
        else Instance(
            sop_class_uid,
            _map_uid(change, uids[_SOP_INSTANCE_UID]),
            instance.transfer_syntax_uid,
            b"".join(out[tag] for tag in sorted(out)),
            build_pixel_data(parts, values, instance, admitted),
        )
    )
    if is_inspected:
        series = values[_SERIES_UID].decode("latin-1")
        is_inspected = (inspector or PixelInspector()).inspect(
            made, admitted.modality, series, values, is_masked=bool(where)
        )
    traces = InstanceChanges(
        top=(tuple(rewriter.top_notes), by_rules),
        items=tuple(rewriter.item_notes),
        added_tags=_deid_attribute_tags(change),
        output_tags=tuple(out),
        pixel_actions=(AppliedAction.MASKED,) * bool(where)
        + (AppliedAction.FACE_RISK_ACCEPTED,) * may_show_face
        + (AppliedAction.ANNOTATION_ACCEPTED,) * on_its_word
        + (AppliedAction.TEXT_INSPECTED,) * is_inspected,
    )
    return made, traces


def _mask_instance(
    change: Pseudonymization,
    parts: SplitDataset,
    values: dict[int, bytes],
    output: tuple[dict[int, bytes], tuple[Rectangle, ...]],
    instance: Instance,
) -> Instance:
    """Return the instance with masked, uncompressed pixels and a header that states this."""
    out, where = output
    element = parts.pixels
    is_native = instance.transfer_syntax_uid in NATIVE_SYNTAXES
    if element is None or element.tag != PIXEL_DATA or element.undefined is is_native:
        raise InstanceWithheld("pixel-format.unsupported")
    check_overlays(parts, PixelFormat.from_values({**values, _PHOTOMETRIC: b""}))
    data = memoryview(parts.pixel_source.data)
    new = mask_pixels(data, element, values, where, instance.transfer_syntax_uid)
    form = PixelFormat.from_values({**values, _PHOTOMETRIC: new.photometric})
    explicit = instance.explicit
    for tag in OFFSET_TABLE_TAGS:
        out.pop(tag, None)
    out[_PHOTOMETRIC] = encode_element(_PHOTOMETRIC, "CS", new.photometric, explicit)
    if form.samples_per_pixel > 1:
        out[_PLANAR] = encode_element(_PLANAR, "US", new.planar, explicit)
    out[deid_attributes.BURNED_IN_ANNOTATION] = encode_element(
        deid_attributes.BURNED_IN_ANNOTATION, "CS", b"NO", explicit
    )
    out |= _encode_deid_attributes(change, explicit, is_masked=True)
    value = b"".join(bytes(part) for part in pixel_format.clean_native_pixels(new.pixels, form))
    vr = "OW" if form.bits_allocated > 8 or not explicit else "OB"
    return Instance(
        instance.sop_class_uid.strip(" \0") or values[_SOP_CLASS_UID].strip(b" \0").decode("ascii"),
        _map_uid(change, values[_SOP_INSTANCE_UID].strip(b" \0")),
        EXPLICIT_LE if explicit else IMPLICIT_LE,
        b"".join(out[tag] for tag in sorted(out)),
        (encode_element(PIXEL_DATA, vr, value, explicit),),
    )


def _check_identity(uids: dict[int, bytes], instance: Instance) -> None:
    """Check the UIDs of the data set. The file meta may differ in the instance UID, not the class.

    The instance UID of the file meta is not used further.
    """
    said = {tag: uid.decode("latin-1") for tag, uid in uids.items()}
    if not all(said.values()):
        raise InstanceWithheld("identity.uid-missing")
    if not all(_UID.fullmatch(uid) for uid in said.values()):
        raise InstanceWithheld("identity.uid-invalid")
    if well_known_uids() & {uid for tag, uid in uids.items() if tag != _SOP_CLASS_UID}:
        raise InstanceWithheld("identity.uid-reserved")
    if instance.sop_class_uid.strip(" \0") not in ("", said[_SOP_CLASS_UID]):
        raise InstanceWithheld("identity.class-mismatch")


def _check_face_risk(
    change: Pseudonymization,
    admitted: AdmittedSopClass,
    parts: SplitDataset,
    values: dict[int, bytes],
    instance: Instance,
) -> bool:
    """Raises InstanceWithheld if the risk is present and not accepted."""
    told = face_risk.read_nested_values(parts.header.data, parts.header.explicit, parts.before)
    return face_risk.check(
        change.face_decision,
        admitted.modality,
        values,
        told,
        lambda: body_outline.shows_trunk(instance, admitted.modality, values),
    )


def _make_rewriter(
    cache: ElementCache,
    rules: CompiledRules,
    explicit: bool,
    name: bytes,
    template: ReportTemplate | None,
) -> Rewriter:
    change = cache.change
    names = safe_text.split_words(name)
    work = ActionContext(
        change.key, change.key.date_offset_days(change.pseudonym), patient_name_words=names
    )
    private = SAFE_PRIVATE in change.profile.options
    return Rewriter(rules, work, explicit, cache, private=private, template=template)


def _apply_rules(rewriter: Rewriter, rules: CompiledRules, parts: SplitDataset) -> dict[int, bytes]:
    """Return the encoded elements of the top level by tag, without the pixels."""
    out = rewriter.rewrite_level(parts.header, parts.before, rules.top)
    if parts.after:
        parts.reject_duplicates()
        out |= rewriter.rewrite_level(parts.pixel_source, parts.after, rules.top)
    return out


def _add_required_attributes(
    change: Pseudonymization,
    parts: SplitDataset,
    values: dict[int, bytes],
    out: dict[int, bytes],
    explicit: bool,
) -> None:
    """Add what the standard requires beyond the rules, and the de-identification attributes."""
    for tag in [tag for tag in out if tag >> 16 == 0x0012]:
        del out[tag]
    if parts.pixels is None or not parts.pixels.undefined:
        for tag in OFFSET_TABLE_TAGS:  # for compressed frames only; checked against them below
            out.pop(tag, None)
    if not values.get(deid_attributes.BURNED_IN_ANNOTATION, b"").strip(b" \0"):
        out.pop(deid_attributes.BURNED_IN_ANNOTATION, None)
    age = deid_attributes.compute_patient_age(change.profile, values)
    if age is not None and deid_attributes.PATIENT_AGE not in out:
        out[deid_attributes.PATIENT_AGE] = encode_element(
            deid_attributes.PATIENT_AGE, "AS", age, explicit
        )
    for tag, vr in deid_attributes.required_empty_attributes(out).items():
        out.setdefault(tag, encode_element(tag, vr, b"", explicit))
    out |= _encode_deid_attributes(change, explicit)


@lru_cache(maxsize=256)
def _deid_attribute_tags(change: Pseudonymization) -> frozenset[int]:
    return frozenset(_encode_deid_attributes(change, True))


def _map_uid(change: Pseudonymization, uid: bytes) -> str:
    text = uid.decode("ascii")
    return text if RETAIN_UIDS in change.profile.options else change.key.uid(text)


@lru_cache(maxsize=1024)
def _encode_deid_attributes(
    change: Pseudonymization, explicit: bool, *, is_masked: bool = False
) -> dict[int, bytes]:
    out = {
        tag: encode_element(tag, vr, value, explicit)
        for tag, (vr, value) in deid_attributes.build_attributes(change).items()
    }
    items = b""
    for code in deid_attributes.build_method_codes(change.profile, is_masked=is_masked):
        item = b"".join(
            encode_element(tag, vr, value, explicit) for tag, (vr, value) in code.items()
        )
        items += b"\xfe\xff\x00\xe0" + len(item).to_bytes(4, "little") + item
    out[deid_attributes.METHOD_CODE_SEQUENCE] = encode_element(
        deid_attributes.METHOD_CODE_SEQUENCE, "SQ", items, explicit
    )
    return out
