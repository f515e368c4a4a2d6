"""Which live positions orders that wait at the venue cannot protect: too large, netted away, or not traded."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, cast

import pytest

from engine.domain.positions import Position, Side
from engine.risk.exit_quantities import MAX_REST_USD
from engine.risk.protection_gaps import describe_too_small, fetch_net_quantity, find_protection_gap
from engine.venues.account_state import VenuePosition
from engine.venues.instrument import Instrument
from engine.venues.venue import LiveVenue
from tests.support.factories.entry_values import position

PRICE = Decimal(100)


@dataclass
class Account:
    """What a live account holds, by symbol: positive when long. `asked` counts the questions to the venue."""

    nets: dict[str, Decimal]
    asked: int = 0

    def fetch_positions(self, _: str | None = None) -> tuple[VenuePosition, ...]:
        self.asked += 1
        return tuple(
            VenuePosition(
                symbol=symbol,
                side=Side.LONG if net > 0 else Side.SHORT,
                quantity=abs(net),
                entry_price=PRICE,
                leverage=1,
                unrealized_pnl_usd=None,
            )
            for symbol, net in self.nets.items()
            if net
        )


def account(**nets: str) -> Account:
    return Account({symbol: Decimal(net) for symbol, net in nets.items()})


def instrument(**fields: Any) -> Instrument:
    listed = {"symbol": "BTCUSDT", "tick": Decimal("0.1"), "lot": Decimal("0.001"), "min_notional": Decimal(5)}
    return Instrument.model_validate(listed | fields)


def held(quantity: str, **fields: Any) -> Position:
    return position(quantity=Decimal(quantity), entry_price=PRICE, is_paper=False, **fields)


def gap(own: Position, listed: Instrument, venue: Account) -> str | None:
    return find_protection_gap(cast("LiveVenue", venue), own, listed)


def test_what_one_order_may_be_for_is_protected_without_a_question_to_the_account() -> None:
    venue = account()
    assert gap(held("2.0009"), instrument(max_quantity=Decimal(2)), venue) is None
    assert venue.asked == 0


def test_more_than_one_order_may_be_for_is_a_gap_that_tells_both_figures() -> None:
    found = gap(held("2.001"), instrument(max_quantity=Decimal(2)), account(BTCUSDT="2.001"))
    assert found == "one protective order may be for 2 of 2.001 held"


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize(("net", "is_covered"), [("0.04", False), ("0.039", True), ("0", True), ("-0.04", True)])
def test_below_the_least_notional_only_what_reduces_the_account_is_protected(
    side: Side, net: str, *, is_covered: bool
) -> None:
    """4 USD of a least of 5 can be sent only where they reduce; they are forgotten as dust only while it is traded."""
    sign = 1 if side is Side.LONG else -1
    halted = instrument(status="BREAK")
    found = gap(held("0.04", side=side), halted, account(BTCUSDT=str(sign * Decimal(net))))
    expected = "opposite positions of the account cover it, and it is not traded now (the venue's list: BREAK)"
    assert found == (expected if is_covered else None)


def test_what_is_too_little_to_be_worth_an_order_is_no_gap_while_the_symbol_is_traded() -> None:
    venue = account()
    assert gap(held("0.04"), instrument(), venue) is None
    assert venue.asked == 0


def test_a_value_below_a_large_least_notional_is_a_gap_where_it_is_worth_too_much_to_be_forgotten() -> None:
    listed = instrument(min_notional=MAX_REST_USD * 2)
    worth = MAX_REST_USD + 1
    found = gap(held(str(worth / PRICE)), listed, account())
    assert (
        found
        == f"opposite positions of the account cover it, and its {worth:.2f} USD are below the minimum notional of 500"
    )


def test_a_position_is_valued_at_the_price_of_now_rather_than_at_its_entry() -> None:
    listed = instrument(min_notional=Decimal(500))
    assert gap(held("4", current_price=Decimal(125)), listed, account()) is None
    assert "its 480.00 USD" in str(gap(held("4", current_price=Decimal(120)), listed, account()))


def test_the_net_of_an_account_is_signed_and_0_where_it_holds_nothing_of_the_symbol() -> None:
    venue = cast("LiveVenue", account(BTCUSDT="-2", ETHUSDT="3"))
    assert [fetch_net_quantity(venue, symbol) for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT")] == [-2, 3, 0]


def test_a_position_below_the_least_order_is_told_with_the_least_in_whole_lots() -> None:
    listed = instrument(min_quantity=Decimal("0.0015"))
    assert describe_too_small(held("0.0010"), listed) == "no order can be for 0.001 held: the minimum is 0.002"
