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
