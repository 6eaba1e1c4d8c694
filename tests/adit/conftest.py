"""What the house's tests share: a data folder of their own, people of each role, nodes, a project."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab.reaper import reaping
from lab.services import postgresql_service, rabbitmq_service, redis_service  # noqa: F401

DATA = Path(tempfile.mkdtemp(prefix="adit-test-"))
os.environ["ADIT_DATA"] = str(DATA)
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

from django.contrib.auth.models import Group  # noqa: E402
from django.db import connection  # noqa: E402

from adit.accounts import permissions as standard  # noqa: E402
from adit.accounts.models import User  # noqa: E402
from adit.nodes.models import Node, NodeAccess  # noqa: E402
from adit.projects.models import Project  # noqa: E402
from adit.projects.services import create_project  # noqa: E402
from adit_engine.nodes.memory import MemoryNode  # noqa: E402

settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
"""Quick: each test makes its people anew."""
settings.STATIC_ROOT.mkdir()
PASSWORD = "a long enough password"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Workers make data folders of their own, and must not read the settings before that."""
    del os.environ["DJANGO_SETTINGS_MODULE"]


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(DATA, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def nothing_stays() -> Iterator[None]:
    """What the tests start ends with them, even if they are killed; so does their data folder."""
    with reaping() as remove:
        remove(DATA)
        yield


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    django_db_modify_db_settings_parallel_suffix: None,
) -> None:
    """Tests use a file as an installation does: in memory, locks would not be those of a file."""
    if settings.EMBEDDED:
        connection.settings_dict["TEST"]["NAME"] = str(DATA / "test.sqlite3")


@pytest.fixture(autouse=True)
def empty_memory() -> Iterator[None]:
    """No test finds what another one left in a memory node."""
    MemoryNode.shelves.clear()
    yield
    MemoryNode.shelves.clear()


@pytest.fixture
def groups(db: None) -> dict[str, Group]:
    """The standard groups by name."""
    return standard.create_standard_groups()


@pytest.fixture
def make_user(groups: dict[str, Group]) -> Callable[..., User]:
    """A user in the named groups: make_user("anna", "Coordinators")."""

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
    """Signed in, in no group, without any right."""
    return make_user("stranger")


@pytest.fixture
def root(make_user: Callable[..., User]) -> User:
    """A superuser."""
    return make_user("root", is_superuser=True, is_staff=True)


@pytest.fixture
def make_node(groups: dict[str, Group]) -> Callable[..., Node]:
    """An open memory node: make_node("PACS1", reads=["Coordinators"], kind="folder", …)."""

    def make(
        name: str, *, reads: tuple[str, ...] = (), writes: tuple[str, ...] = (), **values: object
    ) -> Node:
        values = {"kind": "memory", "is_open": True, **values}
        node = Node.objects.create(name=name, **values)
        for group in {*reads, *writes}:
            NodeAccess.objects.create(
                group=groups[group], node=node, may_read=group in reads, may_write=group in writes
            )
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
    """A project of the coordinators: make_project("LUNG", pattern="LUNG-####", …)."""
    manager = User.objects.create_superuser("project-maker")

    def make(
        protocol_id: str, *, members: tuple[str, ...] = (standard.COORDINATORS,), **values: object
    ) -> Project:
        project = Project(protocol_id=protocol_id, **{"sponsor": "Test University", **values})
        return create_project(manager, project, members=[groups[name] for name in members])

    return make


@pytest.fixture
def project(make_project: Callable[..., Project]) -> Project:
    return make_project("LUNG", protocol_name="Lung study", pattern="LUNG-####")
