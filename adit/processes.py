"""The name by which a process is known to the other processes of an installation.

Used by workers, whose tasks carry it, and by the supervisor.
"""

import socket
from pathlib import Path


def get_process_name(pid: int) -> str:
    """Return host, start time and PID of a process, so that no later process has the same name.

    The start time is in clock ticks since the machine was started. Raises OSError if the process is
    gone.
    """
    stat = Path(f"/proc/{pid}/stat").read_text()
    start = stat.rpartition(")")[2].split()[19]  # field 22, see proc(5)
    return f"{socket.gethostname()}:{start}:{pid}"
