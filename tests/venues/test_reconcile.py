"""`sparky reconcile`: what no rule explains is settled by a person's word, and the books then equal the venue."""

import json
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from engine.admin.strategy_checks import NewStrategy
from engine.domain.strategy import StrategyStatus
from engine.platform.errors import InvalidCommand
from simulator.venue.trading_account import Account
from simulator.venue.venue import SimulatedVenue
from tests.cli.conftest import Sparky, home, own_logging  # noqa: F401 - fixtures
from tests.support.factories.keys import ENCRYPTION_KEY
from tests.venues.conftest import Floor

STOP: dict[str, Any] = {"stop_loss_percent": 2}
ADOPT = ("reconcile", "BTCUSDT", "--adopt", "--yes")


def settled_environment(floor: Floor, home: Path, database_url: str) -> dict[str, str]:  # noqa: F811
    return {
        "SPARKY_HOME": str(home),
        "DATABASE_URL": database_url,
        "SPARKY_ENCRYPTION_KEY": ENCRYPTION_KEY.get_secret_value(),
        "SPARKY_MARKET": "aster",
        "SPARKY_MARKET_URL": floor.venue_url,
    }


@pytest.fixture
def sparky(floor: Floor, home: Path, database_url: str) -> Sparky:  # noqa: F811
    return Sparky(settled_environment(floor, home, database_url))


def account_of(floor: Floor) -> Account:
    return floor.exchange.get_account(*floor.exchange._accounts)


def by_hand(floor: Floor, side: str, quantity: object) -> None:
    """A market order by a person on the venue's page."""
    (user,) = floor.exchange._accounts
    order = {"symbol": "BTCUSDT", "side": side, "type": "MARKET", "quantity": str(quantity)}
    floor.exchange.place_order(user, order)


def compared(floor: Floor) -> int:
    """How many differences the server finds; what was booked a moment ago is compared as well."""
    floor.sql("update fills set created_at = created_at - interval '1 minute'")
    return len(floor.server.reconciliation.run())


def named(floor: Floor, name: str, *, is_paper: bool = False) -> str:
    row = {"user_id": floor.user_id, "name": name, "status": StrategyStatus.RUNNING, "is_paper_trading": is_paper}
    return str(floor.store.create_strategy(NewStrategy.from_input(row)).id)


def cash(floor: Floor) -> tuple[Decimal, Decimal]:
    """What the live fills in the books have cost and earned, and their fees: to compare with the venue's."""
    rows = floor.sql("select kind, side, quantity, price, fee_usd from fills where not is_paper")
    flow = sum(
        (
            (-1 if (kind == "open") is (side == "LONG") else 1) * quantity * price
            for kind, side, quantity, price, _ in rows
        ),
        Decimal(0),
    )
    return flow, sum((row[4] for row in rows), Decimal(0))


def cash_at_venue(floor: Floor) -> tuple[Decimal, Decimal]:
    fills = account_of(floor).fills
    flow = sum(((-1 if fill.order.is_buy else 1) * fill.quantity * fill.price for fill in fills), Decimal(0))
    return flow, sum((fill.commission for fill in fills), Decimal(0))


def test_without_a_difference_the_command_says_so_and_ends_with_0(floor: Floor, sparky: Sparky) -> None:
    floor.send("a")
    assert compared(floor) == 0
    assert "no open difference" in sparky.ok("reconcile")
    assert sparky.json("reconcile") == []


def test_an_open_difference_is_listed_with_the_command_that_settles_it(floor: Floor, sparky: Sparky) -> None:
    bold = named(floor, "bold")
    floor.send("a", strategy_id=bold)
    by_hand(floor, "BUY", "0.004")
    assert compared(floor) == 1
    done = sparky("reconcile")
    assert done.exit_code == 1
    for words in ("trader@example.org", "BTCUSDT", "aster", "0.009", "0.013", "+0.004", "bold", "LONG"):
        assert words in done.stdout
    assert "sparky reconcile BTCUSDT" in done.stdout
    (row,) = json.loads(sparky("reconcile", "--json").stdout)
    figures = [Decimal(row[field]) for field in ("booked", "at_venue", "difference")]
    assert figures == [Decimal("0.009"), Decimal("0.013"), Decimal("0.004")]
    assert row["held"][0]["strategy_name"] == "bold"
    assert sparky("reconcile", "--user", "trader@example.org").exit_code == 1
    assert "There is no person" in sparky.refused("reconcile", "--user", "nobody@example.org")


def test_looking_at_one_difference_shows_the_plan_and_changes_nothing(floor: Floor, sparky: Sparky) -> None:
    floor.send("a", **STOP)
    by_hand(floor, "SELL", "0.009")
    before = floor.sql("select * from fills"), floor.sql("select * from positions"), len(floor.waiting())
    done = sparky("reconcile", "BTCUSDT")
    assert done.exit_code == 1
    for words in ("27998.6", "SELL 0.009", "cancel", "--adopt"):
        assert words in done.stdout
    assert "--outside" not in done.stdout  # the venue holds nothing, so that nothing can be held there outside Sparky
    assert (floor.sql("select * from fills"), floor.sql("select * from positions"), len(floor.waiting())) == before
    told = json.loads(sparky("reconcile", "BTCUSDT", "--json").stdout)
    assert told["venue"]["net"] == "0"
    assert [Decimal(line["quantity"]) for line in told["plan"]["exits"]] == [Decimal("0.009")]
    assert told["plan"]["exits"][0]["source"] == "record"


def test_a_persons_own_business_is_noted_as_outside_and_entries_go_on(floor: Floor, sparky: Sparky) -> None:
    floor.send("a")
    by_hand(floor, "BUY", "0.005")
    assert compared(floor) == 1
    sparky.ok("reconcile", "BTCUSDT", "--outside", "--yes")
    assert floor.sql("select outside_quantity(%s, 'aster', 'BTCUSDT')", floor.user_id) == [(Decimal("0.005"),)]
    assert floor.sql("select count(*) from reconciliation_differences where resolved_at is null") == [(0,)]
    assert floor.sql("select count(*) from fills") == [(1,)]
    assert "outside Sparky" in sparky.ok("reconcile", "BTCUSDT")
    assert compared(floor) == 0
    assert floor.send("b")["action"] == "opened"
    by_hand(floor, "SELL", "0.002")  # of what is outside, not of what the books hold
    assert compared(floor) == 1
    assert floor.booked() == Decimal("0.018")
    sparky.ok("reconcile", "BTCUSDT", "--outside", "--yes")
    assert floor.sql("select outside_quantity(%s, 'aster', 'BTCUSDT')", floor.user_id) == [(Decimal("0.003"),)]
    assert compared(floor) == 0
    by_hand(floor, "SELL", "0.003")
    sparky.ok("reconcile", "BTCUSDT", "--outside", "--yes")
    assert floor.sql("select count(*) from outside_holdings") == [(0,)]
    by_hand(floor, "SELL", "0.018")
    assert compared(floor) == 0
    assert floor.store.list_open_positions() == ()


def test_paper_positions_are_never_touched(floor: Floor, sparky: Sparky) -> None:
    paper = named(floor, "paper", is_paper=True)
    floor.send("p", strategy_id=paper, environment="paper")
    before = floor.sql("select * from positions where is_paper")
    floor.send("a")
    by_hand(floor, "SELL", "0.009")
    sparky.ok(*ADOPT)
    assert floor.sql("select * from positions where is_paper") == before
    assert floor.sql("select count(*) from positions") == [(1,)]
    assert "paper" in sparky.refused("reconcile", "BTCUSDT", "--adopt", "--strategy", "paper", "--yes")


def test_while_a_signal_is_under_way_nothing_is_adopted(floor: Floor, sparky: Sparky) -> None:
    floor.send("a")
    by_hand(floor, "SELL", "0.009")
    floor.sql("update webhook_requests set status = 'submitted'")
    assert "minute" in sparky.refused(*ADOPT)
    assert len(floor.store.list_open_positions()) == 1
    floor.sql("update webhook_requests set status = 'booked'")
    sparky.ok(*ADOPT)


def test_books_that_have_changed_since_the_plan_was_made_are_not_adopted(floor: Floor, sparky: Sparky) -> None:
    floor.send("a")
    (position,) = floor.store.list_open_positions()
    line = {"position_id": str(position.id), "quantity": "0.001", "price": "28000", "fee_usd": "0"}
    place = (floor.user_id, "aster", "BTCUSDT", {str(position.id): position.quantity})
    floor.store.adopt_difference(*place, [line], None)
    with pytest.raises(InvalidCommand, match="changed"):  # another person's plan of the same books
        floor.store.adopt_difference(*place, [line], None)
    assert floor.booked() == Decimal("0.008")


def test_of_two_people_who_adopt_at_once_one_is_told_to_look_again(floor: Floor) -> None:
    floor.send("a")
    (position,) = floor.store.list_open_positions()
    line = {"position_id": str(position.id), "quantity": "0.001", "price": "28000", "fee_usd": "0"}
    seen = {str(position.id): position.quantity}

    def adopt(_: int) -> bool:
        try:
            return bool(floor.store.adopt_difference(floor.user_id, "aster", "BTCUSDT", seen, [line], None))
        except InvalidCommand:
            return False

    with ThreadPoolExecutor(4) as threads:
        assert sorted(threads.map(adopt, range(4))) == [False, False, False, True]
    assert floor.booked() == Decimal("0.008")


def test_an_opening_that_cannot_be_booked_takes_the_exits_with_it(floor: Floor) -> None:
    bold = named(floor, "bold")
    floor.send("a")
    floor.send("b", strategy_id=bold, action="sell", size=1_000)
    held = {str(each.id): each.quantity for each in floor.store.list_open_positions()}
    (own,) = (each for each in floor.store.list_open_positions() if each.strategy_id is None)
    line = {"position_id": str(own.id), "quantity": str(own.quantity), "price": "28000", "fee_usd": "0"}
    opening = {"side": "LONG", "quantity": "1", "price": "1", "fee_usd": "0", "strategy_id": bold}
    before = floor.sql("select * from positions"), floor.sql("select * from fills")
    with pytest.raises(InvalidCommand):
        floor.store.adopt_difference(floor.user_id, "aster", "BTCUSDT", held, [line], opening)
    assert (floor.sql("select * from positions"), floor.sql("select * from fills")) == before


def test_a_venue_that_is_away_or_without_keys_is_said_in_a_sentence(floor: Floor, sparky: Sparky) -> None:
    floor.send("a")
    floor.misbehave({"kind": "status", "status": 503, "path": "/positionRisk", "times": None})
    assert "aster" in sparky.refused(*ADOPT)
    floor.misbehave()
    floor.sql("update bot_credentials set api_key = null, extra_metadata = '{}' where exchange = 'aster'")
    assert "sparky credentials set aster" in sparky.refused(*ADOPT, code=78)
    assert len(floor.store.list_open_positions()) == 1


class Delists(SimulatedVenue):
    """A venue that stops listing a symbol: it is in no answer any more."""

    def delist(self, symbol: str) -> None:
        for account in self._accounts.values():
            account.holdings.pop(symbol, None)
            account.orders.clear()
        del self.markets[symbol]


class TestASymbolThatTheVenueDoesNotListAnyMore:
    @pytest.fixture
    def make_exchange(self) -> type[SimulatedVenue]:
        return Delists

    def test_ends_in_the_books_at_the_price_that_a_person_says(self, floor: Floor, sparky: Sparky) -> None:
        floor.send("a", **STOP)
        assert isinstance(floor.exchange, Delists)
        floor.exchange.delist("BTCUSDT")
        assert "--price" in sparky.refused(*ADOPT)
        sparky.ok(*ADOPT, "--price", "123.5")
        (trade,) = floor.store.list_trades()
        assert (trade.exit_price, trade.exit_reason) == (Decimal("123.5"), "adopted")
        assert floor.store.list_open_positions() == ()


def test_status_and_doctor_name_an_open_difference_and_the_command(floor: Floor, sparky: Sparky) -> None:
    floor.send("a")
    by_hand(floor, "BUY", "0.004")
    assert compared(floor) == 1
    assert "sparky reconcile BTCUSDT" in sparky("status").output
    assert len(json.loads(sparky("status", "--json").stdout)["differences"]) == 1
    found = {check["name"]: check for check in json.loads(sparky("doctor", "--json").stdout)}
    assert found["books and venues"]["state"] == "fault"
    assert "sparky reconcile BTCUSDT" in found["books and venues"]["remedy"]
    sparky.ok(*ADOPT)
    found = {check["name"]: check for check in json.loads(sparky("doctor", "--json").stdout)}
    assert found["books and venues"]["state"] == "ok"
