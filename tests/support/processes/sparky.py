"""The real `sparky` command in a home of its own, run and watched from outside as a person would."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import psutil
import requests
from pydantic import SecretStr

from cli import key_file
from engine.platform.errors import SparkyError
from engine.platform.settings.settings import read_environment
from engine.store.embedded.embedded_postgres import build_dsn, get_data_dir
from engine.store.store import Store, open_store
from tests.support.processes.directories import short_directory
from tests.support.servers.ports import free_ports

PATIENCE_S = 180.0  # of a machine that does ten other things as well
T = TypeVar("T")


class Sparky:
    """One home with its settings. `more` are further settings, such as ``SPARKY_SIM_SPEED="60"``."""

    def __init__(self, home: Path, **more: str) -> None:
        self.home = home
        groq, aster, webhook, self.monitor_port = free_ports(4)
        self.environ = {key: value for key, value in os.environ.items() if not key.startswith(("SPARKY_", "GROQ_"))}
        self.environ |= {
            "SPARKY_HOME": str(home),
            "SPARKY_SIM_GROQ_PORT": str(groq),
            "SPARKY_SIM_ASTER_PORT": str(aster),
            "SPARKY_WEBHOOK_PORT": str(webhook),
            "SPARKY_MONITOR_PORT": str(self.monitor_port),
            "SPARKY_LLM_RPM": "600",
            "SPARKY_DEMO_CADENCE_S": "1",
            "SPARKY_LOG_FORMAT": "json",
        } | more
        self.process: subprocess.Popen[bytes] | None = None
        self.log_path = home.parent / f"{home.name}.log"

    def start(self, *arguments: str) -> None:
        """Starts `sparky up` at the head of a process group of its own, like a command typed at a terminal."""
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [_command(), "up", *arguments],
                env=self.environ,
                cwd=self.home.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def run(self, *arguments: str, timeout_s: float = PATIENCE_S) -> subprocess.CompletedProcess[str]:
        """Runs one `sparky` command to its end."""
        return subprocess.run(
            [_command(), *arguments],
            check=False,
            env=self.environ,
            cwd=self.home.parent,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )

    def json(self, *arguments: str) -> Any:
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def store(self) -> Store:
        """A store on the database that this product keeps everything in, with its key, in the name of its engine."""
        settings = key_file.load_key(read_environment(self.environ))
        if settings.embeds_database:
            settings = settings.model_copy(update={"database_url": SecretStr(build_dsn(self.home))})
        store = open_store(settings, keep=False)
        return named_for_engine(store)

    def url(self, service: str) -> str:
        """Where ``webhook``, ``monitor``, ``sim_aster`` or ``sim_groq`` listens."""
        return f"http://127.0.0.1:{self.environ[f'SPARKY_{service.upper()}_PORT']}"

    def control(self, simulator: str, what: str, body: object) -> None:
        """Tells ``aster`` or ``groq`` how to behave from now on: its ``faults`` (see simulator/faults.py), or the
        ``market`` of Aster (see simulator/control/market_control.py)."""
        url = f"{self.url(f'sim_{simulator}')}/_control/{what}"
        requests.post(url, json=body, timeout=PATIENCE_S).raise_for_status()

    def faults_left(self, simulator: str) -> int:
        """How many faults that it was told of ``aster`` or ``groq`` has not committed yet."""
        return len(requests.get(f"{self.url(f'sim_{simulator}')}/_control/faults", timeout=PATIENCE_S).json())

    def wait_for(self, look: Callable[[], T], what: str, patience_s: float = PATIENCE_S) -> T:
        """The first true thing that `look` sees; errors of a system that is still starting count as nothing."""
        deadline = time.monotonic() + patience_s
        last: Exception | None = None
        while time.monotonic() < deadline:
            assert self.process is not None
            assert self.process.poll() is None, f"sparky ended before {what}: {self.log()}"
            try:
                if found := look():
                    return found
            except Exception as error:  # noqa: BLE001 - what is not there yet cannot be asked
                last = error
            time.sleep(0.1)
        raise AssertionError(f"never saw {what}; last error: {last!r}; log: {self.log()}")

    def family(self) -> list[psutil.Process]:
        """Every process that descends from the command."""
        assert self.process is not None
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def process_of(self, name: str) -> psutil.Process | None:
        """Of a living child, by its name, or of PostgreSQL as ``postgres``."""
        with suppress(psutil.Error, OSError, ValueError):
            if name == "postgres":
                found = psutil.Process(int((get_data_dir(self.home) / "postmaster.pid").read_text().splitlines()[0]))
                return found if found.name() == "postgres" else None
            for process, line in command_lines(self.family()):
                if line.strip() == f"sparky: {name}":
                    return process
        return None

    def kill(self, *names: str) -> None:
        """Kills them all at once, as each is found at its work, and returns when they are gone."""
        victims = [self.wait_for(partial(self.process_of, name), name) for name in names]
        for victim in filter(None, victims):
            victim.kill()
        for victim in filter(None, victims):
            victim.wait(PATIENCE_S)

    def press_ctrl_c(self) -> int:
        """SIGINT to the whole process group, as the terminal sends it; returns the exit code."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(PATIENCE_S)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def log(self) -> str:
        return self.log_path.read_text()[-8_000:] if self.log_path.exists() else ""


@contextmanager
def without_strategies(**more: str) -> Iterator[Sparky]:
    """A product that is up in a home of its own, on a market in real time; `more` as in `Sparky`."""
    with short_directory() as root:
        made = Sparky(root / "home", **{"SPARKY_SIM_SPEED": "1", "SPARKY_MARK_INTERVAL_S": "1"} | more)
        try:
            made.start("--no-demo")
            made.wait_for(lambda: made.process_of("strategy-watcher"), "Sparky being up")
            yield made
        finally:
            made.close()


def named_for_engine(store: Store) -> Store:
    """What the store records from now on counts as the present engine's; what cannot be asked leaves it as it is."""
    with suppress(SparkyError):
        lease_holder = store.get_engine_lease_holder()
        store.engine = None if lease_holder is None else lease_holder.run
    return store


def command_lines(processes: Iterable[psutil.Process]) -> Iterator[tuple[psutil.Process, str]]:
    """Each one that is still there with its command line, which is its title; some live for a moment only."""
    for process in processes:
        with suppress(psutil.Error):
            yield process, " ".join(process.cmdline())


def _command() -> str:
    return str(Path(sys.executable).with_name("sparky"))
