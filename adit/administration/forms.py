"""Forms of users, groups and one-time links."""

from collections.abc import Iterator
from typing import Any

from django import forms
from django.contrib.auth.models import Group, Permission
from django.contrib.auth.password_validation import validate_password
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from adit.accounts.models import SecondFactorGroup, User
from adit.accounts.permissions import STANDARD_GROUPS
from adit.administration.effective_access import named_permissions
from adit.administration.groups import GroupData
from adit.administration.models import AccountRequest
from adit.administration.permission_texts import Text, list_by_section
from adit.administration.users import UserData
from adit.nodes.models import Node, NodeAccess


class UserForm(forms.ModelForm):
    """Names, mail address and groups of an account. Only administrators may appoint staff."""

    groups = forms.ModelMultipleChoiceField(
        Group.objects.order_by("name"),
        label=_("Groups"),
        required=False,
        widget=forms.CheckboxSelectMultiple(attrs={"class": "form-check-input"}),
    )

    class Meta:
        model = User
        fields = ["username", "first_name", "last_name", "email", "is_staff", "groups"]
        labels = {
            "username": _("User name"),
            "email": _("Mail address"),
            "is_staff": _("Staff"),
        }
        error_messages = {
            "username": {
                "unique": _("A user with this name already exists. Choose another user name.")
            }
        }
        help_texts = {
            "username": _("The person signs in with it. Letters, digits and @ . + - _"),
            "email": _("The link to set the password is sent to this address."),
            "is_staff": _(
                "Staff who may see all jobs may also cancel and restart them, and get alarms."
            ),
        }

    def __init__(self, *args: Any, appoints_staff: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            self.fields["groups"].initial = self.instance.groups.all()
        self.fields["is_staff"].disabled = not appoints_staff

    @property
    def data_of_user(self) -> UserData:
        names = [name for name in UserData.__dataclass_fields__ if name in self.cleaned_data]
        values = {name: self.cleaned_data[name] for name in names}
        return UserData(**{**values, "groups": list(values["groups"])})


class ServiceAccountForm(UserForm):
    """Names and groups of an account for a program."""

    class Meta(UserForm.Meta):
        labels = {**UserForm.Meta.labels, "first_name": _("Purpose")}
        help_texts = {
            "username": _("Letters, digits and @ . + - _"),
            "first_name": _("What the program does, for example: evaluation of the LUNG project."),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("last_name", "email", "is_staff"):
            del self.fields[name]


class DeactivateForm(forms.Form):
    """What happens to the jobs that have not ended."""

    CANCEL, HAND_OVER = "cancel", "hand_over"
    jobs = forms.ChoiceField(
        label=_("Jobs that have not ended"),
        choices=[(CANCEL, _("Cancel them")), (HAND_OVER, _("Hand them over to another person"))],
        widget=forms.RadioSelect(attrs={"class": "form-check-input"}),
    )
    successor = forms.ModelChoiceField(
        User.objects.none(),
        label=_("New owner"),
        required=False,
        empty_label=_("Choose a person"),
        help_text=_("The jobs go on with the permissions of this person."),
    )

    def __init__(self, *args: Any, successors: list[User], has_jobs: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        pks = [user.pk for user in successors]
        field = self.fields["successor"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = User.objects.filter(pk__in=pks).order_by("username")
        if not has_jobs:
            del self.fields["jobs"], self.fields["successor"]

    def clean(self) -> dict[str, Any]:
        given = self.cleaned_data
        if given.get("jobs") == self.HAND_OVER and "successor" not in self.errors:
            if given.get("successor") is None:
                self.add_error("successor", _("Choose the person who takes over the jobs."))
        else:
            given["successor"] = None
        return given


class AnonymizeForm(forms.Form):
    typed = forms.CharField(
        label=_("Repeat the user name"),
        max_length=150,
        widget=forms.TextInput(
            attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}
        ),
    )


class AccountRequestForm(forms.ModelForm):
    """What a person without an account enters to get one."""

    class Meta:
        model = AccountRequest
        fields = ["first_name", "last_name", "email", "username", "reason"]
        widgets = {
            "username": forms.TextInput(
                attrs={"autocomplete": "username", "autocapitalize": "none", "spellcheck": "false"}
            ),
            "reason": forms.Textarea(attrs={"rows": 4}),
        }
        help_texts = {
            "email": _("Of your institution. The answer is sent to it."),
            "username": _(
                "You will sign in with it. Letters, digits and @ . + - _. An administrator may "
                "choose another one."
            ),
            "reason": _("Your department and your project or task. No patient data."),
        }


class MembersField(forms.ModelMultipleChoiceField):
    def label_from_instance(self, obj: User) -> str:
        return obj.get_full_name() if obj.is_service else obj.username


class GroupForm(forms.ModelForm):
    """Name, members, permissions, and access to each node."""

    members = MembersField(
        User.objects.none(),
        label=_("Members"),
        required=False,
        widget=forms.CheckboxSelectMultiple(attrs={"class": "form-check-input"}),
    )
    permissions = forms.ModelMultipleChoiceField(
        Permission.objects.none(),
        required=False,
        widget=forms.CheckboxSelectMultiple(attrs={"class": "form-check-input"}),
    )

    requires_second_factor = forms.BooleanField(
        label=_("Members need a second factor to sign in"),
        required=False,
        help_text=_(
            "A member without one is asked to set it up, and can do nothing else until then."
        ),
    )

    class Meta:
        model = Group
        fields = ["name"]
        labels = {"name": _("Name")}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        present = self.instance.user_set.all() if self.instance.pk else User.objects.none()
        members, permissions = self.fields["members"], self.fields["permissions"]
        assert isinstance(members, forms.ModelMultipleChoiceField)
        assert isinstance(permissions, forms.ModelMultipleChoiceField)
        members.queryset = User.objects.filter(
            Q(is_active=True) | Q(pk__in=present.values("pk"))
        ).order_by("username")
        permissions.queryset = named_permissions().order_by("codename")
        if self.instance.pk:
            members.initial = present
            is_required = SecondFactorGroup.objects.filter(group=self.instance).exists()
            self.fields["requires_second_factor"].initial = is_required
            permissions.initial = self.instance.permissions.all()
        if self.instance.name in STANDARD_GROUPS:
            self.fields["name"].disabled = True
            self.fields["name"].help_text = _("The names of the standard groups are fixed.")
        self.nodes = list(Node.objects.order_by("name"))
        self._add_node_fields()

    def _add_node_fields(self) -> None:
        rows = NodeAccess.objects.filter(group=self.instance.pk) if self.instance.pk else ()
        held = {row.node_id: row for row in rows}
        for node in self.nodes:
            row = held.get(node.pk)
            for name, has in (("read", row and row.may_read), ("write", row and row.may_write)):
                self.fields[f"{name}_{node.pk}"] = forms.BooleanField(
                    required=False, initial=bool(has), label=f"{node.name}: {name}"
                )

    def matrix(self) -> Iterator[tuple[Node, forms.BoundField, forms.BoundField]]:
        """Yield each node with its two checkboxes."""
        return ((n, self[f"read_{n.pk}"], self[f"write_{n.pk}"]) for n in self.nodes)

    def sections(self) -> list[tuple[Text, list[tuple[Any, Text, Text]]]]:
        """Return per section its checkboxes, each with label and sentence."""
        boxes = {int(str(box.data["value"])): box for box in self["permissions"]}
        return [
            (title, [(boxes[permission.pk], label, text) for permission, label, text in rows])
            for title, rows in list_by_section(named_permissions())
        ]

    @property
    def data_of_group(self) -> GroupData:
        data = self.cleaned_data
        return GroupData(
            data["name"],
            list(data["members"]),
            list(data["permissions"]),
            {n: (data[f"read_{n.pk}"], data[f"write_{n.pk}"]) for n in self.nodes},
            data["requires_second_factor"],
        )


class NewPasswordForm(forms.Form):
    """A password, typed twice. `user` is the account that it is for."""

    password1 = forms.CharField(
        label=_("Password"),
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text=_(
            "At least 12 characters. Not your name and not a common password. A sequence of "
            "several words is easy to remember."
        ),
    )
    password2 = forms.CharField(
        label=_("Repeat the password"),
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user

    def clean_password2(self) -> str:
        first, second = self.cleaned_data.get("password1"), self.cleaned_data["password2"]
        if first is not None and first != second:
            raise forms.ValidationError(_("The passwords are different."))
        return str(second)

    def clean(self) -> dict[str, Any]:
        if first := self.cleaned_data.get("password1"):
            try:
                validate_password(first, self.user)
            except forms.ValidationError as error:
                self.add_error("password1", error)
        return self.cleaned_data


class ForgottenPasswordForm(forms.Form):
    account = forms.CharField(
        label=_("User name or mail address"),
        max_length=254,
        widget=forms.TextInput(
            attrs={"autocomplete": "username", "autocapitalize": "none", "spellcheck": "false"}
        ),
    )


class FirstAdministratorForm(NewPasswordForm):
    """The account of the first administrator."""

    field_order = ["username", "first_name", "last_name", "email", "password1", "password2"]
    username = UserForm.base_fields["username"]
    first_name = UserForm.base_fields["first_name"]
    last_name = UserForm.base_fields["last_name"]
    email = forms.EmailField(label=_("Mail address"), required=False, max_length=254)

    def clean_username(self) -> str:
        name = str(self.cleaned_data["username"])
        if User.objects.filter(username=name).exists():
            raise forms.ValidationError(_("There is already a user with this name."))
        return name

    def clean(self) -> dict[str, Any]:
        for name in ("username", "first_name", "last_name", "email"):
            setattr(self.user, name, self.cleaned_data.get(name, ""))
        return super().clean()
