"""Forms of research projects, pseudonyms and profiles. The reason form is also used by results."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, cast

from django import forms
from django.contrib.auth.models import Group
from django.db.models import Q, QuerySet
from django.utils.translation import gettext_lazy as _

from adit.accounts.models import User
from adit.nodes.models import Node
from adit.projects import profile_versions, risks, services
from adit.projects.models import ProfileVersion, Project, RiskChoice
from adit.projects.pseudonym_import import MAX_FILE_BYTES, ImportRejected, PseudonymPair, read_pairs
from adit.projects.validators import MAX_REASON_LENGTH, validate_pattern
from adit_engine.errors import InvalidInput
from adit_engine.values.references import StudyRef

_CHECKBOX = {"class": "form-check-input"}


class CheckboxListField(forms.ModelMultipleChoiceField):
    """A list of checkboxes; none has to be checked."""

    def __init__(self, label: Any, help_text: Any, queryset: QuerySet[Any]) -> None:
        super().__init__(
            queryset,
            label=label,
            help_text=help_text,
            required=False,
            widget=forms.CheckboxSelectMultiple(attrs=_CHECKBOX),
        )


_REQUIRED_COLUMNS = (*services.APPROVAL_FIELDS, "all_modalities", "modalities")
_TICK_FIELDS = ("members", "member_users", "sources", "destinations")
FIELD_GROUPS: Sequence[tuple[Any, Sequence[str]]] = (
    (_("Project"), (*services.IMAGE_FIELDS, "protocol_id", "profile")),
    (_("Approval"), services.APPROVAL_FIELDS),
    (_("Limits"), services.LIMIT_FIELDS),
)
"""Headings of the page with their fields."""


class RiskField(forms.ChoiceField):
    """The decision on a risk, without an initial value."""

    def __init__(self, risk: risks.Risk) -> None:
        super().__init__(
            label=risk.title,
            choices=RiskChoice.choices,
            widget=forms.RadioSelect(attrs=_CHECKBOX),
            error_messages={"required": _("Select an option. There is no default.")},
        )


class UserListField(CheckboxListField):
    """A list of users by name. The form of a project limits it to active users."""

    def __init__(self, label: Any, help_text: Any) -> None:
        super().__init__(label, help_text, User.objects.order_by("last_name", "username"))

    def label_from_instance(self, obj: Any) -> str:
        name = obj.get_full_name()
        return f"{name} ({obj.username})" if name else str(obj.username)


class ProjectForm(forms.ModelForm):
    """A research project. Fields that delivered images contain are disabled."""

    faces = RiskField(risks.FACES)
    header_word = RiskField(risks.HEADER_WORD)

    members = CheckboxListField(
        _("members"),
        _("Users in these groups can see the project and its jobs, and can order for it."),
        Group.objects.order_by("name"),
    )
    member_users = UserListField(
        _("single members"), _("Users who are members without belonging to one of these groups.")
    )
    sources = CheckboxListField(
        _("sources"),
        _("Images are fetched for the project only from these. If none is selected: from nowhere."),
        Node.objects.order_by("name"),
    )
    destinations = CheckboxListField(
        _("destinations"),
        _("Images are sent for the project only to these. If none is selected: to nowhere."),
        Node.objects.order_by("name"),
    )

    list_holders = CheckboxListField(
        _("hold the identification list"),
        _(
            "Members in these groups see the pseudonyms of the patients in their jobs and result "
            "sheets. Coordinators need this to find a patient's images. Each use is recorded."
        ),
        Group.objects.order_by("name"),
    )
    list_holder_users = UserListField(
        _("single members who hold the identification list"), _("They must be members as well.")
    )
    reidentifiers = CheckboxListField(
        _("may re-identify"),
        _(
            "Members in these groups can find the patient of a pseudonym and export the list of "
            "all patients. Each use needs a reason and is recorded."
        ),
        Group.objects.order_by("name"),
    )
    reidentifier_users = UserListField(
        _("single members who may re-identify"), _("They must be members as well.")
    )

    class Meta:
        model = Project
        fields = [
            "protocol_id",
            "protocol_name",
            "sponsor",
            "site_name",
            "site_id",
            "pattern",
            *services.APPROVAL_FIELDS,
            *services.LIMIT_FIELDS,
            *risks.FIELDS,
            "profile",
            "members",
            "member_users",
            "sources",
            "destinations",
            *services.LINK_FIELDS,
        ]
        widgets = {
            name: forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"})
            for name in ("expires_on", "deletion_on")
        }
        help_texts = {
            "protocol_id": _(
                "For example LUNG-2026. It is written to every image and cannot be changed later."
            ),
            "protocol_name": _("The displayed name. It is written to every image."),
            "sponsor": _(
                "The organization responsible for the research. It is written to every image."
            ),
            "site_name": _("The name of your site in the project."),
            "pattern": _(
                "For example LUNG-####. If empty, pseudonyms are derived from the key of the project."
            ),
            "expires_on": _(
                "After this day, nothing is sent for the project. Mails are sent 30 and 7 days before."
            ),
            "deletion_on": _("The day by which the recipient must delete the data."),
            "approval_number": _("For example that of the ethics committee."),
            "responsible": _(
                "The person responsible for the project. If you add a mail address, it gets a mail "
                "30 and 7 days before the end."
            ),
            "legal_basis": _("For example consent, or a section of a law."),
            "recipient": _("The final recipient of the images."),
            "modalities": _(
                "For example CT, MR. Series of other modalities are not transferred. Leave this "
                "empty if all modalities are selected."
            ),
            "second_person": _(
                "Nobody can approve their own order. Queries and checks need no approval."
            ),
            **{
                risk.reason: _(
                    "Required if the risk is accepted. It is shown in the report of each job."
                )
                for risk in risks.RISKS
            },
            "profile": _(
                "What is removed from images and what is kept. With another profile, all images get "
                "new identifiers from then on, unless it only adds pixel rules for images that "
                "were withheld."
            ),
        }

    def __init__(self, *args: Any, proposer: User | None = None, **kwargs: Any) -> None:
        """With a `proposer`, only they and their groups can be members. A manager chooses the
        rest.
        """
        super().__init__(*args, **kwargs)
        self._proposes = proposer is not None
        if proposer is not None:
            for name in ("sources", "destinations", *services.LINK_FIELDS):
                del self.fields[name]
            members = cast(forms.ModelMultipleChoiceField, self.fields["members"])
            members.queryset = proposer.groups.order_by("name")
        for name in services.USER_FIELDS.values():
            if name in self.fields:
                self._limit_users(name, proposer)
        profile_versions.create_presets()
        profile = cast(forms.ModelChoiceField, self.fields["profile"])
        current = ProfileVersion.objects.filter(pk=self.instance.profile_id)
        profile.queryset = profile_versions.newest_versions() | current
        profile.empty_label = None
        if self.instance.pk is None:
            self.fields["profile"].initial = services.default_profile()
            return
        for name in self._settled():
            self.fields[name].disabled = True
            self.fields[name].help_text = _("Already written to images. It cannot be changed.")

    def _limit_users(self, name: str, proposer: User | None) -> None:
        """Offer the active users and those who are chosen; to a proposer only themselves."""
        users = Q(is_active=True) if proposer is None else Q(pk=proposer.pk)
        if self.instance.pk is not None:
            users |= Q(pk__in=getattr(self.instance, name).values("pk"))
        field = cast(forms.ModelMultipleChoiceField, self.fields[name])
        assert field.queryset is not None
        field.queryset = field.queryset.filter(users)

    def _settled(self) -> set[str]:
        if self.instance.is_default:
            return set(self.fields) - {"profile", *risks.FIELDS, *services.LINK_FIELDS}
        used = services.IMAGE_FIELDS if services.has_patients(self.instance) else ()
        return {"protocol_id", *used}

    def clean_pattern(self) -> str:
        pattern = str(self.cleaned_data["pattern"])
        if pattern:
            try:
                validate_pattern(pattern)
            except InvalidInput as error:
                raise forms.ValidationError(str(error), code=error.message.code) from None
        return pattern

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        for name in ("protocol_name", "sponsor", "site_name", "site_id"):
            text = cleaned.get(name) or ""
            if "\\" in text or not text.isprintable():
                self.add_error(
                    name,
                    _("Not allowed, because it is written to images: backslash and line break."),
                )
        for risk in risks.RISKS:
            if cleaned.get(risk.name) == RiskChoice.ACCEPT and not cleaned.get(risk.reason):
                self.add_error(risk.reason, _("Enter the reason why the risk is accepted."))
        for name in self._find_gaps(cleaned):
            self.add_error(name, _("Required: without it, nothing is sent for the project."))
        return cleaned

    def _find_gaps(self, cleaned: dict[str, Any]) -> list[str]:
        """The fields without which the project cannot be saved: those that an accepted project
        would lose, and all that are required in a new project of a manager.
        """
        if self._proposes or not self.instance.is_accepted:
            return []
        present = [] if self.instance.pk is None else services.list_missing(self._stored())
        data = Project(**{name: cleaned.get(name) for name in _REQUIRED_COLUMNS})
        data.is_default = self.instance.is_default
        missing = services.list_missing(data, defaultdict(list, cleaned))
        return [name for name in missing if name not in present and name not in self.errors]

    def _stored(self) -> Project:
        return Project.objects.get(pk=self.instance.pk)

    @property
    def groups(self) -> list[tuple[Any, list[forms.BoundField]]]:
        return [
            (heading, [self[name] for name in self.fields if name in names])
            for heading, names in FIELD_GROUPS
        ]

    @property
    def risk_fields(self) -> list[tuple[risks.Risk, forms.BoundField, forms.BoundField]]:
        return [(risk, self[risk.name], self[risk.reason]) for risk in risks.RISKS]

    @property
    def ticks(self) -> list[forms.BoundField]:
        return [self[name] for name in _TICK_FIELDS if name in self.fields]

    @property
    def link_ticks(self) -> list[forms.BoundField]:
        return [self[name] for name in services.LINK_FIELDS if name in self.fields]

    @property
    def relations(self) -> dict[str, Any]:
        names = [field.name for field in (*self.ticks, *self.link_ticks)]
        return {name: self.cleaned_data[name] for name in names}


class ReasonForm(forms.Form):
    reason = forms.CharField(
        label=_("reason"),
        max_length=MAX_REASON_LENGTH,
        help_text=_("Recorded in the audit trail with your name. Do not enter patient names."),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )


class PatientMergeForm(ReasonForm):
    """Another patient ID of the same person, and the node it comes from."""

    node = forms.ModelChoiceField(
        Node.objects.none(),
        label=_("source of the patient ID"),
        help_text=_("The same patient ID can be another patient in the PACS of another hospital."),
        empty_label=None,
    )
    patient_id = forms.CharField(
        label=_("patient ID"),
        max_length=64,
        help_text=_("The other patient ID of the person, exactly as the PACS shows it."),
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    new_generation = forms.BooleanField(
        label=_(
            "The patient ID already has a pseudonym: give all images of the project new identifiers "
            "from now on"
        ),
        required=False,
        widget=forms.CheckboxInput(attrs=_CHECKBOX),
    )
    field_order = ("node", "patient_id", "reason", "new_generation")

    def __init__(self, *args: Any, nodes: QuerySet[Node], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        cast(forms.ModelChoiceField, self.fields["node"]).queryset = nodes


class ApprovalDocumentForm(forms.Form):
    file = forms.FileField(
        label=_("PDF file"),
        widget=forms.ClearableFileInput(attrs={"accept": ".pdf,application/pdf"}),
    )


class ExtendForm(ReasonForm):
    until = forms.DateField(
        label=_("new end"),
        help_text=_("The last day on which images are sent for the project."),
        widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"}),
    )
    field_order = ("until", "reason")


class DestroyKeyForm(ReasonForm):
    typed = forms.CharField(
        label=_("repeat the project ID"),
        max_length=64,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )


class PseudonymImportForm(forms.Form):
    """A CSV file of patient IDs and pseudonyms, and the node of the patient IDs."""

    node = forms.ModelChoiceField(
        Node.objects.none(),
        label=_("source of the patient IDs"),
        help_text=_("The same patient ID can be another patient in the PACS of another hospital."),
        empty_label=None,
    )
    file = forms.FileField(
        label=_("CSV file"),
        help_text=_("Headers patient_id and pseudonym, then one row for each patient, in UTF-8."),
        widget=forms.ClearableFileInput(attrs={"accept": ".csv,text/csv"}),
    )

    def __init__(self, *args: Any, nodes: QuerySet[Node], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        cast(forms.ModelChoiceField, self.fields["node"]).queryset = nodes

    def clean_file(self) -> list[PseudonymPair]:
        try:
            return read_pairs(self.cleaned_data["file"].read(MAX_FILE_BYTES + 1))
        except ImportRejected as error:
            raise forms.ValidationError([str(problem) for problem in error.problems]) from None


class ProfileTextForm(forms.Form):
    text = forms.CharField(
        label=_("rules"),
        max_length=profile_versions.MAX_TEXT_LENGTH,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 18, "spellcheck": "false", "class": "code-box"}),
    )


class ProfilePreviewForm(forms.Form):
    node = forms.ModelChoiceField(Node.objects.none(), label=_("PACS or folder"), empty_label=None)
    study_uid = forms.CharField(
        label=_("study UID"),
        max_length=64,
        help_text=_(
            "The Study Instance UID, as the PACS shows it. One image of the study is fetched."
        ),
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )

    def __init__(self, *args: Any, nodes: QuerySet[Node], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        cast(forms.ModelChoiceField, self.fields["node"]).queryset = nodes

    def clean_study_uid(self) -> StudyRef:
        try:
            return StudyRef(self.cleaned_data["study_uid"])
        except InvalidInput as error:
            raise forms.ValidationError(str(error), code=error.message.code) from None
