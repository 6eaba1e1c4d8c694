"""One-time links: to set a password, or to create the first administrator."""

from django.conf import settings
from django.db import models


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
