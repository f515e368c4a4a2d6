"""Signs and sides of positions."""

import pytest

from engine.domain.positions import Side, opposite_side, sign_of


@pytest.mark.parametrize(("side", "sign", "other"), [(Side.LONG, 1, Side.SHORT), (Side.SHORT, -1, Side.LONG)])
def test_a_long_is_positive_and_the_other_side_is_a_short(side: Side, sign: int, other: Side) -> None:
    assert (sign_of(side), opposite_side(side)) == (sign, other)
    assert sign_of(side) == -sign_of(opposite_side(side))
