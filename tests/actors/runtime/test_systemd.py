"""The notify protocol, received on a real datagram socket."""

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from actors.runtime.systemd import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as made:
        made.bind(str(tmp_path / "n"))
        yield made


def received(manager: socket.socket) -> list[str]:
    messages = []
    while True:
        try:
            messages.append(manager.recv(1024).decode())
        except BlockingIOError:
            return messages


def test_ready_is_told_once_and_only_when_all_is_ready(manager: socket.socket) -> None:
    with closing(Notifier({"NOTIFY_SOCKET": manager.getsockname()})) as notifier:
        notifier.notify(is_ready=False, status="1 starting")
        assert not any("READY=1" in message for message in received(manager))
        for _ in range(3):
            notifier.notify(is_ready=True, status="1 running")
    assert sum("READY=1" in message for message in received(manager)) == 1


def test_the_watchdog_is_fed_only_where_it_watches(manager: socket.socket) -> None:
    with closing(Notifier({"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "1"})) as notifier:
        notifier.notify(is_ready=True, status="")
    assert "WATCHDOG=1" in received(manager)
    with closing(Notifier({"NOTIFY_SOCKET": manager.getsockname()})) as notifier:
        notifier.notify(is_ready=True, status="")
    assert "WATCHDOG=1" not in received(manager)


def test_that_it_is_ready_and_that_it_stops_is_told_as_soon_as_the_manager_reads_again(manager: socket.socket) -> None:
    with closing(Notifier({"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "0"})) as notifier:
        for _ in range(1_000):  # more than the socket keeps: see net.unix.max_dgram_qlen
            notifier.notify(is_ready=False, status="")
        for _ in range(2):
            notifier.notify(is_ready=True, status="")
        notifier.notify_stopping()
        assert not {"READY=1\nSTATUS=", "STOPPING=1"}.intersection(received(manager))
        for _ in range(2):
            notifier.notify(is_ready=True, status="")
            notifier.notify_stopping()
    told = received(manager)
    assert (told.count("READY=1\nSTATUS="), told.count("STOPPING=1")) == (1, 1)


def test_stopping_is_told(manager: socket.socket) -> None:
    with closing(Notifier({"NOTIFY_SOCKET": manager.getsockname()})) as notifier:
        notifier.notify_stopping()
    assert received(manager) == ["STOPPING=1"]


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "@nobody"}, {"WATCHDOG_USEC": "x"}])
def test_without_a_service_manager_nothing_happens(environ: dict[str, str]) -> None:
    with closing(Notifier(environ)) as notifier:
        notifier.notify(is_ready=True, status="fine")
