"""Write or read messages of the folder broker, as a separate process.

Usage: `broker_consumer.py FOLDER …`."""

import sys
import time

from kombu import Connection, Queue


def main(folder: str, role: str, queue: str, count: str) -> None:
    options = {"folder": folder, "polling_interval": 0.02}
    with Connection(
        "filesystem://localhost",
        transport="adit.config.broker_transport:Transport",
        transport_options=options,
    ) as connection:
        if role == "write":
            box = connection.SimpleQueue(Queue(queue, routing_key=queue))
            for number in range(int(count)):
                box.put({"number": number, "ballast": "x" * 20_000})
        else:
            read(connection, queue, float(count))


def read(connection: Connection, queue: str, idle_s: float) -> None:
    """Print the number of each message until none has arrived for `idle_s` seconds."""
    box = connection.SimpleQueue(Queue(queue, routing_key=queue))
    until = time.monotonic() + idle_s
    while time.monotonic() < until:
        try:
            message = box.get(timeout=0.2)
        except box.Empty:
            continue
        message.ack()
        print(message.payload["number"], len(message.payload["ballast"]), flush=True)
        until = time.monotonic() + idle_s


if __name__ == "__main__":
    main(*sys.argv[1:])
