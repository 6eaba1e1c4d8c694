"""Measure how fast nodes answer, in threads of the scheduler. Used by the worker tasks."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

from django.db import Error, connection

from adit.nodes.gateway import measure_echo
from adit.nodes.limits import response_times
from adit.nodes.models import Node

MAX_THREADS = 8
"""Nodes that are measured at the same time."""

log = logging.getLogger(__name__)
_running = threading.Lock()


def start_measuring() -> None:
    """Measure all nodes that are due in a separate thread, unless one still does so."""
    if _running.acquire(blocking=False):
        threading.Thread(target=_measure_and_release, name="echoes", daemon=True).start()


def measure_due_nodes() -> None:
    """Measure all nodes that are due, several at a time, and return when all have answered."""
    response_times.end_old_periods()
    due = response_times.list_due_nodes()
    if due:
        with ThreadPoolExecutor(min(len(due), MAX_THREADS), thread_name_prefix="echo") as pool:
            list(pool.map(_measure, due))


def _measure_and_release() -> None:
    try:
        measure_due_nodes()
    except Error as error:
        log.warning("response times could not be measured (%s)", type(error).__name__)
    finally:
        connection.close()
        _running.release()


def _measure(node: Node) -> None:
    try:
        measure_echo(node)
    except Error as error:
        log.warning("the response time could not be recorded (%s)", type(error).__name__)
    finally:
        connection.close()
