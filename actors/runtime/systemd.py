"""systemd's notify protocol, sd_notify(3): datagrams to the socket that the environment names, if it names one."""

import socket
import time
from collections.abc import Mapping
from typing import Final

_STATUS_EVERY_S: Final = 5.0


class Notifier:
    """Does nothing without a service manager. What cannot be sent now must not stall the supervisor: that it is ready
    or stopping is sent again in the next turn, as the manager may be too busy to read; anything else is dropped."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        # A leading @ names an abstract socket, whose first byte is zero.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        # Kept open, since systemd would kill a supervisor that has no descriptor left to send its keep-alive.
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) if address else None
        watchdog_us = environ.get("WATCHDOG_USEC", "")
        # Twice as often as asked for, as sd_watchdog_enabled(3) advises.
        self._watchdog_every_s = int(watchdog_us) / 2e6 if watchdog_us.isdecimal() else None
        self._watchdog_sent_at = self._status_sent_at = float("-inf")
        self._is_ready = self._is_stopping = False

    def notify(self, *, is_ready: bool, status: str) -> None:
        """After every completed turn of the main loop; `status` is a line for ``systemctl status``."""
        now = time.monotonic()
        if is_ready and not self._is_ready:
            self._is_ready = self._send(f"READY=1\nSTATUS={status}")
        if self._watchdog_every_s is not None and now - self._watchdog_sent_at >= self._watchdog_every_s:
            self._watchdog_sent_at = now
            self._send("WATCHDOG=1")
        if now - self._status_sent_at >= _STATUS_EVERY_S:
            self._status_sent_at = now
            self._send(f"STATUS={status}")

    def notify_stopping(self) -> None:
        """May be called again and again; it is sent once."""
        if not self._is_stopping:
            self._is_stopping = self._send("STOPPING=1")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()

    def _send(self, text: str) -> bool:
        """Whether the manager has it, or there is none."""
        if self._socket is None:
            return True
        try:
            self._socket.sendto(text.encode(), self._address)
        except OSError:
            return False
        return True
