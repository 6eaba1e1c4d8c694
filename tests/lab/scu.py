"""A service class user of pynetdicom for tests."""

from collections.abc import Sequence
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext

from adit.demo.pacs import reserve_responses


def associate(
    address: tuple[str, int],
    called: str,
    contexts: list[PresentationContext],
    roles: Sequence[Any] = (),
    handlers: Sequence[Any] = (),
    *,
    calling: str = "TESTER",
) -> Association:
    """Request an association; the caller looks whether it is established."""
    ae = AE(calling)
    ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = 60
    return ae.associate(
        *address,
        contexts,
        called,
        ext_neg=list(roles),
        evt_handlers=[(evt.EVT_ESTABLISHED, reserve_responses), *handlers],
    )
