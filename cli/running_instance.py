"""Finds the Sparky that runs on this home, if any: by its supervisor's lock and its monitor's status."""

import contextlib
import socket
from typing import Any, NamedTuple

import psutil
import requests

from engine.platform import file_lock, processes
from engine.platform.http.addresses import build_base_url, loopback_for_wildcard
from engine.platform.settings.settings import Settings

TIMEOUT_S = 3.0


def find_supervisor_pid(settings: Settings) -> int | None:
    """The pid of the process that holds this home's lock; None if none does."""
    return file_lock.holder(settings.run_dir)


def is_lock_hidden(settings: Settings) -> bool:
    """True if this user may not see whether a supervisor holds the lock."""
    return file_lock.is_hidden(settings.run_dir)


def build_monitor_url(settings: Settings) -> str:
    return build_base_url(loopback_for_wildcard(settings.sparky_monitor_host), settings.sparky_monitor_port)


def is_webhook_server(host: str, port: int) -> bool:
    """True if /health there answers as a webhook server of Sparky, healthy or not."""
    try:
        body = requests.get(f"{build_base_url(loopback_for_wildcard(host), port)}/health", timeout=TIMEOUT_S).json()
    except (requests.RequestException, ValueError):
        return False
    return isinstance(body, dict) and "apiStatus" in body


def fetch_monitor_status(settings: Settings) -> dict[str, Any] | None:
    """The monitor's /status; None if no monitor of Sparky answers."""
    with contextlib.suppress(requests.RequestException, ValueError):
        token = settings.sparky_admin_token
        headers = {} if token is None else {"Authorization": f"Bearer {token.get_secret_value()}"}
        response = requests.get(f"{build_monitor_url(settings)}/status", headers=headers, timeout=TIMEOUT_S)
        data = response.json() if response.ok else None
        if isinstance(data, dict) and "supervisor" in data:
            return data
    return None


def build_start_hint(settings: Settings) -> str:
    """The command that starts Sparky with these settings: `up`, or `supervise` and `serve`."""
    if settings.embeds_database or settings.simulates_groq or settings.simulates_market:
        return "`sparky up` starts it"
    return "`sparky supervise` starts the engine, `sparky serve` the webhook server"


class OwnPorts(NamedTuple):
    """TCP ports on which a supervisor or a descendant listens; not `is_complete` if this user may not see all of
    them."""

    numbers: frozenset[int]
    is_complete: bool


def find_own_ports(pid: int | None) -> OwnPorts:
    """The ports of the supervisor `pid` and its descendants, as far as this user may see them."""
    if not pid:  # also for pid 0, the kernel, of which all processes are descendants
        return OwnPorts(frozenset(), is_complete=True)
    by_process = [_list_listening_ports(process_id) for process_id in (pid, *processes.descendants_of(pid))]
    numbers = frozenset(port for ports in by_process for port in ports or ())
    return OwnPorts(numbers, is_complete=None not in by_process)


def _list_listening_ports(pid: int) -> set[int] | None:
    """The TCP ports of one process; None if this user may not inspect it, empty if it has ended."""
    try:
        connections = psutil.Process(pid).net_connections("tcp")
    except psutil.NoSuchProcess:
        return set()
    except (psutil.Error, OSError):
        return None
    return {connection.laddr.port for connection in connections if connection.status == psutil.CONN_LISTEN}


def find_port_error(host: str, port: int) -> str | None:
    """Why the port cannot be listened on now; None if it is free."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            return error.strerror or str(error)
    return None
