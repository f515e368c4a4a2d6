"""TCP ports that stay free until a test's own server binds them, whoever else runs tests on this machine."""

import fcntl
import os
import socket
import tempfile
from itertools import chain
from pathlib import Path

# Below the ports that a kernel gives to outgoing connections (32768 and up): one asked of the kernel, closed and bound
# again a moment later is by then sometimes another test's connection.
PORTS = range(12_000, 32_000)


def free_ports(count: int) -> list[int]:
    """`count` ports on which nobody listens. They are handed out in turn to all test processes of this user, so none
    comes again soon; raises OSError when no port is left."""
    with _cursor().open("a+") as cursor:
        fcntl.flock(cursor, fcntl.LOCK_EX)
        cursor.seek(0)
        last = int(cursor.read() or PORTS[0])
        found: list[int] = []
        for port in chain(range(last + 1, PORTS.stop), range(PORTS.start, last + 1)):
            if len(found) == count:
                break
            if _nobody_listens(port):
                found.append(port)
        if len(found) < count:
            raise OSError(f"No {count} free ports between {PORTS.start} and {PORTS.stop}.")
        cursor.truncate(0)
        cursor.write(str(found[-1]))
    return found


def free_port() -> int:
    """One port of `free_ports`."""
    [port] = free_ports(1)
    return port


def _cursor() -> Path:
    """The file, one for each user, that holds the port last handed out."""
    return Path(tempfile.gettempdir(), f"sparky-test-ports-{os.getuid()}")


def _nobody_listens(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
