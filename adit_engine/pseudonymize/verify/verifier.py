"""Verify pseudonymized instances independently of the transformation. Used by transfer."""

from collections import OrderedDict
from dataclasses import replace

from adit_engine.errors import InstanceWithheld
from adit_engine.pseudonymize.parameters import Pseudonymization
from adit_engine.pseudonymize.verify.attribute_checks import (
    BURNED_IN_ANNOTATION,
    CHARSET,
    CLEAN_PIXELS,
    CLINICAL_TRIAL_FIELDS,
    DEID_METHOD,
    DEVICE_IDENTITY,
    FULL_DATES,
    IDENTITY_REMOVED,
    INSTITUTION_IDENTITY,
    MODIFIED_DATES,
    PATIENT_ID,
    PATIENT_NAME,
    RETAIN_UIDS,
    SERIES_UID,
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    STUDY_UID,
    SUBJECT_ID,
    TEMPORAL_INFORMATION,
    TOP_LEVEL_TAGS,
    VISIT_FIELDS,
    OutputAttributes,
)
from adit_engine.pseudonymize.verify.forbidden_elements import must_be_empty, must_differ
from adit_engine.pseudonymize.verify.identifiers import (
    OriginalIdentifiers,
    PatternSet,
    build_patterns,
    collect_identifiers,
)
from adit_engine.pseudonymize.verify.masked_pixels import (
    check_masked_pixels,
    check_rule_coverage,
    find_pixel_rules,
)
from adit_engine.pseudonymize.verify.patterns import (
    BIRTH,
    DEVICE,
    ID,
    INSTITUTION,
    NAME,
    IdentifierPattern,
    contains_word,
)
from adit_engine.pseudonymize.verify.pixels import (
    ImagePixelModule,
    check_same_pixels,
    extract_readable_bytes,
)
from adit_engine.pseudonymize.verify.reader import DatasetContent, read_instance
from adit_engine.pseudonymize.verify.search import search_bytes, search_region, spelling_error
from adit_engine.pseudonymize.verify.spellings import Spellings, build_spellings
from adit_engine.pseudonymize.verify.stopwords import OWN_ATTRIBUTE_TEXT
from adit_engine.values.instance import Instance

_MAX_CACHED = 64


def verify(source: Instance, output: Instance, change: Pseudonymization) -> None:
    """Raise InstanceWithheld if `output` must not leave, or cannot be understood."""
    Verifier(change).check(source, output)


class Verifier:
    """Verifies instances of one change, with a cache; use one per task. Not thread-safe.

    Expectations follow from the profile's options and the project. The verifier does not know how
    UIDs, dates and texts were derived, so that one mistake cannot occur in both places.
    """

    def __init__(self, change: Pseudonymization) -> None:
        self._change = change
        self._options = change.profile.options
        self._pseudonym = change.pseudonym.encode()
        self._empty = must_be_empty(self._options)
        self._differ = must_differ(self._options)
        self._deid_values = _own_text(change)
        self._patterns: OrderedDict[object, tuple[PatternSet, Spellings]] = OrderedDict()

    def check(self, source: Instance, output: Instance) -> None:
        """Raise InstanceWithheld if `output` must not leave, or either is unreadable."""
        try:
            self._check(source, output)
        except InstanceWithheld:
            raise
        except Exception:  # noqa: BLE001 - after any error, nothing may leave
            # Without the cause, whose text could contain a value of the header.
            raise InstanceWithheld("verify-not-understood.unexpected") from None

    def _check(self, source: Instance, output: Instance) -> None:
        before, after = read_instance(source, tolerant=True), read_instance(output)
        found = collect_identifiers(before, self._differ, TOP_LEVEL_TAGS)
        proof, spelled = self._get_patterns(found)
        made = OutputAttributes(self._options, self._pseudonym, found, after)
        made.check(self._empty, self._differ)
        self._check_file_meta(source, output, made)
        self._check_deid_attributes(made)
        self._check_pixels(source, output, (before, found), (after, made))
        for region in after.regions:
            search_region(region, proof, self._options)
            code = spelled.find_code(region)
            if code is not None:
                raise spelling_error(code)
        hidden = extract_readable_bytes(after).lower()
        if hidden:
            search_bytes(hidden, proof)

    def _get_patterns(self, found: OriginalIdentifiers) -> tuple[PatternSet, Spellings]:
        """Return the patterns. They are cached, since they are the same for a whole series."""
        dates = frozenset() if FULL_DATES in self._options else frozenset(found.dates)
        lifted = {
            kind
            for kind, code in ((DEVICE, DEVICE_IDENTITY), (INSTITUTION, INSTITUTION_IDENTITY))
            if code in self._options
        }
        identity, births = frozenset(found.identity), frozenset(found.birth_dates)
        key = (identity, found.charset, found.equipment, dates, births)
        known = self._patterns.get(key)
        if known is None:
            left = {value for value in identity if value[0] in lifted}
            asked = replace(found, identity=set(identity - left), dates=set(dates))
            words = [word for _, word in left]
            known = (
                build_patterns(asked, self._deid_values),
                build_spellings(asked, self._deid_values, words),
            )
            self._check_own_texts(known[0])
            self._patterns[key] = known
            if len(self._patterns) > _MAX_CACHED:
                self._patterns.popitem(last=False)
        return known

    def _check_own_texts(self, patterns: PatternSet) -> None:
        """A pseudonym or a visit that a person chose may itself identify the patient."""
        own = self._pseudonym.lower()
        if own in patterns.whole_values or _identifies(own, patterns, names=2):
            raise InstanceWithheld("verify-pseudonym.identifies")
        visit = self._change.visit
        for text in (visit.id, visit.description) if visit is not None else ():
            own = text.lower().encode()
            # A short one, such as 1 or V2, equals a short number of the patient by chance.
            is_whole = len(own) >= 3 and own in patterns.whole_values
            if (is_whole and not own.isdigit()) or _identifies(own, patterns, names=1):
                raise InstanceWithheld("verify-visit.identifies")

    def _check_file_meta(self, source: Instance, output: Instance, made: OutputAttributes) -> None:
        named = (output.sop_class_uid.encode(), output.instance_uid.encode())
        if named != (made.text(SOP_CLASS_UID), made.text(SOP_INSTANCE_UID)):
            raise InstanceWithheld("verify-meta.instance")
        if output.sop_class_uid != source.sop_class_uid.strip(" \0"):
            raise InstanceWithheld("verify-meta.class")
        if not (made.text(STUDY_UID) and made.text(SERIES_UID)):
            raise InstanceWithheld("verify-meta.uid-missing")
        if (
            output.instance_uid == source.instance_uid.strip(" \0")
            and RETAIN_UIDS not in self._options
        ):
            raise InstanceWithheld("verify-uid.unchanged")
        if made.text(CHARSET) not in (b"", b"ISO_IR 192"):
            raise InstanceWithheld("verify-meta.character-set")

    def _check_deid_attributes(self, made: OutputAttributes) -> None:
        stamp = self._change.clinical_trial
        subject = made.text(SUBJECT_ID) if stamp or made.text(SUBJECT_ID) else self._pseudonym
        names = (made.text(PATIENT_NAME).rstrip(b"^="), made.text(PATIENT_ID), subject)
        if any(name != self._pseudonym for name in names):
            raise InstanceWithheld("verify-stamp.pseudonym")
        for tag, field in CLINICAL_TRIAL_FIELDS.items():
            expected = getattr(stamp, field).strip() if stamp else ""
            if made.text(tag) != expected.encode():
                raise InstanceWithheld("verify-stamp.trial", field=field.replace("_", " "))
        visit = self._change.visit
        for tag, field in VISIT_FIELDS.items():
            expected = getattr(visit, field).strip() if visit else ""
            if made.text(tag) != expected.encode():
                raise InstanceWithheld("verify-stamp.visit", field=field)
        if made.text(IDENTITY_REMOVED) != b"YES" or not made.text(DEID_METHOD).startswith(b"ADIT"):
            raise InstanceWithheld("verify-stamp.not-marked")
        dates = self._options & {FULL_DATES, MODIFIED_DATES}
        if not {"113100", *dates} <= made.codes <= self._options | {"113100"}:
            raise InstanceWithheld("verify-stamp.codes")
        told = {FULL_DATES: b"UNMODIFIED", MODIFIED_DATES: b"MODIFIED"}
        expected_time = next((told[code] for code in sorted(dates)), b"REMOVED")
        if made.text(TEMPORAL_INFORMATION) != expected_time:
            raise InstanceWithheld("verify-stamp.dates")

    def _check_pixels(
        self,
        source: Instance,
        output: Instance,
        was: tuple[DatasetContent, OriginalIdentifiers],
        now: tuple[DatasetContent, OutputAttributes],
    ) -> None:
        before, after = (
            ImagePixelModule(was[0], was[1].top_level),
            ImagePixelModule(now[0], now[1].top_level),
        )
        rules = find_pixel_rules(self._change, before, was[1].top_level)
        rectangles = [list(one) for rule in rules for one in rule.rectangles]
        claimed = CLEAN_PIXELS in now[1].codes
        said = was[1].top_level.get(BURNED_IN_ANNOTATION, b"").strip(b" \0")
        if claimed is not bool(rectangles):
            raise InstanceWithheld("verify-stamp.pixels")
        if now[1].text(BURNED_IN_ANNOTATION) not in ((b"NO",) if claimed else (b"", said)):
            raise InstanceWithheld("verify-stamp.burned-in")
        if not rules:
            check_rule_coverage(self._change, was[1].top_level)
        if rectangles:
            check_masked_pixels(before, after, rectangles, source.transfer_syntax_uid)
            return
        check_same_pixels(before, after, (source.transfer_syntax_uid, output.transfer_syntax_uid))


def _identifies(own: bytes, patterns: PatternSet, names: int) -> bool:
    """Return whether a text of ours contains an identifier, or so many names, of the patient."""
    year_needles = (needle for needles in patterns.by_year.values() for needle in needles)
    long_ones = [
        needle
        for needle in (*patterns.words, *year_needles)
        if needle.code in (ID, BIRTH) and len(needle.text) >= 6
    ]
    hidden = [text for text, code in patterns.whole_values.items() if code == ID and len(text) >= 6]
    long_names = [
        text for text, code in patterns.whole_values.items() if code == NAME and len(text) >= 4
    ]
    named = [name for name in long_names if contains_word(IdentifierPattern(name, NAME), own)]
    return (
        len(named) >= names
        or any(needle.text == own for needle in patterns.words)
        or any(contains_word(needle, own) for needle in long_ones)
        or any(contains_word(IdentifierPattern(text, ID), own) for text in hidden)
    )


def _own_text(change: Pseudonymization) -> bytes:
    stamp = change.clinical_trial
    own = [change.pseudonym, change.profile.name]
    if change.visit is not None:
        own += [change.visit.id, change.visit.description]
    if stamp is not None:
        own += [getattr(stamp, field) for field in CLINICAL_TRIAL_FIELDS.values()]
    return b"\n".join((OWN_ATTRIBUTE_TEXT, *(text.lower().encode() for text in own)))
