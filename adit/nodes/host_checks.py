"""Lookout: what each machine tells of itself: its disks, and the receiver's certificates and quarantine."""

import logging
import shutil
import socket
import threading
from collections.abc import Iterable
from pathlib import Path

from django.conf import settings
from django.db import Error, connection
from django.utils.translation import gettext as _

from adit.nodes import alarms, health
from adit.nodes.models import Alarm, Node
from adit.nodes.receiving import quarantine
from adit_engine.nodes.base import Grade, NodeFinding

EVERY_S = 300.0
LOW_DISK = 0.1
"""A disk of which no more than this is free is almost full."""

log = logging.getLogger(__name__)


def begin(*, receives: bool = False) -> None:
    """From now on, by a thread of its own: a share that hangs holds up nothing else."""
    threading.Thread(target=_go_on, args=(receives,), name="lookout", daemon=True).start()


def look(*, receives: bool = False) -> None:
    """What this machine says of itself now. Whoever receives also tells of what only it can see."""
    machine = socket.gethostname()
    _look_at_disks(machine)
    if receives:
        _look_at_quarantine(machine)
        _look_at_certificates(health.receiver_certificates(), machine)


def look_at_rows() -> None:
    """What every machine could say, and one does: the certificates of nodes."""
    _look_at_certificates(health.node_certificates())


def _go_on(receives: bool) -> None:
    while True:
        try:
            look(receives=receives)
        except (Error, OSError) as error:
            log.warning("this machine could not be looked at (%s)", type(error).__name__)
        finally:
            connection.close()
        threading.Event().wait(EVERY_S)


def _look_at_disks(machine: str) -> None:
    full: dict[str, str] = {}
    seen: set[int] = set()
    for name, path in _places():
        if not path.is_dir() or path.stat().st_dev in seen:
            continue
        seen.add(path.stat().st_dev)
        disk = shutil.disk_usage(path)
        if disk.total and disk.free <= LOW_DISK * disk.total:
            words = {"name": name, "machine": machine, "percent": 100 * disk.free // disk.total}
            text = _("On %(machine)s the disk of the folder for %(name)s has %(percent)d %% left.")
            full[name] = text % words
    for name, text in full.items():
        alarms.sound(Alarm.What.DISK, name, text, machine=machine)
    alarms.end_others(Alarm.What.DISK, full, machine)


def _places() -> Iterable[tuple[str, Path]]:
    """Folders of ours; several on one disk are one."""
    yield "data", settings.DATA_DIR
    yield "spool", settings.SPOOL_DIR
    yield "archives", settings.ARCHIVE_DIR
    yield "gathered", settings.GATHERED_DIR


def _look_at_certificates(found: Iterable[tuple[str, NodeFinding]], machine: str = "") -> None:
    ending = []
    for about, finding in found:
        if finding.grade is not Grade.GOOD:
            node = None
            if about.startswith("node:"):
                node = Node.objects.filter(pk=about.split(":")[1]).first()
            text = f"{finding.what}: {finding.next_step}"
            alarms.sound(Alarm.What.CERTIFICATE, about, text, node, machine)
            ending.append(about)
    alarms.end_others(Alarm.What.CERTIFICATE, ending, machine)


def _look_at_quarantine(machine: str) -> None:
    count = quarantine.count()
    if count:
        text = _("Images lie in quarantine that nobody asked for: %(n)d. Look from whom.")
        alarms.sound(Alarm.What.QUARANTINE, "quarantine", text % {"n": count}, machine=machine)
    alarms.end_others(Alarm.What.QUARANTINE, ["quarantine"] if count else [], machine)
