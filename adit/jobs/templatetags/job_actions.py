"""Template tags for the table of actions: buttons on pages, and the list for the help page."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django import template
from django.urls import reverse

from adit.jobs import actions
from adit.jobs.actions import Action, Text
from adit.jobs.models import Job, Task
from adit.nodes.models import Lane

register = template.Library()

_CSS_CLASSES = {"primary": "btn btn-primary", "danger": "btn btn-outline-danger"}


@dataclass(frozen=True, slots=True)
class ActionButton:
    url: str
    label: Text
    confirmation: Text
    icon: str
    css_class: str
    is_link: bool


@register.inclusion_tag("jobs/_action_buttons.html", takes_context=True)
def action_buttons(
    context: template.Context, target: Job | Task, allowed: Mapping[str, Action]
) -> dict[str, Any]:
    """Render the allowed actions on a job or task. See also reason_forms."""
    return {
        "buttons": [_button(target, each) for each in allowed.values() if not each.needs_reason],
        "csrf_token": context.get("csrf_token"),
    }


@register.inclusion_tag("jobs/_reason_forms.html", takes_context=True)
def reason_forms(
    context: template.Context, job: Job, allowed: Mapping[str, Action]
) -> dict[str, Any]:
    """Render the allowed actions on a job that need a reason, each as a form."""
    return {
        "forms": [(_button(job, each), each) for each in allowed.values() if each.needs_reason],
        "csrf_token": context.get("csrf_token"),
    }


@register.simple_tag
def documented_actions() -> list[Action]:
    """Return the actions that the help page explains."""
    both = (*actions.job_actions().values(), *actions.task_actions().values())
    return [action for action in both if action.help]


def _button(target: Job | Task, action: Action) -> ActionButton:
    label, confirmation = action.label, action.confirmation
    if isinstance(target, Task):
        url = reverse("job_task_action", args=[target.job_id, target.position, action.name])
        if target.lane == Lane.SEARCH:
            label = action.search_label or label
            confirmation = action.search_confirmation or confirmation
    elif action.url_name:
        url = reverse(action.url_name, args=[target.pk])
    else:
        url = reverse("job_action", args=[target.pk, action.name])
    css_class = _CSS_CLASSES.get(action.tone, "btn")
    return ActionButton(url, label, confirmation, action.icon, css_class, action.has_page)
