"""Fixtures of the Django project: a separate data folder, users of each role, nodes, a project."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab.prepared import prepared_place  # noqa: F401
from lab.reaper import reaping
from lab.services import postgresql_service, rabbitmq_service, redis_service  # noqa: F401

DATA = Path(tempfile.mkdtemp(prefix="adit-test-"))
os.environ["ADIT_DATA"] = str(DATA)
os.environ["ADIT_ORDERS_WITHOUT_PROJECT"] = "true"  # tests that need a project turn it off
os.environ["DJANGO_SETTINGS_MODULE"] = "adit.config.settings"
for name in ("ADIT_KEY_FILE", "ADIT_SECRET_KEY_FILE", "DATABASE_URL", "DATABASE_URL_FILE"):
    os.environ.pop(name, None)
if "ADIT_TEST_DATABASE" in os.environ:
    os.environ["DATABASE_URL"] = os.environ["ADIT_TEST_DATABASE"]

from adit_engine.pseudonymize.keys import create_key_file  # noqa: E402

create_key_file(DATA / "keys" / "master.key")
create_key_file(DATA / "keys" / "web.key")

import django  # noqa: E402
from django.conf import settings  # noqa: E402

django.setup()
if DATA.resolve() != settings.DATA_DIR:
    pytest.exit("Unset DJANGO_SETTINGS_MODULE: tests bring a data folder of their own.", 2)

from typing import Any  # noqa: E402

from django.contrib.auth.models import Group, Permission  # noqa: E402
from django.db import connection, transaction  # noqa: E402
from django.test import Client, TransactionTestCase  # noqa: E402
from lab.jobs import PATIENT, GatedNode, put_study  # noqa: E402
from lab.ordering import order_job  # noqa: E402

from adit.accounts import permissions as standard  # noqa: E402
from adit.accounts.models import User  # noqa: E402
from adit.audit import trail  # noqa: E402
from adit.audit.kept_head import FILE_NAME as KEPT_HEAD  # noqa: E402
from adit.audit.models import GENESIS_HASH, ChainHead  # noqa: E402
from adit.dicomweb import viewing_cache  # noqa: E402
from adit.dicomweb.client_watch import ClientWatch  # noqa: E402
from adit.jobs import encrypted_payload, task_groups  # noqa: E402
from adit.jobs.kinds.base import TaskPlan  # noqa: E402
from adit.jobs.kinds.picked_study import PickedStudy  # noqa: E402
from adit.jobs.lease import SHUTDOWN  # noqa: E402
from adit.jobs.models import Job, JobState, SeriesResult, Task, TaskState  # noqa: E402
from adit.nodes.models import Node, NodeAccess  # noqa: E402
from adit.projects import services  # noqa: E402
from adit.projects.models import Project  # noqa: E402
from adit.projects.services import save_new_project  # noqa: E402
from adit.vault.cipher import ValueCipher  # noqa: E402
from adit_engine import nodes  # noqa: E402
from adit_engine.messages import Message  # noqa: E402
from adit_engine.nodes.memory import MemoryNode  # noqa: E402
from adit_engine.values.outcome import InstanceState, LedgerEntry, SeriesLedger  # noqa: E402
from adit_engine.values.references import SeriesRef  # noqa: E402

settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
"""A fast hasher, because every test creates its users."""
settings.STATIC_ROOT.mkdir()
PASSWORD = "a long enough password"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Workers create their own data folders, and must not read the settings before that."""
    del os.environ["DJANGO_SETTINGS_MODULE"]


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(DATA, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def nothing_stays() -> Iterator[None]:
    """End all started processes and remove the data folder, even if the tests are killed."""
    with reaping() as remove:
        remove(DATA)
        yield


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    django_db_modify_db_settings_parallel_suffix: None,
) -> None:
    """Use a file, as an installation does: SQLite locks an in-memory database differently."""
    if settings.EMBEDDED:
        connection.settings_dict["TEST"]["NAME"] = str(DATA / "test.sqlite3")


KEPT_TABLES = {"auth_permission", "django_content_type", "django_migrations"}
"""Tables that describe the models; the migrations have filled them."""


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Let transactional tests delete at their end the rows that were added.

    Django would truncate each table, which PostgreSQL does slowly, and fill KEPT_TABLES again.
    """
    with django_db_blocker.unblock():
        tables = set(connection.introspection.django_table_names(only_existing=True)) - KEPT_TABLES
        last = Permission.objects.latest("pk").pk

    def empty(test: TransactionTestCase) -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            for table in sorted(tables):
                cursor.execute(f'DELETE FROM "{table}"')
            cursor.execute("DELETE FROM auth_permission WHERE id > %s", [last])
            ChainHead.objects.create(pk=1, signature=trail.sign_head(0, GENESIS_HASH))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", empty)
        yield


@pytest.fixture(autouse=True)
def no_kept_head() -> Iterator[None]:
    """Each test has another trail: remove the file with the head of the last one."""
    yield
    (DATA / KEPT_HEAD).unlink(missing_ok=True)


@pytest.fixture(autouse=True)
def no_recheck_in_transactions(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that watches a retrieval sees no rows of a transaction that is rolled back."""
    marker = request.node.get_closest_marker("django_db")
    if marker is None or not marker.kwargs.get("transaction"):
        for method in ("_renew", "_recheck"):
            monkeypatch.setattr(ClientWatch, method, lambda self: None)


@pytest.fixture(autouse=True)
def empty_memory() -> Iterator[None]:
    """Clear all memory nodes before and after each test, and what was fetched from them."""
    MemoryNode.shelves.clear()
    yield
    MemoryNode.shelves.clear()
    viewing_cache.cache.clear()


@pytest.fixture
def count_opened(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Return how many values were decrypted since the last call."""
    opened = 0
    original = ValueCipher.open

    def count(self: ValueCipher, sealed: bytes | memoryview, context: str) -> Any:
        nonlocal opened
        opened += 1
        return original(self, sealed, context)

    def take() -> int:
        nonlocal opened
        taken, opened = opened, 0
        return taken

    monkeypatch.setattr(ValueCipher, "open", count)
    return take


@pytest.fixture
def groups(db: None) -> dict[str, Group]:
    """The standard groups by name."""
    return standard.create_standard_groups()


@pytest.fixture
def make_user(groups: dict[str, Group]) -> Callable[..., User]:
    """Create a user in the named groups: make_user("anna", "Coordinators")."""

    def make(username: str, *names: str, **values: object) -> User:
        user = User.objects.create_user(username=username, password=PASSWORD, **values)
        user.groups.set([groups[name] for name in names])
        return user

    return make


@pytest.fixture
def coordinator(make_user: Callable[..., User]) -> User:
    return make_user("coordinator", standard.COORDINATORS)


@pytest.fixture
def pacsadmin(make_user: Callable[..., User]) -> User:
    return make_user("pacsadmin", standard.PACS_ADMINISTRATORS)


@pytest.fixture
def dpo(make_user: Callable[..., User]) -> User:
    return make_user("dpo", standard.DATA_PROTECTION)


@pytest.fixture
def stranger(make_user: Callable[..., User]) -> User:
    """A user in no group, without any permission."""
    return make_user("stranger")


@pytest.fixture
def root(make_user: Callable[..., User]) -> User:
    """A superuser."""
    return make_user("root", is_superuser=True, is_staff=True)


@pytest.fixture
def make_node(groups: dict[str, Group]) -> Callable[..., Node]:
    """Create an open memory node: make_node("PACS1", reads=["Coordinators"], kind="folder", …)."""

    def make(
        name: str, *, reads: tuple[str, ...] = (), writes: tuple[str, ...] = (), **values: object
    ) -> Node:
        values = {"kind": "memory", "is_open": True, **values}
        node = Node.objects.create(name=name, **values)
        for group in {*reads, *writes}:
            NodeAccess.objects.create(
                group=groups[group], node=node, may_read=group in reads, may_write=group in writes
            )
        for project in Project.objects.filter(is_default=False):
            project.sources.add(node)
            project.destinations.add(node)
        return node

    return make


@pytest.fixture
def source(make_node: Callable[..., Node]) -> Node:
    """A memory node from which coordinators may fetch."""
    return make_node("PACS1", reads=(standard.COORDINATORS,))


@pytest.fixture
def destination(make_node: Callable[..., Node]) -> Node:
    """A memory node to which coordinators may send."""
    return make_node("Research PACS", writes=(standard.COORDINATORS,))


@pytest.fixture
def folder_node(make_node: Callable[..., Node], tmp_path: Path) -> Node:
    """A folder to which coordinators may send."""
    (tmp_path / "out").mkdir()
    return make_node(
        "Research folder",
        kind="folder",
        settings={"path": str(tmp_path / "out")},
        writes=(standard.COORDINATORS,),
    )


@pytest.fixture
def make_project(groups: dict[str, Group], db: None) -> Callable[..., Project]:
    """Create a project of the coordinators: make_project("LUNG", pattern="LUNG-####", …).

    Like a project of an old release it may lack details of its approval. It allows every node
    and modality, including nodes that `make_node` creates later.
    """
    manager = User.objects.create_superuser("project-maker")

    def make(
        protocol_id: str, *, members: tuple[str, ...] = (standard.COORDINATORS,), **values: object
    ) -> Project:
        basis = {"sponsor": "Test University", "all_modalities": "modalities" not in values}
        project = Project(protocol_id=protocol_id, **{**basis, **values})
        nodes = list(Node.objects.all())
        relations = {
            "members": [groups[name] for name in members],
            "sources": nodes,
            "destinations": nodes,
        }
        return save_new_project(manager, project, "project.created", relations)

    return make


@pytest.fixture
def project(make_project: Callable[..., Project]) -> Project:
    return make_project("LUNG", protocol_name="Lung study", pattern="LUNG-####")


ROOT = "1.2.826.0.1.3680043.8.498.66"


@pytest.fixture
def as_user() -> Callable[[User | None], Client]:
    """Return a test client signed in as this user; None means anonymous."""

    def client_of(user: User | None) -> Client:
        client = Client()
        if user is not None:
            client.force_login(user)
        return client

    return client_of


@pytest.fixture
def make_job(source: Node, destination: Node) -> Callable[..., Job]:
    """Create the rows of a job: make_job(owner, state=…, tasks=2, labels={"patient_name": …})."""

    def make(
        owner: User,
        *,
        state: JobState = JobState.SUCCESS,
        tasks: int = 1,
        labels: dict[str, str] | None = None,
        **values: Any,
    ) -> Job:
        project = values.pop("project", None) or services.default_project()
        job = Job.objects.create(
            kind="selective",
            owner=owner,
            destination=destination,
            project=project,
            state=state,
            order={"version": 1, "change": "pseudonymized", "reason": "", "announced": []},
            idempotency_key=f"made-{Job.objects.count()}",
            **values,
        )
        for position in range(1, tasks + 1):
            plan = TaskPlan(
                source.pk,
                {"study_uid": f"{ROOT}.{position}", "labels": labels or {}},
                patient_id="PID-0815",
            )
            Task.objects.create(
                job=job,
                position=position,
                source=source,
                payload=encrypted_payload.seal_task(project, job, position, plan, "LUNG-0001"),
                state=TaskState(state) if state in TaskState.values else TaskState.PENDING,
            )
        task_groups.assign_groups(job)
        return job

    return make


@pytest.fixture
def make_item() -> Callable[..., SeriesResult]:
    """Create one series of a task with its ledger: make_item(task, expected=3, delivered=2, …)."""

    def make(
        task: Task, *, description: str = "", why: Message | None = None, **values: Any
    ) -> SeriesResult:
        number = SeriesResult.objects.filter(task=task).count() + 1
        ref = SeriesRef(f"{ROOT}.1", f"{ROOT}.1.{number}")
        manifest = SeriesLedger(
            ref, entries={f"{ROOT}.1.{number}.1": LedgerEntry(InstanceState.DELIVERED)}
        )
        box = encrypted_payload.get_cipher(task.job.project)
        return SeriesResult.objects.create(
            task=task,
            attempt=1,
            index=encrypted_payload.series_index(box, task, ref.series_uid),
            sealed=encrypted_payload.seal_series(
                box, task, encrypted_payload.SeriesContent(manifest, description, why)
            ),
            number=number,
            is_final=True,
            **{"modality": "CT", **values},
        )

    return make


@pytest.fixture(autouse=True)
def _nobody_stops_the_worker() -> Iterator[None]:
    SHUTDOWN.requested = False
    yield
    SHUTDOWN.requested = False


@pytest.fixture
def gated(monkeypatch: pytest.MonkeyPatch, source: Node) -> type[GatedNode]:
    """Make the source return images only when the test allows it."""
    monkeypatch.setitem(nodes.KINDS, "gated", "lab.jobs:GatedNode")  # type: ignore[arg-type]
    source.kind = "gated"
    source.save()
    GatedNode.close_gate()
    return GatedNode


@pytest.fixture
def order_studies(coordinator: User, source: Node, destination: Node) -> Callable[..., Job]:
    """Order studies of one patient: order_studies("1", "2", images=3)."""

    def order(
        *studies: str,
        images: int = 3,
        series: int = 1,
        user: User | None = None,
        to: Node | None = None,
        **changes: object,
    ) -> Job:
        picks = tuple(
            PickedStudy.by_uid(
                source.pk, put_study(source, study, images, series, **changes), PATIENT
            )
            for study in studies
        )
        key = f"{len(studies)} {studies[0]} {Job.objects.count()}"
        place = (to or destination).pk
        return order_job(user or coordinator, "selective", picks, place, key=key)

    return order


@pytest.fixture
def keyholder(make_user: Callable[..., User], project: Project) -> User:
    """A member of LUNG who holds its identification list and may re-identify."""
    holders = Group.objects.create(name="Key holders")
    project.list_holders.add(holders)
    project.reidentifiers.add(holders)
    user = make_user("keyholder", "Coordinators")
    user.groups.add(holders)
    return user
