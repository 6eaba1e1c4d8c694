"""Public holidays become special days of a node, without changing days that have hours already."""

from collections.abc import Callable

import pytest
from django.test import Client

from adit.accounts.models import User
from adit.audit.models import AuditEvent
from adit.nodes.models import Node

pytestmark = pytest.mark.django_db
AsUser = Callable[[User | None], Client]
BADEN = {"country": "DE", "region": "BW", "year": "2027", "hours": "sun"}


def test_holidays_of_a_region_are_shown_first_and_added_on_request(
    source: Node, pacsadmin: User, as_user: AsUser
) -> None:
    own = {"from": "2027-12-24", "to": "2027-12-26", "as": "closed", "why": "migration"}
    source.special_days = [own]
    source.save()
    client, path = as_user(pacsadmin), f"/nodes/{source.pk}/holidays/"

    page = client.post(path, BADEN).content.decode()
    assert "2027-01-06" in page  # Epiphany is a holiday in Baden-Württemberg, not in Berlin
    assert "Good Friday" in page
    assert page.count("stays as it is") == 2
    source.refresh_from_db()
    assert source.special_days == [own]

    answer = client.post(path, {**BADEN, "add": "1"}, follow=True)
    assert "10 holidays are added." in answer.content.decode()
    source.refresh_from_db()
    assert own in source.special_days
    added = {row["from"]: row for row in source.special_days if row != own}
    assert len(added) == 10
    assert added["2027-01-06"] == {
        "from": "2027-01-06",
        "to": "2027-01-06",
        "as": "sun",
        "why": "Epiphany",
    }
    assert AuditEvent.objects.filter(action="node.changed", about=f"node:{source.pk}").exists()

    client.post(path, {**BADEN, "add": "1"})
    source.refresh_from_db()
    assert len(source.special_days) == 11


def test_a_holiday_of_one_region_is_not_added_for_another(
    source: Node, pacsadmin: User, as_user: AsUser
) -> None:
    path = f"/nodes/{source.pk}/holidays/"
    page = as_user(pacsadmin).post(path, {**BADEN, "region": "BE"}).content.decode()
    assert "2027-01-06" not in page


def test_an_unknown_region_is_refused_with_the_known_ones(
    source: Node, pacsadmin: User, as_user: AsUser
) -> None:
    path = f"/nodes/{source.pk}/holidays/"
    answer = as_user(pacsadmin).post(path, {**BADEN, "region": "XX", "add": "1"})
    assert answer.status_code == 422
    assert "Regions of this country: BB, BE, BW" in answer.content.decode()
    source.refresh_from_db()
    assert source.special_days == []
