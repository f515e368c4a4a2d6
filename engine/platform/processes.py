"""Which processes descend from one, as far as this user may look: what the kernel hides counts as none."""

from collections import defaultdict
from pathlib import Path


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
    """None for a process that has ended meanwhile, or that `hidepid` keeps from us."""
    try:
        text = (entry / "stat").read_bytes()
    except OSError:
        return None
    return int(text.rpartition(b")")[2].split()[1])  # a program's name may hold blanks and brackets
