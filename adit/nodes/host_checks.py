"""Checks that each machine runs on itself: disks, and certificates and quarantine of the receiver.

They raise alarms. Used by the receiver process and the worker.
"""

import logging
import shutil
import socket
import threading
from collections.abc import Iterable
from pathlib import Path

from django.conf import settings
from django.db import Error, connection

from adit.nodes import alarms, health
from adit.nodes.models import Alarm, Node
from adit.nodes.receiving import quarantine
from adit_engine.messages import Message, join_messages
from adit_engine.nodes.base import Grade, NodeFinding

INTERVAL_S = 300.0
LOW_DISK_FRACTION = 0.1
"""A disk with no more than this fraction free is almost full."""

log = logging.getLogger(__name__)


def start_host_checks(*, receives: bool = False) -> None:
    """Run the checks periodically in a separate thread, so that a hanging share blocks nothing."""
    threading.Thread(
        target=_check_forever, args=(receives,), name="host checks", daemon=True
    ).start()


def check_host(*, receives: bool = False) -> None:
    """Check this machine now. With `receives`, also what only the receiver machine can see."""
    machine = socket.gethostname()
    _check_disks(machine)
    if receives:
        _check_quarantine(machine)
        _check_certificates(health.check_receiver_certificates(), machine)


def check_node_rows() -> None:
    """Check the certificates of nodes. It is enough if one machine does this."""
    _check_certificates(health.check_node_certificates())


def _check_forever(receives: bool) -> None:
    while True:
        try:
            check_host(receives=receives)
        except (Error, OSError) as error:
            log.warning("the checks of this server failed (%s)", type(error).__name__)
        finally:
            connection.close()
        threading.Event().wait(INTERVAL_S)


def _check_disks(host: str) -> None:
    full: dict[str, Message] = {}
    seen: set[int] = set()
    for name, path in list_own_folders():
        if not path.is_dir() or path.stat().st_dev in seen:
            continue
        seen.add(path.stat().st_dev)
        disk = shutil.disk_usage(path)
        if disk.total and disk.free <= LOW_DISK_FRACTION * disk.total:
            percent = 100 * disk.free // disk.total
            full[name] = Message("alarm.disk-almost-full", folder=name, host=host, percent=percent)
    for name, text in full.items():
        alarms.raise_alarm(Alarm.Cause.DISK, name, text, host=host)
    alarms.end_other_alarms(Alarm.Cause.DISK, full, host)


def list_own_folders() -> Iterable[tuple[str, Path]]:
    """Yield name and path of our own folders. Several may be on one disk."""
    yield "data", settings.DATA_DIR
    yield "spool", settings.SPOOL_DIR
    yield "archives", settings.ARCHIVE_DIR
    yield "gathered", settings.GATHERED_DIR


def _check_certificates(found: Iterable[tuple[str, NodeFinding]], host: str = "") -> None:
    ending = []
    for about, finding in found:
        if finding.grade is not Grade.GOOD:
            node = None
            if about.startswith("node:"):
                node = Node.objects.filter(pk=about.split(":")[1]).first()
            parts = filter(None, (finding.what, finding.next_step))
            text = join_messages(parts) or finding.what
            alarms.raise_alarm(Alarm.Cause.CERTIFICATE, about, text, node, host)
            ending.append(about)
    alarms.end_other_alarms(Alarm.Cause.CERTIFICATE, ending, host)


def _check_quarantine(host: str) -> None:
    count = quarantine.count_images()
    if count:
        text = Message("alarm.quarantine-used", count=count)
        alarms.raise_alarm(Alarm.Cause.QUARANTINE, "quarantine", text, host=host)
    alarms.end_other_alarms(Alarm.Cause.QUARANTINE, ["quarantine"] if count else [], host)
