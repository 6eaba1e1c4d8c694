"""RabbitMQ connection for received images: two queues per pending C-MOVE.

Used by `broker_sender` and `broker_receiver`. The worker creates and deletes both queues; the
receiver only uses them. Messages are not persistent: the sender keeps the content and sends a lost
message again.
"""

import ssl
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import amqp
from amqp.exceptions import AMQPError
from kombu.utils.url import url_to_parts

MAX_QUEUE_BYTES = 32 * 1024 * 1024
"""Maximum size of the queue of one C-MOVE. The rest stays in the spool of the receiver."""
WINDOW_BYTES = 8 * 1024 * 1024
"""How much is sent without a confirmation of the broker."""
PREFETCH = 4
"""Unacknowledged messages that a worker may hold."""

CONNECT_S = 3.0
SILENCE_TIMEOUT_S = 20.0
"""A broker that confirms nothing for this time counts as unavailable."""

_EXPIRES_MS = 15 * 60 * 1000
_FULL_PAUSE_S = 0.02
_ERRORS = (OSError, AMQPError)


class BrokerUnavailable(Exception):
    """The broker is unavailable, or has no such queue. The text names no image."""


def get_images_queue(token: str) -> str:
    return f"adit.images.{token}"


def get_receipts_queue(token: str) -> str:
    return f"adit.receipts.{token}"


class BrokerConnection:
    """A connection to the broker. Not thread-safe: use it in one thread."""

    def __init__(self, connection: amqp.Connection) -> None:
        self._connection = connection
        self._channel = connection.channel()
        self._channel.confirm_select()
        self._channel.events["basic_ack"].add(self._on_ack)
        self._channel.events["basic_nack"].add(self._on_nack)
        self._channel.events["basic_return"].add(self._on_return)
        self._next_tag = 1
        self._sent: dict[int, tuple[str, bytes]] = {}
        self._again: deque[tuple[str, bytes]] = deque()
        self._window_bytes = 0
        self._consumer_tags: list[str] = []
        self._is_lost = False

    # Queues ------------------------------------------------------------------------------------

    def make_queues(self, token: str) -> None:
        """Declare both queues of a C-MOVE. They expire when they are not used."""
        common = {"x-queue-type": "classic", "x-expires": _EXPIRES_MS, "x-message-ttl": _EXPIRES_MS}
        bound = {"x-max-length-bytes": MAX_QUEUE_BYTES, "x-overflow": "reject-publish"}
        for name, more in ((get_images_queue(token), bound), (get_receipts_queue(token), {})):
            with _convert_errors():
                self._channel.queue_declare(
                    name, durable=True, auto_delete=False, arguments={**common, **more}
                )

    def remove_queues(self, token: str) -> None:
        """Delete both queues of a C-MOVE, which must not have other consumers.

        The consumers of this connection end first: of a deleted queue the broker cancels them, which
        counts as an error of whatever is waited for next.
        """
        for tag in self._consumer_tags:
            with _convert_errors():
                self._channel.basic_cancel(tag)
        self._consumer_tags.clear()
        for name in (get_images_queue(token), get_receipts_queue(token)):
            with _convert_errors():
                self._channel.queue_delete(name)

    def depth(self, queue: str) -> int:
        """Return how many messages in the queue are not delivered yet."""
        with _convert_errors():
            return int(self._channel.queue_declare(queue, passive=True).message_count)

    def close(self) -> None:
        """Close the connection in an orderly way, unless it was dropped."""
        with suppress(*_ERRORS):
            self._connection.close()
        self._connection.collect()

    def drop(self) -> None:
        """Release a broken connection without waiting for the broker."""
        self._connection.collect()

    # Messages ----------------------------------------------------------------------------------

    def subscribe(self, queue: str, accept: Callable[[bytes], None]) -> None:
        """Consume a queue. A message is acknowledged when `take` has returned."""

        def taken(message: amqp.Message) -> None:
            accept(message.body)
            self._channel.basic_ack(message.delivery_tag)

        with _convert_errors():
            self._channel.basic_qos(0, PREFETCH, False)
            self._consumer_tags.append(self._channel.basic_consume(queue, callback=taken))

    def listen(self, timeout_s: float) -> bool:
        """Process events; return whether one came in time. Raise BrokerUnavailable."""
        try:
            self._connection.drain_events(timeout=timeout_s)
        except TimeoutError:
            return False
        except _ERRORS as error:
            raise BrokerUnavailable(type(error).__name__) from error
        if self._is_lost:
            raise BrokerUnavailable("the queue does not exist")
        return True

    def send(self, queue: str, body: bytes, check: Callable[[], None]) -> None:
        """Publish a message; wait while the queue is full or too much is unconfirmed.

        Returns when at most `WINDOW_BYTES` are unconfirmed. `check` is called while waiting and may
        raise. After an exception the caller has to send again what was not confirmed.
        """
        self._publish(queue, body)
        self._settle(WINDOW_BYTES, check)

    def settle(self, check: Callable[[], None]) -> None:
        """Wait until the broker has confirmed all messages."""
        self._settle(0, check)

    def _settle(self, max_bytes: int, check: Callable[[], None]) -> None:
        until = time.monotonic() + SILENCE_TIMEOUT_S
        while self._again or self._window_bytes > max_bytes:
            check()
            if self._again:
                full_until = time.monotonic() + _FULL_PAUSE_S
                while (left_s := full_until - time.monotonic()) > 0:
                    self.listen(left_s)
                for _ in range(len(self._again)):
                    queue, body = self._again.popleft()
                    self._window_bytes -= len(body)
                    self._publish(queue, body)
                until = time.monotonic() + SILENCE_TIMEOUT_S
            elif not self.listen(0.5) and time.monotonic() > until:
                raise BrokerUnavailable("no confirmation")

    def _publish(self, queue: str, body: bytes) -> None:
        self._sent[self._next_tag] = (queue, body)
        self._next_tag += 1
        self._window_bytes += len(body)
        with _convert_errors():
            self._channel.basic_publish(
                amqp.Message(body, delivery_mode=1), routing_key=queue, mandatory=True
            )

    def _on_ack(self, tag: int, multiple: bool) -> None:
        self._window_bytes -= sum(len(body) for _, body in self._handle_ack(tag, multiple))

    def _on_nack(self, tag: int, multiple: bool) -> None:
        self._again.extend(self._handle_ack(tag, multiple))

    def _handle_ack(self, tag: int, multiple: bool) -> list[tuple[str, bytes]]:
        tags = [one for one in self._sent if one <= tag] if multiple else [tag]
        return [self._sent.pop(one) for one in tags if one in self._sent]

    def _on_return(self, *returned: object) -> None:
        self._is_lost = True


@contextmanager
def open_connection(url: str) -> Iterator[BrokerConnection]:
    """Open a connection for the block. Raise BrokerUnavailable if it fails or breaks."""
    wire = connect(url)
    try:
        yield wire
    except BrokerUnavailable:
        wire.drop()
        raise
    finally:
        wire.close()


def connect(url: str) -> BrokerConnection:
    """Return a new connection; the caller closes it. Raise BrokerUnavailable."""
    connection = _make_connection(url)
    try:
        with _convert_errors():
            connection.connect()
            return BrokerConnection(connection)
    except BaseException:
        connection.collect()
        raise


def get_broker_version(url: str) -> str:
    """Return the version that the broker reports after login. Raise BrokerUnavailable."""
    connection = _make_connection(url)
    try:
        with _convert_errors():
            connection.connect()
            return str(connection.server_properties.get("version", ""))
    finally:
        connection.collect()


def _make_connection(url: str) -> amqp.Connection:
    scheme, host, port, user, password, path, _ = url_to_parts(url)
    secure = scheme == "amqps"
    return amqp.Connection(
        f"{host}:{port or (5671 if secure else 5672)}",
        user,
        password,
        virtual_host=path or "/",
        ssl={"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": host} if secure else False,
        connect_timeout=CONNECT_S,
        read_timeout=SILENCE_TIMEOUT_S,
        write_timeout=SILENCE_TIMEOUT_S,
    )


@contextmanager
def _convert_errors() -> Iterator[None]:
    try:
        yield
    except _ERRORS as error:
        raise BrokerUnavailable(type(error).__name__) from error
