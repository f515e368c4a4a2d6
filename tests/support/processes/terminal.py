"""A pseudo-terminal that a test looks at from its other end."""

import fcntl
import os
import pty
import select
import struct
import termios
import threading


class Terminal:
    """A pseudo-terminal of so many columns, and what was written to it."""

    def __init__(self, columns: int) -> None:
        self.master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.told = b""
        self._ends = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        poll = select.poll()  # select() takes no descriptor beyond 1023, and a test process may have as many
        poll.register(self.master, select.POLLIN)
        while not self._ends.is_set():
            try:
                if poll.poll(50):
                    self.told += os.read(self.master, 65_536)
            except OSError:
                return

    def hang_up(self) -> None:
        self._ends.set()
        self._reader.join(10)  # while it reads, the terminal is not closed
        os.close(self.master)

    def close(self) -> None:
        os.close(self.slave)
        self._reader.join(10)
