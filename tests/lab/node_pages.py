"""Use of the node pages as by a browser."""

from collections.abc import Mapping
from typing import Any

from django.test import Client

from adit.accounts.models import User


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def filled(client: Client, path: str, **values: Any) -> Mapping[str, Any]:
    """Return the form data that a browser sends if only `values` were changed."""
    forms = client.get(path).context["editor"]
    data: dict[str, Any] = {}
    sets = (forms.hours, forms.specials)
    every = [form for one in sets for form in (one.management_form, *one.forms)]
    for form in (forms.row, forms.settings, *every):
        for field in form:
            value = field.value()
            if value is not None and value is not False:
                data[field.html_name] = value
    return {**data, **values}
