"""One-time links for passwords and the first administrator, and requests for accounts."""

from django.conf import settings
from django.contrib.auth.validators import UnicodeUsernameValidator
from django.db import models
from django.utils.translation import gettext_lazy as _


class OneTimeLink(models.Model):
    """A link that is valid once and for a limited time. Only a digest of its token is stored."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.CASCADE, related_name="one_time_link"
    )
    """Whose password it sets. NULL: it creates the first administrator."""
    digest = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"link {self.pk}"


class AccountRequest(models.Model):
    """A person without an account asks for one. Deleted when it is accepted or declined."""

    username = models.CharField(
        _("User name"), max_length=150, validators=[UnicodeUsernameValidator()]
    )
    """As wished. It may be taken: the page does not tell who has an account."""
    first_name = models.CharField(_("First name"), max_length=150)
    last_name = models.CharField(_("Last name"), max_length=150)
    email = models.EmailField(_("Mail address"))
    reason = models.TextField(_("What you need ADIT for"), max_length=1000)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["created_at", "pk"]

    def __str__(self) -> str:
        return f"request {self.pk}"
