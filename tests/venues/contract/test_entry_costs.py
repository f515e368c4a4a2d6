"""What an entry would cost is known before its order: a wide, thin, old or remote market is not entered into, and is
always left."""

import threading
import time
from decimal import Decimal
from typing import Any

import pytest

from engine.domain.positions import Side
from simulator.venue.book_config import BookConfig
from tests.venues.conftest import VENUE_TIMEOUT_S, Floor
from tests.venues.contract.test_exits_beside_slow_answers import hanging

BOOKS = ["production", "paper"]


def orders_sent(floor: Floor) -> int:
    """How many orders the account has ever had at the venue."""
    return sum(len(account.orders) for account in floor.exchange._accounts.values())


def refused_everywhere(floor: Floor, *wishes: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Each of `wishes` of how the market is quoted, with the data of the refusal, live and on paper."""
    told = []
    for wish in wishes:
        floor.quote_as(reset=True, **wish)
        told += [(wish, refused(floor, environment=environment)) for environment in BOOKS]
    return told


def refused(floor: Floor, **fields: Any) -> dict[str, Any]:
    """The data of a refusal by a limit, of an entry that sent nothing."""
    sent = orders_sent(floor)
    told = floor.send(**fields)
    assert told["status"] == 429, told
    assert orders_sent(floor) == sent
    data: dict[str, Any] = told["data"]
    return data


def test_a_spread_of_8_percent_is_not_bought_and_not_sold(floor: Floor) -> None:
    floor.quote_as(spread_percent=8)
    for environment in BOOKS:
        for action in ("buy", "sell"):
            data = refused(floor, environment=environment, action=action)
            assert (data["limitType"], data["limit"]) == ("max_spread", 1)
            assert data["current"] == pytest.approx(8, abs=0.01)


def test_paper_and_live_answer_the_same_to_the_same_refused_entry(floor: Floor) -> None:
    for wish in ({"spread_percent": 8}, {"level_quantity": "0.001", "level_step_percent": 5}, {"book_age_s": 90}):
        floor.quote_as(reset=True, **wish)
        told = [floor.send(environment=each) for each in BOOKS]
        live, paper = ({**each, "duration": 0, "signal_id": ""} for each in told)
        assert live == paper
        assert live["status"] == 429


def test_a_thin_book_is_not_bought_through_and_one_that_ends_is_not_bought(floor: Floor) -> None:
    thin = {"level_quantity": "0.002", "level_step_percent": 1, "fills_through": True}
    ends = {"level_quantity": "0.001", "max_levels": 3}
    for wish, data in refused_everywhere(floor, thin, ends):  # 0.009, of which 2 at each of 0, 1, 2, 3 %
        assert (data["limitType"], data["limit"]) == ("max_slippage", 1)
        assert data["current"] is None if wish is ends else 1 < data["current"] < 3


@pytest.mark.parametrize("environment", BOOKS)
def test_levels_beyond_the_first_fifty_are_looked_at_before_a_large_entry_is_refused(
    floor: Floor, environment: str
) -> None:
    floor.quote_as(level_quantity="0.001", fills_through=True)
    told = floor.send(environment=environment, size=2_800)
    assert told.get("action") == "opened", told
    assert told["quantity"] == pytest.approx(0.099)


@pytest.mark.parametrize("environment", BOOKS)
def test_a_size_that_a_limit_has_cut_is_judged_by_what_is_sent(floor: Floor, environment: str) -> None:
    floor.quote_as(level_quantity="0.003", level_step_percent=20)
    owner = floor.strategy(max_position_usd=70, is_paper_trading=environment == "paper")
    told = floor.send(strategy_id=owner)
    assert (told.get("action"), told["quantity"]) == ("opened", 0.002)


def test_a_quote_whose_time_stands_still_or_is_not_known_is_not_bought(floor: Floor) -> None:
    for _, data in refused_everywhere(
        floor, {"book_age_s": 90}, {"book_age_s": -90}, {"mark_age_s": 90}, {"times_hidden": True}
    ):
        assert (data["limitType"], data["limit"]) == ("stale_quote", 30)


def test_a_market_far_from_the_mark_price_is_not_bought(floor: Floor) -> None:
    for wish, data in refused_everywhere(floor, {"mark_percent": 5}, {"mark_percent": -5}, {"mark_hidden": True}):
        assert (data["limitType"], data["limit"]) == ("mark_distance", 3)
        assert data["current"] == (pytest.approx(5, abs=0.3) if "mark_percent" in wish else None)


def test_a_book_without_a_side_or_crossed_is_not_bought(floor: Floor) -> None:
    empty = [{"empty_side": side} for side in ("asks", "bids", "both")]
    for _, data in refused_everywhere(floor, *empty, {"spread_percent": -1}):
        assert data["limitType"] == "max_spread"


def test_a_venue_that_does_not_tell_its_book_is_a_503_and_no_order(floor: Floor) -> None:
    floor.misbehave({"kind": "status", "status": 503, "path": "/depth", "times": 2})
    assert [floor.send(environment=each)["status"] for each in BOOKS] == [503, 503]
    assert orders_sent(floor) == 0


@pytest.mark.parametrize("environment", BOOKS)
def test_exits_are_made_whatever_the_market_costs(floor: Floor, environment: str) -> None:
    for wish in ({"spread_percent": 8}, {"mark_percent": 50}, {"book_age_s": 900}, {"level_quantity": "0.001"}):
        floor.quote_as(reset=True)
        assert floor.send(environment=environment)["action"] == "opened"
        floor.quote_as(**wish)
        told = floor.send(action="close", environment=environment)
        assert (told.get("action"), told.get("remaining_quantity")) == ("closed", 0), told


@pytest.mark.parametrize("environment", BOOKS)
def test_a_reversal_at_a_spread_of_8_percent_closes_and_does_not_open(floor: Floor, environment: str) -> None:
    floor.send(environment=environment)
    floor.quote_as(spread_percent=8)
    told = floor.send("r", action="sell", environment=environment)
    assert (told["status"], told.get("action")) == (200, "closed"), told
    assert told["entryRefused"]["data"]["limitType"] == "max_spread"
    assert "usd" in told["pnl"]
    assert floor.booked() == 0
    assert floor.send("r", action="sell", environment=environment) == told
    assert floor.sql("select status from webhook_requests where request_id = 'r'") == [("booked",)]


@pytest.mark.parametrize("environment", BOOKS)
@pytest.mark.parametrize("step", ["book_fill", "finish_booked_request"])
def test_a_reversal_broken_off_between_its_exit_and_the_refusal_of_its_entry_is_told_once(
    floor: Floor, monkeypatch: pytest.MonkeyPatch, environment: str, step: str
) -> None:
    floor.send(environment=environment)
    floor.quote_as(spread_percent=8)
    store = type(floor.store)
    done = getattr(store, step)

    def dies_after(*given: Any, **named: Any) -> Any:
        if step == "book_fill":
            done(*given, **named)
        raise RuntimeError("killed here")

    monkeypatch.setattr(store, step, dies_after)
    assert floor.send("r", action="sell", environment=environment)["status"] == 500
    monkeypatch.undo()
    told = floor.send("r", action="sell", environment=environment)
    assert (told["status"], told.get("action")) == (200, "closed"), told
    assert told["entryRefused"]["data"]["limitType"] == "max_spread"
    assert floor.sql("select kind, count(*)::int from fills group by kind order by kind") == [("close", 1), ("open", 1)]
    assert floor.booked() == 0
    assert len(floor.store.list_trades()) == 1
    assert orders_sent(floor) == (2 if environment == "production" else 0)


def test_a_reversal_whose_venue_tells_no_book_is_closed_at_once_and_opens_when_it_does(floor: Floor) -> None:
    floor.send()
    floor.misbehave({"kind": "status", "status": 503, "path": "/depth", "times": 1})
    assert floor.send("r", action="sell")["status"] == 503
    assert floor.net() == 0
    assert floor.send("r", action="sell")["action"] == "opened"
    assert floor.net() == Decimal("-0.010")
    floor.check_books()


def test_a_stop_fires_on_paper_and_live_though_the_book_is_wide_old_and_has_one_side(floor: Floor) -> None:
    for environment in BOOKS:
        floor.send(environment=environment, stop_loss_percent=2)
    floor.quote_as(empty_side="asks", book_age_s=900, mark_percent=50)
    floor.direct(jump_percent=-5)
    floor.server.mark_to_market.run_once()
    floor.server.protection_watchdog.run()
    assert {trade.exit_reason for trade in floor.store.list_trades()} == {"stop_loss"}
    assert floor.store.list_open_positions() == ()


def test_an_exit_does_not_wait_for_a_venue_that_tells_its_book_late(floor: Floor) -> None:
    floor.send()
    answers: list[dict[str, Any]] = []
    owner = floor.strategy(capital_usd=10_000)  # the exit takes turns with its entries
    with hanging(floor, "/depth", lambda: answers.append(floor.send(strategy_id=owner))):
        told = floor.send(action="close")
        assert told.get("action") == "closed", told
        assert answers == []  # the entry still waits for the book
    floor.check_books()


@pytest.mark.parametrize("environment", BOOKS)
def test_the_strictest_of_person_and_strategy_counts(floor: Floor, environment: str) -> None:
    def limit(columns: str, **strategy: Any) -> Any:
        floor.sql("delete from trade_settings_exchange")
        floor.sql(
            f"insert into trade_settings_exchange (user_id, exchange, {columns.partition('=')[0]}) "  # noqa: S608
            f"values (%s, %s, {columns.partition('=')[2]})",
            floor.user_id,
            floor.simulated.name,
        )
        owner = floor.strategy(is_paper_trading=environment == "paper", **strategy)
        return refused(floor, strategy_id=owner)["limit"]

    floor.quote_as(spread_percent=30)
    assert limit("max_spread_percent=10") == 10
    assert limit("max_spread_percent=10", max_spread_percent=5) == 5
    assert limit("max_spread_percent=0.5", max_spread_percent=5) == 0.5
    assert limit("max_slippage_percent=10", max_spread_percent=20) == 20
    floor.quote_as(reset=True, level_quantity="0.001", level_step_percent=20)
    assert limit("max_slippage_percent=10") == 10
    assert limit("max_slippage_percent=10", max_slippage_percent=5) == 5


def test_a_wider_limit_of_a_person_lets_a_wide_market_be_bought(floor: Floor) -> None:
    floor.quote_as(spread_percent=8)
    owner = floor.strategy(max_spread_percent=10, max_slippage_percent=10)
    assert floor.send(strategy_id=owner)["action"] == "opened"


def test_paper_and_live_pay_the_same_levels_of_a_thin_book(floor: Floor) -> None:
    floor.quote_as(level_quantity="0.004", level_step_percent=0.2, fills_through=True)
    live, paper = (floor.send(environment=each) for each in BOOKS)
    assert live["quantity"] == paper["quantity"]
    assert live["fill_price"] <= paper["fill_price"] <= live["fill_price"] * 1.0003
    assert live["quantity"] * live["fill_price"] <= 280
    assert paper["quantity"] * paper["fill_price"] <= 280
    (fill,) = floor.sql("select price from fills where not is_paper")
    assert fill[0] > Decimal("28001.4")


def test_the_book_counts_where_the_ticker_disagrees_with_it(floor: Floor) -> None:
    floor.quote_as(ticker_percent=-40)
    told = floor.send(environment="paper")
    assert told["fill_price"] > 28_000
    assert told["side"] == Side.LONG.value


def jumps(floor: Floor, monkeypatch: pytest.MonkeyPatch, step: str, percent: float) -> None:
    """The price jumps while the venue answers to a change of `step`."""
    done = getattr(floor.exchange, step)

    def slow(*given: Any, **named: Any) -> Any:
        floor.exchange.get_market("BTCUSDT").jump(floor.exchange.clock.now_ms(), percent)
        return done(*given, **named)

    monkeypatch.setattr(floor.exchange, step, slow)


def test_an_entry_is_judged_at_a_book_of_after_its_leverage_was_set(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    jumps(floor, monkeypatch, "set_leverage", 8)
    told = floor.send("a", leverage=3)
    assert (told["action"], told["quantity"]) == ("opened", 0.009)
    assert told["quantity"] * told["fill_price"] <= 280
    told = floor.send("b", action="sell", leverage=4, stop_loss_percent=2)
    assert told["quantity"] * told["fill_price"] <= 280
    floor.check_books()


def test_a_market_that_goes_while_leverage_is_set_is_not_entered(floor: Floor, monkeypatch: pytest.MonkeyPatch) -> None:
    done = floor.exchange.set_leverage

    def slow(*given: Any, **named: Any) -> Any:
        floor.exchange.book_configs["BTCUSDT"] = BookConfig(spread_percent=8)
        return done(*given, **named)

    monkeypatch.setattr(floor.exchange, "set_leverage", slow)
    assert refused(floor, leverage=3)["limitType"] == "max_spread"


def test_an_entry_that_waited_for_its_account_is_not_sent_at_a_price_of_then(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    floor.send("a")  # leverage is remembered
    executor = floor.server.protection_watchdog._executor
    executor.max_order_delay_s = 0.1
    store, is_held, helpers = type(floor.store), threading.Event(), []
    done = store.mark_request_submitted

    def holds_the_account() -> None:
        with floor.account._lock:  # type: ignore[attr-defined]
            is_held.set()
            time.sleep(2 * executor.max_order_delay_s)

    def submitted(*given: Any, **named: Any) -> Any:
        helpers.append(threading.Thread(target=holds_the_account))
        helpers[0].start()
        assert is_held.wait(VENUE_TIMEOUT_S)
        return done(*given, **named)

    monkeypatch.setattr(store, "mark_request_submitted", submitted)
    told = floor.send("b")
    helpers[0].join()
    assert told["status"] == 503, told
    assert orders_sent(floor) == 1
    monkeypatch.undo()
    executor.max_order_delay_s = floor.wait_limits.order_delay_s
    assert floor.send("b")["action"] == "opened"
    floor.check_books()


@pytest.mark.parametrize("is_paper", [True, False])
def test_an_isolated_entry_that_the_mark_price_would_liquidate_at_once_is_refused(
    floor: Floor, *, is_paper: bool
) -> None:
    def told(mode: str, leverage: int, action: str = "buy") -> dict[str, Any]:
        owner = floor.strategy(margin_mode=mode, leverage_max=50, is_paper_trading=is_paper)
        return floor.send(strategy_id=owner, leverage=leverage, action=action)

    floor.quote_as(mark_percent=-2.8)
    assert told("isolated", 50)["action"] == "rejected"
    assert "mark price" in told("isolated", 50)["reason"]
    assert orders_sent(floor) == 0
    floor.quote_as(mark_percent=2.8)
    assert told("isolated", 50, "sell")["action"] == "rejected"
    assert told("isolated", 5)["action"] == "opened"


def test_the_mark_price_counts_with_the_margin_mode_that_the_account_has(floor: Floor) -> None:
    floor.quote_as(mark_percent=-2.8)
    floor.arrange(isolated=["BTCUSDT"])
    assert floor.send(leverage=50)["action"] == "rejected"
    floor.arrange(isolated=[])
    assert floor.send(leverage=50)["action"] == "opened"
