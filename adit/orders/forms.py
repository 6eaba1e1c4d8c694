"""Forms of orders: base forms of all orders, and the search and order of a selective transfer.

Used by the order pages and by the filter of the job list.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from adit.jobs.kinds.picked_study import PickedPatient, PickedStudy, distinct_patients
from adit.nodes.models import Node
from adit.projects.models import Project
from adit.projects.services import needs_project
from adit_engine.errors import InvalidInput
from adit_engine.messages import Message
from adit_engine.patient_search.name_matching import fold
from adit_engine.pseudonymize.keys import validate_pseudonym
from adit_engine.pseudonymize.visit import MAX_DESCRIPTION_LENGTH, MAX_ID_LENGTH, TrialVisit
from adit_engine.values.query import DateRange, Query
from adit_engine.values.references import QueryLevel

MAX_DESTINATIONS = 2
MIN_WORD_LENGTH = 3
"""Shorter names and IDs of patients are not looked for in a title."""

PSEUDONYMIZED = "pseudonymized"
AS_IS = "as_is"

_CHECKBOX = {"class": "form-check-input"}


def text_field(
    label: Any, placeholder: Any = "", *, length: int = 64, hint: Any = ""
) -> forms.CharField:
    attrs = {"class": "form-control", "placeholder": placeholder, "autocomplete": "off"}
    return forms.CharField(
        label=label,
        required=False,
        max_length=length,
        help_text=hint,
        widget=forms.TextInput(attrs=attrs),
    )


class NodesField(forms.ModelMultipleChoiceField):
    """A choice of several nodes by checkboxes."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(widget=forms.CheckboxSelectMultiple(attrs=_CHECKBOX), **kwargs)


class OrderFormBase(forms.Form):
    """Fields of all orders."""

    project = forms.ModelChoiceField(
        label=_("Research project"),
        queryset=Project.objects.none(),
        required=False,
        empty_label=_("No research project"),
        widget=forms.Select(attrs={"class": "form-select"}),
        help_text=_(
            "The project ID is written to every image. Pseudonyms are managed per project."
        ),
    )
    title = text_field(
        _("Title"),
        length=100,
        hint=_("Helps you find the job. Do not enter patient names or numbers."),
    )

    def limit(self, name: str, rows: Iterable[Any]) -> None:
        """Restrict the choices of a field to these rows."""
        field = self.fields[name]
        assert isinstance(field, forms.ModelChoiceField)
        assert field.queryset is not None
        field.queryset = field.queryset.model.objects.filter(pk__in=[row.pk for row in rows])


class TransferFormBase(OrderFormBase):
    """Fields of orders that send images."""

    destinations = NodesField(
        label=_("Send to"),
        queryset=Node.objects.none(),
        error_messages={"required": _("Select at least one destination.")},
    )
    change = forms.ChoiceField(
        label=_("Patient data"),
        choices=[
            (PSEUDONYMIZED, _("Pseudonymize")),
            (AS_IS, _("Send unchanged, with names and dates (identified)")),
        ],
        widget=forms.RadioSelect(attrs=_CHECKBOX),
        error_messages={"required": _("Choose whether patient data are pseudonymized.")},
    )
    reason = text_field(_("Reason for sending identified data"), length=200)
    urgent = forms.BooleanField(label=_("Urgent: ignore the allowed hours"), required=False)

    def remove_forbidden_fields(self, *, send_identified: bool, be_urgent: bool) -> None:
        if needs_project(True, is_as_is=False):
            project = self.fields["project"]
            assert isinstance(project, forms.ModelChoiceField)
            project.empty_label = (
                _("No research project (identified transfers only)")
                if send_identified
                else _("Choose a research project")
            )
        if not send_identified:
            del self.fields["change"], self.fields["reason"]
        if not be_urgent:
            del self.fields["urgent"]

    def clean_destinations(self) -> Any:
        nodes = self.cleaned_data["destinations"]
        if len(nodes) > MAX_DESTINATIONS:
            raise forms.ValidationError(_("Select at most two destinations."))
        return nodes

    def clean(self) -> dict[str, Any]:
        values = super().clean() or self.cleaned_data
        if values.get("change") == AS_IS and not values.get("reason"):
            self.add_error("reason", _("Enter a reason for sending identified data."))
        is_chosen = values.get("project") is not None or "project" in self.errors
        if not is_chosen and needs_project(True, self.is_as_is):
            self.add_error("project", str(Message("order.project-required")))
        return values

    @property
    def is_as_is(self) -> bool:
        return self.cleaned_data.get("change") == AS_IS


ORDER_DRAFT_KEY = "selective.order"
"""The key of the draft that stores the input of the order form."""
PSEUDONYM_PREFIX = "pseudonym_"


class SearchDateInput(forms.DateInput):
    input_type = "date"

    def __init__(self, **attrs: Any) -> None:
        super().__init__(format="%Y-%m-%d", attrs={"class": "form-control", **attrs})


class SearchDateField(forms.DateField):
    def __init__(self, label: Any) -> None:
        formats = ["%Y-%m-%d", "%d.%m.%Y", "%Y%m%d"]
        super().__init__(
            label=label, required=False, input_formats=formats, widget=SearchDateInput()
        )


WILDCARD_FIELDS = ("patient_id", "patient_name", "accession_number", "description")
"""The search fields of which only wildcards count as empty."""


class SearchForm(forms.Form):
    sources = NodesField(
        label=_("Search in"),
        queryset=Node.objects.none(),
        error_messages={"required": _("Select at least one PACS or folder.")},
    )
    patient_id = text_field(_("Patient ID"))
    patient_name = text_field(
        _("Patient name"),
        hint=_(
            "Last and first name in any order, with umlauts or without; * matches any characters."
        ),
    )
    birth_date = SearchDateField(_("Birth date"))
    accession_number = text_field(_("Accession number"), length=16)
    study_from = SearchDateField(_("Study date from"))
    study_until = SearchDateField(_("Study date until"))
    modality = text_field(_("Modality"), _("e.g. CT, MR"), length=40)
    description = text_field(_("Study description"), hint=_("A part of the text is sufficient."))

    def __init__(
        self, data: Any, *, sources: Iterable[Node], sees_identified: bool, **kwargs: Any
    ) -> None:
        """Without `sees_identified`, values that are masked in the results are not searched."""
        super().__init__(data, **kwargs)
        if not sees_identified:
            del self.fields["patient_name"], self.fields["birth_date"]
        ids = [node.pk for node in sources]
        field = self.fields["sources"]
        assert isinstance(field, NodesField)
        field.queryset = Node.objects.filter(pk__in=ids)

    def clean_modality(self) -> tuple[str, ...]:
        words = self.cleaned_data["modality"].upper().replace(",", " ").split()
        if not all(word.isascii() and word.isalnum() and len(word) <= 16 for word in words):
            raise forms.ValidationError(_("Enter modality codes, such as CT or MR."))
        return tuple(dict.fromkeys(words))

    def clean(self) -> dict[str, Any]:
        values = super().clean() or self.cleaned_data
        broad = [name for name in WILDCARD_FIELDS if _is_only_wildcards(values.get(name, ""))]
        values |= dict.fromkeys(broad, "")
        keys = ("birth_date", "study_from", "study_until", *WILDCARD_FIELDS)
        if not self.errors and not any(values.get(name) for name in keys):
            for name in broad:
                text = _("This matches every patient. Enter at least one letter or digit as well.")
                self.add_error(name, text)
            if not broad:
                text = _("Fill in at least one more field besides the modality.")
                raise forms.ValidationError(text)
        first, last = values.get("study_from"), values.get("study_until")
        if first and last and first > last:
            self.add_error("study_until", _("This date is before the start date."))
        elif not self.errors:
            try:
                self.query()
            except InvalidInput:
                raise forms.ValidationError(
                    _("Remove backslashes and invisible characters from the search fields.")
                ) from None
        return values

    def query(self) -> Query:
        """Return the query. Raises InvalidInput for characters that DICOM does not allow."""
        values = self.cleaned_data
        keys: dict[str, str | tuple[str, ...]] = {}
        for name, keyword in (("patient_id", "PatientID"), ("accession_number", "AccessionNumber")):
            if values[name]:
                keys[keyword] = values[name]
        if values.get("patient_name"):
            keys["PatientName"] = values["patient_name"]
        if values.get("birth_date"):
            keys["PatientBirthDate"] = values["birth_date"].strftime("%Y%m%d")
        if values["description"]:
            keys["StudyDescription"] = _wildcard_pattern(values["description"])
        if values["modality"]:
            keys["ModalitiesInStudy"] = values["modality"]
        first, last = values["study_from"], values["study_until"]
        dates = DateRange(first, last) if first or last else None
        return Query(QueryLevel.STUDY, keys, dates, wildcards=True)


@dataclass(frozen=True, slots=True)
class OrderRights:
    """What the user may do in an order; determines the fields that are shown."""

    send_identified: bool
    choose_pseudonyms: bool
    be_urgent: bool


class SelectiveOrderForm(TransferFormBase):
    """Destinations, research project, pseudonyms and visits of a selective transfer."""

    keeps_title = forms.BooleanField(
        label=_("Keep this title: it does not identify a patient"),
        required=False,
        widget=forms.CheckboxInput(attrs=_CHECKBOX),
    )

    def __init__(
        self,
        data: Any,
        *,
        destinations: Iterable[Node],
        projects: Iterable[Project],
        picks: Sequence[PickedStudy],
        may: OrderRights,
        **kwargs: Any,
    ) -> None:
        super().__init__(data, **kwargs)
        self.picks = picks
        self.patients = patients = distinct_patients(picks)
        self.may = may
        self.visits: dict[str, TrialVisit] = {}
        """The entered visits by token of the study, after validation; none if identified."""
        self.limit("destinations", destinations)
        self.limit("project", projects)
        self.remove_forbidden_fields(send_identified=may.send_identified, be_urgent=may.be_urgent)
        if may.choose_pseudonyms:
            for patient in patients:
                self.fields[pseudonym_field_name(patient)] = text_field(
                    _("Pseudonym"), _("generated")
                )
        for pick in picks:
            name, description = visit_field_names(pick)
            self.fields[name] = text_field(_("Visit"), _("none"), length=MAX_ID_LENGTH)
            self.fields[description] = text_field(
                _("Description of the visit"), _("Description"), length=MAX_DESCRIPTION_LENGTH
            )

    def clean(self) -> dict[str, Any]:
        values = super().clean()
        if not self.is_as_is:
            self._check_pseudonyms()
            self._read_visits()
        if self.title_names_patient and not values.get("keeps_title"):
            self.add_error(
                "title",
                _(
                    "The title contains the name or ID of a selected patient, and everybody who sees "
                    "the job can read it. Change it, or confirm it below."
                ),
            )
        return values

    @property
    def title_names_patient(self) -> bool:
        """Whether the entered title contains a name or an ID of a patient of the basket."""
        title = self.data.get("title", "") if self.is_bound else ""
        return bool(title) and any(names_patient(title, patient) for patient in self.patients)

    def _check_pseudonyms(self) -> None:
        owners: dict[str, str] = {}
        for patient in self.patients:
            name = pseudonym_field_name(patient)
            text = self.cleaned_data.get(name, "")
            if not text:
                continue
            try:
                validate_pseudonym(text)
            except InvalidInput as error:
                self.add_error(name, str(error))
                continue
            if text in owners:
                self.add_error(name, _("This pseudonym is already used for another patient above."))
            owners[text] = name

    def _read_visits(self) -> None:
        for pick in self.picks:
            names = visit_field_names(pick)
            visit, description = (self.cleaned_data.get(name, "") for name in names)
            if not (visit or description):
                continue
            try:
                self.visits[pick.token] = TrialVisit(visit, description)
            except InvalidInput as error:
                self.add_error(names[0], str(error))

    def pseudonyms(self) -> dict[str, str]:
        """Return the entered pseudonyms by patient token; the others are generated."""
        if self.is_as_is:
            return {}
        typed = {p.token: self.cleaned_data.get(pseudonym_field_name(p), "") for p in self.patients}
        return {token: text for token, text in typed.items() if text}

    def patient_rows(self) -> list[tuple[PickedPatient, Any]]:
        """Return each patient with the pseudonym field; None if it may not be chosen."""
        names = [(patient, pseudonym_field_name(patient)) for patient in self.patients]
        return [(patient, self[name] if name in self.fields else None) for patient, name in names]


def visit_field_names(pick: PickedStudy) -> tuple[str, str]:
    """Return the names of the fields for a visit and its description."""
    return f"visit_{pick.token}", f"visit_description_{pick.token}"


def pseudonym_field_name(patient: PickedPatient) -> str:
    return f"{PSEUDONYM_PREFIX}{patient.token}"


def _is_only_wildcards(text: str) -> bool:
    return bool(text) and not text.strip("*?^=, ")


def names_patient(title: str, patient: PickedPatient) -> bool:
    """Return whether a title contains the name or an ID of the patient."""
    patient_id = patient.patient_id.strip().casefold()
    if len(patient_id) >= MIN_WORD_LENGTH and patient_id in title.casefold():
        return True
    names = {fold(word) for word in _words(patient.name) if len(word) >= MIN_WORD_LENGTH}
    return not names.isdisjoint(map(fold, _words(title)))


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", text)


def _wildcard_pattern(text: str) -> str:
    return text if "*" in text or "?" in text else f"*{text.strip()}*"
