"""Daily budgets of groups: they apply to every retrieval and are reset at midnight."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.utils import timezone
from lab.node_pages import client_of
from time_machine import travel

from adit.accounts.models import User
from adit.accounts.permissions import COORDINATORS, PACS_ADMINISTRATORS, NotPermitted
from adit.audit.models import AuditEvent
from adit.nodes.gateway import Purpose, open_node
from adit.nodes.limits import budgets, slots
from adit.nodes.limits.slots import SlotRequest
from adit.nodes.limits.unavailable import OverBudget
from adit.nodes.models import Budget, Lane, Node, Slot, UserDailyUsage

pytestmark = pytest.mark.django_db


@pytest.fixture
def group(coordinator: User) -> Group:
    return Group.objects.get(name=COORDINATORS)


def fetched(user: User, studies: int = 1, size_bytes: int = 0) -> None:
    UserDailyUsage.objects.update_or_create(
        user=user,
        day=timezone.localdate(),
        defaults={"studies": studies, "size_bytes": size_bytes},
    )


def test_users_without_a_budget_are_not_limited(coordinator: User) -> None:
    fetched(coordinator, 1_000_000)

    budgets.require_budget(coordinator.pk)
    assert budgets.list_budget_warnings(coordinator.pk, 10) == []


@pytest.mark.parametrize("limit", [{"studies": 3}, {"size_gb": 2}])
def test_a_used_up_budget_blocks_retrievals_until_midnight(
    limit: dict[str, int], coordinator: User, group: Group
) -> None:
    Budget.objects.create(group=group, **limit)
    with travel("2026-03-28 22:30+01:00", tick=False):
        fetched(coordinator, 3, 2_000_000_000)

        with pytest.raises(
            OverBudget, match="budget of the group Coordinators is used up"
        ) as error:
            budgets.require_budget(coordinator.pk)

        assert timezone.localtime(error.value.until).isoformat() == "2026-03-29T00:00:00+01:00"
    with travel("2026-03-29 00:01+01:00", tick=False):
        budgets.require_budget(coordinator.pk)


def test_members_share_a_budget_and_running_retrievals_count(
    coordinator: User, make_user, group: Group, source: Node
) -> None:
    Budget.objects.create(group=group, studies=3)
    fetched(make_user("colleague", COORDINATORS), 2)
    budgets.require_budget(coordinator.pk)
    (warning,) = budgets.list_budget_warnings(coordinator.pk, 2)
    assert (warning.code, warning.values["left"]) == ("budget.exceeded", 1)

    slots.acquire_slot(
        source, Lane.RETRIEVE, "task:1", 60, SlotRequest(coordinator.pk, 1, counts_for_budget=True)
    )

    with pytest.raises(OverBudget):
        budgets.require_budget(coordinator.pk)
    Slot.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    budgets.require_budget(coordinator.pk)


def test_the_gateway_applies_the_budget_to_retrievals_but_not_to_searches(
    coordinator: User, group: Group, source: Node
) -> None:
    Budget.objects.create(group=group, studies=1)
    with open_node(coordinator, source, Purpose.RETRIEVE, holder="web:1"):
        pass
    assert UserDailyUsage.objects.get().studies == 1

    with (
        pytest.raises(OverBudget),
        open_node(coordinator, source, Purpose.RETRIEVE, holder="web:2"),
    ):
        pass
    with open_node(coordinator, source, Purpose.SEARCH, holder="search:1"):
        pass


def test_a_budget_applies_only_to_members_of_its_group(
    pacsadmin: User, coordinator: User, group: Group
) -> None:
    Budget.objects.create(group=group, studies=0)

    assert set(budgets.find_over_budget([pacsadmin.pk, coordinator.pk])) == {coordinator.pk}


def test_managers_set_budgets_on_a_page(pacsadmin: User, group: Group) -> None:
    other = Group.objects.get(name=PACS_ADMINISTRATORS)
    client = client_of(pacsadmin)
    names = {g.pk: f"group-{g.pk}" for g in Group.objects.all()}

    wrong = client.post("/nodes/budgets/", {f"{names[group.pk]}-studies": "many"})
    client.post(
        "/nodes/budgets/",
        {f"{names[group.pk]}-studies": "20", f"{names[other.pk]}-size_gb": "5"},
    )

    assert wrong.status_code == 422
    assert Budget.objects.get(group=group).studies == 20
    assert Budget.objects.get(group=other).size_gb == 5
    assert AuditEvent.objects.filter(action="budget.changed").count() == 2
    assert 'value="20"' in client.get("/nodes/budgets/").content.decode()


def test_only_managers_can_set_budgets(coordinator: User, group: Group) -> None:
    with pytest.raises(NotPermitted):
        budgets.save_budget(coordinator, group, 1, None)
