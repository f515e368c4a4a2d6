"""Descriptors and text streams of a process: what they can show, and how to wait until they take more."""

import select
from typing import TextIO

from engine.showable import UTF8


def encoding_of(stream: TextIO | None) -> str:
    """The encoding in which `stream` writes; UTF-8 where it is closed or knows none."""
    return getattr(stream, "encoding", None) or UTF8


def await_room(descriptor: int, timeout_s: float | None = None) -> None:
    """Returns when `descriptor`, which does not block, takes more; after `timeout_s` seconds in any case."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    poll.poll(None if timeout_s is None else timeout_s * 1000)
