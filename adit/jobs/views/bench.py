"""Bench: all that lies before a person who prepares a selective transfer, between two clicks."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import render
from django.urls import reverse

from adit.accounts.models import User
from adit.accounts.rights import Right, may
from adit.jobs.files import archives
from adit.jobs.preparing import basket, drafts, given
from adit.jobs.preparing.basket import Basket, Pick, PickedPatient
from adit.jobs.preparing.forms import ORDER_KEY, PSEUDONYM, May, OrderForm, SearchForm
from adit.jobs.preparing.found import Found
from adit.jobs.preparing.passwords import DraftPassword
from adit.nodes import access
from adit.nodes.models import Node
from adit.profiles import trials

NOT_KEPT = ("csrfmiddlewaretoken", "do", "found", "fresh")
TICKS = ("study", "series")


@dataclass
class Bench:
    """One request's view of it: what was found, the basket, and both forms."""

    request: HttpRequest
    user: User
    found: Found

    @classmethod
    def of(cls, request: HttpRequest, user: User) -> "Bench":
        """From what was kept; what a POST brings along is laid on top and kept again."""
        posted = request.POST if request.method == "POST" else None
        key = (posted or request.GET).get("found", "")
        found = Found.load(user, key) or Found(drafts.new_key())
        bench = cls(request, user, found)
        if posted is not None:
            bench._take(posted)
        return bench

    def _take(self, posted: QueryDict) -> None:
        typed = {name: values for name, values in posted.lists() if name not in NOT_KEPT + TICKS}
        mine = {name: typed.pop(name) for name in SearchForm.base_fields if name in typed}
        ticked = frozenset(posted.getlist("study") + posted.getlist("series"))
        self.is_new_search = mine != dict(self.found.typed)
        self.found = replace(self.found, typed=mine, ticked=ticked)
        _keep_order(self.user, typed)

    @cached_property
    def basket(self) -> Basket:
        return basket.load(self.user)

    @cached_property
    def sources(self) -> list[Node]:
        return list(access.readable_nodes(self.user))

    @cached_property
    def destinations(self) -> list[Node]:
        return archives.destinations(self.user)

    @cached_property
    def may(self) -> May:
        return May(
            send_identified=may(self.user, Right.TRANSFER_IDENTIFIED),
            choose_pseudonyms=may(self.user, Right.CHOOSE_PSEUDONYMS),
            be_urgent=may(self.user, Right.BE_URGENT),
        )

    @cached_property
    def password(self) -> DraftPassword:
        """That of the summary shown last, so that a change of the order does not replace it."""
        before = drafts.load(self.user, _kept(self.user)["summary"])
        return DraftPassword.from_json(before["password"]) if before else DraftPassword()

    def replace_summary(self, key: str) -> None:
        """Keeps one summary of this order, with one password."""
        kept = _kept(self.user)
        drafts.drop(self.user, kept["summary"])
        drafts.keep(self.user, ORDER_KEY, {**kept, "summary": key})

    def search_form(self, *, bound: bool) -> SearchForm:
        """Bound: judged. Else only filled in with what was typed, or all sources ticked."""
        typed = self.found.typed
        if bound:
            return SearchForm(_as_post(typed), sources=self.sources)
        first = {"sources": [node.pk for node in self.sources]}
        return SearchForm(None, sources=self.sources, initial=_initial(typed) if typed else first)

    def order_form(self, *, bound: bool) -> OrderForm:
        typed = _kept_order(self.user)
        return OrderForm(
            _as_post(typed) if bound else None,
            initial=_initial(typed),
            destinations=self.destinations,
            trials=trials.usable_by(self.user),
            patients=self.basket.patients,
            may=self.may,
        )

    def again(self, place: str = "") -> HttpResponse:
        """Keeps the bench and shows it at an address that tells nothing."""
        self.found.keep(self.user)
        address = f"{reverse('job_new_selective')}?found={self.found.key}"
        return HttpResponseRedirect(f"{address}&at={place}#{place}" if place else address)

    def elsewhere(self, address: str) -> HttpResponse:
        """Leaves the bench, also when a part of the page was asked for."""
        if "HX-Request" in self.request.headers:
            return HttpResponse(headers={"HX-Redirect": address})
        return HttpResponseRedirect(address)

    def page(
        self,
        search_form: SearchForm | None = None,
        order_form: OrderForm | None = None,
        notice: str = "",
    ) -> HttpResponse:
        """The page itself; a form that is given shows its errors."""
        wrong = bool(search_form or order_form or notice)
        if wrong:
            self.found.keep(self.user)
        order_form = order_form or self.order_form(bound=False)
        context = {
            "found": self.found,
            "place": self.request.GET.get("at", ""),
            "fresh": drafts.new_key(),
            "basket": self.basket,
            "search_form": search_form or self.search_form(bound=False),
            "order_form": order_form,
            "patients": self._patients(order_form),
            "notice": notice,
            "may": self.may,
            "sees_identified": may(self.user, Right.SEE_IDENTIFIED),
            "sources": self.sources,
            "destinations": self.destinations,
        }
        return render(
            self.request, "jobs/new_selective.html", context, status=422 if wrong else 200
        )

    def _patients(self, form: OrderForm) -> list[tuple[PickedPatient, Any, list[Pick]]]:
        """The basket by patient, each with the field for the pseudonym where there is one."""
        picks: dict[str, list[Pick]] = {}
        for pick in self.basket:
            picks.setdefault(pick.patient.token, []).append(pick)
        return [(patient, field, picks[patient.token]) for patient, field in form.patient_rows()]


def _keep_order(user: User, typed: Mapping[str, list[str]]) -> None:
    names = {name: values for name, values in typed.items() if name.startswith(PSEUDONYM)}
    rest = {name: values for name, values in typed.items() if name not in names}
    hidden = given.hidden(_chosen(rest), {name: v for name, v in names.items() if any(v)})
    drafts.keep(user, ORDER_KEY, {**_kept(user), "typed": rest, "given": hidden})


def _kept(user: User) -> dict[str, Any]:
    """What was typed, pseudonyms apart, and the key of the summary shown last."""
    return {"typed": {}, "given": "", "summary": "", **(drafts.load(user, ORDER_KEY) or {})}


def _kept_order(user: User) -> dict[str, list[str]]:
    kept = _kept(user)
    return {**kept["typed"], **given.shown(_chosen(kept["typed"]), kept["given"])}


def _chosen(typed: Mapping[str, list[str]]) -> str:
    """The project as it was chosen; empty for none."""
    return (typed.get("trial") or [""])[-1]


def _as_post(typed: Mapping[str, list[str]]) -> QueryDict:
    data = QueryDict(mutable=True)
    for name, values in typed.items():
        data.setlist(name, list(values))
    return data


def _initial(typed: Mapping[str, list[str]]) -> dict[str, Any]:
    several = ("sources", "destinations")
    return {
        name: values if name in several else values[-1] for name, values in typed.items() if values
    }
