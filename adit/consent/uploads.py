"""Upload a whole consent list: check its rows, compare it with the current version, confirm it.

Until it is confirmed, the list is stored encrypted under the key of the project, one per user and
project. Used by the pages of the consent list.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from adit.accounts.models import User
from adit.consent.changes import (
    Consent,
    add_version,
    find_current,
    list_domains,
    record_version,
    replace_entries,
    require_change,
)
from adit.consent.checking import get_version
from adit.consent.models import ConsentEntry, ConsentUpload, ConsentVersion
from adit.projects.models import Project
from adit.projects.services import get_project_cipher
from adit.spreadsheets.columns import SheetKind
from adit.spreadsheets.consent_rows import (
    ConsentRow,
    ConsentRules,
    require_known_columns,
    validate_consent_rows,
)
from adit.spreadsheets.mapping import guess_mapping
from adit.spreadsheets.reader import ReadableFile, read_sheet
from adit.spreadsheets.row_reader import DateOrder
from adit.spreadsheets.row_verdicts import RowVerdict, ValidatedSheet
from adit.spreadsheets.table import SheetTable
from adit_engine.errors import InvalidInput

VERSIONS_COMPARED = 50
"""With so many versions before the current one an uploaded list is compared."""


class RowEffect(StrEnum):
    """What a row does to the list."""

    ADDED = "added"
    CHANGED = "changed"
    WITHDRAWN = "withdrawn"
    KEPT_WITHDRAWN = "kept withdrawn"
    """The patient withdrew before, and the row says nothing of it."""
    UNCHANGED = "unchanged"


EFFECT_NAMES = {
    RowEffect.ADDED: _("added"),
    RowEffect.CHANGED: _("changed"),
    RowEffect.WITHDRAWN: _("withdrawn"),
    RowEffect.KEPT_WITHDRAWN: _("stays withdrawn"),
    RowEffect.UNCHANGED: _("unchanged"),
}


@dataclass
class UploadedList:
    """An uploaded list, and what it would change in the current version."""

    project: Project
    pk: int
    table: SheetTable = field(repr=False)
    default_domain: str
    order: DateOrder

    @cached_property
    def version(self) -> ConsentVersion | None:
        """The version that the list is compared with."""
        return get_version(self.project)

    @cached_property
    def validated(self) -> ValidatedSheet[ConsentRow]:
        rules = ConsentRules(list_domains(), self.default_domain, timezone.localdate())
        mapping = guess_mapping(self.table, SheetKind.CONSENT)
        return validate_consent_rows(self.table, mapping, self.order, rules)

    @cached_property
    def errors(self) -> int:
        return self.validated.counts[RowVerdict.ERROR]

    @cached_property
    def consents(self) -> dict[str, Consent]:
        """The valid rows by the index of their patient."""
        cipher = get_project_cipher(self.project)
        found = [
            Consent(row.domain, row.patient_id, row.modalities, row.valid_until, row.withdrawn_on)
            for row in (validated.row for validated in self.validated.valid_rows)
            if row is not None
        ]
        return {consent.compute_index(cipher): consent for consent in found}

    @cached_property
    def current(self) -> Mapping[str, ConsentEntry]:
        return find_current(self.project)

    @cached_property
    def effects(self) -> dict[str, RowEffect]:
        """What happens to each patient of the list, by index."""
        return {index: self._get_effect(index, consent) for index, consent in self.consents.items()}

    @cached_property
    def effects_by_line(self) -> dict[int, RowEffect]:
        cipher = get_project_cipher(self.project)
        return {
            row.line: self.effects[Consent(row.domain, row.patient_id).compute_index(cipher)]
            for row in (validated.row for validated in self.validated.valid_rows)
            if row is not None
        }

    @cached_property
    def removed(self) -> list[ConsentEntry]:
        """The patients of the current version who are not on the list. Withdrawals stay."""
        return [
            entry
            for index, entry in self.current.items()
            if index not in self.consents and entry.withdrawn_on is None
        ]

    @cached_property
    def kept_withdrawals(self) -> int:
        """Patients who withdrew before, and of whose withdrawal the list says nothing."""
        return sum(
            entry.withdrawn_on is not None
            and (index not in self.consents or self.consents[index].withdrawn_on is None)
            for index, entry in self.current.items()
        )

    def count(self, effect: RowEffect) -> int:
        return sum(one is effect for one in self.effects.values())

    @property
    def changes_nothing(self) -> bool:
        idle = {RowEffect.UNCHANGED, RowEffect.KEPT_WITHDRAWN}
        is_in_use = self.version is not None and self.version.is_in_use
        return is_in_use and not self.removed and set(self.effects.values()) <= idle

    @cached_property
    def upload_index(self) -> str:
        """The keyed hash of what the list says, whatever the order of its rows."""
        said = sorted((index, *map(str, one.terms)) for index, one in self.consents.items())
        return get_project_cipher(self.project).index(repr(said), "consent upload")

    @cached_property
    def same_as(self) -> ConsentVersion | None:
        """The last version with the same list, if the list was changed since.

        Either the version came from this list, or had exactly these entries, as in its export.
        """
        if self.version is None:
            return None
        earlier = ConsentVersion.objects.filter(project=self.project).exclude(pk=self.version.pk)
        numbers = self._find_equal_versions()
        same = earlier.filter(Q(upload_index=self.upload_index) | Q(number__in=numbers))
        found = same.order_by("-number").first()
        if found is None or self.version.upload_index == self.upload_index:
            return None
        return found

    def _find_equal_versions(self) -> list[int]:
        """Return the numbers of the last versions that had exactly the entries of the list."""
        assert self.version is not None
        wanted = {(index, *one.terms) for index, one in self.consents.items()}
        rows = ConsentEntry.objects.filter(project=self.project).values_list(
            *("index", "modalities", "valid_until", "withdrawn_on"),
            *("added_in__number", "replaced_in__number"),
        )
        last = self.version.number
        spans = [(tuple(entry), added, ended or last + 1) for *entry, added, ended in rows]
        return [
            number
            for number in range(max(1, last - VERSIONS_COMPARED), last)
            if sum(added <= number < ended for _entry, added, ended in spans) == len(wanted)
            and {entry for entry, added, ended in spans if added <= number < ended} == wanted
        ]

    @cached_property
    def similar_to_withdrawn(self) -> int:
        """Rows whose patient ID is that of a withdrawn patient but for leading zeros or case."""
        withdrawn = {
            (entry.domain, _normalize(entry.patient_id)): index
            for index, entry in self.current.items()
            if entry.withdrawn_on is not None
        }
        return sum(
            withdrawn.get((one.domain, _normalize(one.patient_id)), index) != index
            for index, one in self.consents.items()
            if one.withdrawn_on is None
        )

    @property
    def token(self) -> str:
        """What the person who confirms has seen: file, version and number of errors."""
        number = 0 if self.version is None else self.version.number
        return f"{self.pk}-{number}-{self.errors}"

    def _get_effect(self, index: str, consent: Consent) -> RowEffect:
        entry = self.current.get(index)
        if entry is not None and entry.withdrawn_on is not None:
            kept = consent.withdrawn_on is None
            return RowEffect.KEPT_WITHDRAWN if kept else RowEffect.UNCHANGED
        if consent.withdrawn_on is not None:
            return RowEffect.WITHDRAWN
        if entry is None:
            return RowEffect.ADDED
        terms = entry.modalities, entry.valid_until, entry.withdrawn_on
        return RowEffect.UNCHANGED if terms == consent.terms else RowEffect.CHANGED


def store_upload(
    user: User,
    project: Project,
    file: ReadableFile,
    name: str,
    *,
    default_domain: str,
    order: DateOrder,
) -> None:
    """Read a file and store it until it is confirmed, instead of an earlier one of the user.

    Raises UnreadableSheet, InvalidInput; then nothing is stored.
    """
    table = read_sheet(file, name)
    require_known_columns(table, guess_mapping(table, SheetKind.CONSENT))
    uploaded = UploadedList(project, 0, table, default_domain, order)
    if not uploaded.validated.rows:
        raise InvalidInput("consent.no-valid-rows")
    content = {"table": table.to_json(), "domain": default_domain, "order": order}
    with transaction.atomic():
        discard_upload(user, project)
        sealed = get_project_cipher(project).seal(content, _seal_context(user))
        ConsentUpload.objects.create(project=project, user=user, sealed=sealed)


def load_upload(user: User, project: Project) -> UploadedList | None:
    """Return the list that the user uploaded and did not confirm yet; None if there is none."""
    row = ConsentUpload.objects.filter(project=project, user=user).first()
    if row is None:
        return None
    content = get_project_cipher(project).open(row.sealed, _seal_context(user))
    table = SheetTable.from_json(content["table"])
    order = DateOrder(content["order"])
    return UploadedList(project, row.pk, table, content["domain"], order)


def discard_upload(user: User, project: Project) -> None:
    ConsentUpload.objects.filter(project=project, user=user).delete()


def confirm_upload(
    user: User,
    project: Project,
    reason: str,
    *,
    token: str,
    skip_errors: bool = False,
    accept_old: bool = False,
) -> ConsentVersion:
    """Replace the current version by the uploaded list. Withdrawals are never undone.

    `token`: what the user has seen, see `UploadedList.token`. `skip_errors`: rows with errors are
    left out, and their patients are not on the list. `accept_old`: the list is that of an earlier
    version. Raises NotPermitted, InvalidInput.
    """
    reason = require_change(user, project, reason)
    with transaction.atomic():
        Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        uploaded = load_upload(user, project)
        if uploaded is None or uploaded.token != token:
            raise InvalidInput("consent.changed-meanwhile")
        if uploaded.errors and not skip_errors:
            raise InvalidInput("consent.rows-with-errors")
        if not uploaded.consents:
            raise InvalidInput("consent.no-valid-rows")
        if uploaded.changes_nothing:
            raise InvalidInput("consent.no-difference")
        if uploaded.same_as is not None and not accept_old:
            raise InvalidInput("consent.old-version", version=uploaded.same_as.number)
        version = add_version(user, project, reason, upload_index=uploaded.upload_index)
        _apply(uploaded, version)
        _record(user, uploaded, version)
        discard_upload(user, project)
    return version


def _apply(uploaded: UploadedList, version: ConsentVersion) -> None:
    effective = {RowEffect.ADDED, RowEffect.CHANGED, RowEffect.WITHDRAWN}
    new = {
        index: consent
        for index, consent in uploaded.consents.items()
        if uploaded.effects[index] in effective
    }
    ended = {index: entry for index, entry in uploaded.current.items() if index in new}
    ended |= {entry.index: entry for entry in uploaded.removed}
    replace_entries(version, ended, new.values())


def _record(user: User, uploaded: UploadedList, version: ConsentVersion) -> None:
    record_version(
        "consent.uploaded",
        user,
        version,
        added=uploaded.count(RowEffect.ADDED),
        changed=uploaded.count(RowEffect.CHANGED),
        withdrawn=uploaded.count(RowEffect.WITHDRAWN),
        removed=len(uploaded.removed),
        rows_with_errors=uploaded.errors,
    )


def _normalize(patient_id: str) -> str:
    bare = patient_id.strip(" \0").casefold()
    return bare.lstrip("0") or bare[:1]


def _seal_context(user: User) -> str:
    return f"consent upload {user.pk}"
