"""Finds the Sparky that runs on this home, if any: by the lock its supervisor holds and by what its monitor says."""

import contextlib
import socket
from typing import Any, NamedTuple

import psutil
import requests

from engine.platform import file_lock, processes
from engine.platform.http.addresses import build_base_url, loopback_for_wildcard
from engine.platform.settings.settings import Settings

TIMEOUT_S = 3.0


def supervisor_pid(settings: Settings) -> int | None:
    """The process that holds this home's lock; None when nobody does."""
    return file_lock.holder(settings.run_dir)


def is_lock_hidden(settings: Settings) -> bool:
    """True if this user may not look whether a supervisor holds the home."""
    return file_lock.is_hidden(settings.run_dir)


def monitor_url(settings: Settings) -> str:
    return build_base_url(loopback_for_wildcard(settings.sparky_monitor_host), settings.sparky_monitor_port)


def is_webhook_server(host: str, port: int) -> bool:
    """True if what listens there answers /health as a webhook server of Sparky, well or ill."""
    try:
        body = requests.get(f"{build_base_url(loopback_for_wildcard(host), port)}/health", timeout=TIMEOUT_S).json()
    except (requests.RequestException, ValueError):
        return False
    return isinstance(body, dict) and "apiStatus" in body


def fetch_monitor_status(settings: Settings) -> dict[str, Any] | None:
    """The monitor's /status; None when no monitor of ours answers there."""
    with contextlib.suppress(requests.RequestException, ValueError):
        token = settings.sparky_admin_token
        headers = {} if token is None else {"Authorization": f"Bearer {token.get_secret_value()}"}
        answer = requests.get(f"{monitor_url(settings)}/status", headers=headers, timeout=TIMEOUT_S)
        data = answer.json() if answer.ok else None
        if isinstance(data, dict) and "supervisor" in data:
            return data
    return None


def start_hint(settings: Settings) -> str:
    """Which command starts Sparky by these settings: all of it, or the engine and the webhook server by themselves."""
    if settings.embeds_database or settings.simulates_groq or settings.simulates_market:
        return "`sparky up` starts it"
    return "`sparky supervise` starts the engine, `sparky serve` the webhook server"


class OwnPorts(NamedTuple):
    """TCP ports on which a supervisor or a process below it listens; `is_all` says that none was hidden from us."""

    numbers: frozenset[int]
    is_complete: bool


def find_own_ports(pid: int | None) -> OwnPorts:
    """Those of the supervisor `pid`, as far as we may look."""
    if not pid:  # and below 0, the kernel, is everything
        return OwnPorts(frozenset(), is_complete=True)
    found = [_listening_ports(each) for each in (pid, *processes.descendants_of(pid))]
    known = frozenset(port for ports in found for port in ports or ())
    return OwnPorts(known, is_complete=None not in found)


def _listening_ports(pid: int) -> set[int] | None:
    """None when the process may not be looked into; none for one that has ended."""
    try:
        connections = psutil.Process(pid).net_connections("tcp")
    except psutil.NoSuchProcess:
        return set()
    except (psutil.Error, OSError):
        return None
    return {each.laddr.port for each in connections if each.status == psutil.CONN_LISTEN}


def port_error(host: str, port: int) -> str | None:
    """Why nobody could listen there now; None when the port is free."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            return error.strerror or str(error)
    return None
