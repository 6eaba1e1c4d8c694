"""A mail server (aiosmtpd) on a free port, which keeps the mails it gets, or refuses them."""

import email
import email.policy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from typing import Any, cast

from aiosmtpd.controller import Controller


class MailPeer:
    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.port = 0
        self.answers: dict[str, str] = {}
        """What it answers to commands instead of accepting them: {"RCPT": "550 unknown"}.

        "RCPT ada@hospital.example" is for this recipient only.
        """

    async def handle_RCPT(
        self, server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        envelope.rcpt_tos.append(address)
        return self.answers.get(f"RCPT {address}") or self.answers.get("RCPT", "250 ok")

    async def handle_MAIL(
        self, server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        envelope.mail_from = address
        return self.answers.get("MAIL", "250 ok")

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if "DATA" in self.answers:
            return self.answers["DATA"]
        parsed = email.message_from_bytes(envelope.content, policy=email.policy.default)
        self.mails.append(cast(EmailMessage, parsed))
        return "250 kept"

    def wait_for(self, count: int) -> list[EmailMessage]:
        """Return the mails as soon as there are that many. Fail after 30 seconds."""
        ends = time.monotonic() + 30
        while len(self.mails) < count:
            assert time.monotonic() < ends, f"{len(self.mails)} of {count} mails"
            time.sleep(0.02)
        return self.mails


class _AnyPortController(Controller):
    def _trigger_server(self) -> None:
        # aiosmtpd connects once, to the port that it was given.
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@contextmanager
def mail_peer() -> Iterator[MailPeer]:
    peer = MailPeer()
    controller = _AnyPortController(peer, hostname="127.0.0.1", port=0)
    controller.start()
    try:
        peer.port = controller.port
        yield peer
    finally:
        controller.stop()
