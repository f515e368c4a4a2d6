import uuid
from decimal import Decimal
from typing import Any

import pytest

from engine.admin.strategy_checks import NewStrategy
from engine.domain.decision import Action
from engine.domain.positions import Side
from engine.domain.signal import SignalOutcome
from engine.domain.strategy import StrategyStatus
from engine.store.cycles import CallRecord, DecisionRecord, DeliveryOutcome
from engine.store.store import Store
from engine.store.webhook_rows import Fill
from tests.cli.conftest import Sparky
from tests.support.clients.sql import Sql
from tests.support.factories.signals import new_signal

DECISION = uuid.UUID("11111111-1111-4111-8111-111111111111")


@pytest.fixture
def traded(store: Store) -> Store:
    """One strategy that decided, signalled, opened half of which is closed."""
    user = store.ensure_user("a@example.org")
    new = NewStrategy(user_id=user, name="bold", status=StrategyStatus.RUNNING, target_assets=("BTCUSDT",))
    strategy = store.create_strategy(new)
    record = DecisionRecord(
        action=Action.LONG,
        symbol="BTCUSDT",
        size_usd=Decimal(200),
        confidence=0.8,
        reasoning="the trend is up",
        raw_answer='{"action": "LONG"}',
        model="m",
        market={"equity_usd": 100.5},
    )
    signal = new_signal(user, strategy.id, DECISION, size_usd=Decimal(200), confidence=0.8)
    store.record_decision(DECISION, strategy.id, record, signal)
    details: dict[str, Any] = {"user_id": user, "strategy_id": strategy.id, "exchange": "aster", "symbol": "BTCUSDT"}
    for number, (kind, quantity, price) in enumerate((("open", "2", "100"), ("close", "1", "110"))):
        request = f"r{number}"
        store.begin_execution(None, request, action="BUY", fingerprint=request, payload={}, is_paper=True, **details)
        fill = {"kind": kind, "quantity": Decimal(quantity), "price": Decimal(price), "fee_usd": Decimal("0.04")}
        filled = Fill.model_validate(
            fill
            | {
                "exchange": "aster",
                "symbol": "BTCUSDT",
                "side": Side.LONG,
                "is_paper": True,
                "strategy_id": strategy.id,
            }
        )
        store.book_fill(request, user, filled, 200, {"success": True})
    return store


def test_decisions_are_listed_and_one_is_shown_whole(sparky: Sparky, traded: Store) -> None:
    [row] = sparky.json("decisions", "list", "--strategy", "bold")
    assert (row["signal_action"], row["symbol"], row["confidence_score"]) == ("LONG", "BTCUSDT", 0.8)
    whole = sparky.json("decisions", "show", str(DECISION)[:8])
    assert whole["raw_answer"] == '{"action": "LONG"}'
    assert whole["market"] == {"equity_usd": 100.5}
    table = sparky.ok("decisions", "list")
    assert "LONG" in table
    assert "the trend is up" in table
    assert '| {"action": "LONG"}' in sparky.ok("decisions", "show", str(DECISION))


def test_a_decision_is_told_from_what_the_model_saw_to_what_it_earned(sparky: Sparky, store: Store) -> None:
    user = store.ensure_user("a@example.org")
    new = NewStrategy(user_id=user, name="bold", status=StrategyStatus.RUNNING, target_assets=("BTCUSDT",))
    strategy = store.create_strategy(new)
    candle = [1_700_000_000_000, 100.0, 101.0, 99.0, 100.5, 3.0]
    symbol = {"symbol": "BTCUSDT", "last_price": 100.5, "change_24h_percent": -1.5, "as_of_ms": 1_700_000_060_000}
    market = {
        "symbols": [
            symbol
            | {
                "candles": [candle],
                "filled": {"shown": [], "in_all": 4},
                "indicators": {"rsi_14": 44.1, "sma_50": None},
                "context": {"1h": None},
            }
        ],
        "no_data_close_only": ["ETHUSDT", "SOLUSDT"],
        "positions": [],
        "equity_usd": 10_000.0,
        "limits": {"max_position_usd": 1000.0, "entries_allowed": True},
        "risk_profile": "balanced",
    }
    bad = CallRecord(model="m", outcome="ok", latency_s=1.5, prompt_tokens=900, completion_tokens=9, answer="Hm, up?")
    record = DecisionRecord(
        action=Action.LONG,
        symbol="BTCUSDT",
        size_usd=Decimal(200),
        confidence=0.8,
        reasoning="the trend is up",
        raw_answer='{"action": "LONG"}',
        model="m",
        market=market,
        stop_loss_percent=2,
        cost_usd=Decimal("0.0004"),
        calls=(bad, CallRecord(model="m", outcome="ok", latency_s=1)),
        notes="<notes>\nPrefer longs.\n</notes>\n",
        system_sha256="0123456789abcdef",
    )
    signal = new_signal(user, strategy.id, DECISION, size_usd=Decimal(200), confidence=0.8)
    store.record_decision(DECISION, strategy.id, record, signal)
    store.claim_signals("dispatcher", 1, 30)
    store.record_delivery_outcomes(
        "dispatcher", [DeliveryOutcome(signal_id=DECISION, outcome=SignalOutcome.DELIVERED, status=200)]
    )
    for request, kind, quantity, price in ((str(DECISION), "open", "2", "100"), ("later", "close", "1", "110")):
        ids: dict[str, Any] = {"user_id": user, "strategy_id": strategy.id, "exchange": "aster", "symbol": "BTCUSDT"}
        store.begin_execution(None, request, action="BUY", fingerprint=request, payload={}, is_paper=True, **ids)
        fill = Fill(
            kind=kind,
            exchange="aster",
            symbol="BTCUSDT",
            side=Side.LONG,
            quantity=Decimal(quantity),
            price=Decimal(price),
            fee_usd=Decimal("0.04"),
            is_paper=True,
            strategy_id=strategy.id,
        )
        store.book_fill(request, user, fill, 200, {"success": True, "action": "opened"})
    text = sparky.ok("decisions", "show", str(DECISION)[:8])
    for line in (
        "the rules of the profile balanced (text 0123456789abcdef)",
        "Prefer longs.",
        "BTCUSDT at 100.5, -1.50 % in 24 h",
        "4 candles that the venue did not tell are filled with the last close",
        "rsi_14 44.1, sma_50 absent",
        "1h: no data",
        "no data, only to be closed: ETHUSDT, SOLUSDT",
        "held nothing; equity 10000.0 USD",
        "1. m ok in 1.50 s; 900 tokens (0 cached) in, 9 out",
        "| Hm, up?",
        '| {"action": "LONG"}',
        "LONG BTCUSDT for 200.00 USD, confidence 0.8, stop 2 %",
        "signal BUY BTCUSDT: delivered, 1 attempt",
        "delivered 200",
        "webhook server: booked, answered 200",
        "answer: action=opened, success=true",
        "fill: open LONG 2 BTCUSDT at 100, fee 0.04 USD (paper)",
        "still open: LONG 1 from 100",
        "trade: LONG 1 from 100 to 110, +9.94 USD after fees",
        "earned +9.94 USD",
    ):
        assert line in text
    whole = sparky.json("decisions", "show", str(DECISION))
    assert (whole["signal"]["status"], whole["request"]["answer"]["action"]) == ("delivered", "opened")
    assert Decimal(whole["trades"][0]["pnl_usd"]) == Decimal("9.94")


def test_a_hold_is_told_with_its_reason_and_without_a_signal(sparky: Sparky, store: Store) -> None:
    user = store.ensure_user("a@example.org")
    strategy = store.create_strategy(NewStrategy(user_id=user, name="bold"))
    record = DecisionRecord(action=Action.HOLD, reason="no JSON object in the answer", is_fault=True, raw_answer="Hm.")
    store.record_decision(DECISION, strategy.id, record, None)
    text = sparky.ok("decisions", "show", str(DECISION))
    assert "because no JSON object in the answer (counts as a fault of the strategy)" in text
    assert "no signal left it" in text


def test_signals_are_listed_by_status(sparky: Sparky, traded: Store) -> None:
    [row] = sparky.json("signals", "list", "--status", "pending")
    assert (row["action"], row["attempts"], row["payload"]["ai_confidence"]) == ("BUY", 0, 0.8)
    assert sparky.json("signals", "list", "--status", "delivered") == []
    assert sparky.json("signals", "show", row["id"][:8])["id"] == row["id"]
    assert "BUY" in sparky.ok("signals", "list")


def test_positions_and_trades_are_exact(sparky: Sparky, traded: Store) -> None:
    [held] = sparky.json("positions", "--strategy", "bold")
    assert (Decimal(held["quantity"]), held["side"]) == (Decimal(1), "LONG")
    [closed] = sparky.json("trades")
    assert Decimal(closed["pnl_usd"]) == Decimal("9.94")  # 10 less the exit fee and half of the entry fee
    assert "9.94" in sparky.ok("trades")
    assert "BTCUSDT" in sparky.ok("positions")


def test_an_average_is_shown_to_two_more_digits_than_prices_have_and_told_to_programs_in_all(
    sparky: Sparky, traded: Store, sql: Sql
) -> None:
    sql("update positions set entry_price = 3207.83955445545, current_price = 3190.25")
    sql("update trades set entry_price = 3207.83955445545, exit_price = 3190.25")
    for what in ("positions", "trades"):
        assert " 3207.8396 " in sparky.ok(what)
        assert sparky.json(what)[0]["entry_price"] == "3207.83955445545"
    sql("update positions set entry_price = 0.10004, current_price = 0.1")
    assert " 0.10004 " in sparky.ok("positions")


def test_a_stop_that_cannot_act_is_told_by_the_doctor(sparky: Sparky, traded: Store, sql: Sql) -> None:
    told = "the stop of LONG 1 BTCUSDT at 90 cannot act: it is liquidated at 95 before"
    sql("update positions set stop_loss_price = 90, liquidation_price = 89")
    assert told not in sparky("doctor", "--json").stdout
    sql("update positions set liquidation_price = 95")
    assert told in sparky("doctor", "--json").stdout


def test_a_signal_is_dropped_and_sent_again_by_hand(sparky: Sparky, traded: Store) -> None:
    name = str(DECISION)
    assert "dropped" in sparky.ok("signals", "drop", name[:8], "--reason", "not today")
    shown = sparky.json("signals", "show", name)
    assert (shown["status"], shown["last_reason"]) == ("dead", "not today")
    assert [(each["outcome"], each["reason"]) for each in shown["history"]] == [("dead", "not today")]
    assert "it is dead" in sparky.refused("signals", "drop", name)
    sparky.ok("signals", "retry", name, "--ttl", "30")
    assert sparky.json("signals", "show", name)["status"] == "pending"
    (claimed,) = traded.claim_signals("d", 5, 30)
    assert "being sent" in sparky.refused("signals", "drop", name)
    traded.record_delivery_outcomes(
        "d", [DeliveryOutcome(signal_id=claimed.id, outcome=SignalOutcome.DELIVERED, status=200)]
    )
    assert "was delivered" in sparky.refused("signals", "retry", name)


def test_kill_switches_are_set_shown_and_lifted(sparky: Sparky, traded: Store) -> None:
    sparky.ok("kill", "--reason", "too wild")
    sparky.ok("kill", "--strategy", "bold")
    rows = sparky.json("kill", "--user", "a@example.org")
    assert [(row["email"], row["strategy_name"], row["reason"]) for row in rows] == [
        (None, None, "too wild"),
        (None, "bold", None),
        ("a@example.org", None, None),
    ]
    for options in ([], ["--strategy", "bold"], ["--user", "a@example.org"]):
        sparky.ok("kill", *options, "--off")
    assert sparky.json("kill", "--show") == []
    assert "no person" in sparky.refused("kill", "--user", "x@example.org")


def test_closing_everything_says_what_it_could_not_close(sparky: Sparky, traded: Store) -> None:
    sparky.environment["WEBHOOK_URL"] = "http://127.0.0.1:9/webhook/ai-signal"
    done = sparky("kill", "--close-all", "--json")
    assert done.exit_code == 1
    assert '"outcome": "dead"' in done.stdout
    assert '"strategy_name": "bold"' in done.stdout
    assert [row.strategy_id for row in traded.list_kill_switches()] == [None]


@pytest.mark.parametrize("noun", ["decisions", "signals"])
def test_an_id_that_nobody_has_is_one_sentence(sparky: Sparky, noun: str) -> None:
    assert "begins with abcdef" in sparky.refused(noun, "show", "abcdef")
    assert "There is no" in sparky.refused(noun, "show", str(uuid.uuid4()))


def test_prices_of_eleven_places_are_shown_in_plain_digits(sparky: Sparky, store: Store) -> None:
    user = store.ensure_user("a@example.org")
    for number, (kind, quantity, price) in enumerate(
        (("open", "1e13", "1e-11"), ("open", "2e13", "2.5e-11"), ("close", "1000000000000.5", "3e-11"))
    ):
        request = f"r{number}"
        named: dict[str, Any] = {"exchange": "aster", "symbol": "TINYUSDT"}
        store.begin_execution(
            None, request, user, None, action="BUY", fingerprint=request, payload={}, is_paper=True, **named
        )
        fill = {"kind": kind, "quantity": Decimal(quantity), "price": Decimal(price), "fee_usd": Decimal("0.04")}
        filled = Fill.model_validate(fill | named | {"side": Side.LONG, "is_paper": True})
        store.book_fill(request, user, filled, 200, {"success": True})

    [held], [trade] = sparky.json("positions"), sparky.json("trades")
    tables = sparky.ok("positions") + sparky.ok("trades")

    assert (held["quantity"], held["entry_price"], held["current_price"]) == (
        "28999999999999.5",
        "0.00000000002",
        "0.00000000003",
    )
    assert (trade["quantity"], trade["exit_price"]) == ("1000000000000.5", "0.00000000003")
    for shown in ("28999999999999.5", "0.00000000002", "0.00000000003", "1000000000000.5"):
        assert shown in tables
    assert "E-" not in tables
