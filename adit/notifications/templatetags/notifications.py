"""The number of unread notifications, for the top bar."""

from django import template

from adit.accounts.models import User
from adit.notifications.services import count_unread

register = template.Library()


@register.simple_tag
def unread_notifications(user: User) -> int:
    return count_unread(user)
