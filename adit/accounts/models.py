"""The user model and the named permissions. Permissions come from groups, see permissions.py."""

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.utils.translation import gettext_lazy as _


class Theme(models.TextChoices):
    AUTO = "auto", _("system setting")
    LIGHT = "light", _("light")
    DARK = "dark", _("dark")


class User(AbstractUser):
    theme = models.CharField(_("theme"), max_length=8, choices=Theme, default=Theme.AUTO)

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
            ("confirm_patients", "Confirm changed patient IDs"),
            ("review_withheld", "Review withheld images"),
            ("read_trail", "Read the audit trail"),
        ]
