"""Names that a successor shares with whoever it replaces, and that no two living processes share."""

import socket
from pathlib import Path


def boot_id() -> str:
    """This boot of this machine."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else socket.gethostname()


def network_namespace_id() -> str:
    """This boot's network namespace: within it, one process at a time can listen at an address."""
    path = Path("/proc/self/ns/net")
    return f"{boot_id()}/{path.stat().st_ino if path.exists() else 0}"


def process_identity(pid: int) -> str:
    """The process `pid` of this boot, told apart from every other that had or will have its pid.

    By field 22 of proc(5)'s stat, its start in clock ticks since the boot, which stays as it is when the wall clock is
    set. Raises OSError when there is no such process.
    """
    after_name = (
        Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2]
    )  # the name may hold spaces and brackets
    return f"{boot_id()}/{pid}/{after_name.split()[19]}"
