"""Users with the named permissions, and their sessions.

Permissions come from groups, see permissions.py.
"""

from django.contrib.auth.models import AbstractUser, Group
from django.db import models
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _


class Theme(models.TextChoices):
    AUTO = "auto", _("system setting")
    LIGHT = "light", _("light")
    DARK = "dark", _("dark")


class User(AbstractUser):
    theme = models.CharField(_("theme"), max_length=8, choices=Theme, default=Theme.AUTO)
    is_service = models.BooleanField(_("service account"), default=False)
    """Of a program: it has API tokens, and cannot sign in to the pages in any way."""
    anonymized_at = models.DateTimeField(null=True, editable=False)
    """When names and everything personal were removed for good; see anonymization.py."""

    class Meta:
        # Permissions without a model of their own. The enum in permissions.py lists them as well.
        permissions = [
            ("see_identified", "See names and birth dates"),
            ("transfer_identified", "Transfer identified data"),
            ("choose_pseudonyms", "Choose pseudonyms"),
            ("use_archives", "Order encrypted 7-Zip files"),
            ("download", "Download in the browser"),
            ("be_urgent", "Transfer outside the allowed hours"),
            ("approve_jobs", "Approve jobs"),
            ("see_all_jobs", "See the jobs of all users"),
            ("manage_nodes", "Manage PACS and folders"),
            ("write_clinical", "Write to clinical PACS"),
            ("manage_projects", "Manage research projects"),
            ("manage_profiles", "Manage profiles"),
            ("manage_users", "Manage users and groups"),
            ("administer", "Administrator: grant any permission"),
            ("tokens_without_expiry", "Create API tokens without expiry"),
            ("confirm_patients", "Confirm changed patient IDs"),
            ("review_withheld", "Review withheld images"),
            ("read_trail", "Read the audit trail"),
            ("manage_block_list", "Manage the block list"),
        ]

    def get_full_name(self) -> str:
        """Return the name of a person, or mark that of a service account."""
        name = super().get_full_name()
        if not self.is_service:
            return name
        return gettext("%(name)s (service account)") % {"name": name or self.username}


class SecondFactorGroup(models.Model):
    """A group whose members need a second factor to sign in."""

    group = models.OneToOneField(
        Group, primary_key=True, on_delete=models.CASCADE, related_name="second_factor_rule"
    )

    def __str__(self) -> str:
        return self.group.name


class KnownBrowser(models.Model):
    """A browser in which a user has signed in. Its cookie holds the name that is hashed here."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="known_browsers")
    digest = models.CharField(max_length=64)
    last_used_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "digest"], name="known_browser_once")
        ]

    def __str__(self) -> str:
        return f"browser {self.pk}"


class UserSession(models.Model):
    """One session of a browser; without a user before the sign-in. Written by `sessions`."""

    digest = models.CharField(max_length=64, unique=True)
    """Keyed hash of the session key, which is stored in the browser only."""
    data = models.TextField()
    user = models.ForeignKey(User, null=True, on_delete=models.CASCADE, related_name="sessions")
    address = models.GenericIPAddressField(null=True)
    browser = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    last_seen_at = models.DateTimeField()
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        ordering = ["-last_seen_at", "-pk"]
