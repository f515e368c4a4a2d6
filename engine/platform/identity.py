"""Names that a successor shares with whoever it replaces, and that no two living processes share."""

import socket
from pathlib import Path


def this_boot() -> str:
    """This boot of this machine."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else socket.gethostname()


def this_network() -> str:
    """This boot's network namespace: within it, one process at a time can listen at an address."""
    path = Path("/proc/self/ns/net")
    return f"{this_boot()}/{path.stat().st_ino if path.exists() else 0}"


def this_process(pid: int) -> str:
    """The process `pid` of this boot, told apart from every other that had or will have its pid.

    By field 22 of proc(5)'s stat, its start in clock ticks since the boot, which stays as it is when the wall clock is
    set. Raises OSError when there is no such process.
    """
    after_name = (
        Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2]
    )  # the name may hold spaces and brackets
    return f"{this_boot()}/{pid}/{after_name.split()[19]}"
