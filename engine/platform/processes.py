"""Identities of boot, network namespace and process, and the process tree as far as this user may see it."""

import socket
from collections import defaultdict
from pathlib import Path


def boot_id() -> str:
    """Identifies this boot of this machine; the host's name where the kernel gives none."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else socket.gethostname()


def network_namespace_id() -> str:
    """Identifies the network namespace of this process: within one, only one process can listen at an address."""
    path = Path("/proc/self/ns/net")
    return f"{boot_id()}/{path.stat().st_ino if path.exists() else 0}"


def process_identity(pid: int) -> str:
    """The process `pid` of this boot, told apart from every other that had or will have its pid.

    By field 22 of proc(5)'s stat, its start in clock ticks since the boot, which stays as it is when the wall clock is
    set. Raises OSError when there is no such process.
    """
    # The name in brackets may itself hold spaces and brackets: fields are counted from the last one.
    after_name = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2]
    return f"{boot_id()}/{pid}/{after_name.split()[19]}"


def children_of(pid: int) -> set[int]:
    """The pids of its children, ended ones that it has not reaped included."""
    return _by_parent()[pid]


def descendants_of(pid: int) -> set[int]:
    """The pids of its children, their children, and so on."""
    by_parent, found, left = _by_parent(), set[int](), [pid]
    while left:
        new = by_parent[left.pop()] - found
        found |= new
        left += new
    return found


def _by_parent() -> defaultdict[int, set[int]]:
    found: defaultdict[int, set[int]] = defaultdict(set)
    for entry in Path("/proc").iterdir():
        parent = _parent_of(entry) if entry.name.isdigit() else None
        if parent is not None:
            found[parent].add(int(entry.name))
    return found


def _parent_of(entry: Path) -> int | None:
    """None for a process that has ended meanwhile, or that procfs hides from this user (`hidepid`)."""
    try:
        text = (entry / "stat").read_bytes()
    except OSError:
        return None
    return int(text.rpartition(b")")[2].split()[1])  # a program's name may hold blanks and brackets
