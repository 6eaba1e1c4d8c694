"""The ways to sign in that the settings allow. Used by the sign-in page."""

from django import template
from django.conf import settings

from adit.accounts.sign_in_settings import OpenIdProvider

register = template.Library()


@register.simple_tag
def openid_providers() -> list[OpenIdProvider]:
    return list(settings.OPENID_PROVIDERS.values())


@register.simple_tag
def self_registration() -> bool:
    return settings.SELF_REGISTRATION
