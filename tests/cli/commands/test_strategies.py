import json
import uuid
from pathlib import Path

import pytest

from engine.store.store import Store
from tests.cli.conftest import Sparky
from tests.support.clients.sql import Sql


def test_a_strategy_is_created_paused_shown_started_paused_and_ended(sparky: Sparky) -> None:
    made = sparky.json(
        "strategy", "create", "--name", "careful", "--symbols", "BTCUSDT, ETHUSDT", "--risk", "conservative"
    )
    assert (made["name"], made["status"], made["target_assets"]) == ("careful", "paused", ["BTCUSDT", "ETHUSDT"])
    assert sparky.ok("strategy", "start", "careful") == "careful is running.\n"
    assert sparky.json("strategy", "show", made["id"])["status"] == "running"
    assert sparky.ok("strategy", "pause", made["id"][:8]) == "careful is paused.\n"
    assert sparky.ok("strategy", "delete", "careful", "--yes") == "careful is terminated.\n"
    assert "There is no strategy careful" in sparky.refused("strategy", "show", "careful")
    assert [row["status"] for row in sparky.json("strategy", "list")] == ["terminated"]


def test_options_become_the_fields_of_the_row(sparky: Sparky) -> None:
    options = {
        "--cadence": "15",
        "--capital": "2500.50",
        "--max-position": "300",
        "--min-confidence": "0.75",
        "--max-drawdown": "12.5",
        "--leverage": "3",
        "--budget": "1.25",
        "--prompt": "Trade less.",
    }
    words = [word for pair in options.items() for word in pair]
    row = sparky.json("strategy", "create", "--name", "own", "--start", *words)
    assert row["status"] == "running"
    assert (row["cadence_seconds"], row["leverage_max"], row["min_confidence"]) == (15, 3, 0.75)
    assert (float(row["capital_usd"]), float(row["max_position_usd"])) == (2500.5, 300)
    assert (float(row["max_drawdown_percent"]), float(row["daily_llm_budget_usd"])) == (12.5, 1.25)
    assert (row["custom_prompt"], row["is_paper_trading"]) == ("Trade less.", True)


def test_entry_rules_are_those_of_the_profile_where_no_option_says_otherwise(sparky: Sparky) -> None:
    row = sparky.json("strategy", "create", "--name", "own", "--risk", "conservative", "--max-entry", "12.5")
    assert (row["stop_loss_required"], float(row["max_entry_percent"]), row["adding"]) == (None, 12.5, None)
    rules = sparky.json("strategy", "show", "own")["rules"]
    assert (rules["stop_loss_required"], float(rules["max_entry_percent"])) == (True, 12.5)
    assert (rules["adding"], float(rules["min_stop_loss_percent"])) == ("never", 0.2)

    words = ("--no-stop-required", "--adding", "always", "--min-stop", "0.5")
    sparky.ok("strategy", "create", "--name", "free", "--risk", "aggressive", *words)
    rules = sparky.json("strategy", "show", "free")["rules"]
    assert (rules["stop_loss_required"], float(rules["max_entry_percent"])) == (False, 100)
    assert (rules["adding"], float(rules["min_stop_loss_percent"])) == ("always", 0.5)
    assert '"adding": "always"' in sparky.ok("strategy", "show", "free")


def test_what_an_entry_may_cost_is_shown_as_it_is_in_force(sparky: Sparky) -> None:
    sparky.ok("strategy", "create", "--name", "usual")
    assert sparky.json("strategy", "show", "usual")["costs"] == {"max_spread_percent": "1", "max_slippage_percent": "1"}
    row = sparky.json("strategy", "create", "--name", "own", "--max-spread", "0.25", "--max-slippage", "2.5")
    assert (float(row["max_spread_percent"]), float(row["max_slippage_percent"])) == (0.25, 2.5)
    assert row["max_spread_percent"] == "0.25"
    costs = sparky.json("strategy", "show", "own")["costs"]
    assert costs == {"max_spread_percent": "0.25", "max_slippage_percent": "2.5"}


def test_the_database_takes_every_limit_of_costs_that_it_allows(sparky: Sparky, sql: Sql) -> None:
    sparky.ok("strategy", "create", "--name", "wide")
    sql("update ai_strategies set max_spread_percent = 100, max_slippage_percent = 100")
    sql(
        "insert into trade_settings_exchange (user_id, exchange, max_spread_percent, max_slippage_percent)"
        " select user_id, exchange, 100, 100 from ai_strategies"
    )
    shown = sparky.json("strategy", "show", "wide")
    assert float(shown["max_spread_percent"]) == 100


def test_a_margin_mode_is_set_by_an_option_and_shown(sparky: Sparky) -> None:
    assert sparky.json("strategy", "create", "--name", "own", "--margin-mode", "cross")["margin_mode"] == "cross"
    assert sparky.json("strategy", "show", "own")["margin_mode"] == "cross"
    assert sparky.json("strategy", "create", "--name", "other")["margin_mode"] is None


@pytest.mark.parametrize(
    ("option", "value", "field"),
    [
        ("--max-spread", "0", "max_spread_percent"),
        ("--max-spread", "100", "max_spread_percent"),
        ("--max-slippage", "100", "max_slippage_percent"),
        ("--max-slippage", "101", "max_slippage_percent"),
        ("--max-entry", "0", "max_entry_percent"),
        ("--max-entry", "101", "max_entry_percent"),
        ("--min-stop", "50", "min_stop_loss_percent"),
        ("--min-stop", "close", "min_stop_loss_percent"),
    ],
)
def test_an_entry_rule_that_makes_no_sense_is_refused_by_name(
    sparky: Sparky, option: str, value: str, field: str
) -> None:
    assert field in sparky.refused("strategy", "create", "--name", "wrong", option, value)


def test_a_row_that_is_invalid_is_shown_without_rules_in_force(sparky: Sparky, sql: Sql) -> None:
    sparky.ok("strategy", "create", "--name", "broken")
    sql("update ai_strategies set target_assets = '{}'")
    shown = sparky.json("strategy", "show", "broken")
    assert (shown["target_assets"], shown["rules"]) == ([], None)


def test_a_strategy_is_read_from_a_file_and_from_stdin_and_options_win(sparky: Sparky, home: Path) -> None:
    fields = {"name": "from file", "target_assets": ["SOLUSDT"], "risk_profile": "aggressive"}
    (home / "strategy.json").write_text(json.dumps(fields))
    first = sparky.json("strategy", "create", "--from-json", "strategy.json")
    assert (first["name"], first["risk_profile"], first["target_assets"]) == ("from file", "aggressive", ["SOLUSDT"])
    sparky.ok("strategy", "create", "--from-json", "-", "--name", "other", stdin=json.dumps(fields))
    assert [row["name"] for row in sparky.json("strategy", "list")] == ["from file", "other"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ('{"name": "a", "leverage": 5}', ("leverage", "leverage_max")),
        ('{"name": "a", "zzz": 5}', ("zzz", "risk_profile")),
        ('{"name": "a", "leverage_max": 500, "min_confidence": 7}', ("leverage_max", "min_confidence")),
        ('{"target_assets": ["BTCUSDT"]}', ("name",)),
        ("[1]", ("JSON object",)),
        ("{", ("not JSON",)),
    ],
)
def test_a_faulty_strategy_is_refused_in_one_sentence_and_nothing_is_created(
    sparky: Sparky, fields: str, words: tuple[str, ...]
) -> None:
    done = sparky("strategy", "create", "--from-json", "-", stdin=fields)
    assert done.exit_code == 1
    assert done.stderr.startswith("sparky: ")
    assert done.stderr.count("\n") == 1
    assert all(word in done.stderr for word in words)
    assert sparky.json("strategy", "list") == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ("--symbols", "BTC-USDT"),
            "target_assets.0: must be written like BTCUSDT: 2 to 30 capital letters and digits.",
        ),
        (
            ("--symbols", "BTCUSDT,eth"),
            "target_assets.1: must be written like BTCUSDT: 2 to 30 capital letters and digits.",
        ),
        (("--symbols", ","), "target_assets: must name 1 to 100 symbols, such as BTCUSDT."),
        (("--exchange", "Aster!"), "exchange: must be written like aster: 2 to 30 small letters and digits."),
        (("--name", "[bold]x \x1b[31m"), "name: must be one line of visible characters."),
        (
            ("--model", "\x07"),
            "model: a model's name has letters, digits and . _ : / @ + - only: leave quotes and spaces away.",
        ),
    ],
)
def test_a_fault_is_told_once_in_our_words(sparky: Sparky, words: tuple[str, ...], sentence: str) -> None:
    given = words if "--name" in words else ("--name", "x", *words)
    assert sparky.refused("strategy", "create", *given) == f"The strategy cannot be created: {sentence}"


@pytest.mark.parametrize("words", [("--risk", "careful"), ("--adding", "sometimes")])
def test_a_word_that_an_option_does_not_take_is_told_without_a_librarys_prefix(
    sparky: Sparky, words: tuple[str, ...]
) -> None:
    done = sparky("strategy", "create", "--name", "x", *words)
    assert done.exit_code == 2
    assert words[1] in done.stderr
    assert "Value error" not in done.stderr


def test_a_file_that_is_not_there_is_one_sentence(sparky: Sparky) -> None:
    assert "nowhere.json cannot be read" in sparky.refused("strategy", "create", "--from-json", "nowhere.json")


def test_an_unknown_strategy_comes_with_a_suggestion(sparky: Sparky) -> None:
    sparky.ok("strategy", "create", "--name", "momentum")
    sparky.ok("strategy", "create", "--name", "mean-reversion")
    assert "did you mean momentum?" in sparky.refused("strategy", "start", "momentun")
    assert "did you mean momentum or mean-reversion?" in sparky.refused("strategy", "start", "m")
    assert "sparky strategy list" in sparky.refused("strategy", "start", str(uuid.uuid4()))


def test_a_second_strategy_of_the_same_name_is_refused(sparky: Sparky) -> None:
    sparky.ok("strategy", "create", "--name", "twin")
    assert "already a strategy called twin" in sparky.refused("strategy", "create", "--name", "twin")


def test_ending_a_strategy_asks_first(sparky: Sparky) -> None:
    sparky.ok("strategy", "create", "--name", "kept")
    assert sparky("strategy", "delete", "kept", stdin="n\n").exit_code == 1
    assert sparky.json("strategy", "show", "kept")["status"] == "paused"


def test_tables_say_so_when_there_is_nothing(sparky: Sparky) -> None:
    assert "There are no strategies" in sparky.ok("strategy", "list")
    assert "Nothing has been decided yet" in sparky.ok("decisions", "list")
    assert "No such signal" in sparky.ok("signals", "list")
    assert "Nothing is held" in sparky.ok("positions")
    assert "Nothing has been closed yet" in sparky.ok("trades")
    for words in (("decisions", "list"), ("signals", "list"), ("positions",), ("trades",)):
        assert sparky.json(*words) == []


def test_a_restart_needs_a_running_sparky(sparky: Sparky) -> None:
    sparky.ok("strategy", "create", "--name", "idle")
    assert "idle is paused and has no process" in sparky.refused("strategy", "restart", "idle")
    sparky.ok("strategy", "start", "idle")
    assert "not running" in sparky.refused("strategy", "restart", "idle")


def test_migrating_a_current_database_does_nothing(sparky: Sparky) -> None:
    assert sparky.ok("migrate") == "The schema is current; nothing to do.\n"
    assert sparky.json("migrate") == {"applied": []}


def test_a_database_without_our_schema_is_told_what_to_do(sparky: Sparky, empty_database_url: str) -> None:
    sparky.environment["DATABASE_URL"] = empty_database_url
    assert "sparky migrate" in sparky.refused("strategy", "list", code=78)
    assert sparky.json("migrate")["applied"]
    assert sparky.json("strategy", "list") == []


def test_a_database_that_is_down_is_one_sentence_without_its_password(sparky: Sparky) -> None:
    sparky.environment["DATABASE_URL"] = "postgresql://me:hunter2hunter2@127.0.0.1:1/nothing"
    assert "hunter2" not in sparky.refused("strategy", "list")


def test_the_table_shows_what_the_json_says(sparky: Sparky, store: Store) -> None:
    sparky.ok("strategy", "create", "--name", "shown", "--capital", "12345.6")
    shown = sparky.ok("strategy", "list")
    assert "shown" in shown
    assert "paused" in shown
    assert [row.name for row in store.list_strategies()] == ["shown"]


def test_a_strategy_of_a_new_person_says_so_and_needs_an_address(sparky: Sparky) -> None:
    assert "no e-mail address" in sparky.refused("strategy", "create", "--name", "a", "--user", "somebody")
    first = sparky("strategy", "create", "--name", "a", "--user", "a@b.c")
    assert (first.exit_code, first.stderr) == (0, "a@b.c is a new person here.\n")
    assert sparky("strategy", "create", "--name", "b", "--user", "a@b.c").stderr == ""


def test_a_live_strategy_is_made_only_where_live_trading_has_been_tested(sparky: Sparky) -> None:
    told = sparky.refused("strategy", "create", "--name", "real", "--live", "--exchange", "kraken")
    assert "Live trading at kraken has not been tested" in told
    assert sparky.json("strategy", "list") == []
    sparky.ok("strategy", "create", "--name", "paper", "--exchange", "kraken")
    assert (
        sparky.json("strategy", "create", "--name", "real", "--live", "--exchange", "binance")["exchange"] == "binance"
    )


@pytest.mark.parametrize(
    ("market", "exchange"), [("", "aster"), ("simulator", "aster"), ("aster", "aster"), ("binance", "binance")]
)
def test_a_strategy_trades_at_the_market_of_the_settings_unless_it_names_another(
    sparky: Sparky, market: str, exchange: str
) -> None:
    sparky.environment["SPARKY_MARKET"] = market
    assert sparky.json("strategy", "create", "--name", "a")["exchange"] == exchange
    assert sparky.json("strategy", "create", "--name", "b", "--exchange", "okx")["exchange"] == "okx"


def test_the_exchange_that_a_file_names_wins_over_the_market_of_the_settings(sparky: Sparky, tmp_path: Path) -> None:
    sparky.environment["SPARKY_MARKET"] = "binance"
    path = tmp_path / "s.json"
    path.write_text('{"name": "from a file", "exchange": "aster"}')
    assert sparky.json("strategy", "create", "--from-json", str(path))["exchange"] == "aster"
