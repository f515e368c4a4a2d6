"""The exit of one position in two legs: their sums and their P&L."""

from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.positions import Side
from engine.store.venue_record import RequestFill
from engine.store.webhook_rows import BookedFill, Fill
from tests.support.factories.entry_values import position
from webhook_server.execution.exit_legs import ExitResult, combine_fills

TRADE = UUID("00000000-0000-4000-8000-000000000005")
LOTS = st.decimals("0.001", "50", places=3)
PRICES = st.decimals("0.1", "100000", places=1)


def build_row(**fields: Any) -> RequestFill:
    """The booked close of 0.01 BTCUSDT at 25,000."""
    given: dict[str, Any] = {
        "kind": "close",
        "exchange": "aster",
        "symbol": "BTCUSDT",
        "side": Side.LONG,
        "quantity": Decimal("0.01"),
        "price": Decimal(25_000),
        "fee_usd": Decimal("0.1"),
        "leverage": 1,
        "is_paper": False,
        "strategy_id": None,
        "order_id": "1000",
        "client_order_id": "sc-1",
        "position_id": None,
        "trade_id": None,
        "pnl_usd": None,
        "pnl_percent": None,
        "market_time_ms": None,
    }
    return RequestFill(**given | fields)


def build_fill(**fields: Any) -> Fill:
    return build_row(**fields).fill


def build_booked(pnl_usd: Decimal, pnl_percent: Decimal) -> BookedFill:
    return BookedFill(position_id=None, trade_id=TRADE, pnl_usd=pnl_usd, pnl_percent=pnl_percent)


@given(legs=st.lists(st.tuples(LOTS, PRICES), min_size=1, max_size=3), dust=st.none() | st.just(Decimal("0.0004")))
def test_legs_as_one_fill_lose_no_quantity_no_fee_and_no_value(
    legs: list[tuple[Decimal, Decimal]], dust: Decimal | None
) -> None:
    kinds = ("close", "rest", "rest")
    rows = [build_row(kind=kind, quantity=leg[0], price=leg[1]) for kind, leg in zip(kinds, legs, strict=False)]
    if dust is not None:
        rows.append(build_row(kind="dust", quantity=dust, fee_usd=Decimal(0)))
    one = combine_fills([build_row(kind="open", quantity=Decimal(9)), *rows])
    assert one is not None
    assert one.quantity == sum(quantity for quantity, _ in legs)
    assert one.fee_usd == Decimal("0.1") * len(legs)
    assert one.dust == dust
    assert min(price for _, price in legs) <= one.price <= max(price for _, price in legs)
    value = sum(quantity * price for quantity, price in legs)
    assert abs(one.quantity * one.price - value) < Decimal("1E-15")


def test_a_request_without_an_exit_has_no_such_fill_and_dust_alone_is_one() -> None:
    assert combine_fills([]) is None
    assert combine_fills([build_row(kind="open"), build_row(kind="undo")]) is None
    dust = combine_fills([build_row(kind="dust")])
    assert dust is not None
    assert dust.kind == "dust"


@given(first=LOTS, rest=LOTS, exits=st.tuples(PRICES, PRICES), entry=PRICES)
def test_the_percent_of_two_legs_is_that_of_all_they_closed(
    first: Decimal, rest: Decimal, exits: tuple[Decimal, Decimal], entry: Decimal
) -> None:
    """Each leg is booked with its own percent of its own cost."""
    usd = [(price - entry) * quantity for price, quantity in zip(exits, (first, rest), strict=True)]
    percents = [100 * (price - entry) / entry for price in exits]
    booked = [build_booked(*each) for each in zip(usd, percents, strict=True)]
    both, last = build_fill(quantity=first + rest), build_fill(kind="rest", quantity=rest)
    exit_ = ExitResult(both, position(quantity=first + rest), unbooked=last, booked=booked[0])
    pnl_usd, pnl_percent = exit_.calculate_pnl(booked[1])
    assert abs(pnl_usd - sum(usd)) < Decimal("1E-15")
    assert abs(pnl_percent - 100 * sum(usd) / (entry * (first + rest))) < Decimal("1E-12")


def test_the_percent_of_a_leg_and_of_dust_after_it_is_that_of_both() -> None:
    """The dust is no part of the fill's quantity."""
    first = build_fill(quantity=Decimal("0.009"))
    dust, booked = build_fill(kind="dust", quantity=Decimal("0.001")), build_booked(Decimal(9), Decimal(10))
    exit_ = ExitResult(first, position(quantity=Decimal("0.01")), unbooked=dust, booked=booked)
    assert exit_.calculate_pnl(build_booked(Decimal(0), Decimal(0))) == (Decimal(9), Decimal(9))


def test_an_exit_of_one_leg_has_the_result_of_that_leg() -> None:
    fill = build_fill()
    booked = ExitResult(fill, position(), None, build_booked(Decimal(3), Decimal(5)))
    assert booked.calculate_pnl(None) == (Decimal(3), Decimal(5))
    unbooked = ExitResult(fill, position(), fill)
    assert unbooked.calculate_pnl(build_booked(Decimal(3), Decimal(5))) == (Decimal(3), Decimal(5))


@pytest.mark.parametrize(
    ("quantity", "dust", "is_complete"),
    [("0.02", None, True), ("0.019", None, False), ("0.0195", "0.0005", True), ("0.019", "0.0005", False)],
)
def test_an_exit_is_complete_with_its_dust(quantity: str, dust: str | None, *, is_complete: bool) -> None:
    fill = build_fill(quantity=Decimal(quantity)).model_copy(update={"dust": None if dust is None else Decimal(dust)})
    assert ExitResult(fill, position(), fill).is_complete is is_complete
