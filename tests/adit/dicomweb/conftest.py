"""Fixtures of the DICOMweb API: a node that is read and written, and programs with tokens."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings
from lab.dicomweb_api import Program

from adit.accounts.models import User
from adit.accounts.permissions import COORDINATORS
from adit.api_tokens import tokens
from adit.nodes.models import Node

ALL_SCOPES = ("query", "retrieve", "store")


@pytest.fixture(autouse=True)
def _own_request_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers that a test does not read to the end hold their slots."""
    slots = threading.BoundedSemaphore(settings.DICOMWEB_REQUESTS)
    monkeypatch.setattr("adit.dicomweb.views._requests", slots)


@pytest.fixture
def source(make_node: Callable[..., Node]) -> Node:
    """A memory node from which coordinators may fetch, and to which they may send."""
    return make_node(
        "PACS1",
        reads=(COORDINATORS,),
        writes=(COORDINATORS,),
        settings={"domain": "site"},
        api_ae_title="PACS1",
    )


@pytest.fixture
def make_program(coordinator: User, source: Node) -> Callable[..., Program]:
    """Create a program of the coordinator: make_program("query", "identified", nodes=[…])."""

    def make(*scopes: str, user: User = coordinator, node: Node = source, **more: Any) -> Program:
        given = scopes or ALL_SCOPES
        _token, text = tokens.create_token(
            user, user, "script", given, **{"days": 7, "nodes": None, **more}
        )
        return Program(f"/api/dicom-web/{node.api_ae_title}", text)

    return make


@pytest.fixture
def program(make_program: Callable[..., Program]) -> Program:
    return make_program()
