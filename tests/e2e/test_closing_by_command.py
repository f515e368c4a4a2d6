"""`sparky strategy pause --close` and `delete --close`, through a webhook server that trades on a simulated venue."""

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from cli.commands.close_positions import ClosingResult
from engine.admin.demo_data import generate_webhook_secret
from engine.admin.strategy_checks import NewStrategy
from engine.domain.strategy import StrategyStatus
from engine.platform.settings.settings import Settings
from engine.risk.entry_rules import UNRESTRICTED
from engine.store.store import Store
from simulator.service import make_aster
from tests.cli.conftest import Sparky, home, own_logging, sparky
from tests.support.clients.sql import Sql
from tests.support.factories.keys import ENCRYPTION_KEY, aster_keys
from tests.support.servers.ports import free_port
from tests.webhook_server.conftest import until
from webhook_server.service import make

__all__ = ["home", "own_logging", "sparky"]


class Trading:
    """A person with strategies, a venue, and a webhook server; `sparky` is the command that knows them."""

    def __init__(self, sparky: Sparky, store: Store, home: Path, database_url: str) -> None:
        given = {
            "sparky_home": home,
            "database_url": database_url,
            "sparky_market": "aster",
            "sparky_webhook_port": free_port(),
            "sparky_sim_aster_port": free_port(),
            "sparky_sim_speed": 1.0,
            "sparky_encryption_key": ENCRYPTION_KEY.get_secret_value(),
        }
        self.store = store
        settings = Settings.model_validate(given)
        self.venue = make_aster(settings, "")
        self.venue.start()
        self.settings = settings.model_copy(update={"sparky_market_url": self.venue.url})
        self.service = make(self.settings, "")
        self.service.start()
        until(self.service.is_healthy, 120)
        self.url = f"{self.service.url}/webhook/ai-signal"
        self.user, self.secret = store.ensure_user("owner@example.com"), generate_webhook_secret()
        store.set_webhook_secret(self.user, self.secret)
        store.put_credentials(self.user, "aster", aster_keys())
        sparky.environment |= {"WEBHOOK_URL": self.url, "SPARKY_ENCRYPTION_KEY": ENCRYPTION_KEY.get_secret_value()}
        self.is_serving = True

    def strategy(self, name: str, *, is_paper: bool = True) -> uuid.UUID:
        row = {"user_id": self.user, "name": name, "status": StrategyStatus.RUNNING, "is_paper_trading": is_paper}
        return self.store.create_strategy(NewStrategy.from_input(row | UNRESTRICTED.model_dump())).id

    def enter(self, strategy_id: uuid.UUID | None, symbol: str = "BTCUSDT", **fields: Any) -> None:
        body = {
            "user_id": str(self.user),
            "secret": self.secret.get_secret_value(),
            "exchange": "aster",
            "symbol": symbol,
            "action": "BUY",
            "position_size_usd": 100,
            "strategy_id": strategy_id and str(strategy_id),
        } | fields
        answer = requests.post(self.url, json={k: v for k, v in body.items() if v is not None}, timeout=60)
        assert answer.json().get("action") == "opened", answer.text

    def stop(self) -> None:
        if self.is_serving:
            self.is_serving = False
            self.service.stop(5)

    def held(self, strategy_id: uuid.UUID | None = None) -> set[str]:
        return {each.symbol for each in self.store.list_held_positions(None, strategy_id)}


@pytest.fixture
def trading(sparky: Sparky, store: Store, home: Path, database_url: str) -> Iterator[Trading]:
    made = Trading(sparky, store, home, database_url)
    yield made
    made.stop()
    made.venue.stop(5)


@pytest.mark.parametrize("is_paper", [True, False])
def test_a_pause_closes_what_it_holds_and_nothing_of_others(
    trading: Trading, sparky: Sparky, *, is_paper: bool
) -> None:
    bold, other = trading.strategy("bold", is_paper=is_paper), trading.strategy("other", is_paper=is_paper)
    trading.enter(bold, "BTCUSDT")
    trading.enter(bold, "ETHUSDT", action="SELL")
    trading.enter(other)
    done = sparky("strategy", "pause", "bold", "--close", "--json")
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert (answer["status"], answer["still_open"]) == ("paused", [])
    assert [(each["symbol"], each["outcome"]) for each in answer["closed"]] == [
        ("BTCUSDT", "delivered"),
        ("ETHUSDT", "delivered"),
    ]
    assert trading.held(bold) == set()
    assert trading.held(other) == {"BTCUSDT"}
    again = sparky.ok("strategy", "pause", "bold", "--close")
    assert "bold is paused" in again
    assert "nothing" in again.lower()
    assert len(sparky.json("trades")) == 2


def test_an_end_closes_first_and_ends_then(trading: Trading, sparky: Sparky, sql: Sql) -> None:
    bold = trading.strategy("bold")
    trading.enter(bold)
    answer = json.loads(sparky("strategy", "delete", "bold", "--close", "--yes", "--json").stdout)
    assert (answer["status"], [each["outcome"] for each in answer["closed"]]) == ("terminated", ["delivered"])
    assert trading.held() == set()
    again = sparky.ok("strategy", "delete", str(bold), "--close", "--yes")
    assert "terminated" in again


@pytest.mark.parametrize("command", ["pause", "delete"])
def test_what_a_strategy_held_that_ended_or_lost_its_row_can_still_be_closed(
    command: str, trading: Trading, sparky: Sparky, sql: Sql
) -> None:
    ended, gone = trading.strategy("ended"), trading.strategy("gone")
    trading.enter(ended, "BTCUSDT")
    trading.enter(gone, "ETHUSDT")
    sparky.ok("strategy", "delete", "ended", "--yes")
    sql("delete from ai_strategies where name = 'gone'")
    assert "terminated" in sparky.ok("strategy", command, str(ended)[:8], "--close")
    assert trading.held() == {"ETHUSDT"}
    sparky.ok("strategy", command, str(gone), "--close")
    assert trading.held() == set()


@pytest.mark.parametrize(
    "words",
    [
        ("strategy", "pause", "{}", "--close"),
        ("strategy", "delete", "{}", "--close"),
        ("kill", "--strategy", "{}", "--close-all"),
    ],
)
def test_what_an_ended_strategy_holds_is_closed_by_its_name_too(
    words: tuple[str, ...], trading: Trading, sparky: Sparky
) -> None:
    bold = trading.strategy("bold")
    trading.enter(bold)
    sparky.ok("strategy", "delete", "bold", "--yes")
    other = trading.strategy("other")  # ended as well, and holds nothing
    sparky.ok("strategy", "delete", str(other), "--yes")
    assert "There is no strategy other" in sparky.refused(*(word.format("other") for word in words))
    assert "There is no strategy bold" in sparky.refused("strategy", "pause", "bold")
    assert [each["symbol"] for each in sparky.json("positions", "--strategy", "bold")] == ["BTCUSDT"]
    sparky.ok(*(word.format("bold") for word in words))
    assert trading.held() == set()


def test_of_several_ended_strategies_of_a_name_that_hold_something_the_ids_are_told(
    trading: Trading, sparky: Sparky
) -> None:
    ended = []
    for symbol in ("BTCUSDT", "ETHUSDT"):
        ended.append(trading.strategy("bold"))
        trading.enter(ended[-1], symbol)
        sparky.ok("strategy", "delete", str(ended[-1]), "--yes")
    told = sparky.refused("strategy", "delete", "bold", "--close")
    assert all(str(each) in told for each in ended)
    living = trading.strategy("bold")
    trading.enter(living, "SOLUSDT")
    sparky.ok("strategy", "pause", "bold", "--close")  # the one that lives has the name
    assert trading.held() == {"BTCUSDT", "ETHUSDT"}


def test_without_a_webhook_server_it_says_what_does_not_run_and_what_stays_open(
    trading: Trading, sparky: Sparky
) -> None:
    bold = trading.strategy("bold")
    trading.enter(bold)
    trading.enter(bold, "ETHUSDT")
    trading.stop()
    for words in (("pause", "bold"), ("delete", "bold", "--yes")):
        done = sparky("strategy", *words, "--close", "--json")
        assert done.exit_code == 1
        assert "`sparky serve`" in done.stderr
        answer = json.loads(done.stdout)
        assert answer["status"] == "paused"  # one that holds something is not ended
        assert {each["symbol"] for each in answer["still_open"]} == {"BTCUSDT", "ETHUSDT"}
        assert answer["closed"]
        assert all("no answer" in each["reason"] for each in answer["closed"])


def test_a_position_that_cannot_be_closed_is_named_and_the_others_are_closed(
    trading: Trading, sparky: Sparky, sql: Sql
) -> None:
    bold = trading.strategy("bold")
    trading.enter(bold, "BTCUSDT")
    trading.enter(bold, "ETHUSDT")
    sql("update positions set exchange = 'nosuchvenue' where symbol = 'BTCUSDT'")
    done = sparky("strategy", "pause", "bold", "--close", "--json")
    assert done.exit_code == 1
    closed = {each["symbol"]: each["outcome"] for each in json.loads(done.stdout)["closed"]}
    assert closed["ETHUSDT"] == "delivered"
    assert closed["BTCUSDT"] != "delivered"
    assert trading.held() == {"BTCUSDT"}
    sql("update positions set exchange = 'aster'")
    sparky.ok("strategy", "pause", "bold", "--close")
    assert trading.held() == set()


def test_a_person_whose_secret_cannot_be_read_is_told_and_stops_nobody_elses_exit(
    trading: Trading, sparky: Sparky, sql: Sql
) -> None:
    bold = trading.strategy("bold")
    trading.enter(bold)
    sql("update bot_credentials set webhook_secret = 'enc:v1:00000000:bm9uc2Vuc2U=' where exchange = 'webhook'")
    done = sparky("strategy", "pause", "bold", "--close", "--json")
    assert done.exit_code == 1
    (each,) = json.loads(done.stdout)["closed"]
    assert each["outcome"] == "dead"
    sql("delete from bot_credentials where exchange = 'webhook'")
    (each,) = json.loads(sparky("strategy", "pause", "bold", "--close", "--json").stdout)["closed"]
    assert "sparky credentials set webhook" in each["reason"]


def test_a_command_that_is_killed_in_between_leaves_nothing_that_a_second_one_does_not_finish(
    trading: Trading, sparky: Sparky
) -> None:
    symbols = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
    bold = trading.strategy("bold", is_paper=False)
    for symbol in symbols:
        trading.enter(bold, symbol)
    command = [str(Path(sys.executable).with_name("sparky")), "strategy", "pause", "bold", "--close"]
    given = {name: value for name, value in sparky.environment.items() if value}
    environ = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | given
    process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: len(trading.held(bold)) < 3 or process.poll() is not None, 120)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert "bold is paused" in sparky.ok("strategy", "pause", "bold", "--close")
    assert trading.held() == set()
    assert sorted(row["symbol"] for row in sparky.json("trades")) == sorted(symbols)


def test_a_kill_switch_for_one_strategy_does_not_wait_for_a_request_of_another(
    trading: Trading, sparky: Sparky, sql: Sql
) -> None:
    bold, other = trading.strategy("bold"), trading.strategy("other")
    trading.enter(bold)
    sql(
        "insert into webhook_requests (user_id, request_id, strategy_id, exchange, symbol, action, status, payload) "
        "values (%s, 'stuck', %s, 'elsewhere', 'BTCUSDT', 'BUY', 'received', '{}')",
        trading.user,
        other,
    )
    done = sparky("kill", "--strategy", "bold", "--close-all", "--json")
    assert done.exit_code == 0, done.output
    assert [each["outcome"] for each in json.loads(done.stdout)] == ["delivered"]


def test_only_what_no_server_answered_is_told_as_a_server_that_is_away() -> None:
    ended = {"outcome": "refused", "reason": "no answer was awaited by the venue", "status": 200}
    assert ClosingResult([ended], []).hint(Settings()) == ""
    unheard = {"outcome": "retry", "reason": "interrupted", "status": None, "is_unanswered": True}
    assert "No webhook server answers" in ClosingResult([unheard], []).hint(Settings())
