"""Every address with every method and with hostile input: never a 500, never an empty page.

The routes come from the URL resolver; the parameters are those that the views read, and the fields
of the forms on the pages. ADIT_FUZZ_REQUESTS and ADIT_FUZZ_SEED make the run longer.
"""

import json
import os
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import Group
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import HttpResponse, QueryDict
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django.utils.datastructures import MultiValueDict
from lab import samples
from lab.jobs import put_study
from lab.routes import all_patterns
from lab.undone import undone

from adit.accounts.models import User
from adit.administration.models import AccountRequest
from adit.api_tokens import tokens
from adit.api_tokens.tokens import Scope
from adit.blocklist.blocking import block_patient
from adit.jobs.models import ArchiveFile, DeviceDecision, Job, JobState, WithheldImages
from adit.nodes.models import Node
from adit.orders import drafts
from adit.projects.models import Project
from adit.webhooks.models import WebhookEvent
from adit.webhooks.services import create_webhook
from adit_engine.messages import Message

pytestmark = pytest.mark.django_db

REQUESTS = int(os.environ.get("ADIT_FUZZ_REQUESTS", "1000"))
SEED = int(os.environ.get("ADIT_FUZZ_SEED", "1"))
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS")
WITHOUT_BODY = (204, 301, 302, 303, 304)
STYLED = "<title>"
BEFORE_NUMBER = ("expand:", "change-", "remove-", "remove:", "page:", "hours-", "special-")
UNAVAILABLE = frozenset({"readyz", "password_link", "setup"})
"""Routes that report by their status: processes that do not run, a link that is missing."""
PROGRAMS = "api_"
"""Routes of the API, which answer with JSON, and with a bare 405 to other methods."""
FRAGMENTS = frozenset({"home_live", "job_live", "job_task_live"})

NUMBERS = ["0", "-1", "1e999", "nan", "١٢", "²", "12³", "9" * 20, "9" * 5000, "2147483648"]
NUMBERS += ["9223372036854775807", "1.5", "1-999999", "-", "[1]"]
DAYS = ["0000-01-01", "0001-01-01", "9999-12-31", "10000-01-01", "99991231", "31.12.9999", "1.1.1"]
DAYS += ["00:00", "25:61", "٢٠٢٤-٠١-٠١", "2024-02-30"]
TEXTS = ["", " ", "a\0b", "\0", "\u202e\ufeff", "\ud7ff", "\ufffd", "x" * 70_000, "*", "%00%ff%"]
TEXTS += ["'\"><script>alert(1)</script>", "../../../../etc/passwd", "\r\nX: y", "1." * 400]
TEXTS += ["http://[::1", "//elsewhere.example", "0,0,9,9;" * 50, "0," + "9" * 5000 + ",1,1"]
JSONS = ["[" * 3000, '{"a":' * 3000, '["\\ud800", "a", "b"]', '["a\\u0000", "b", "c"]', "[1, 2, 3]"]
JSONS += ["null", '"abc"', "{}", "[null, [], {}]"]
BUTTONS = [
    "search",
    "add",
    "summary",
    "start",
    "save",
    "put",
    "look",
    "try",
    "mask",
    "release",
    "header",
]
BUTTONS += [f"{verb}{number}" for verb in BEFORE_NUMBER for number in ("²", "9" * 5000, "-1", "0")]
HOSTILE = NUMBERS + DAYS + TEXTS + JSONS + BUTTONS
LIKELY = (
    (re.compile(r"do|add|remove|show"), BUTTONS),
    (re.compile(r"date|since|until|from|first|last|begin|end|ends|day", re.I), DAYS),
    (re.compile(r"page|frame|place|header|before|after|limit|port|found|number|pk|at"), NUMBERS),
    (re.compile(r"lot|windows|text"), JSONS),
)
"""Values that a field with such a name is more likely to read."""


@dataclass
class Route:
    name: str
    address: str


@dataclass
class Form:
    """A form of a page, with the values that it has there."""

    action: str
    values: dict[str, list[str]] = field(default_factory=dict)


class FormReader(HTMLParser):
    """Collect the forms of a page that are sent by POST."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self._address = address
        self._form: Form | None = None
        self._select = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "form":
            is_post = found.get("method", "").lower() == "post"
            action = urlsplit(found.get("action") or self._address).path
            self._form = Form(action) if is_post else None
            if self._form:
                self.forms.append(self._form)
        elif self._form is not None:
            if tag == "select":
                self._select = found.get("name", "")
            name = self._select if tag == "option" else found.get("name", "")
            is_on = tag != "option" or "selected" in found
            if name and is_on and (found.get("type") not in ("checkbox", "radio") or not name):
                self._form.values.setdefault(name, []).append(found.get("value", ""))
            elif name:
                self._form.values.setdefault(name, [])

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None


FOR_PROGRAMS = "/api/"
"""Addresses that answer programs, which understand a status without a page."""


@pytest.fixture
def site(
    root: User,
    make_user: Callable[..., User],
    make_job: Callable[..., Job],
    make_item: Callable[..., Any],
    source: Node,
    make_node: Callable[..., Node],
    folder_node: Node,
    project: Project,
    tmp_path: Path,
    settings: LazySettings,
) -> dict[str, Any]:
    """One object of each kind, and the values of the arguments in addresses."""
    settings.SELF_REGISTRATION = True
    put_study(source, "1", 2, 1)
    job = make_job(root, state=JobState.WARNING, project=project)
    job.destination = make_node("7-Zip", kind="archive", settings={"path": str(tmp_path)})
    job.save()
    item = make_item(job.tasks.get(), expected=2, delivered=1, withheld=1)
    held = WithheldImages.objects.create(item=item, code="class", reason=Message("class"), images=1)
    (tmp_path / "a.7z").write_bytes(b"7z")
    now = timezone.now()
    decision = DeviceDecision.objects.create(
        project=project, decision="left", images=1, reason="x", decided_by=root, decided_at=now
    )
    entry = block_patient(root, None, "", "PID-9", reason="objection", withdrawn_on=now.date())
    file = ArchiveFile.objects.create(
        job=job, round=0, name="a.7z", size_bytes=3, images=1, built_at=now, expires_at=now
    )
    person = make_user("person")
    url = "https://hooks.example.org/"
    webhook, _secret = create_webhook(root, "hook", url, WebhookEvent.values, None)
    return {
        "history/<slug:kind>/<int:pk>": f"node/{source.pk}",
        "api/v1/jobs/<int:pk>": job.pk,
        "api/v1/nodes/<int:pk>": source.pk,
        "api/v1/profiles/<int:pk>": project.profile_id,
        "api/v1/tokens/<int:pk>": 1,
        "api/v1/webhooks/<int:pk>": webhook.pk,
        "protocol_id": "LUNG",
        "users/<int:pk>": person.pk,
        "users/requests/<int:pk>": AccountRequest.objects.create(username="new").pk,
        "groups/<int:pk>": Group.objects.create(name="Readers").pk,
        "accounts/sessions/<int:pk>": 1,
        "accounts/tokens/<int:pk>": 1,
        "accounts/webhooks/<int:pk>": webhook.pk,
        "accounts/second-factor/keys/<int:pk>": 1,
        "notifications/<int:pk>": 1,
        "nodes/<int:pk>": source.pk,
        "jobs/<int:pk>": job.pk,
        "jobs/withheld/<int:pk>": held.pk,
        "jobs/withheld/decisions/<int:pk>": decision.pk,
        "jobs/uids/<int:pk>": project.pk,
        "projects/<int:pk>": project.pk,
        "profiles/<int:pk>": project.profile_id,
        "position": 1,
        "number": file.pk,
        "block-list/<int:pk>": entry.pk,
        "block-list/recalls/<int:pk>": 1,
        "key": drafts.new_key(),
        "verb": "retry",
        "form": "csv",
        "kind": "dicomweb",
        "slug": "jobs",
        "slot": 1,
        "patient": 1,
        "name": "a.csv",
        "provider_id": "unknown",
        "ae_title": source.api_ae_title,
        "study": f"{samples.ROOT}.1",
        "series": f"{samples.ROOT}.1.1",
        "instance": f"{samples.ROOT}.1.1.1",
        "frames": "1",
        "address": "PACS1/qidors/patients",
        "tag": "00420011",
    }


def all_routes(site: dict[str, Any]) -> list[Route]:
    """Every route with arguments that exist, as far as one set of objects can have them."""
    found = []
    for pattern, name in all_patterns():
        address = f"/{pattern}"
        for known, value in site.items():
            if "<" in known:
                address = re.sub(
                    rf"^/{re.escape(known)}(?=[/.]|$)", f"/{known.split('<')[0]}{value}", address
                )
            else:
                address = re.sub(rf"<\w+:{known}>", str(value), address)
        assert "<" not in address, f"{pattern}: no value for an argument"
        found.append(Route(name, address))
    return found


def check(answer: HttpResponse, what: str, name: str) -> None:
    """Assert what holds for each answer: no failure, and no page that says nothing."""
    assert answer.status_code < 500 or name in UNAVAILABLE, f"{what}: {answer.status_code}"
    if answer.status_code in WITHOUT_BODY or "HX-Redirect" in answer:
        return
    text = answer.getvalue().decode("utf-8", "replace")
    assert text.strip(), f"{what}: {answer.status_code} without a body"
    assert "Traceback" not in text, what
    if answer["Content-Type"].startswith("text/html") and name not in FRAGMENTS:
        assert STYLED in text, f"{what}: not in our style"


@pytest.fixture
def client(root: User, as_user: Callable[[User], Client]) -> Client:
    """A browser of the root user that also sends an API token, which pages ignore."""
    _token, text = tokens.create_token(root, root, "API", Scope.values, days=7, nodes=None)
    client = as_user(root)
    client.defaults["HTTP_AUTHORIZATION"] = f"Token {text}"
    return client


def test_each_address_answers_each_method_with_a_page_or_a_redirect(
    client: Client, site: dict[str, Any]
) -> None:
    routes = all_routes(site)
    assert len(routes) > 90
    for route in routes:
        if route.address.startswith(FOR_PROGRAMS):
            continue
        for method in METHODS:
            with undone():
                answer = client.generic(method, route.address)
                what = f"{method} {route.address}"
                if method == "HEAD":
                    answer.getvalue()
                    is_api = route.name.startswith(PROGRAMS)
                    assert answer.status_code < 405 or is_api or route.name in UNAVAILABLE, what
                else:
                    check(answer, what, route.name)
                if method == "GET" and not route.name.startswith(PROGRAMS):
                    assert answer.status_code != 405, what


def test_a_get_of_an_action_leads_to_its_page(client: Client, source: Node) -> None:
    node = reverse("node", args=[source.pk])
    for name, args, page in (
        ("node_fetch", [source.pk], node),
        ("node_action", [source.pk, "open"], node),
        ("theme", [], "/"),
        ("trail_verify", [], reverse("trail")),
        ("job_cancel_search", [], reverse("job_new_selective")),
    ):
        answer = client.get(reverse(name, args=args), follow=True)

        assert answer.redirect_chain[-1] == (page, 302)
        assert answer.status_code == 200


def test_a_method_that_is_not_possible_is_explained(client: Client) -> None:
    answer = client.delete(reverse("nodes"))

    assert answer.status_code == 405
    assert answer["Allow"] == "GET, HEAD"
    assert "This is not possible at this address" in answer.content.decode()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The names of parameters that views have read."""
    names: set[str] = set()
    for method in ("get", "getlist", "__getitem__"):
        real = getattr(MultiValueDict, method)

        def recording(self: Any, key: Any, *args: Any, real: Any = real, **more: Any) -> Any:
            if isinstance(self, QueryDict):
                names.add(key)
            return real(self, key, *args, **more)

        monkeypatch.setattr(MultiValueDict, method, recording)
    real_contains = dict.__contains__

    def contains(self: Any, key: Any) -> bool:
        if isinstance(self, QueryDict):
            names.add(key)
        return real_contains(self, key)

    monkeypatch.setattr(MultiValueDict, "__contains__", contains, raising=False)
    return names


def read_forms(client: Client, routes: list[Route]) -> dict[str, list[Form]]:
    """The forms on all pages, by the address that they are sent to."""
    found = defaultdict(list)
    for route in routes:
        with undone():
            answer = client.get(route.address)
            content = answer.getvalue()
            if answer.get("Content-Type", "").startswith("text/html"):
                reader = FormReader(route.address)
                reader.feed(content.decode())
                for form in reader.forms:
                    found[form.action].append(form)
    return found


def hostile_values(name: str) -> list[str]:
    """The values to try for a name: those of the type that it suggests, else all."""
    return next((values for pattern, values in LIKELY if pattern.search(name)), HOSTILE)


def test_no_input_causes_an_internal_error(
    client: Client, site: dict[str, Any], asked: set[str]
) -> None:
    chance = Random(SEED)
    routes = all_routes(site)
    forms = read_forms(client, routes)
    failures: list[str] = []

    def ask(route: Route, method: str, values: dict[str, Any]) -> None:
        shown = {name: [str(v)[:40] for v in many] for name, many in values.items()}
        what = f"{method} {route.address} {json.dumps(shown)}"
        try:
            with undone():
                answer = getattr(client, method.lower())(route.address, values)
                check(answer, what, route.name)
        except Exception as error:
            failures.append(f"{type(error).__name__}: {error} in {what}")

    tries: list[tuple[Route, str, Form, str, str]] = []
    for route in routes:
        for method in ("GET", "POST"):
            asked.clear()
            ask(route, method, {})
            given = forms[route.address] if method == "POST" else []
            for form in given or [Form(route.address)]:
                ask(route, method, form.values)
                names = (asked | set(form.values)) - {"csrfmiddlewaretoken"}
                tries += [
                    (route, method, form, name, text)
                    for name in sorted(names)
                    for text in hostile_values(name)
                ]
    assert len(tries) > 3000
    chance.shuffle(tries)
    for route, method, form, name, text in tries[:REQUESTS]:
        values: dict[str, Any] = {one: list(held) for one, held in form.values.items()}
        values[name] = [text] if chance.random() < 0.8 else [text, chance.choice(HOSTILE)]
        if chance.random() < 0.1:
            other = chance.choice(sorted(values))
            values[other] = values[other] + [chance.choice(HOSTILE)] if text else []
        if method == "POST" and chance.random() < 0.05:
            values["sheet"] = [SimpleUploadedFile("a\0.xlsx", chance.randbytes(300))]
        ask(route, method, values)
    assert not failures, f"{len(failures)} failures:\n" + "\n".join(failures[:40])


def test_input_that_once_failed_is_answered(client: Client, site: dict[str, Any]) -> None:
    profile = reverse("profile_pixels", args=[site["profiles/<int:pk>"]])
    text = client.get(profile).context["draft"].initial["text"]
    next_profile = reverse("profile_new", args=[site["profiles/<int:pk>"]])
    long, deep = "9" * 5000, "a=" + "[" * 5000
    tries = [
        ("get", "/trail/", {"until": "9999-12-31"}, 422),
        ("get", "/trail/", {"since": "0001-01-01"}, 422),
        ("post", "/trail/export/", {"until": "9999-12-31"}, 302),
        ("post", profile, {"do": f"change-{long}", "text": text}, 404),
        ("post", profile, {"do": "remove-²", "text": text}, 404),
        ("post", profile, {"do": "save", "text": deep}, 422),
        ("post", next_profile, {"text": deep}, 422),
        ("post", "/nodes/quarantine/delete/", {"lot": "[" * 100_000}, 302),
        ("post", "/jobs/new/selective/", {"project": "9" * 5000, "pseudonym_x": "a"}, 422),
        ("post", "/accounts/theme/", {"theme": "dark", "next": "-1"}, 302),
        ("get", "/accounts/login/", {"next": "http://[::1"}, 302),
        ("get", "/jobs/", {"text": "9" * 25, "page": "²", "project": long}, 200),
    ]
    for method, address, values, status in tries:
        with undone():
            answer = getattr(client, method)(address, values)
            check(answer, address, "")
            assert answer.status_code == status, f"{method} {address} {answer.status_code}"


@pytest.mark.parametrize("pk", ["9" * 19, "9" * 20])
def test_an_impossible_number_in_an_address_is_not_found(
    pk: str, client: Client, site: dict[str, Any]
) -> None:
    words = {known: value for known, value in site.items() if "<" not in known}
    for pattern, name in all_patterns():
        if "<int:" not in pattern:
            continue
        address = re.sub(r"<int:\w+>", pk, f"/{pattern}")
        for known, value in words.items():
            address = re.sub(rf"<\w+:{known}>", str(value), address)
        for method in ("get", "post"):
            with undone():
                answer = getattr(client, method)(address)
                check(answer, f"{method} {address}", name)
                assert answer.status_code in (302, 404, 405, 415), f"{method} {address}"


@pytest.mark.parametrize("pk", ["9" * 5000, "٣", "²", "%00", "-1", "1%0d%0aX:%20y", "%ed%a0%80"])
def test_an_address_that_is_no_number_is_not_found(pk: str, client: Client) -> None:
    for address in (f"/jobs/{pk}/", f"/nodes/{pk}/edit/", f"/jobs/1/{pk}/do/stop/"):
        answer = client.get(address)
        check(answer, address[:60], "")
        assert answer.status_code == 404
