"""Daily budgets: how much the members of a group may fetch, over all interfaces together.

Used by the gateway, the queue, and the estimates of orders.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, time, timedelta

from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models import Count, Q, QuerySet, Sum
from django.utils import timezone

from adit.accounts.permissions import AnyUser, Right, require
from adit.audit.trail import record
from adit.nodes.calendar.allowed_hours import get_time_zone, wall_time_to_utc
from adit.nodes.limits.unavailable import OverBudget
from adit.nodes.models import Budget, Slot, UserDailyUsage
from adit_engine.messages import Message

GB = 1_000_000_000


@dataclass(frozen=True, slots=True)
class BudgetUse:
    """What the members of a group have fetched today, including what is in transfer now."""

    studies: int
    size_bytes: int

    @property
    def gb(self) -> float:
        return self.size_bytes / GB


def get_budget_use(group: Group) -> BudgetUse:
    done = UserDailyUsage.objects.filter(user__groups=group, day=timezone.localdate())
    going = Slot.objects.filter(
        user__groups=group, counts_for_budget=True, expires_at__gt=timezone.now()
    )
    before = done.aggregate(n=Sum("studies"), size=Sum("size_bytes"))
    now = going.aggregate(n=Count("pk"), size=Sum("size_bytes"))
    return BudgetUse((before["n"] or 0) + now["n"], (before["size"] or 0) + (now["size"] or 0))


def find_over_budget(users: Iterable[int]) -> dict[int, OverBudget]:
    """Return those of these users (by primary key) whose group has used up today's budget."""
    over: dict[int, OverBudget] = {}
    for budget in _limited_budgets().filter(group__user__in=set(users)).distinct():
        if _is_over(budget, get_budget_use(budget.group)):
            members = budget.group.user_set.filter(pk__in=set(users))
            over.update({pk: _over_budget(budget) for pk in members.values_list("pk", flat=True)})
    return over


def require_budget(user: int | None) -> None:
    """Raise OverBudget if a group of the user has used up today's budget."""
    over = find_over_budget([user]).get(user) if user is not None else None
    if over is not None:
        raise over


def list_budget_warnings(user: int, studies: int) -> list[Message]:
    """Return warnings about today's budgets for an order of so many studies."""
    found = []
    for budget in _limited_budgets().filter(group__user=user):
        left = _studies_left(budget, get_budget_use(budget.group))
        if left is not None and left < studies:
            found.append(Message("budget.exceeded", group=budget.group.name, left=left))
        elif _is_over(budget, get_budget_use(budget.group)):
            found.append(_over_budget(budget).message)
    return found


def save_budget(user: AnyUser, group: Group, studies: int | None, size_gb: int | None) -> None:
    """Save the budget of a group; None means unlimited. Raise NotPermitted."""
    require(user, Right.MANAGE_NODES)
    with transaction.atomic():
        before = Budget.objects.filter(group=group).values_list("studies", "size_gb").first()
        if (before or (None, None)) == (studies, size_gb):
            return
        Budget.objects.update_or_create(
            group=group, defaults={"studies": studies, "size_gb": size_gb}
        )
        details = {"group": group.name, "studies": studies, "size_gb": size_gb}
        record("budget.changed", user=user, about=f"group:{group.pk}", details=details)


def get_next_midnight() -> datetime:
    """Return the next midnight of local time, as UTC."""
    tomorrow = timezone.localdate() + timedelta(days=1)
    return wall_time_to_utc(datetime.combine(tomorrow, time()), get_time_zone())


def _limited_budgets() -> QuerySet[Budget]:
    limited = Q(studies__isnull=False) | Q(size_gb__isnull=False)
    return Budget.objects.filter(limited).select_related("group")


def _studies_left(budget: Budget, so_far: BudgetUse) -> int | None:
    return None if budget.studies is None else max(0, budget.studies - so_far.studies)


def _is_over(budget: Budget, so_far: BudgetUse) -> bool:
    if _studies_left(budget, so_far) == 0:
        return True
    return budget.size_gb is not None and so_far.size_bytes >= budget.size_gb * GB


def _over_budget(budget: Budget) -> OverBudget:
    group = budget.group.name
    return OverBudget(group, "budget.used-up", get_next_midnight(), group=group)
