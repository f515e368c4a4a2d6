"""Whose a payment of funding is: by what was held at its moment, and by what of that has been closed since."""

from collections.abc import Sequence
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.decimals import total
from engine.domain.positions import Side
from engine.store.funding import CurrentPosition, FundingFacts, PositionFill
from webhook_server.background.funding_allocation import HOUR_MS, PaymentSplit, split_payment

HOUR = 472_000 * HOUR_MS
A, B = UUID(int=1), UUID(int=2)
USD = Decimal("-1.23456789")


def fill(position: UUID, at_ms: int, quantity: str, *, closes: bool = False, side: Side = Side.LONG) -> PositionFill:
    return PositionFill(
        fill_id=at_ms,
        position_id=position,
        trade_id=uuid4() if closes else None,
        is_entry=not closes,
        side=side,
        quantity=Decimal(quantity),
        at_ms=at_ms,
    )


def facts(*fills: PositionFill, others: str = "0", held: Sequence[CurrentPosition] | None = None) -> FundingFacts:
    """The books after `fills`; what is left of each position is held."""
    sizes: dict[UUID, tuple[Side, Decimal]] = {}
    for each in fills:
        size = sizes.get(each.position_id, (each.side, Decimal(0)))[1]
        sizes[each.position_id] = (each.side, total((size, each.size_change)))
    left = tuple(
        CurrentPosition(position_id=key, side=side, quantity=size, since_ms=0)
        for key, (side, size) in sizes.items()
        if size
    )
    return FundingFacts(
        held=left if held is None else tuple(held),
        fills=tuple(sorted(fills, key=lambda each: each.at_ms)),
        others_net=Decimal(others),
        is_unsettled=False,
        last_fill_id=0,
    )


def by_position(division: PaymentSplit) -> dict[UUID, Decimal]:
    return {each.position_id: each.usd for each in division.shares}


def test_opposite_positions_bear_more_than_the_whole_and_less_than_nothing() -> None:
    found = split_payment(Decimal(10), HOUR, facts(fill(A, HOUR - 9, "3"), fill(B, HOUR - 5, "1", side=Side.SHORT)))
    assert by_position(found) == {A: Decimal(15), B: Decimal(-5)}


def test_what_others_hold_bears_its_own_part() -> None:
    found = split_payment(Decimal(10), HOUR, facts(fill(A, HOUR - 9, "3"), others="-1"))
    assert (by_position(found), found.others_usd) == ({A: Decimal(15)}, Decimal(-5))


@pytest.mark.parametrize(
    ("opened_ms", "closed_ms", "told_ms"),
    [
        (-5_000, None, 0),
        (-5_000, 3_000, 5_000),  # held at the full hour, gone when the payment says that it was made
        (3_000, None, 5_000),  # opened within the venue's seconds after the hour
        (-5_000, 0, 0),  # closed in the same millisecond
        (0, None, 0),
        (1_800_000, None, 1_900_000),  # a payment beside the full hours
    ],
)
def test_a_payment_is_of_what_was_held_at_the_hour_or_when_it_says(
    opened_ms: int, closed_ms: int | None, told_ms: int
) -> None:
    fills = [fill(A, HOUR + opened_ms, "2")]
    if closed_ms is not None:
        fills.append(fill(A, HOUR + closed_ms, "2", closes=True))
    found = split_payment(USD, HOUR + told_ms, facts(*fills))
    assert by_position(found) == {A: USD}
    (share,) = found.shares
    assert share.held_usd == (USD if closed_ms is None else 0)
    assert total((share.held_usd, *share.trades.values())) == USD


def test_nothing_held_and_a_net_of_zero_explain_nothing() -> None:
    for own in (facts(), facts(fill(A, HOUR - 9, "1"), fill(B, HOUR - 9, "1", side=Side.SHORT))):
        found = split_payment(USD, HOUR, own)
        assert (found.shares, found.others_usd, found.is_explained) == ((), USD, False)


def test_what_was_closed_since_bears_its_part_and_the_rest_is_the_whole_less_that() -> None:
    closes = [fill(A, HOUR + 1, "1", closes=True), fill(A, HOUR + 3, "1", closes=True)]
    (share,) = split_payment(
        USD, HOUR, facts(fill(A, HOUR - 1, "3"), closes[0], fill(A, HOUR + 2, "4"), closes[1])
    ).shares
    first, second = (share.trades[each.trade_id] for each in closes if each.trade_id)
    assert first == Decimal("-0.4115226300000000000000000000")
    assert total((first, second, share.held_usd)) == USD
    assert abs(second * 6 - (USD - first)) < Decimal("1e-20")


def test_a_position_of_before_fills_were_kept_bears_its_part_too() -> None:
    held = CurrentPosition(position_id=A, side=Side.SHORT, quantity=Decimal(2), since_ms=HOUR - 1)
    assert by_position(split_payment(USD, HOUR, facts(held=[held]))) == {A: USD}
    assert split_payment(USD, HOUR - HOUR_MS, facts(held=[held])).shares == ()


moves = st.lists(
    st.tuples(st.sampled_from([A, B]), st.integers(1, 8_000), st.integers(-9, 9), st.integers(1, 10**6)), max_size=40
)


@given(moves, st.lists(st.integers(1, 365 * 24), min_size=1, max_size=30, unique=True), st.integers(-5, 5))
def test_over_a_year_the_parts_of_every_payment_are_the_payment(
    steps: list[tuple[UUID, int, int, int]], hours: list[int], others: int
) -> None:
    fills: list[PositionFill] = []
    now_ms, held = HOUR, {A: Decimal(0), B: Decimal(0)}
    for position, minutes, percent, lots in steps:
        now_ms += minutes * 60_000 + 1
        side = Side.LONG if position is A else Side.SHORT
        quantity = Decimal(lots).scaleb(-8)
        if percent < 0 < held[position]:
            quantity = min(held[position], (held[position] * -percent / 9).quantize(Decimal("1e-8")) or held[position])
            fills.append(fill(position, now_ms, str(quantity), closes=True, side=side))
            held[position] -= quantity
        elif percent >= 0:
            fills.append(fill(position, now_ms, str(quantity), side=side))
            held[position] += quantity
    own = facts(*fills, others=str(others))
    for hour in hours:
        found = split_payment(USD, HOUR + hour * HOUR_MS, own)
        assert total((found.others_usd, *(each.usd for each in found.shares))) == USD
        for each in found.shares:
            assert total((each.held_usd, *each.trades.values())) == each.usd
