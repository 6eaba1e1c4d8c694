"""New selective transfer: search, pick, say where to, look at the summary, start."""

from collections.abc import Callable
from dataclasses import replace

from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from adit.jobs.preparing import basket, drafts
from adit.jobs.preparing.found import Found, Row, sorted_rows
from adit.jobs.views.bench import Bench
from adit.jobs.views.door import orders, person
from adit.jobs.views.start import to_summary
from adit.nodes import search
from adit.nodes.domain import domain_of
from adit.nodes.models import Node
from adit_engine.errors import AditError, Stopped
from adit_engine.reference import StudyRef


@orders("selective")
@require_http_methods(["GET", "POST"])
def new_selective(request: HttpRequest) -> HttpResponse:
    """One page. Each button posts all that was typed and names what to do."""
    bench = Bench.of(request, person(request))
    if request.method != "POST":
        return bench.page()
    verb, _colon, what = request.POST.get("do", "").partition(":")
    return VERBS.get(verb, enter)(bench, what)


@orders("selective")
@require_POST
def cancel_search(request: HttpRequest) -> HttpResponse:
    """Ends the running search of this person's page; the search itself then answers."""
    key = request.POST.get("fresh", "")
    if drafts.is_key(key):
        search.cancel(_search_key(person(request).pk, key))
    return HttpResponse(status=204)


def enter(bench: Bench, what: str) -> HttpResponse:
    """The Enter key: searches when the search fields changed, else goes on."""
    if bench.is_new_search or not len(bench.basket):
        return run_search(bench, what)
    return to_summary(bench, what)


def run_search(bench: Bench, what: str) -> HttpResponse:
    form = bench.search_form(bound=True)
    if not form.is_valid():
        return bench.page(search_form=form)
    fresh = bench.request.POST.get("fresh", "")
    key = fresh if drafts.is_key(fresh) else drafts.new_key()
    rows: list[Row] = []
    notes: list[str] = []
    hints: list[str] = []
    sources = list(form.cleaned_data["sources"])
    canceled = _search_key(bench.user.pk, key)
    try:
        results = search.search_each(bench.user, sources, form.query(), cancelled=canceled)
    except AditError as error:
        notes.append(str(error))
        sources, results = [], []
    for node, result in zip(sources, results, strict=True):
        if isinstance(result, Stopped):
            notes.append(
                _("The search was canceled before %(node)s had answered.") % {"node": node}
            )
            continue
        if isinstance(result, AditError):
            notes.append(str(result))
            continue
        rows += [Row(node.pk, node.name, domain_of(node), record) for record in result.records]
        hints += _hints(node, result)
    bench.found = Found(key, bench.found.typed, sorted_rows(rows), tuple(notes), tuple(hints))
    return bench.again("results")


def _hints(node: Node, result: search.SearchResult) -> list[str]:
    words = {"node": node.name, "n": len(result.records)}
    if result.more:
        return [_("%(node)s has more than %(n)d studies that match: narrow the search.") % words]
    if result.capped:
        return [
            _(
                "%(node)s gives no more than %(n)d answers at a time, so there may be further "
                "studies: narrow the search."
            )
            % words
        ]
    return []


def expand(bench: Bench, what: str) -> HttpResponse:
    """Asks for the series of one study and shows them; a second time hides them."""
    row = bench.found.row(what)
    if row is not None:
        opened = replace(row, is_open=not row.is_open, trouble="")
        if opened.is_open and opened.series is None:
            opened = _with_series(bench, opened)
        bench.found = bench.found.with_row(int(what), opened)
    return bench.again(f"study-{what}" if row else "results")


def add(bench: Bench, what: str) -> HttpResponse:
    picks = basket.picks_of(bench.found, bench.found.ticked)
    if not picks:
        return bench.page(notice=_("Tick a study or some of its series first."))
    if len(bench.basket) + len(picks) > basket.LIMIT:
        return bench.page(
            notice=_("The basket holds at most %(limit)d studies.") % {"limit": basket.LIMIT}
        )
    basket.add(bench.user, picks)
    bench.found = bench.found.with_ticks(frozenset())
    return bench.again("basket")


def remove(bench: Bench, what: str) -> HttpResponse:
    basket.remove(bench.user, [what])
    return bench.again("basket")


def clear(bench: Bench, what: str) -> HttpResponse:
    basket.clear(bench.user)
    return bench.again("basket")


VERBS: dict[str, Callable[[Bench, str], HttpResponse]] = {
    "search": run_search,
    "expand": expand,
    "add": add,
    "remove": remove,
    "clear": clear,
    "summary": to_summary,
}


def _with_series(bench: Bench, row: Row) -> Row:
    node = next((node for node in bench.sources if node.pk == row.node_id), None)
    if node is None:
        return replace(row, trouble=_("You may not read from this source any more."))
    try:
        study = StudyRef(row.study.study_uid)
        records = search.series_of(bench.user, node, study, row.study.patient_id)
    except AditError as error:
        return replace(row, trouble=str(error))
    by_number = sorted(records, key=lambda record: (record.series_number or 0, record.series_uid))
    return replace(row, series=tuple(by_number))


def _search_key(user_id: int, key: str) -> str:
    """Nobody cancels the search of somebody else."""
    return f"{user_id}.{key}"
