"""Alarms: one row per problem, shown to managers, mailed once, ended when it is solved."""

import shutil
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from django.core import mail
from django.db import connection
from django.db.models import F
from django.utils import timezone
from lab.certificates import Authority
from lab.node_pages import client_of
from lab.smtp_server import SmtpServer, smtp_server

from adit.accounts.models import User
from adit.nodes import alarms, host_checks, notifications, services
from adit.nodes.limits import breaker
from adit.nodes.models import Alarm, AlarmMail, Node
from adit.notifications import outbox
from adit.notifications.outbox import Outbox
from adit_engine import messages
from adit_engine.errors import Unreachable
from adit_engine.messages import Message

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def letters(settings) -> None:
    settings.MAIL, settings.MAIL_ADMINS = True, ["staff@hospital.example"]
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    settings.RECEIVER_PORT = 0


def quarantined(count: int) -> Message:
    return Message("alarm.quarantine-used", count=count)


def rest(node: Node, times: int = 20) -> None:
    for _ in range(times):
        breaker.record_failure(node, Unreachable(node.name, "is away"))


def test_a_repeated_alarm_updates_its_open_row(source: Node) -> None:
    for count in (1, 2):
        alarms.raise_alarm(Alarm.Cause.DISK, "data", quarantined(count))

    assert (Alarm.objects.get().text, Alarm.objects.count()) == (quarantined(2), 1)
    alarms.end_other_alarms(Alarm.Cause.DISK, [])
    alarms.raise_alarm(Alarm.Cause.DISK, "data", quarantined(3))
    assert Alarm.objects.count() == 2


def test_an_alarm_is_mailed_once_to_the_contact_and_to_administrators(source: Node) -> None:
    source.settings = {"contact": "Anna PACS <anna@hospital.example>, phone 4711"}
    source.save()
    rest(source)

    assert notifications.mail_alarms() == 2
    assert notifications.mail_alarms() == 0

    assert {one for m in mail.outbox for one in m.to} == {
        "staff@hospital.example",
        "anna@hospital.example",
    }
    assert "PACS1: does not answer" in mail.outbox[0].body


def test_a_mail_that_cannot_be_sent_is_retried(source: Node, settings) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 9
    rest(source)
    assert notifications.mail_alarms() == 0
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    AlarmMail.objects.update(not_before=timezone.now())

    assert notifications.mail_alarms() == 1


def test_an_alarm_without_recipients_is_mailed_when_there_is_one(source: Node, settings) -> None:
    settings.MAIL_ADMINS = []
    rest(source)
    assert notifications.mail_alarms() == 0
    settings.MAIL_ADMINS = ["staff@hospital.example"]

    assert notifications.mail_alarms() == 1


def test_an_alarm_stays_unmailed_while_mail_is_disabled(source: Node, settings) -> None:
    settings.MAIL = False
    rest(source)

    assert notifications.mail_alarms() == 0
    assert Alarm.objects.get().mailed_at is None


def test_changes_of_hours_and_limits_raise_an_alarm_and_others_do_not(
    pacsadmin: User, source: Node
) -> None:
    source.name = "PACS One"
    services.save_node(pacsadmin, source)
    assert not Alarm.objects.exists()
    source.retrieve_limit, source.pause_between_studies_s = 7, 3
    services.save_node(pacsadmin, source)

    alarm = Alarm.objects.get()
    assert alarm.node == source
    assert str(alarm.text) == (
        "pacsadmin changed: connections for transfers, seconds between two studies."
    )
    notifications.mail_alarms()
    source.retrieve_limit = 8
    services.save_node(pacsadmin, source)
    assert notifications.mail_alarms() == 1, "a further change must be mailed"
    Alarm.objects.update(last_at=timezone.now() - timedelta(days=3))
    alarms.end_old_alarms()
    assert Alarm.objects.get().ended_at is not None


def test_an_almost_full_disk_raises_an_alarm_until_space_is_free(
    monkeypatch: pytest.MonkeyPatch, settings, tmp_path: Path
) -> None:
    settings.DATA_DIR = settings.SPOOL_DIR = settings.ARCHIVE_DIR = tmp_path
    monkeypatch.setattr(host_checks, "LOW_DISK_FRACTION", 1.0)
    host_checks.check_host()
    alarm = Alarm.objects.get()
    assert (alarm.host, alarm.subject) == (socket.gethostname(), "data"), "one alarm per disk"
    free = 100 * shutil.disk_usage(tmp_path).free // shutil.disk_usage(tmp_path).total
    assert alarm.text == Message(
        "alarm.disk-almost-full", folder="data", host=alarm.host, percent=free
    )

    monkeypatch.setattr(host_checks, "LOW_DISK_FRACTION", 0.0)
    host_checks.check_host()

    assert not Alarm.objects.filter(ended_at=None).exists()


def test_a_machine_raises_and_ends_only_alarms_of_its_own_disks(
    monkeypatch: pytest.MonkeyPatch, settings, tmp_path: Path
) -> None:
    settings.DATA_DIR = tmp_path
    for name in ("worker-1", "worker-2"):
        on_machine(monkeypatch, name, low_disk=1.0)
    assert set(still_open()) == {"worker-1", "worker-2"}

    on_machine(monkeypatch, "worker-1", low_disk=0.0)
    assert still_open() == ["worker-2"]

    alarms.end_old_alarms()
    assert still_open() == ["worker-2"], "a recent alarm must stay open"
    Alarm.objects.update(last_at=timezone.now() - timedelta(hours=2))
    alarms.end_old_alarms()
    assert still_open() == [], "an old alarm must end"


def on_machine(monkeypatch: pytest.MonkeyPatch, name: str, *, low_disk: float) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    monkeypatch.setattr(host_checks, "LOW_DISK_FRACTION", low_disk)
    host_checks.check_host()


def still_open() -> list[str]:
    return list(Alarm.objects.filter(ended_at=None).values_list("host", flat=True))


@pytest.mark.django_db(transaction=True)
def test_two_schedulers_send_each_mail_once(
    source: Node, settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both read the first mail before either claims it; a real SMTP server receives the mails."""
    both_have_read = threading.Barrier(2)

    def in_step(name: str) -> F:
        with suppress(threading.BrokenBarrierError):
            both_have_read.wait(20)
        return F(name)

    monkeypatch.setattr(outbox, "F", in_step)
    rest(source)
    alarms.raise_alarm(Alarm.Cause.STUCK, "job:1", quarantined(1))
    settings.MAIL_ADMINS = [f"staff-{n}@hospital.example" for n in range(4)]
    with smtp_server() as box:
        by_smtp(settings, box)
        sent: list[int] = []

        def scheduler() -> None:
            try:
                sent.append(notifications.mail_alarms())
            finally:
                connection.close()

        threads = [threading.Thread(target=scheduler) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)

    assert sorted(letter["To"] for letter in box.taken) == settings.MAIL_ADMINS
    assert sum(sent) == 4
    assert {letter["Subject"] for letter in box.taken} == {"ADIT: 2 alarms"}


def test_a_mail_not_recorded_as_sent_is_sent_again_with_the_same_id(
    source: Node, settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest(source)
    with smtp_server() as box:
        by_smtp(settings, box)

        def dies(*_: object) -> int:
            raise KeyboardInterrupt

        monkeypatch.setattr(Outbox, "mark_sent", dies)
        with pytest.raises(KeyboardInterrupt):
            notifications.mail_alarms()
        monkeypatch.undo()
        assert notifications.mail_alarms() == 0, "sending may still be in progress"
        AlarmMail.objects.update(not_before=timezone.now())
        alarms.raise_alarm(Alarm.Cause.STUCK, "job:1", quarantined(1))
        assert notifications.mail_alarms() == 2

    first, again, other = (letter["Message-ID"] for letter in box.taken)
    assert first == again
    assert other != first


def by_smtp(settings, box: SmtpServer) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", box.port
    settings.EMAIL_USE_TLS = settings.EMAIL_USE_SSL = False


def test_an_expiring_certificate_raises_an_alarm_until_it_is_renewed(
    make_node: Callable[..., Node],
) -> None:
    place = {"host": "127.0.0.1", "called_ae_title": "A", "transport": "tls"}
    soon, later = (Authority().issue(until_day=days).certificate for days in (10, 400))
    node = make_node("A", kind="dimse", settings={**place, "ca_certificate": soon})

    host_checks.check_node_rows()

    alarm = Alarm.objects.get(cause=Alarm.Cause.CERTIFICATE)
    assert alarm.node == node
    assert "Replace it by a renewed one before" in str(alarm.text)
    node.settings = {**place, "ca_certificate": later}
    node.save()
    host_checks.check_node_rows()
    alarm.refresh_from_db()
    assert alarm.ended_at is not None


def test_only_managers_see_alarms(
    pacsadmin: User, coordinator: User, source: Node, settings
) -> None:
    settings.STATIC_ROOT.mkdir(parents=True, exist_ok=True)
    rest(source)

    for path in ("/", f"/nodes/{source.pk}/"):
        assert 'class="alarms"' in client_of(pacsadmin).get(path).content.decode()
        assert 'class="alarms"' not in client_of(coordinator).get(path).content.decode()


def test_the_text_of_a_stored_alarm_is_rendered_when_it_is_shown(
    pacsadmin: User, source: Node, settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.STATIC_ROOT.mkdir(parents=True, exist_ok=True)
    rest(source)
    monkeypatch.setitem(messages._templates, "alarm.no-answer", "Keine Antwort seit {since}.")

    page = client_of(pacsadmin).get(f"/nodes/{source.pk}/").content.decode()

    assert "Keine Antwort seit" in page
    assert "No answer since" not in page
