"""A real supervisor in a process of its own, run on specs given as JSON, telling each change of state as a line."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from queue import Empty, Queue
from typing import Any, Self

import psutil

from actors.runtime.child_spec import ChildSpec, ExhaustedRestarts, RestartPolicy, SupervisionPlan
from actors.runtime.messages import DesiredChild
from actors.runtime.restart_policy import Child
from actors.runtime.state_dir import prepare_run_dir
from actors.runtime.systemd import Notifier
from cli.run.process_plan import REPORT_RECIPIENTS, WARM_UP
from engine.platform import logs
from engine.platform.settings.settings import Settings
from supervisor import Supervisor
from tests.support.processes.sparky import command_lines

ROOT = Path(__file__).parents[3]
PATIENCE_S = 120.0  # of a machine that does ten other things as well
FORK_SERVER = ("actors.runtime.forkserver", "fork server")  # while it warms up, and when it has a title


def spec(name: str, make: str, **more: Any) -> dict[str, Any]:
    """The JSON form of a ChildSpec whose entry is in `tests.support.processes.children`."""
    return {"name": name, "entry": f"tests.support.processes.children:make_{make}", "kind": "actor", "stage": 0} | more


class Supervised:
    """Runs a supervisor as a subprocess, at the head of a process group of its own, and waits for what it tells.

    `launcher` is a command that starts the supervisor and waits for it, such as ``timeout 60``.
    """

    def __init__(
        self,
        run_dir: Path,
        specs: Sequence[dict[str, Any]],
        strategy_make: str = "steady",
        environ: Mapping[str, str] | None = None,
        launcher: Sequence[str] = (),
    ) -> None:
        prepare_run_dir(run_dir)
        self.run_dir = run_dir
        self.plan(specs)
        self.events: list[dict[str, Any]] = []
        self._lines: Queue[dict[str, Any] | None] = Queue()
        self._log = (run_dir / "stderr.log").open("w+")
        self.process = subprocess.Popen(
            [*launcher, sys.executable, "-m", "tests.support.processes.supervised", str(run_dir), strategy_make],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | dict(environ or {}),
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(PATIENCE_S)
            finally:
                self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._log.close()

    def wait_for(self, name: str, state: str, *, after: int = 0) -> dict[str, Any]:
        """The first event of `name` becoming `state` among those later than the `after` first ones."""
        return self.wait_until(lambda e: e["name"] == name and e["state"] == state, f"{name} {state}", after=after)

    def wait_until(self, wanted: Callable[[dict[str, Any]], bool], what: str, *, after: int = 0) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE_S
        seen = after
        while True:
            for event in self.events[seen:]:
                seen += 1
                if wanted(event):
                    return event
            try:
                line = self._lines.get(timeout=max(0.01, deadline - time.monotonic()))
            except Empty:
                raise AssertionError(f"never saw {what}; saw {self.events}; log: {self.log()}") from None
            if line is None:
                raise AssertionError(f"the supervisor ended before {what}; saw {self.events}; log: {self.log()}")
            self.events.append(line)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)

    def family(self) -> list[psutil.Process]:
        """Every process that descends from the one that was started, and that one first."""
        first = psutil.Process(self.process.pid)
        return [first, *first.children(recursive=True)]

    def plan(self, specs: Sequence[dict[str, Any]]) -> None:
        """What a supervisor reads when it starts, and again at SIGHUP."""
        (self.run_dir / "specs.json").write_text(json.dumps(list(specs)))

    def log(self) -> str:
        return (self.run_dir / "stderr.log").read_text()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(json.loads(line))
        self._lines.put(None)


def strategies_file(run_dir: Path, *ids: str, revision: str = "1") -> Path:
    """What a ``file_watcher`` shall want, in a file beside `run_dir`."""
    path = run_dir.parent / "wanted"
    path.write_text("".join(f"{strategy_id} {revision}\n" for strategy_id in ids))
    return path


def fork_servers(running: Supervised) -> list[psutil.Process]:
    """Those of this supervisor, one that is still warming up included."""
    children = psutil.Process(running.process.pid).children()
    return [child for child, line in command_lines(children) if any(name in line for name in FORK_SERVER)]


def wait_for(wanted: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not wanted():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_until_gone(pids: Sequence[int]) -> None:
    """Raises AssertionError when somebody does not end."""
    deadline = time.monotonic() + PATIENCE_S
    while any(is_alive(pid) for pid in pids):
        if time.monotonic() > deadline:
            raise AssertionError(f"still alive: {[pid for pid in pids if is_alive(pid)]}")
        time.sleep(0.02)


def _main(run_dir: Path, strategy_make: str) -> int:
    logs.configure("info", "console", "supervisor")
    settings = Settings(sparky_home=Path("home"))

    def strategy(wanted: DesiredChild) -> ChildSpec:
        entry = f"tests.support.processes.children:make_{strategy_make}"
        more: dict[str, Any] = {
            "restart": RestartPolicy.TRANSIENT,
            "grace_s": 1.0,
            "on_exhausted": ExhaustedRestarts.PARK,
        }
        more |= {"is_dynamic": True, "group": "strategy"}
        return ChildSpec(wanted.name, entry, "actor", 9, settings, wanted.name.removeprefix("strategy-"), **more)

    def plan() -> SupervisionPlan:
        rows = json.loads((run_dir / "specs.json").read_text())
        fixed = tuple(ChildSpec(settings=settings, **_typed(row)) for row in rows)
        return SupervisionPlan(fixed, strategy, REPORT_RECIPIENTS, WARM_UP)

    def tell(child: Child) -> None:
        row = {"name": child.spec.name, "state": child.state, "pid": child.pid, "at": time.monotonic()}
        print(json.dumps(row | {"restarts": child.restarts, "cause": child.cause}), flush=True)  # noqa: T201 - the protocol

    return Supervisor(run_dir, plan(), tell, notifier=Notifier(os.environ), read_plan=plan).run()


def _typed(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"restart": RestartPolicy(row.get("restart", "permanent"))}


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1]), sys.argv[2]))
