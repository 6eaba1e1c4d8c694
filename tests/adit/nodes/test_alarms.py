"""Alarms: one row of a sort, shown to who can mend it, told once by mail, ended when it is over."""

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from django.core import mail
from django.utils import timezone
from lab.certificates import Authority
from test_node_pages import client_of

from adit.accounts.models import User
from adit.nodes import alarms, breaker, rows
from adit.nodes.models import Alarm, Node
from adit_engine.errors import Unreachable

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def letters(settings) -> None:
    settings.MAIL, settings.MAIL_ADMINS = True, ["staff@hospital.example"]
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    settings.RECEIVER_PORT = 0


def rest(node: Node, times: int = 20) -> None:
    for _ in range(times):
        breaker.failed(node, Unreachable(node.name, "is away"))


def test_one_row_of_a_sort_however_often_it_sounds(source: Node) -> None:
    for text in ("first", "second"):
        alarms.sound(Alarm.What.DISK, "data", text)

    assert (Alarm.objects.get().text, Alarm.objects.count()) == ("second", 1)
    alarms.end_others(Alarm.What.DISK, [])
    alarms.sound(Alarm.What.DISK, "data", "third")
    assert Alarm.objects.count() == 2


def test_it_is_mailed_once_to_the_contact_and_to_staff(source: Node) -> None:
    source.settings = {"contact": "Anna PACS <anna@hospital.example>, phone 4711"}
    source.save()
    rest(source)

    assert alarms.tell() == 2
    assert alarms.tell() == 0

    assert {one for m in mail.outbox for one in m.to} == {
        "staff@hospital.example",
        "anna@hospital.example",
    }
    assert "PACS1: does not answer" in mail.outbox[0].body


def test_a_letter_that_cannot_be_sent_is_tried_again(source: Node, settings) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 9
    rest(source)
    alarms.tell()
    assert Alarm.objects.get().mailed_at is None
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"

    assert alarms.tell() == 1


def test_without_a_mail_server_nothing_is_lost(source: Node, settings) -> None:
    settings.MAIL = False
    rest(source)

    assert alarms.tell() == 0
    assert Alarm.objects.get().mailed_at is None


def test_changed_hours_and_limits_are_told_and_other_changes_are_not(
    pacsadmin: User, source: Node
) -> None:
    source.name = "PACS One"
    rows.save_node(pacsadmin, source)
    assert not Alarm.objects.exists()
    source.retrieve_limit, source.gap_s = 7, 3
    rows.save_node(pacsadmin, source)

    alarm = Alarm.objects.get()
    assert alarm.node == source
    assert alarm.text == (
        "Changed by pacsadmin: connections for transfers, seconds between two studies."
    )
    alarms.tell()
    source.retrieve_limit = 8
    rows.save_node(pacsadmin, source)
    assert alarms.tell() == 1, "a further change is told, too"
    Alarm.objects.update(last_at=timezone.now() - timedelta(days=3))
    alarms.look_around()
    assert Alarm.objects.get().ended_at is not None


def test_a_disk_that_is_almost_full_sounds_until_there_is_room(
    monkeypatch: pytest.MonkeyPatch, settings, tmp_path: Path
) -> None:
    settings.DATA_DIR = settings.SPOOL_DIR = tmp_path
    monkeypatch.setattr(alarms, "LOW_DISK", 1.0)
    alarms.look_around()
    assert set(Alarm.objects.values_list("about", flat=True)) == {"data", "spool"}
    free = round(100 * shutil.disk_usage(tmp_path).free / shutil.disk_usage(tmp_path).total)
    assert f"{free} % left" in Alarm.objects.all()[0].text

    monkeypatch.setattr(alarms, "LOW_DISK", 0.0)
    alarms.look_around()

    assert not Alarm.objects.filter(ended_at=None).exists()


def test_a_certificate_that_ends_sounds_until_it_is_renewed(
    make_node: Callable[..., Node],
) -> None:
    place = {"host": "127.0.0.1", "called_ae_title": "A", "transport": "tls"}
    soon, later = (Authority().issue(until_day=days).certificate for days in (10, 400))
    node = make_node("A", kind="dimse", settings={**place, "ca_certificate": soon})

    alarms.look_around()

    alarm = Alarm.objects.get(what=Alarm.What.CERTIFICATE)
    assert alarm.node == node
    assert "Put a renewed one there before" in alarm.text
    node.settings = {**place, "ca_certificate": later}
    node.save()
    alarms.look_around()
    alarm.refresh_from_db()
    assert alarm.ended_at is not None


def test_managers_see_alarms_and_others_do_not(
    pacsadmin: User, coordinator: User, source: Node, settings
) -> None:
    settings.STATIC_ROOT.mkdir(parents=True, exist_ok=True)
    rest(source)

    for path in ("/", f"/nodes/{source.pk}/"):
        assert 'class="alarms"' in client_of(pacsadmin).get(path).content.decode()
        assert 'class="alarms"' not in client_of(coordinator).get(path).content.decode()
