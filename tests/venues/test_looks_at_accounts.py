"""One look at an account: what is traded meanwhile is no difference, and what cannot be read hides nothing."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psycopg
import pytest

from engine.domain.errors import OrderContradictory, VenueUnavailable
from engine.venues.ccxt_client.request_weight import get_shared_limiter
from tests.support.clients.sql import Sql
from tests.venues.conftest import Floor
from tests.venues.instruments import change
from tests.venues.test_changes_at_the_venue import by_hand
from tests.venues.test_outside_ends import check_nothing_is_left, happen, look
from tests.webhook_server.conftest import until
from webhook_server.app import WebhookServer
from webhook_server.reconciliation.delisting import MAX_SETTLEMENT_CHECKS

STOP: dict[str, Any] = {"stop_loss_percent": 2}


class Between:
    """The floor's store, where `happens` just before a call of `name`."""

    def __init__(self, floor: Floor, name: str, happens: Any) -> None:
        self._floor, self._name, self._happens = floor, name, happens

    def __getattr__(self, name: str) -> Any:
        if name == self._name and self._happens is not None:
            happens, self._happens = self._happens, None
            happens()
        return getattr(self._floor.store, name)


@contextmanager
def after_a_restart(floor: Floor) -> Iterator[WebhookServer]:
    server = floor.build_another()
    yield server
    server.workers.shutdown()


def differences(floor: Floor) -> dict[str, str]:
    rows = floor.sql("select symbol, reason from reconciliation_differences where resolved_at is null")
    return {row[0]: row[1] for row in rows}


def unreadable(floor: Floor, symbol: str = "AAAUSDT") -> None:
    """A live position in a symbol that the venue does not list any more."""
    floor.sql(
        "insert into positions (user_id, exchange, symbol, side, quantity, entry_price, is_paper) "
        "values (%s, %s, %s, 'LONG', 1, 5, false)",
        floor.user_id,
        floor.simulated.name,
        symbol,
    )


def test_what_is_booked_between_a_look_and_its_report_is_no_difference(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = floor.strategy(), floor.strategy()
    floor.send(strategy_id=a)
    traded = Between(floor, "report_reconciliation", lambda: floor.send(strategy_id=b))
    monkeypatch.setattr(floor.server.reconciliation, "_store", traded)
    assert floor.server.reconciliation.run() == ()
    assert floor.send(strategy_id=b)["action"] == "opened"
    assert floor.server.reconciliation.run() == ()


def test_what_is_traded_while_the_record_is_read_is_no_difference(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = floor.strategy(), floor.strategy()
    floor.send(strategy_id=a)
    account, real = type(floor.account), type(floor.account).fetch_trades
    pending = [lambda: floor.send(strategy_id=b)]

    def trades(self: Any, *given: Any, **more: Any) -> Any:
        if pending:
            pending.pop()()
        return real(self, *given, **more)

    monkeypatch.setattr(account, "fetch_trades", trades)
    by_hand(floor, "SELL", floor.net() / 3)
    assert look(floor) == []
    assert look(floor) == []
    assert floor.booked() == floor.net()


def test_a_symbol_that_cannot_be_read_is_a_difference_with_its_reason_and_hides_no_other(floor: Floor) -> None:
    change(floor, list={"symbol": "AAAUSDT", "like": "BTCUSDT"})
    floor.send()
    unreadable(floor)
    by_hand(floor, "SELL", floor.net())
    (reason,) = look(floor)
    assert reason
    assert [each.symbol for each in floor.store.list_open_positions()] == ["AAAUSDT"]
    assert set(differences(floor)) == {"AAAUSDT"}
    assert floor.metric("reconciliation_differences") == 1


def test_a_symbol_that_is_not_listed_is_settled_and_hides_no_other(floor: Floor) -> None:
    floor.send()
    unreadable(floor)
    by_hand(floor, "SELL", floor.net())
    assert look(floor) == []
    assert {each.exit_reason for each in floor.store.list_trades()} == {"closed_at_venue"}
    for _ in range(MAX_SETTLEMENT_CHECKS - 1):  # a settlement may be shown late
        assert look(floor) == []
    assert floor.store.list_open_positions() == ()
    assert {each.exit_reason for each in floor.store.list_trades()} == {"delisted", "closed_at_venue"}


def test_a_fault_of_ours_in_one_symbol_hides_no_other(floor: Floor, monkeypatch: pytest.MonkeyPatch) -> None:
    floor.send()
    unreadable(floor)
    reconciler = floor.server.reconciliation._comparer._reconciler
    real = reconciler.reconcile

    def settle(user_id: UUID, exchange: str, symbol: str, *rest: Any, **more: Any) -> Any:
        if symbol == "AAAUSDT":
            raise ZeroDivisionError
        return real(user_id, exchange, symbol, *rest, **more)

    monkeypatch.setattr(reconciler, "reconcile", settle)
    by_hand(floor, "SELL", floor.net())
    assert look(floor) == ["it could not be compared: ZeroDivisionError"]
    assert [each.symbol for each in floor.store.list_open_positions()] == ["AAAUSDT"]


def test_an_account_that_was_not_read_keeps_its_differences(floor: Floor) -> None:
    floor.send()
    by_hand(floor, "BUY", floor.net())
    assert len(look(floor)) == 1
    floor.misbehave({"kind": "reset", "path": "positionRisk", "times": None})
    assert len(look(floor)) == 1
    assert floor.metric("reconciliation_differences") == 1
    floor.misbehave()
    by_hand(floor, "SELL", floor.booked())
    assert look(floor) == []
    assert floor.metric("reconciliation_differences") == 0


def test_a_venue_that_is_away_costs_a_look_two_answers_whatever_is_held(floor: Floor) -> None:
    for number in range(4):
        change(floor, is_read=number == 3, list={"symbol": f"AA{number}USDT", "like": "BTCUSDT"})
        unreadable(floor, f"AA{number}USDT")
    asked: list[str] = []

    def away(self: Any, symbol: str | None = None) -> Any:
        asked.append(symbol or "all")
        if symbol is None:
            return ()
        raise VenueUnavailable("timed out")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(floor.account), "fetch_positions", away)
        look(floor)
    assert len(asked) == 3
    assert len(differences(floor)) == 4


def test_marking_positions_and_booking_what_ended_do_not_wait_for_each_other(
    floor: Floor, sql: Sql, database_url: str
) -> None:
    """As marking does, the rows are locked in the order of their strategies, here with a pause between two of them."""
    small, large = sorted(floor.strategy() for _ in range(2))
    floor.send(strategy_id=large)
    floor.send(strategy_id=small)
    by_hand(floor, "SELL", floor.net())
    with psycopg.connect(database_url) as marking:
        marking.execute("select from positions where strategy_id = %s for update", [small])
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.append(floor.server.reconciliation.run()))
        thread.start()
        waits = "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
        until(lambda: bool(sql(waits)))
        marking.execute("select from positions where strategy_id = %s for update", [large])
        marking.rollback()
    thread.join()
    assert found == [()]
    assert floor.booked() == floor.net() == 0


def test_a_liquidation_fee_that_is_shown_after_the_trade_is_booked_once(floor: Floor) -> None:
    for each in (floor.strategy(), floor.strategy()):
        floor.send(strategy_id=each)
    happen(floor, income_lag_s=60)
    happen(floor, liquidate="BTCUSDT")
    assert look(floor) == []
    assert floor.booked() == 0
    floor.hands.now += 60
    for _ in range(3):
        assert look(floor) == []
    check_nothing_is_left(floor)
    fees = floor.sql("select sum(fee_usd), sum(pnl_usd) from fills where kind = 'close'")
    assert fees == floor.sql(
        "select sum(t.fees_usd) - (select sum(fee_usd) from fills where kind = 'open'), sum(t.pnl_usd) from trades t"
    )
    assert floor.sql("select sum(realized_pnl_usd) from strategy_ledger") == floor.sql(
        "select sum(pnl_usd) from trades"
    )


def test_a_late_liquidation_fee_of_a_part_is_booked_while_the_rest_is_held(floor: Floor) -> None:
    floor.send()
    happen(floor, income_lag_s=60)
    happen(floor, liquidate="BTCUSDT", quantity="0.002")
    assert look(floor) == []
    with after_a_restart(floor) as server:
        floor.hands.now += 60
        for _ in range(3):
            server.reconciliation.run()
    floor.send(action="close")
    check_nothing_is_left(floor)


def test_where_books_and_venue_agree_a_restart_and_our_own_trades_read_no_record(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    account, real = type(floor.account), type(floor.account).fetch_trades

    def trades(self: Any, symbol: str, **more: Any) -> Any:
        read.append(symbol)
        return real(self, symbol, **more)

    monkeypatch.setattr(account, "fetch_trades", trades)
    floor.send(**STOP)
    look(floor)
    floor.hands.now += 10
    floor.send(**STOP)
    look(floor)
    with after_a_restart(floor) as server:
        server.reconciliation.run()
    assert read == []
    by_hand(floor, "SELL", floor.net())
    floor.hands.now += 10
    by_hand(floor, "BUY", floor.booked())
    look(floor)
    assert read
    assert floor.booked() == 0


def test_one_list_of_waiting_orders_serves_all_positions_of_a_symbol(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        floor.send(strategy_id=floor.strategy(), **STOP)
    asked: list[str | None] = []
    account, real = type(floor.account), type(floor.account).fetch_open_orders

    def orders_open(self: Any, symbol: str | None = None) -> Any:
        asked.append(symbol)
        return real(self, symbol)

    monkeypatch.setattr(account, "fetch_open_orders", orders_open)
    floor.server.protection_watchdog.run()
    assert asked == ["BTCUSDT"]
    floor.account.cancel_order("BTCUSDT", floor.waiting()[-1].client_order_id or "")
    floor.server.protection_watchdog.run()
    assert len(floor.waiting()) == 3


def test_near_the_limit_questions_in_the_background_wait_and_exits_do_not(floor: Floor) -> None:
    floor.send(**STOP)
    backoff = get_shared_limiter(floor.venue_url)
    by_hand(floor, "SELL", floor.net() / 3)
    limit = backoff.state.limit
    backoff.set_limit(1)
    backoff.acquire(is_urgent=True)
    try:
        look(floor)
        floor.server.protection_watchdog.run()
        assert floor.booked() != floor.net()
        assert floor.send(action="close")["action"] == "closed"
    finally:
        backoff.set_limit(limit)
    assert floor.net() == 0
    assert look(floor) == []
    assert floor.booked() == floor.net() == 0


def test_one_order_that_is_unclear_does_not_make_its_venue_one_that_is_away(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        floor.send(strategy_id=floor.strategy(), **STOP)
    for order in floor.waiting():
        floor.account.cancel_order("BTCUSDT", order.client_order_id or "")
    account, real = type(floor.account), type(floor.account).find_order
    unclear: list[str] = []

    def order_by_client_id(self: Any, symbol: str, client_order_id: str) -> Any:
        if not unclear or client_order_id in unclear:
            unclear.append(client_order_id)
            raise OrderContradictory("it took the order and does not show it")
        return real(self, symbol, client_order_id)

    monkeypatch.setattr(account, "find_order", order_by_client_id)
    floor.server.protection_watchdog.run()
    assert len(floor.waiting()) == 1
