"""Questions in the house: what a PACS reports to the receiver reaches the worker that asked."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from adit.nodes import questions
from adit.nodes.models import Node, Question
from adit.nodes.reception import HouseReception, house_spool
from adit.nodes.register import RowRegister, sweep
from adit_engine.commitment import Receipt, Report
from adit_engine.expectation import Asked, Sender

pytestmark = pytest.mark.django_db(transaction=True)

HERE = ("127.0.0.1",)
ASKED = Asked("PACS1", "2.25.7", (Sender("PACS", HERE),))
REPORT = Report("2.25.7", frozenset({("1.2", "1.3.1"), ("1.2", "1.3.2")}), {"1.3.3": 0x0112})


@pytest.fixture
def pacs(make_node: Any) -> Node:
    return make_node("PACS1", kind="dimse", settings={"called_ae_title": "PACS", "host": "h"})


def test_a_report_that_the_receiver_got_reaches_who_asked(pacs: Node) -> None:
    with HouseReception(pacs).await_report(ASKED, 5) as come:
        assert come() is None
        assert RowRegister().reported(REPORT, "PACS", "127.0.0.1") is Receipt.TAKEN
        came = _until(come)

    assert came == REPORT
    assert not Question.objects.exists()


def _until(come: Any) -> Any:
    deadline = timezone.now() + timedelta(seconds=5)
    while (came := come()) is None and timezone.now() < deadline:
        pass
    return came


def test_the_first_report_of_a_question_counts(pacs: Node) -> None:
    with HouseReception(pacs).await_report(ASKED, 5) as come:
        register = RowRegister()
        register.reported(REPORT, "PACS", "127.0.0.1")

        again = register.reported(replace(REPORT, kept=frozenset()), "PACS", "127.0.0.1")

        assert again is Receipt.TAKEN
        assert _until(come) == REPORT


@pytest.mark.parametrize(
    ("title", "address"), [("OTHER", "127.0.0.1"), ("PACS", "10.1.2.3")], ids=["title", "address"]
)
def test_a_report_from_somebody_else_is_not_taken(pacs: Node, title: str, address: str) -> None:
    with HouseReception(pacs).await_report(ASKED, 5) as come:
        assert RowRegister().reported(REPORT, title, address) is Receipt.STRANGER
        assert Question.objects.get().report is None
        assert come() is None


def test_nobody_waits_for_a_report_any_more(pacs: Node) -> None:
    with HouseReception(pacs).await_report(ASKED, 5):
        pass

    assert RowRegister().reported(REPORT, "PACS", "127.0.0.1") is Receipt.UNKNOWN


def test_the_question_of_a_dead_worker_takes_nothing_and_is_swept(
    pacs: Node, settings: Any, tmp_path: Path
) -> None:
    settings.SPOOL_DIR = tmp_path / "spool"
    late = timezone.now() - timedelta(seconds=1)
    with questions.awaited(pacs.pk, replace(ASKED, transaction_uid="2.25.8"), 5):
        house_spool().prepare()
        Question.objects.create(
            node=pacs, transaction_uid="2.25.7", senders=[["PACS", list(HERE)]], expires_at=late
        )
        assert RowRegister().reported(REPORT, "PACS", "127.0.0.1") is Receipt.UNKNOWN

        sweep()

        assert [row.transaction_uid for row in Question.objects.all()] == ["2.25.8"]


def test_a_report_that_cannot_be_handed_on_is_not_taken(
    pacs: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    with HouseReception(pacs).await_report(ASKED, 5):
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE nodes_question RENAME TO away")
        try:
            receipt = RowRegister().reported(REPORT, "PACS", "127.0.0.1")
        finally:
            with connection.cursor() as cursor:
                cursor.execute("ALTER TABLE away RENAME TO nodes_question")

    assert receipt is Receipt.NOT_NOW
