"""Whether the client of a request is still there, and how long it may take nothing."""

import socket
import threading

from django.conf import settings

from adit.dicomweb.client_watch import ClientWatch, has_client_left
from adit_engine.bounded_stream import Stop


def test_a_client_that_sends_its_next_request_is_there() -> None:
    ours, client = socket.socketpair()
    with ours, client:
        client.sendall(b"GET / HTTP/1.1\r\n")

        assert not has_client_left(ours)


def test_a_client_that_closes_the_connection_has_left() -> None:
    ours, client = socket.socketpair()
    with ours:
        client.close()

        assert has_client_left(ours)
    assert has_client_left(ours)


def test_a_client_that_leaves_stops_the_work_and_aborts_the_node() -> None:
    stop, aborted = Stop(), threading.Event()
    ours, client = socket.socketpair()
    with ours, ClientWatch(ours, "web:1", stop, lambda: None, aborted.set):
        assert ours.gettimeout() == settings.DICOMWEB_WRITE_S

        client.close()

        assert aborted.wait(30)
    assert stop.is_set()
