"""Signs and sides of positions."""

import pytest

from engine.domain.positions import Side, get_opposite_side, get_sign


@pytest.mark.parametrize(("side", "sign", "other"), [(Side.LONG, 1, Side.SHORT), (Side.SHORT, -1, Side.LONG)])
def test_a_long_is_positive_and_the_other_side_is_a_short(side: Side, sign: int, other: Side) -> None:
    assert (get_sign(side), get_opposite_side(side)) == (sign, other)
    assert get_sign(side) == -get_sign(get_opposite_side(side))
