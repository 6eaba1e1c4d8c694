"""Upload of a complete consent list: verdicts, differences, confirmation, earlier versions."""

from collections import Counter
from collections.abc import Callable
from datetime import date
from io import BytesIO
from typing import Any

import openpyxl
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection, transaction
from django.db.migrations.executor import MigrationExecutor
from django.test import Client
from django.urls import reverse

from adit.accounts.models import User
from adit.audit import trail
from adit.audit.models import AuditEvent
from adit.blocklist import blocking
from adit.consent import changes, uploads
from adit.consent.changes import Consent
from adit.consent.models import ConsentEntry, ConsentUpload, ConsentVersion
from adit.consent.uploads import RowEffect
from adit.nodes.models import Node
from adit.projects.key_destruction import destroy_key
from adit.projects.models import Project
from adit.projects.services import get_project_cipher
from adit.spreadsheets.columns import SheetKind
from adit.spreadsheets.row_reader import DateOrder
from adit.spreadsheets.row_verdicts import RowVerdict
from adit.spreadsheets.table import UnreadableSheet
from adit.spreadsheets.template import make_template_xlsx
from adit_engine.errors import InvalidInput

pytestmark = pytest.mark.django_db(transaction=True)

HEADERS = "PatientID;Domain;Modality;ValidUntil;WithdrawnOn"


class Pages:
    """The key holder with a browser."""

    def __init__(self, client: Client, project: Project) -> None:
        self.client = client
        self.project = project

    def address(self, page: str, *args: Any) -> str:
        return reverse(f"project_consent_{page}", args=[self.project.pk, *args])

    def upload(self, data: str | bytes, name: str = "list.csv", **more: str) -> Any:
        file = SimpleUploadedFile(name, data if isinstance(data, bytes) else data.encode())
        form = {"sheet": file, "domain": "PACS1", "dates": DateOrder.DAY_FIRST.value, **more}
        self.page: Any = self.client.post(self.address("upload"), form, follow=True)
        return self.page

    def confirm(self, **more: str) -> Any:
        """Confirm what the last upload showed."""
        token = self.page.context["form"].initial["token"]
        form = {"reason": "list of November", "token": token, "do": "confirm", **more}
        return self.client.post(self.address("check"), form, follow=True)


@pytest.fixture
def pages(
    keyholder: User, project: Project, source: Node, as_user: Callable[[User], Client]
) -> Pages:
    return Pages(as_user(keyholder), project)


@pytest.fixture
def add(keyholder: User, project: Project, source: Node) -> Callable[..., ConsentEntry]:
    def add(patient_id: str, **terms: Any) -> ConsentEntry:
        return changes.save_consent(keyholder, project, Consent("PACS1", patient_id, **terms), "x")

    return add


def refusal(project: Project, patient_id: str, *modalities: str) -> str:
    why = blocking.explain_refusal(project, "PACS1", patient_id, modalities)
    return "" if why is None else why.code


def test_an_upload_shows_the_difference_and_takes_effect_when_it_is_confirmed(
    pages: Pages, project: Project, add: Callable[..., ConsentEntry], keyholder: User
) -> None:
    for patient in ("A-1", "B-2", "C-3", "E-5"):
        entry = add(patient)
        if patient == "C-3":
            changes.withdraw_consent(keyholder, entry, date.today(), "letter")
    lines = ["A-1;;CT;;", "C-3;;;;", "D-4;PACS1;;31.12.2031;", "E-5;;;;2026-11-02"]

    shown = pages.upload("\n".join([HEADERS, *lines]))
    before = [refusal(project, patient) for patient in ("B-2", "D-4")]
    done = pages.confirm()

    context = shown.context
    counts = ("added", "changed", "withdrawn", "unchanged", "errors")
    assert [context[name] for name in counts] == [1, 1, 1, 0, 0]
    assert [entry.patient_id for entry in context["uploaded"].removed] == ["B-2"]
    assert "stays withdrawn" in shown.content.decode()
    assert before == ["", "consent.not-listed"]
    assert "in use as version 6" in done.content.decode()
    assert refusal(project, "A-1", "MR") == "consent.other-modality"
    assert refusal(project, "B-2") == "consent.not-listed"
    assert refusal(project, "C-3") == "consent.withdrawn", "an upload revives nobody"
    assert refusal(project, "D-4") == ""
    assert refusal(project, "E-5") == "consent.withdrawn"
    assert not ConsentUpload.objects.exists()
    details = AuditEvent.objects.get(action="consent.uploaded").details
    assert details == {
        **{"version": 6, "added": 1, "changed": 1, "withdrawn": 1, "removed": 1},
        "rows_with_errors": 0,
    }


def test_a_withdrawal_outlives_lists_without_the_patient(
    pages: Pages, project: Project, add: Callable[..., ConsentEntry], keyholder: User
) -> None:
    changes.withdraw_consent(keyholder, add("C-3"), date.today(), "letter")

    pages.upload("PatientID\nA-1\n")
    pages.confirm()
    pages.upload("PatientID\nA-1\nC-3\nD-4\n")
    pages.confirm()

    assert refusal(project, "D-4") == ""
    assert refusal(project, "C-3") == "consent.withdrawn"
    add("C-3")
    assert refusal(project, "C-3") == "", "a new consent is entered for one patient"


def test_rows_with_errors_keep_the_list_from_taking_effect_until_they_are_left_out(
    pages: Pages, project: Project, add: Callable[..., ConsentEntry]
) -> None:
    add("B-2")
    add("A-1")
    lines = ["A-1;;;;", "B-2;;;;yes", "C-3;Elsewhere;;;", ";;CT;;", "D-4;;CT;;", "D-4;;MR;;"]

    page = pages.upload("\n".join([HEADERS, *lines]))
    refused = pages.confirm()
    versions = ConsentVersion.objects.count()
    done = pages.confirm(skip_errors="on")

    text = page.content.decode()
    assert page.context["errors"] == 5
    for sentence in (
        "WithdrawnOn: The value is not a date",
        "Domain: This issuer of patient IDs is unknown",
        "PatientID: The patient ID is missing",
        "The patient is on the list more than once, with different entries",
    ):
        assert sentence in text
    assert refused.status_code == 422
    assert versions == 2
    assert done.redirect_chain, [done.context["problem"], done.context["form"].errors]
    assert refusal(project, "A-1") == ""
    assert [refusal(project, one) for one in ("B-2", "D-4")] == ["consent.not-listed"] * 2


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ("Name;Domain\nA;PACS1\n", "column PatientID is missing"),
        ("PatientID;Consent\nA-1;no\n", "unknown columns: B"),
        ("PatientID;PatientID\nA-1;B-2\n", "Name the columns as in the template"),
        ("PatientID;Case\nA-1;\nB-2\n", ""),
        ("PatientID;\nA-1;widerrufen\n", "unknown columns: B"),
        ("ID\nA-1\n", "Name the columns as in the template"),
        ("A-1\nB-2\n", "column PatientID is missing"),
        ("PatientID\n", "no rows below the headers"),
        ("", "empty"),
        (b"PatientID\nA\0-1\n", "binary data"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "encrypted"),
    ],
)
def test_only_a_sheet_whose_columns_are_certain_is_read(
    data: str | bytes, sentence: str, pages: Pages
) -> None:
    page = pages.upload(data)

    assert (page.status_code == 200) == (not sentence), page.content.decode()
    assert sentence in page.content.decode()
    assert ConsentUpload.objects.exists() == (not sentence)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "cp1252", "utf-16"])
def test_lists_in_the_encodings_of_spreadsheet_programs_are_read(
    encoding: str, pages: Pages, project: Project
) -> None:
    pages.upload("PatientID;Domäne;Gültig bis\nJÜ-1;PACS1;31.12.2031\n".encode(encoding))
    pages.confirm()

    assert refusal(project, "JÜ-1") == ""
    assert ConsentEntry.objects.get().valid_until == date(2031, 12, 31)


def test_formulas_without_value_and_numbers_are_not_trusted(pages: Pages) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    for line in (["PatientID", "WithdrawnOn"], ["A-1", "=TODAY()"], [815, None], ["=B2", None]):
        sheet.append(line)
    file = BytesIO()
    book.save(file)

    page = pages.upload(file.getvalue(), "list.xlsx")

    rows = page.context["uploaded"].validated.rows
    assert [row.verdict for row in rows] == [
        RowVerdict.ERROR,
        RowVerdict.WARNING,
        RowVerdict.ERROR,
    ]


def test_the_template_and_an_export_can_be_uploaded(
    pages: Pages, add: Callable[..., ConsentEntry]
) -> None:
    add("0815", modalities="CT, MR")
    add("0816", valid_until=date(2031, 1, 1))
    template = pages.client.get(pages.address("template", "xlsx")).content
    exported = pages.client.post(pages.address("export"), {"reason": "check"}).content

    empty = pages.upload(template, "list.xlsx")
    same = pages.upload(exported, "list.xlsx")

    assert template == make_template_xlsx(SheetKind.CONSENT) or len(template) > 1000
    assert "No row is correct" in empty.content.decode()
    assert "nothing to confirm" in same.content.decode()
    assert same.context["unchanged"] == 2


def test_the_list_of_an_earlier_version_is_recognized(
    pages: Pages, project: Project, keyholder: User
) -> None:
    old, new = "PatientID\nA-1\nB-2\n", "PatientID\nA-1\n"
    for text in (old, new):
        pages.upload(text)
        pages.confirm()
    changes.withdraw_consent(
        keyholder,
        ConsentEntry.objects.get(replaced_in=None),
        date.today(),
        "letter",
    )

    page = pages.upload("PatientID\nB-2\nA-1\n")
    refused = pages.confirm()
    still = refusal(project, "B-2")
    pages.confirm(accept_old="on")

    assert "This is the list of version 1" in page.content.decode()
    assert refused.status_code == 422
    assert still == "consent.not-listed"
    assert refusal(project, "B-2") == ""
    assert refusal(project, "A-1") == "consent.withdrawn"


def test_an_export_of_an_earlier_version_and_a_shortened_withdrawn_id_are_pointed_out(
    pages: Pages, add: Callable[..., ConsentEntry], keyholder: User
) -> None:
    entry = add("00815")
    exported = pages.client.post(pages.address("export"), {"reason": "check"}).content
    changes.withdraw_consent(keyholder, entry, date.today(), "letter")

    old = pages.upload(exported, "list.xlsx").content.decode()
    shortened = pages.upload("PatientID\n815\n").content.decode()

    assert "This is the list of version 1. The current version is 2" in old
    assert "One patient ID differs from that of a patient who withdrew" in shortened
    assert "This is the list of version" not in shortened


def test_a_list_that_was_changed_since_the_check_is_checked_again(
    pages: Pages, project: Project, add: Callable[..., ConsentEntry], keyholder: User
) -> None:
    pages.upload("PatientID\nA-1\n")
    token = pages.page.context["form"].initial["token"]
    add("B-2")

    with pytest.raises(InvalidInput) as refused:
        uploads.confirm_upload(keyholder, project, "x", token=token)

    assert refused.value.message.code == "consent.changed-meanwhile"
    assert refusal(project, "B-2") == ""
    pages.client.post(pages.address("check"), {"do": "discard"})
    assert not ConsentUpload.objects.exists()


def test_an_earlier_version_stays_readable(
    pages: Pages, project: Project, keyholder: User, as_user: Callable[[User], Client]
) -> None:
    for text in ("PatientID\nA-1\nB-2\n", "PatientID;Modality\nB-2;CT\nC-3;\n"):
        pages.upload(text)
        pages.confirm()

    first, second = (pages.client.get(pages.address("version", n)) for n in (1, 2))

    assert [row.patient_id for row in first.context["table"].data] == ["A-1", "B-2"]
    assert sorted(row.patient_id for row in second.context["table"].data) == ["B-2", "C-3"]
    assert [row.patient_id for row in second.context["removed"].data] == ["A-1"]
    text = first.content.decode()
    assert "keyholder" in text
    assert "list of November" in text
    assert pages.client.get(pages.address("version", 3)).status_code == 404
    assert AuditEvent.objects.filter(action="consent.viewed", details__version=1).exists()


@pytest.mark.timeout(900)
def test_ten_thousand_rows_are_checked_and_replaced(
    project: Project, keyholder: User, source: Node, django_assert_max_num_queries: Any
) -> None:
    first = [Consent("PACS1", f"{n:06}", "CT") for n in range(9_500, 10_500)]
    with transaction.atomic():
        version = changes.add_version(keyholder, project, "first list")
        changes.replace_entries(version, {}, first)
    lines = [f"{n:06};PACS1;{'MR' if n % 2 else 'CT'};;" for n in range(10_000)]

    def store(*more: str) -> None:
        file, order = BytesIO("\n".join([HEADERS, *lines, *more]).encode()), DateOrder.DAY_FIRST
        uploads.store_upload(keyholder, project, file, "a.csv", default_domain="", order=order)

    store()
    uploaded = uploads.load_upload(keyholder, project)
    assert uploaded is not None
    effects = Counter(uploaded.effects.values())
    with django_assert_max_num_queries(150):
        uploads.confirm_upload(keyholder, project, "second list", token=uploaded.token)
    with pytest.raises(UnreadableSheet) as refused:
        store(*("Y;PACS1;;;" for _ in range(30)))

    assert effects == {RowEffect.ADDED: 9500, RowEffect.CHANGED: 250, RowEffect.UNCHANGED: 250}
    assert len(uploaded.removed) == 500
    assert ConsentEntry.objects.filter(replaced_in=None).count() == 10_000
    assert refusal(project, "009501", "CT") == "consent.other-modality"
    assert "more than 10000 rows" in str(refused.value)


def test_the_list_ends_with_the_key_of_its_project(
    pages: Pages,
    project: Project,
    add: Callable[..., ConsentEntry],
    root: User,
    keyholder: User,
) -> None:
    entry = add("A-1")
    event = AuditEvent.objects.get(action="consent.added")
    opened = trail.open_patient(get_project_cipher(project), event)
    pages.upload("PatientID\nA-1\nB-2\n")

    destroy_key(root, project, "the study is over", "LUNG")
    pages = Pages(pages.client, project)

    assert opened == ("PACS1", "A-1")
    assert pages.client.get(pages.address("check")).status_code == 403
    assert pages.client.get(reverse("project_consent", args=[project.pk])).status_code == 403
    block = pages.client.get(f"{reverse('block_new')}?consent={entry.pk}")
    assert "A-1" not in block.content.decode()


def test_entries_of_earlier_releases_are_encrypted_by_their_project(
    project: Project, make_project: Callable[..., Project], source: Node, root: User
) -> None:
    ended = make_project("HEART")
    destroy_key(root, ended, "the study is over", "HEART")
    executor = MigrationExecutor(connection)
    latest = executor.loader.graph.leaf_nodes("consent")
    try:
        executor.migrate([("consent", "0001_initial")])
        old = executor.loader.project_state([("consent", "0001_initial")]).apps
        for one in (project, ended):
            names = {"project_id": one.pk}
            version = old.get_model("consent", "ConsentVersion").objects.create(
                **names, number=1, reason=f"form of {one}", created_by_id=root.pk
            )
            for patient in ("A-1", "0815"):
                old.get_model("consent", "ConsentEntry").objects.create(
                    **names, index=patient, patient=["PACS1", patient], added_in=version
                )
    finally:
        executor = MigrationExecutor(connection)
        executor.migrate(latest)

    entries = ConsentEntry.objects.filter(project=project)
    assert [entry.patient for entry in entries] == [("PACS1", "A-1"), ("PACS1", "0815")]
    assert ConsentVersion.objects.get(project=project).reason == f"form of {project}"
    assert [refusal(project, one) for one in ("0815", "815")] == ["", "consent.not-listed"]
    lost = ConsentEntry.objects.filter(project=ended)
    assert [bytes(entry.sealed) for entry in lost] == [b"", b""]
