"""An exit that the venue's price band refuses now is made once the market is within it again."""

from decimal import Decimal

import pytest

from tests.venues.conftest import Floor
from tests.venues.instruments import change, check_agreement

BOOKS = pytest.mark.parametrize("environment", ["production", "paper"])


@BOOKS
def test_an_exit_outside_the_price_band_is_no_final_refusal(floor: Floor, environment: str) -> None:
    floor.send("a", environment=environment, stop_loss_percent=2)
    change(floor, multiplier_up="2", multiplier_down="0.99999")
    told = floor.send("c", action="close", environment=environment)
    assert told["status"] == 503, told
    assert len(floor.waiting()) == (1 if environment == "production" else 0)
    assert floor.booked() == Decimal("0.009")
    change(floor, multiplier_down="0.9")
    told = floor.send("c", action="close", environment=environment)
    assert (told["status"], told["action"], told["remaining_quantity"]) == (200, "closed", 0)
    check_agreement(floor)


@BOOKS
def test_an_exit_within_the_band_is_made(floor: Floor, environment: str) -> None:
    change(floor, multiplier_up="1.05", multiplier_down="0.95")
    floor.send("a", environment=environment, action="sell")
    assert floor.send("c", action="close", environment=environment)["action"] == "closed"


def test_an_exit_in_parts_that_leaves_the_band_in_the_middle_goes_on_later(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    floor.send("a", stop_loss_percent=2)
    change(floor, market_lot={"most": "0.004"})
    done, sent = floor.exchange.place, []

    def leaves_after_one(user: str, given: dict[str, str]) -> object:
        sent.append(given)
        if len(sent) == 2:
            floor.exchange.rules("BTCUSDT").multiplier_down = Decimal("0.99999")
        return done(user, given)

    monkeypatch.setattr(floor.exchange, "place", leaves_after_one)
    assert floor.send("c", action="close")["status"] == 503
    assert floor.net() == Decimal("0.005")
    monkeypatch.undo()
    change(floor, multiplier_down="0.9")
    assert floor.send("c", action="close")["action"] == "closed"
    assert floor.net() == 0
    floor.check_books()
