"""The model of API tokens. Used by `tokens`."""

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from adit.nodes.models import Node


class ApiToken(models.Model):
    """A token with which programs act as its user, within its scopes and nodes.

    Only a keyed digest is stored. Rows are kept after the end of the token, as a record.
    """

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_tokens"
    )
    name = models.CharField(_("name"), max_length=64)
    prefix = models.CharField(max_length=16, unique=True)
    """The first part of the token, to find the row."""
    digest = models.CharField(max_length=64)
    scopes = models.JSONField(default=list)
    """Values of `tokens.Scope`."""
    all_nodes = models.BooleanField(_("all PACS and folders of the user"), default=False)
    nodes = models.ManyToManyField(Node, blank=True, related_name="+")
    """Applies if `all_nodes` is false."""
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True)
    """None: never. The user needs a permission for this."""
    last_used_at = models.DateTimeField(null=True)
    """Accurate to a minute."""
    revoked_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-created_at", "-pk"]

    def __str__(self) -> str:
        return self.name

    @property
    def has_expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= timezone.now()
