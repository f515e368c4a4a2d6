"""`sparky status` of a home that is new, stopped, without its database, or idle while another engine works."""

import json
import re
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from actors.messages import EngineState
from engine.admin.strategy_checks import NewStrategy
from engine.domain.strategy import StrategyStatus
from engine.store.store import Store
from tests.cli.conftest import Sparky, home, own_logging, sparky
from tests.cli.status.test_status import Watched, child
from tests.support.clients.sql import Sql

__all__ = ["home", "own_logging", "sparky"]

AWAY = "postgresql://me:hunter2@127.0.0.1:1/nothing"
ELSEWHERE = "/var/lib/sparky on other-host"


@pytest.fixture
def watched(sparky: Sparky) -> Iterator[Watched]:
    """A monitor of this home that answers."""
    watched = Watched()
    sparky.environment["SPARKY_MONITOR_PORT"] = str(watched.port)
    yield watched
    watched.server.close()


def strategy_with_position(store: Store, sql: Sql) -> UUID:
    user = store.ensure_user("a@b.c")
    row = store.create_strategy(NewStrategy(user_id=user, name="careful", status=StrategyStatus.RUNNING))
    sql(
        "insert into positions (user_id, strategy_id, exchange, symbol, side, entry_price, quantity, position_size_usd,"
        " is_paper) values (%s, %s, 'aster', 'BTCUSDT', 'LONG', 100, 0.5, 50, true)",
        user,
        row.id,
    )
    return row.id


def another_engine(store: Store) -> int:
    """An engine elsewhere takes the lease of the database; its epoch."""
    other = Store(store.rpc, store.vault, uuid4())
    return other.hold_engine_lease("boot/9/9", ELSEWHERE, 3_600.0, is_new=True).epoch


def both(sparky: Sparky, code: int) -> tuple[str, str, dict[str, Any]]:
    """stdout and stderr of the table, and the JSON; both forms end with `code` and the same sentence."""
    done, told = sparky("status"), sparky("status", "--json")
    assert (done.exit_code, told.exit_code) == (code, code), done.output
    assert done.stderr == told.stderr
    assert "uncaught" not in done.output
    assert "hunter2" not in done.output + told.output
    return done.stdout, done.stderr, json.loads(told.stdout)


def test_a_fresh_home_is_not_running_and_knows_no_strategies(sparky: Sparky) -> None:
    sparky.environment["DATABASE_URL"] = ""
    shown, said, view = both(sparky, 1)
    assert shown == ""
    assert re.fullmatch(r"Sparky is not running on \S+; `sparky up` starts it\.\n", said)
    assert (view["running"], view["strategies"], view["unattended"]) == (False, None, None)
    assert "`sparky up` makes it" in view["database"]


def test_a_home_whose_embedded_database_was_stopped_is_not_running(sparky: Sparky) -> None:
    sparky.environment["DATABASE_URL"] = ""
    sparky.ok("migrate")
    shown, said, view = both(sparky, 1)
    assert shown == ""
    assert re.fullmatch(r"Sparky is not running on \S+; `sparky up` starts it\.\n", said)
    assert (view["strategies"], view["unattended"], view["database_engine"]) == (None, None, None)
    assert view["database"] == "The embedded database does not run now."


def test_a_stopped_home_with_a_database_that_does_not_answer_says_so(sparky: Sparky) -> None:
    sparky.environment["DATABASE_URL"] = AWAY
    shown, said, view = both(sparky, 1)
    assert shown == ""
    assert said.startswith("Sparky is not running on ")
    assert "The database says: database: " in said
    assert said.count("\n") == 1
    assert (view["running"], view["strategies"], view["unattended"]) == (False, None, None)


def test_a_running_home_whose_database_does_not_answer_is_shown(sparky: Sparky, watched: Watched) -> None:
    watched.report(child("market", "actor"))
    sparky.environment["DATABASE_URL"] = AWAY
    shown, said, view = both(sparky, 0)
    assert "Which strategies exist is not known." in shown
    assert "! database: " in shown
    assert said == ""
    assert (view["running"], view["strategies"], view["unattended"]) == (True, None, None)


@pytest.mark.parametrize("engine", ["standing by", "unknown"])
def test_a_home_whose_engine_does_not_run_calls_nothing_unsteered(
    engine: str, sparky: Sparky, store: Store, sql: Sql, watched: Watched
) -> None:
    strategy_with_position(store, sql)
    epoch = another_engine(store)
    watched.report(child("market", "actor"))
    if engine == "standing by":
        watched.facts.on_engine_state(
            EngineState(state="standing by", epoch=epoch, location=ELSEWHERE, reason="another engine runs"),
            time.monotonic(),
        )
    shown, _, view = both(sparky, 0)
    assert view["unattended"] == []
    assert "nobody steers it" not in shown
    assert "--close" not in shown
    if engine == "standing by":
        assert view["strategies"][0]["state"] == "elsewhere"
        assert f"engine: epoch {epoch} of its database, at {ELSEWHERE}" in " ".join(shown.split())


def test_a_strategy_that_was_started_a_moment_ago_is_not_called_abandoned(
    sparky: Sparky, store: Store, sql: Sql, watched: Watched
) -> None:
    strategy_with_position(store, sql)
    watched.report(child("market", "actor"))
    watched.facts.on_engine_state(
        EngineState(state="running", is_held=True, epoch=7, location="/here"), time.monotonic()
    )
    shown, _, view = both(sparky, 0)
    assert view["strategies"][0]["state"] == "not started"
    assert view["unattended"] == []
    assert "engine: epoch 7 of its database" in shown


def test_a_stopped_home_says_where_the_engine_of_its_database_runs(sparky: Sparky, store: Store, sql: Sql) -> None:
    strategy_with_position(store, sql)
    epoch = another_engine(store)
    shown, said, view = both(sparky, 1)
    assert f"the engine of this database runs at {ELSEWHERE} (epoch {epoch})" in said
    assert "Nobody steers" not in said
    assert "starts it" not in said
    assert "not started" not in shown
    assert view["strategies"][0]["state"] == "elsewhere"
    told = view["database_engine"]
    assert (told["epoch"], told["location"]) == (epoch, ELSEWHERE)
    assert told["since"]
    assert 0 < told["left_s"] <= 3_600


def test_an_engine_whose_lease_has_run_out_steers_nothing(sparky: Sparky, store: Store, sql: Sql) -> None:
    strategy_with_position(store, sql)
    another_engine(store)
    sql("update leases set until = clock_timestamp() where name = 'engine'")
    _, said, view = both(sparky, 1)
    assert "Nobody steers what running strategies hold meanwhile (open positions: 1)." in said
    assert ELSEWHERE not in said
    assert view["strategies"][0]["state"] == "not started"
    assert view["database_engine"]["left_s"] == 0


def test_a_home_with_real_services_is_started_by_supervise_and_serve(sparky: Sparky) -> None:
    sparky.environment["GROQ_API_KEY"] = "gsk_hunter2hunter2"
    assert "`sparky supervise`" in sparky("status").stderr
    assert "`sparky serve`" in sparky("status").stderr
    assert "`sparky supervise`" in sparky.refused("strategy", "restart", "--all")
