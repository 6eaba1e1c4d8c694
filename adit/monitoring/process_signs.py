"""Report signs of life and disk usage of this process. Used by all processes."""

import itertools
import logging
import os
import shutil
import socket
import threading
from datetime import timedelta

from django.db import Error, connection
from django.utils import timezone

from adit.monitoring.models import DiskUsage, ProcessRole, ProcessSign
from adit.nodes.host_checks import list_own_folders
from adit.processes import get_process_name
from adit_engine import __version__

INTERVAL_S = 30.0
DISKS_EVERY = 20
"""Number of signs of life per report of disk usage."""
FORGET_AFTER = timedelta(days=1)
"""A process that has not been seen for this time is forgotten."""
KEEP_DISK_USAGE = timedelta(days=60)

log = logging.getLogger(__name__)


def start_signs(role: ProcessRole) -> None:
    """Report this process periodically, in a separate thread."""
    threading.Thread(
        target=_report_forever, args=(role,), name="signs of life", daemon=True
    ).start()


def report_process(role: ProcessRole) -> None:
    """Store the sign of life of this process."""
    now, host = timezone.now(), socket.gethostname()
    ProcessSign.objects.update_or_create(
        name=get_process_name(os.getpid()),
        defaults={"role": role, "host": host, "version": __version__, "seen_at": now},
    )
    ProcessSign.objects.filter(seen_at__lt=now - FORGET_AFTER).delete()


def report_disks() -> None:
    """Store the disk usage of our folders on this machine."""
    today, host = timezone.localdate(), socket.gethostname()
    for _name, folder in list_own_folders():
        if folder.is_dir():
            disk = shutil.disk_usage(folder)
            DiskUsage.objects.update_or_create(
                host=host,
                folder=str(folder),
                day=today,
                defaults={"total_bytes": disk.total, "free_bytes": disk.free},
            )
    DiskUsage.objects.filter(day__lt=today - KEEP_DISK_USAGE).delete()


def _report_forever(role: ProcessRole) -> None:
    for number in itertools.count():
        try:
            report_process(role)
            if number % DISKS_EVERY == 0:
                report_disks()
        except (Error, OSError) as error:
            log.warning("no sign of life was stored (%s)", type(error).__name__)
        finally:
            connection.close()
        threading.Event().wait(INTERVAL_S)
