"""What a person's word takes into the books: ends, parts, additions and turns, at true prices where they are known."""

import json
from decimal import Decimal

from tests.cli.conftest import Sparky, home, own_logging  # noqa: F401 - fixtures
from tests.support.clients.trading import PROTECTIVE
from tests.venues.conftest import Floor
from tests.venues.test_reconcile import (
    ADOPT,
    STOP,
    account_of,
    by_hand,
    cash,
    cash_at_venue,
    compared,
    named,
    sparky,  # noqa: F401 - a fixture
)


def test_a_position_closed_by_hand_ends_as_an_exit_at_its_true_price_and_fee(floor: Floor, sparky: Sparky) -> None:  # noqa: F811
    floor.send("a", **STOP, take_profit_percent=4)
    by_hand(floor, "SELL", "0.009")
    assert "--yes" in sparky.refused("reconcile", "BTCUSDT", "--adopt")
    sparky.ok(*ADOPT)
    assert floor.store.list_open_positions() == ()
    assert [trade.exit_reason for trade in floor.store.list_trades()] == ["adopted"]
    assert floor.waiting() == []
    floor.check_books()
    assert sparky.ok("reconcile", "BTCUSDT")
    assert compared(floor) == 0
    assert floor.send("b", **STOP)["action"] == "opened"
    floor.check_books()


def test_what_the_venue_holds_less_is_shared_over_the_strategies_on_the_side_of_the_net(
    floor: Floor,
    sparky: Sparky,  # noqa: F811
) -> None:
    one, two, three = named(floor, "one"), named(floor, "two"), named(floor, "three")
    floor.send("a", strategy_id=one, size=850, **STOP)  # 0.03
    floor.send("b", strategy_id=two, size=430, **STOP, take_profit_percent=4)  # 0.015
    floor.send("c", strategy_id=three, size=290, action="sell")  # 0.01
    net = floor.net()
    by_hand(floor, "SELL", "0.010")
    sparky.ok(*ADOPT)
    held = {str(each.strategy_id): each.quantity for each in floor.store.list_open_positions()}
    assert held == {one: Decimal("0.023"), two: Decimal("0.012"), three: Decimal("0.010")}
    assert floor.booked() == floor.net() == net - Decimal("0.010")
    protected = sorted((str(order.client_order_id), order.quantity) for order in floor.waiting())
    assert [quantity for _, quantity in protected if quantity == Decimal("0.023")] == [Decimal("0.023")]
    assert [quantity for _, quantity in protected if quantity == Decimal("0.012")] == [Decimal("0.012")] * 2
    assert {name for name, _ in protected} == {floor.order_id(name, leg) for name, leg in ("al", "bl", "bt")}
    assert cash(floor) == cash_at_venue(floor)


def test_what_was_added_by_hand_becomes_the_persons_own_position(floor: Floor, sparky: Sparky) -> None:  # noqa: F811
    floor.send("a", strategy_id=named(floor, "bold"))
    by_hand(floor, "BUY", "0.002")
    by_hand(floor, "BUY", "0.003")
    sparky.ok(*ADOPT)
    own = [each for each in floor.store.list_open_positions() if each.strategy_id is None]
    assert [(each.side, each.quantity, each.entry_price) for each in own] == [
        ("LONG", Decimal("0.005"), Decimal("28001.4"))
    ]
    assert floor.booked() == floor.net()
    assert floor.send(action="close")["action"] == "closed"
    assert floor.booked() == floor.net() == Decimal("0.009")
    assert cash(floor) == cash_at_venue(floor)


def test_protection_that_cannot_be_placed_anew_is_told_and_mended_by_the_server(floor: Floor, sparky: Sparky) -> None:  # noqa: F811
    floor.send("a", **STOP)
    by_hand(floor, "SELL", "0.004")
    floor.direct(refused_kinds=PROTECTIVE)
    done = sparky(*ADOPT)
    assert done.exit_code == 0
    assert "Not protected as before" in done.stderr
    floor.direct(refused_kinds=[])
    floor.server.protection_watchdog.run()
    assert [order.quantity for order in floor.waiting()] == [floor.net()]
    floor.check_books()


def test_what_was_added_by_hand_is_a_strategys_where_a_person_says_so(floor: Floor, sparky: Sparky) -> None:  # noqa: F811
    bold = named(floor, "bold")
    floor.send("a", strategy_id=bold, **STOP)
    by_hand(floor, "BUY", "0.002")
    sparky.ok(*ADOPT, "--strategy", "bold")
    (position,) = floor.store.list_open_positions()
    assert (str(position.strategy_id), position.quantity) == (bold, floor.net())
    floor.check_books()
    assert [order.quantity for order in floor.waiting()] == [floor.net()]


def test_a_position_that_was_there_before_is_opened_at_the_venues_entry_price(floor: Floor, sparky: Sparky) -> None:  # noqa: F811
    assert floor.account.fetch_positions() == ()
    holding = account_of(floor).get_holding("BTCUSDT")
    holding.amount, holding.entry_price = Decimal("-0.007"), Decimal("30123.45")
    assert compared(floor) == 1
    assert "entry price" in sparky("reconcile", "BTCUSDT").stdout
    sparky.ok(*ADOPT)
    (position,) = floor.store.list_open_positions()
    assert (position.side, position.quantity, position.entry_price) == ("SHORT", Decimal("0.007"), Decimal("30123.45"))


def test_a_position_turned_round_by_hand_ends_and_the_rest_is_opened(floor: Floor, sparky: Sparky) -> None:  # noqa: F811
    floor.send("a", strategy_id=named(floor, "bold"), **STOP)
    by_hand(floor, "SELL", "0.012")
    sparky.ok(*ADOPT)
    (position,) = floor.store.list_open_positions()
    assert (position.strategy_id, position.side, position.quantity) == (None, "SHORT", Decimal("0.003"))
    assert floor.waiting() == []
    assert cash(floor) == cash_at_venue(floor)


def test_what_the_record_does_not_explain_ends_at_the_last_price_and_the_plan_says_so(
    floor: Floor,
    sparky: Sparky,  # noqa: F811
) -> None:
    floor.send("a")
    account_of(floor).get_holding("BTCUSDT").amount = Decimal("0.004")
    told = json.loads(sparky("reconcile", "BTCUSDT", "--json").stdout)
    assert told["plan"]["exits"][0]["source"] == "last price"
    assert "last price" in sparky("reconcile", "BTCUSDT").stdout
    sparky.ok(*ADOPT)
    assert floor.booked() == floor.net() == Decimal("0.004")
    assert [trade.exit_price for trade in floor.store.list_trades()] == [Decimal(28_000)]


def test_a_persons_word_on_price_and_fee_wins(floor: Floor, sparky: Sparky) -> None:  # noqa: F811
    floor.send("a")
    by_hand(floor, "SELL", "0.009")
    sparky.ok(*ADOPT, "--price", "27000.5", "--fee", "0.25")
    (trade,) = floor.store.list_trades()
    assert trade.exit_price == Decimal("27000.5")
    (fee,) = floor.sql("select fee_usd from fills where kind = 'close'")
    assert fee == (Decimal("0.25"),)
    for wrong in ("0", "-1", "nan", "1e999", "ten"):
        assert sparky("reconcile", "BTCUSDT", "--adopt", "--yes", "--price", wrong).exit_code != 0


def test_what_is_closed_by_hand_after_an_adoption_is_booked_by_the_server(floor: Floor, sparky: Sparky) -> None:  # noqa: F811
    floor.send("a", strategy_id=named(floor, "bold"))
    by_hand(floor, "BUY", "0.002")
    by_hand(floor, "BUY", "0.004")
    assert compared(floor) == 1
    sparky.ok(*ADOPT)
    assert compared(floor) == 0
    by_hand(floor, "SELL", "0.015")
    assert compared(floor) == 0
    assert {trade.exit_reason for trade in floor.store.list_trades()} == {"closed_at_venue"}
    assert floor.store.list_open_positions() == ()
    assert cash(floor) == cash_at_venue(floor)


def test_what_the_server_has_booked_of_an_order_is_not_adopted_again(floor: Floor, sparky: Sparky) -> None:  # noqa: F811
    floor.send("a", strategy_id=named(floor, "bold"))
    by_hand(floor, "SELL", "0.012")
    assert compared(floor) == 1  # 0.009 of it are the exit of what was held, the rest is nobody's
    assert [trade.exit_reason for trade in floor.store.list_trades()] == ["closed_at_venue"]
    sparky.ok(*ADOPT)
    assert floor.booked() == floor.net() == Decimal("-0.003")
    assert cash(floor) == cash_at_venue(floor)


def test_a_stop_that_fired_unseen_is_booked_as_the_stop_and_not_as_adopted(floor: Floor, sparky: Sparky) -> None:  # noqa: F811
    floor.send("a", **STOP)
    floor.direct(jump_percent=-5)
    sparky.ok(*ADOPT)
    (trade,) = floor.store.list_trades()
    assert (trade.exit_reason, trade.exit_price) == ("stop_loss", Decimal(26_600))
    floor.check_books()
