"""Finds the Sparky that runs on this home, if any: by the lock its supervisor holds and by what its monitor says."""

import contextlib
import fcntl
import os
import socket
from typing import Any

import psutil
import requests

from engine.settings import Settings

TIMEOUT_S = 3.0


def supervisor_pid(settings: Settings) -> int | None:
    """The process that holds this home's lock; None when nobody does."""
    try:
        descriptor = os.open(settings.run_dir / "supervisor.lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.read(descriptor, 20).decode().strip()
        return int(text) if text.isdigit() else None
    finally:
        os.close(descriptor)
    return None


def monitor_url(settings: Settings) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.sparky_monitor_host, settings.sparky_monitor_host)  # noqa: S104 - asked about, not bound
    return f"http://{host}:{settings.sparky_monitor_port}"


def monitor_status(settings: Settings) -> dict[str, Any] | None:
    """The monitor's /status; None when no monitor of ours answers there."""
    with contextlib.suppress(requests.RequestException, ValueError):
        token = settings.sparky_admin_token
        headers = {} if token is None else {"Authorization": f"Bearer {token.get_secret_value()}"}
        answer = requests.get(f"{monitor_url(settings)}/status", headers=headers, timeout=TIMEOUT_S)
        data = answer.json() if answer.ok else None
        if isinstance(data, dict) and "supervisor" in data:
            return data
    return None


def own_ports(pid: int | None) -> set[int]:
    """TCP ports on which the supervisor `pid` or any process below it listens, as far as we may look."""
    ports: set[int] = set()
    if pid is None:
        return ports
    with contextlib.suppress(psutil.Error):
        supervisor = psutil.Process(pid)
        for process in [supervisor, *supervisor.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                ports |= {c.laddr.port for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
    return ports


def refusal_to_listen(host: str, port: int) -> str | None:
    """Why nobody could listen there now; None when the port is free."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            return error.strerror or str(error)
    return None
