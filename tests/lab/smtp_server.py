"""An SMTP server on a free port that stores mails, or refuses them on request."""

import email
import email.policy
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from typing import cast


class SmtpServer(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Clerk)
        self.taken: list[EmailMessage] = []
        self.answer = "250 kept"

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def subjects(self) -> list[str]:
        return [str(mail["Subject"]) for mail in self.taken]


class _Clerk(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        box = cast(SmtpServer, self.server)
        self._say("220 smtp_server")
        while line := self.rfile.readline():
            word = line.strip().upper()
            if word.startswith(b"EHLO"):
                self._say("250 smtp_server")
            elif word == b"DATA":
                self._say("354 go on")
                self._take(box)
            elif word == b"QUIT":
                self._say("221 bye")
                return
            else:
                self._say("250 ok")

    def _take(self, box: SmtpServer) -> None:
        lines = []
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            lines.append(line[1:] if line.startswith(b"..") else line)
        if box.answer.startswith("250"):
            parsed = email.message_from_bytes(b"".join(lines), policy=email.policy.default)
            box.taken.append(cast(EmailMessage, parsed))
        self._say(box.answer)

    def _say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


@contextmanager
def smtp_server() -> Iterator[SmtpServer]:
    with SmtpServer() as box:
        thread = threading.Thread(target=box.serve_forever, daemon=True)
        thread.start()
        try:
            yield box
        finally:
            box.shutdown()
            thread.join(30)
