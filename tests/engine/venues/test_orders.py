"""Client order ids: acceptable to every venue, always the same, never two alike, and known as ours afterwards."""

from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.risk.exit_quantities import MAX_PARTS
from engine.venues.orders import (
    PROTECTIVE_LETTERS,
    OrderLetter,
    OrderRequest,
    build_client_order_id,
    build_part_leg,
    is_own_order_id,
    is_protective_order_id,
)

SIGNALS = st.one_of(st.uuids(), st.text(max_size=200))
LEGS = st.builds(build_part_leg, st.sampled_from(OrderLetter), st.integers(0, MAX_PARTS))


@given(signal=SIGNALS, leg=LEGS)
def test_a_client_order_id_is_acceptable_to_the_venue_and_always_the_same(signal: UUID | str, leg: str) -> None:
    name = build_client_order_id(signal, leg)
    assert name == build_client_order_id(str(signal), leg)
    assert len(name) <= 36
    assert OrderRequest(client_order_id=name, symbol="X", is_buy=True, quantity=Decimal(1))


def test_two_signals_and_two_legs_have_different_order_ids() -> None:
    first, second = UUID(int=1), UUID(int=2)
    legs = [build_part_leg(letter, number) for letter in OrderLetter for number in range(MAX_PARTS + 1)]
    ids = {build_client_order_id(signal, leg) for signal in (first, second) for leg in legs}
    assert len(ids) == 2 * len(OrderLetter) * (MAX_PARTS + 1)


@given(signal=SIGNALS, leg=LEGS)
def test_every_order_of_ours_is_known_by_its_id(signal: UUID | str, leg: str) -> None:
    name = build_client_order_id(signal, leg)
    assert is_own_order_id(name)
    assert is_protective_order_id(name) is (leg in PROTECTIVE_LETTERS)


@pytest.mark.parametrize(
    "name", ["", "so-1", "stop-1", "autoclose-1", "ios_1", f"sx-{UUID(int=1).hex}", f"so-{UUID(int=1).hex}0"]
)
def test_orders_of_others_are_not_ours(name: str) -> None:
    assert not is_own_order_id(name)
    assert not is_protective_order_id(name)
