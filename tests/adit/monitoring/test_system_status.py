"""System status: processes, queue, disks with a forecast, backup, mail, and the checks of doctor."""

import os
import re
import socket
from collections.abc import Callable
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from lab.smtp_server import smtp_server

from adit import installation
from adit.accounts.models import User
from adit.accounts.permissions import ADMINISTRATORS
from adit.accounts.sign_in_settings import Directory, OpenIdProvider
from adit.audit import outages
from adit.audit.models import AuditEvent
from adit.jobs.models import Job, JobState
from adit.monitoring import process_signs, system_status
from adit.monitoring.models import DiskUsage, ProcessRole, ProcessSign
from adit.service_checks import ServiceFinding

pytestmark = pytest.mark.django_db
AsUser = Callable[[User | None], Client]
URLS = ("/system/", "/system/checks/")


@pytest.fixture
def admin(make_user: Callable[..., User]) -> User:
    return make_user("ada", ADMINISTRATORS, email="ada@hospital.example")


def test_only_administrators_and_pacs_administrators_see_the_status(
    admin: User, pacsadmin: User, coordinator: User, as_user: AsUser
) -> None:
    for url in URLS:
        assert as_user(admin).get(url).status_code == 200
        assert as_user(pacsadmin).get(url).status_code == 200
        assert as_user(coordinator).get(url).status_code == 403
        assert as_user(None).get(url).status_code == 302
    assert as_user(coordinator).post("/system/test-mail/").status_code == 403
    assert 'href="/system/"' in as_user(pacsadmin).get("/").content.decode()
    assert 'href="/system/"' not in as_user(coordinator).get("/").content.decode()


def test_the_status_says_whether_orders_need_a_project(
    pacsadmin: User, as_user: AsUser, settings: Any
) -> None:
    for allowed, answer in ((True, "are allowed: yes."), (False, "are allowed: no.")):
        settings.ORDERS_WITHOUT_PROJECT = allowed
        page = as_user(pacsadmin).get("/system/").content.decode()
        assert f"Pseudonymized orders without a research project {answer}" in page


def test_the_status_shows_how_people_sign_in_without_secrets(
    pacsadmin: User, as_user: AsUser, settings: Any
) -> None:
    settings.LOCAL_SIGN_IN, settings.EMERGENCY_ACCOUNTS = False, ["glass-case"]
    settings.OPENID_PROVIDERS = {
        "hospital": OpenIdProvider(
            provider_id="hospital",
            name="Hospital login",
            issuer="https://login.hospital.example",
            client_id="adit",
            client_secret="provider secret",
            group_map={"radiology": ("Coordinators", "Reviewers")},
        )
    }
    settings.LDAP = Directory(
        url="ldaps://directory.hospital.example",
        bind_dn="cn=adit",
        bind_password="directory secret",
        base="ou=people",
        group_map={},
        checks_accounts=True,
    )

    page = unescape(as_user(pacsadmin).get("/system/").content.decode())

    shown = dict(re.findall(r"<dt><code>(\w+)</code></dt><dd>(.*?)</dd>", page))
    assert shown["ADIT_LOCAL_SIGN_IN"] == "Accounts sign in with a password of ADIT: no."
    assert shown["ADIT_EMERGENCY_ACCOUNTS"] == "glass-case"
    assert shown["ADIT_SELF_REGISTRATION"].endswith(": no.")
    assert shown["ADIT_OIDC_PROVIDERS"] == "hospital"
    assert shown["ADIT_OIDC_HOSPITAL_ISSUER"] == "https://login.hospital.example"
    assert shown["ADIT_OIDC_HOSPITAL_GROUPS"] == "radiology → Coordinators, Reviewers"
    assert shown["ADIT_LDAP_URL"] == "ldaps://directory.hospital.example"
    assert shown["ADIT_LDAP_BASE"] == "ou=people"
    assert shown["ADIT_LDAP_CHECK_ACCOUNTS"] == "yes"
    assert "secret" not in " ".join(shown.values())
    assert "provider secret" not in page
    assert "directory secret" not in page


def test_a_process_that_reports_is_running_and_one_that_stopped_is_named_with_its_command(
    settings: Any,
) -> None:
    settings.EMBEDDED = False
    settings.RECEIVER_PORT = settings.DICOMWEB_PORT = 0
    process_signs.report_process(ProcessRole.WORKER)
    old = timezone.now() - timedelta(minutes=3)
    ProcessSign.objects.create(name="b:1", role="scheduler", host="b", version="1", seen_at=old)
    ended = timezone.now() - timedelta(days=2)
    ProcessSign.objects.create(name="c:1", role="web", host="c", version="1", seen_at=ended)
    process_signs.report_process(ProcessRole.WORKER)

    web, worker, scheduler = system_status.list_processes()
    assert (worker.host, worker.alive, worker.next_step) == (socket.gethostname(), 1, "")
    assert (scheduler.alive, scheduler.next_step) == (0, "Start it on b: adit scheduler")
    assert (web.host, web.seen_at) == ("", None)
    settings.DICOMWEB_PORT = 8104
    dicomweb = system_status.list_processes()[-1]
    assert (dicomweb.role, dicomweb.alive) == (ProcessRole.DICOMWEB, 0)
    assert "adit dicomweb" in dicomweb.next_step
    settings.EMBEDDED = True
    assert "adit up" in system_status.list_processes()[0].next_step


def test_the_forecast_says_when_a_disk_that_fills_evenly_is_full() -> None:
    today = timezone.localdate()

    def use(days_ago: int, free: int) -> None:
        day = today - timedelta(days=days_ago)
        DiskUsage.objects.create(
            host="a", folder="/data", day=day, total_bytes=1000, free_bytes=free
        )

    use(40, 10)  # older than the period of the forecast
    use(2, 600)
    use(0, 500)
    assert not system_status.list_disks()[0].has_history
    use(10, 700)
    (disk,) = system_status.list_disks()
    assert (disk.full_in_days, disk.used_percent) == (25, 50)
    DiskUsage.objects.filter(day=today).update(free_bytes=900)
    assert system_status.list_disks()[0].full_in_days is None


def test_a_report_stores_the_disks_of_the_folders_of_this_server(settings: Any) -> None:
    process_signs.report_disks()
    process_signs.report_disks()

    stored = DiskUsage.objects.get(folder=str(settings.DATA_DIR))
    assert 0 < stored.free_bytes < stored.total_bytes


def test_the_page_shows_how_many_tasks_wait_for_a_worker_and_since_when(
    admin: User, make_job: Callable[..., Job], as_user: AsUser
) -> None:
    job = make_job(admin, state=JobState.PENDING)
    Job.objects.filter(pk=job.pk).update(created_at=timezone.now() - timedelta(minutes=90))
    job.tasks.update(state="pending")

    page = as_user(admin).get("/system/").content.decode()
    assert "The oldest waiting task was ordered 90 minutes ago." in page
    assert "no sign of life" in page


def test_the_last_backup_is_when_the_backup_script_touched_its_file(settings: Any) -> None:
    file = settings.DATA_DIR / "last-backup"
    assert system_status.get_last_backup() is None
    file.touch()
    try:
        os.utime(file, (1_700_000_000, 1_700_000_000))
        found = system_status.get_last_backup()
        assert found is not None
        assert found.timestamp() == 1_700_000_000
    finally:
        file.unlink()


def test_the_checks_of_doctor_are_shown_with_what_to_do(
    admin: User, as_user: AsUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [ServiceFinding("database"), ServiceFinding("broker", "Check whether RabbitMQ runs.")]
    monkeypatch.setattr(installation, "check_installation", lambda: iter(found))

    page = as_user(admin).get("/system/checks/").content.decode()
    assert "1 problem found on this server" in page
    assert "Check whether RabbitMQ runs." in page


def test_a_test_mail_reaches_the_mail_server_or_says_why_not(
    admin: User, as_user: AsUser, settings: Any
) -> None:
    client = as_user(admin)

    def send() -> str:
        return client.post("/system/test-mail/", follow=True).content.decode()

    assert "No mail server is configured." in send()
    settings.MAIL = True
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_USE_TLS = settings.EMAIL_USE_SSL = False
    settings.EMAIL_HOST_PASSWORD = "geheim-77"
    settings.EMAIL_HOST_USER = ""
    with smtp_server() as box:
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", box.port
        assert "accepted a mail to ada@hospital.example" in send()
        (mail,) = box.taken
        assert mail["Subject"] == "ADIT: test mail"
        page = client.get("/system/").content.decode()
        assert f"127.0.0.1:{box.port}" in page
        assert "geheim-77" not in page
    assert "ADIT cannot send mails" not in client.get("/system/").content.decode()
    assert "The mail server does not answer." in send()
    page = client.get("/system/").content.decode()
    assert "ADIT cannot send mails since" in page
    assert "Check ADIT_MAIL_HOST" in page
    outages.note_success(outages.MAIL)
    assert "ADIT cannot send mails" not in client.get("/system/").content.decode()
    assert AuditEvent.objects.filter(action="system.test_mail").count() == 1
    User.objects.filter(pk=admin.pk).update(email="")
    assert "Enter your mail address" in send()
