"""Views of the page "New selective transfer": search, select, order, summary, start."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from adit.accounts.models import User
from adit.accounts.permissions import Right, has_right
from adit.jobs.kinds.picked_study import PickedPatient, PickedStudy
from adit.jobs.kinds.selective import MAX_STUDIES
from adit.jobs.views.access import current_user, order_permission_required, record_once
from adit.nodes import access, search
from adit.nodes.access import get_domain
from adit.nodes.models import Node
from adit.orders import basket, drafts, service
from adit.orders import drafts as orders_drafts
from adit.orders.archive_passwords import DraftPassword
from adit.orders.basket import Basket
from adit.orders.forms import (
    ORDER_DRAFT_KEY,
    PSEUDONYM_PREFIX,
    OrderRights,
    SearchForm,
    SelectiveOrderForm,
    pseudonym_field_name,
    visit_field_names,
)
from adit.orders.search_results import FoundStudy, StoredSearch, sort_studies
from adit.orders.service import RefusedPseudonyms
from adit.orders.views.selective_start import PreparedOrder
from adit.projects import services
from adit.results import archives
from adit_engine.errors import AditError, Stopped
from adit_engine.messages import Message
from adit_engine.values.references import StudyRef

FIELDS_NOT_KEPT = ("csrfmiddlewaretoken", "do", "found", "fresh")
CHECKBOX_FIELDS = ("study", "series")


@dataclass
class SelectiveSession:
    """The state of the page within one request: search results, basket and both forms."""

    request: HttpRequest
    user: User
    search: StoredSearch

    @classmethod
    def from_request(cls, request: HttpRequest, user: User) -> "SelectiveSession":
        """Load the stored state; a POST updates it with its input and stores that."""
        posted = request.POST if request.method == "POST" else None
        key = (posted or request.GET).get("found", "")
        found = StoredSearch.load(user, key) or StoredSearch(drafts.new_key())
        bench = cls(request, user, found)
        if posted is not None:
            bench._read_input(posted)
        return bench

    def _read_input(self, posted: QueryDict) -> None:
        typed = {
            name: values
            for name, values in posted.lists()
            if name not in FIELDS_NOT_KEPT + CHECKBOX_FIELDS
        }
        mine = {name: typed.pop(name) for name in SearchForm.base_fields if name in typed}
        ticked = frozenset(posted.getlist("study") + posted.getlist("series"))
        self.is_new_search = mine != dict(self.search.form_data)
        self.search = replace(self.search, form_data=mine, ticked=ticked)
        _save_order_input(self.user, typed)

    @cached_property
    def basket(self) -> Basket:
        return basket.load(self.user)

    @cached_property
    def sources(self) -> list[Node]:
        return list(access.readable_nodes(self.user))

    @cached_property
    def destinations(self) -> list[Node]:
        return archives.allowed_destinations(self.user)

    @cached_property
    def sees_identified(self) -> bool:
        return has_right(self.user, Right.SEE_IDENTIFIED)

    @cached_property
    def may(self) -> OrderRights:
        return OrderRights(
            send_identified=has_right(self.user, Right.TRANSFER_IDENTIFIED),
            choose_pseudonyms=has_right(self.user, Right.CHOOSE_PSEUDONYMS),
            be_urgent=has_right(self.user, Right.BE_URGENT),
        )

    @cached_property
    def password(self) -> DraftPassword:
        """The password of the last summary: a change of the order does not replace it."""
        before = drafts.load_draft(self.user, _kept(self.user)["summary"])
        return DraftPassword.from_json(before["password"]) if before else DraftPassword()

    def replace_summary(self, key: str) -> None:
        """Replace the last summary: there is one per order, with one password."""
        kept = _kept(self.user)
        drafts.delete_draft(self.user, kept["summary"])
        service.forget_preview(self.user, kept["summary"])
        drafts.save_draft(self.user, ORDER_DRAFT_KEY, {**kept, "summary": key})

    def search_form(self, *, bound: bool) -> SearchForm:
        """Return the search form; bound: to be validated.

        Unbound it is filled in with earlier input, or with all sources selected.
        """
        typed = self.search.form_data
        if bound:
            return SearchForm(
                _as_querydict(typed), sources=self.sources, sees_identified=self.sees_identified
            )
        first = {"sources": [node.pk for node in self.sources]}
        return SearchForm(
            None,
            sources=self.sources,
            sees_identified=self.sees_identified,
            initial=_initial_values(typed) if typed else first,
        )

    def order_form(self, *, bound: bool) -> SelectiveOrderForm:
        typed = _load_order_input(self.user)
        return SelectiveOrderForm(
            _as_querydict(typed) if bound else None,
            initial=_initial_values(typed),
            destinations=self.destinations,
            projects=services.usable_projects(self.user),
            picks=self.basket.picks,
            may=self.may,
        )

    def redirect(self, place: str = "") -> HttpResponse:
        """Store the state and redirect to the page; the URL contains no patient data."""
        self.search.save(self.user)
        address = f"{reverse('job_new_selective')}?found={self.search.key}"
        return HttpResponseRedirect(f"{address}&at={place}#{place}" if place else address)

    def redirect_to(self, address: str) -> HttpResponse:
        """Redirect to another page, also from an HTMX request."""
        if "HX-Request" in self.request.headers:
            return HttpResponse(headers={"HX-Redirect": address})
        return HttpResponseRedirect(address)

    def render(
        self,
        search_form: SearchForm | None = None,
        order_form: SelectiveOrderForm | None = None,
        notice: str = "",
    ) -> HttpResponse:
        """Render the page; a form that is passed shows its errors."""
        wrong = bool(search_form or order_form or notice)
        if wrong:
            self.search.save(self.user)
        order_form = order_form or self.order_form(bound=False)
        if len(self.basket):
            record_once("basket.seen", self.user, f"user:{self.user.pk}", {})
        context = {
            "found": self.search,
            "place": self.request.GET.get("at", ""),
            "fresh": drafts.new_key(),
            "basket": self.basket,
            "search_form": search_form or self.search_form(bound=False),
            "order_form": order_form,
            "patients": self._patients(order_form),
            "notice": notice,
            "may": self.may,
            "sees_identified": self.sees_identified,
            "sources": self.sources,
            "destinations": self.destinations,
        }
        return render(
            self.request, "orders/new_selective.html", context, status=422 if wrong else 200
        )

    def _patients(
        self, form: SelectiveOrderForm
    ) -> list[tuple[PickedPatient, Any, list[tuple[PickedStudy, list[Any]]]]]:
        """The basket by patient with the pseudonym field if there is one, studies with visits."""
        picks: dict[str, list[tuple[PickedStudy, list[Any]]]] = {}
        for pick in self.basket:
            fields = [form[name] for name in visit_field_names(pick)]
            picks.setdefault(pick.patient.token, []).append((pick, fields))
        return [(patient, field, picks[patient.token]) for patient, field in form.patient_rows()]


def _save_order_input(user: User, form_data: Mapping[str, list[str]]) -> None:
    names = {
        name: values for name, values in form_data.items() if name.startswith(PSEUDONYM_PREFIX)
    }
    rest = {name: values for name, values in form_data.items() if name not in names}
    hidden = orders_drafts.seal_pseudonyms(
        _chosen_project(rest), {name: v for name, v in names.items() if any(v)}
    )
    drafts.save_draft(user, ORDER_DRAFT_KEY, {**_kept(user), "typed": rest, "given": hidden})


def _kept(user: User) -> dict[str, Any]:
    """The stored input, with encrypted pseudonyms, and the key of the last summary."""
    return {
        "typed": {},
        "given": "",
        "summary": "",
        **(drafts.load_draft(user, ORDER_DRAFT_KEY) or {}),
    }


def _load_order_input(user: User) -> dict[str, list[str]]:
    kept = _kept(user)
    return {
        **kept["typed"],
        **orders_drafts.open_pseudonyms(_chosen_project(kept["typed"]), kept["given"]),
    }


def _chosen_project(form_data: Mapping[str, list[str]]) -> str:
    """The chosen project; empty for none."""
    return (form_data.get("project") or [""])[-1]


def _as_querydict(form_data: Mapping[str, list[str]]) -> QueryDict:
    data = QueryDict(mutable=True)
    for name, values in form_data.items():
        data.setlist(name, list(values))
    return data


def _initial_values(form_data: Mapping[str, list[str]]) -> dict[str, Any]:
    several = ("sources", "destinations")
    return {
        name: values if name in several else values[-1]
        for name, values in form_data.items()
        if values
    }


@order_permission_required("selective")
@require_http_methods(["GET", "POST"])
def new_selective(request: HttpRequest) -> HttpResponse:
    """Show the page. Each button posts the whole form and names its action."""
    bench = SelectiveSession.from_request(request, current_user(request))
    if request.method != "POST":
        return bench.render()
    verb, _colon, what = request.POST.get("do", "").partition(":")
    return BUTTON_HANDLERS.get(verb, handle_enter)(bench, what)


@order_permission_required("selective")
@require_POST
def cancel_search(request: HttpRequest) -> HttpResponse:
    """Cancel the running search of this user's page; the search request then returns."""
    key = request.POST.get("fresh", "")
    if drafts.is_key(key):
        search.cancel_search(_search_key(current_user(request).pk, key))
    return HttpResponse(status=204)


def handle_enter(session: SelectiveSession, value: str) -> HttpResponse:
    """Handle the Enter key: search if the search fields changed, else summarize."""
    if session.is_new_search or not len(session.basket):
        return run_search(session, value)
    return show_summary(session, value)


def run_search(session: SelectiveSession, value: str) -> HttpResponse:
    form = session.search_form(bound=True)
    if not form.is_valid():
        return session.render(search_form=form)
    fresh = session.request.POST.get("fresh", "")
    key = fresh if drafts.is_key(fresh) else drafts.new_key()
    rows: list[FoundStudy] = []
    notes: list[Message] = []
    hints: list[Message] = []
    sources = list(form.cleaned_data["sources"])
    canceled = _search_key(session.user.pk, key)
    try:
        results = search.search_nodes(session.user, sources, form.query(), cancelled=canceled)
    except AditError as error:
        notes.append(error.message)
        sources, results = [], []
    for node, result in zip(sources, results, strict=True):
        if isinstance(result, Stopped):
            notes.append(Message("selective.search-canceled", node=node.name))
            continue
        if isinstance(result, AditError):
            notes.append(result.message)
            continue
        rows += [
            FoundStudy(node.pk, node.name, get_domain(node), record) for record in result.records
        ]
        hints += _describe_limits(node, result)
    session.search = StoredSearch(
        key,
        session.search.form_data,
        sort_studies(rows, by_name=session.sees_identified),
        tuple(notes),
        tuple(hints),
    )
    return session.redirect("results")


def _describe_limits(node: Node, result: search.SearchResult) -> list[Message]:
    count = len(result.records)
    if result.more:
        return [Message("selective.more-studies", node=node.name, count=count)]
    if result.is_capped:
        return [Message("selective.limited-results", node=node.name, count=count)]
    return []


def toggle_series(session: SelectiveSession, value: str) -> HttpResponse:
    """Query and show the series of one study; a second time hide them."""
    row = session.search.row(value)
    if row is not None:
        opened = replace(row, is_expanded=not row.is_expanded, error=None)
        if opened.is_expanded and opened.series is None:
            opened = _with_series(session, opened)
        session.search = session.search.with_row(int(value), opened)
    return session.redirect(f"study-{value}" if row else "results")


def add_to_basket(session: SelectiveSession, value: str) -> HttpResponse:
    picks = basket.picks_from_search(session.search, session.search.ticked)
    if not picks:
        return session.render(notice=_("Select a study or some of its series first."))
    if len(session.basket) + len(picks) > MAX_STUDIES:
        return session.render(
            notice=_("The basket can contain at most %(limit)d studies.") % {"limit": MAX_STUDIES}
        )
    basket.add(session.user, picks)
    session.search = session.search.with_ticks(frozenset())
    return session.redirect("basket")


def remove_from_basket(session: SelectiveSession, value: str) -> HttpResponse:
    basket.remove(session.user, [value])
    return session.redirect("basket")


def clear_basket(session: SelectiveSession, value: str) -> HttpResponse:
    basket.clear(session.user)
    return session.redirect("basket")


def show_summary(session: SelectiveSession, value: str) -> HttpResponse:
    """Validate the order, query the sources for the summary, and show it."""
    if not len(session.basket):
        return session.render(notice=_("The basket is empty. Add studies to it first."))
    form = session.order_form(bound=True)
    if not form.is_valid():
        return session.render(order_form=form)
    prepared = _prepare(session, form)
    key = drafts.new_key()
    try:
        service.preview_order(session.user, prepared.request(key))
    except RefusedPseudonyms as refused:
        _add_pseudonym_errors(form, prepared.basket, refused)
        return session.render(order_form=form)
    except AditError as error:
        form.add_error(None, str(error))
        return session.render(order_form=form)
    session.search.save(session.user)
    drafts.save_draft(session.user, key, prepared.to_json())
    session.replace_summary(key)
    return session.redirect_to(reverse("job_summary", args=[key]))


BUTTON_HANDLERS: dict[str, Callable[[SelectiveSession, str], HttpResponse]] = {
    "search": run_search,
    "expand": toggle_series,
    "add": add_to_basket,
    "remove": remove_from_basket,
    "clear": clear_basket,
    "summary": show_summary,
}


def _prepare(session: SelectiveSession, form: SelectiveOrderForm) -> PreparedOrder:
    values = form.cleaned_data
    return PreparedOrder(
        basket=session.basket,
        destinations=tuple(node.pk for node in values["destinations"]),
        project=values["project"].pk if values["project"] else None,
        reason=values["reason"] if form.is_as_is else "",
        pseudonyms=form.pseudonyms(),
        visits=form.visits,
        urgent=values.get("urgent", False),
        title=values["title"],
        found=session.search.key,
        password=session.password,
    )


def _add_pseudonym_errors(
    form: SelectiveOrderForm, picked: Basket, refused: RefusedPseudonyms
) -> None:
    """Add each reason to the field of its patient, or to the form if it has no such field."""
    fields = [pseudonym_field_name(pick.patient) for pick in picked]
    for position, reason in refused.by_position.items():
        name, why = fields[position - 1], str(reason)
        if why not in form.errors.get(name, ()):
            form.add_error(name if name in form.fields else None, why)


def _with_series(session: SelectiveSession, row: FoundStudy) -> FoundStudy:
    node = next((node for node in session.sources if node.pk == row.node_id), None)
    if node is None:
        return replace(row, error=Message("selective.source-not-permitted"))
    try:
        study = StudyRef(row.study.study_uid)
        records = search.list_series(session.user, node, study, row.study.patient_id)
    except AditError as error:
        return replace(row, error=error.message)
    by_number = sorted(records, key=lambda record: (record.series_number or 0, record.series_uid))
    return replace(row, series=tuple(by_number))


def _search_key(user_id: int, key: str) -> str:
    """The key includes the user, so that users can cancel only their own searches."""
    return f"{user_id}.{key}"
