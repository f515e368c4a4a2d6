"""Every `sparky` command that ends by itself, run as a process of its own on a database that holds the world's scripts.

As a program it takes commands as JSON on stdin and forks one process for each, so that the modules are loaded once.
"""

import json
import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import typer.main

from cli.app import app
from engine.admin.strategy_checks import NewStrategy
from engine.domain.decision import Action
from engine.domain.positions import Side
from engine.domain.signal import SignalOutcome
from engine.domain.strategy import StrategyStatus
from engine.store.cycles import CallRecord, DecisionRecord, DeliveryOutcome
from engine.store.store import Store
from engine.store.webhook_rows import Fill
from tests.support.factories.signals import new_signal

ROOT = Path(__file__).parents[3]
SPARKY = [sys.executable, "-c", "import cli.main; cli.main.main()"]
NAME = "стратегия 策略 🚀 \u2013 … · ✓"
NOTES = "покупать 只在上升趋势中买入 매수 ✓"
DECISION = uuid.UUID("11111111-1111-4111-8111-111111111111")
PATIENCE_S = 120
PATIENCE_EACH_S = 15  # of several commands in a row

# Arguments and usual exit code of every command, in an order in which each finds what it needs.
COMMANDS: Mapping[str, tuple[list[str], int]] = {
    "up": (["--help"], 0),
    "supervise": (["--help"], 0),
    "serve": (["--help"], 0),
    "migrate": ([], 0),
    "version": ([], 0),
    "doctor": ([], 1),  # something is held, and nothing runs that would steer it
    "status": ([], 1),
    "strategy list": ([], 0),
    "strategy show": ([NAME], 0),
    "strategy create": (["--name", f"{NAME} 2", "--prompt", NOTES, "--user", "имя@пример.рф"], 0),
    "strategy start": ([f"{NAME} 2"], 0),
    "strategy pause": ([f"{NAME} 2"], 0),
    "strategy restart": ([NAME], 1),
    "strategy delete": ([f"{NAME} 2", "--yes"], 0),
    "decisions list": ([], 0),
    "decisions show": ([str(DECISION)], 0),
    "signals list": ([], 0),
    "signals show": ([str(DECISION)], 0),
    "signals retry": ([str(DECISION)], 0),
    "signals drop": ([str(DECISION), "--reason", NOTES], 0),
    "positions": ([], 0),
    "trades": ([], 0),
    "reconcile": ([], 0),
    "kill": (["--strategy", NAME, "--reason", NOTES], 0),
    "credentials set": (["webhook", "--new", "--user", "имя@пример.рф"], 0),
    "credentials list": ([], 0),
    "credentials rotate": ([], 0),
}


def known_commands() -> set[str]:
    """The names of all that the command line can do."""
    return set(_leaves(typer.main.get_command(app), ()))


def _leaves(command: Any, path: tuple[str, ...]) -> Iterator[str]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield " ".join(path)
        return
    for name, each in inner.items():
        yield from _leaves(each, (*path, name))


class Done(NamedTuple):
    """What a process came to."""

    code: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        return (self.stdout + self.stderr).decode("utf-8", "backslashreplace")


def run(words: Sequence[str | bytes], environ: Mapping[str, str], cwd: Path, **more: Any) -> Done:
    """One command as a process of its own; `more` as for subprocess.run."""
    streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | more
    if "input" in more:
        del streams["stdin"]
    done = subprocess.run([*SPARKY, *words], check=False, env=dict(environ), cwd=cwd, timeout=PATIENCE_S, **streams)
    return Done(done.returncode, done.stdout or b"", done.stderr or b"")


def run_all(commands: Sequence[Sequence[str]], environ: Mapping[str, str], cwd: Path) -> list[Done]:
    """Each command in a process forked from one that has the modules loaded; `environ` is what that began with."""
    given = json.dumps([list(words) for words in commands]).encode()
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.processes.commands"],
        check=True,
        env=dict(environ),
        cwd=cwd,
        timeout=PATIENCE_S + PATIENCE_EACH_S * len(commands),
        input=given,
        stdout=subprocess.PIPE,
    )
    rows = json.loads(done.stdout)
    return [Done(row["code"], bytes.fromhex(row["stdout"]), bytes.fromhex(row["stderr"])) for row in rows]


def environment(home: Path, database_url: str, **more: str) -> dict[str, str]:
    """Of a home on this database, without a trace of the machine's own settings."""
    clean = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
    return clean | {
        "SPARKY_HOME": str(home),
        "DATABASE_URL": database_url,
        "PYTHONPATH": str(ROOT),
        "SPARKY_ENCRYPTION_KEY": key,
        **more,
    }


def write_the_world(store: Store) -> None:
    """One strategy with a name and notes in many scripts, that decided, signalled, opened, and closed half."""
    user = store.ensure_user("имя@пример.рф")
    new = NewStrategy(user_id=user, name=NAME, custom_prompt=NOTES, status=StrategyStatus.RUNNING)
    strategy = store.create_strategy(new)
    record = DecisionRecord(
        action=Action.LONG,
        symbol="BTCUSDT",
        size_usd=Decimal(200),
        confidence=0.8,
        reasoning=NOTES,
        raw_answer=f'{{"action": "LONG", "reasoning": "{NOTES}"}}',
        model="m",
        market={"equity_usd": 100.5},
        calls=(CallRecord(model="m", outcome="ok", answer=NOTES, latency_s=0.5),),
    )
    signal = new_signal(user, strategy.id, DECISION, size_usd=Decimal(200), confidence=0.8)
    store.record_decision(DECISION, strategy.id, record, signal)
    [claimed] = store.claim_signals("test", 1, 30.0)
    store.record_delivery_outcomes(
        "test", (DeliveryOutcome(signal_id=claimed.id, outcome=SignalOutcome.DEAD, reason=NOTES),)
    )
    details: dict[str, Any] = {"user_id": user, "strategy_id": strategy.id, "exchange": "aster", "symbol": "BTCUSDT"}
    for number, (kind, quantity, price) in enumerate((("open", "2", "100"), ("close", "1", "110"))):
        request = f"r{number}"
        store.begin_execution(None, request, action="BUY", fingerprint=request, payload={}, is_paper=True, **details)
        given = {"kind": kind, "quantity": Decimal(quantity), "price": Decimal(price), "fee_usd": Decimal("0.04")}
        place = {"exchange": "aster", "symbol": "BTCUSDT", "side": Side.LONG, "strategy_id": strategy.id}
        fill = Fill.model_validate(given | place | {"is_paper": True})
        store.book_fill(request, user, fill, 200, {"success": True})


def _forked(words: list[str]) -> Done:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            sys.argv = ["sparky", *words]
            from cli import main as cli_main

            cli_main.main()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0)
        err.seek(0)
        return Done(code, out.read(), err.read())


def _main() -> None:
    ended = [_forked(words) for words in json.loads(sys.stdin.buffer.read())]
    rows = [{"code": done.code, "stdout": done.stdout.hex(), "stderr": done.stderr.hex()} for done in ended]
    sys.stdout.write(json.dumps(rows))


if __name__ == "__main__":
    _main()
