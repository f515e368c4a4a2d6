"""An exit that closes nothing says success only when there was nothing that it could have meant."""

from uuid import uuid4

import pytest

from engine.domain.errors import VenueUnavailable
from tests.webhook_server.conftest import Site


def test_nothing_is_held_and_nothing_is_closed(site: Site) -> None:
    answer = site.sender.post(action="CLOSE")
    assert (answer.status_code, answer.json()["action"]) == (200, "skipped")


@pytest.mark.parametrize("symbol", ["BTCUSDTT", "XBTUSD", "BTCUSDT_261225"])
def test_a_symbol_that_the_exchange_does_not_list_is_no_exit(site: Site, symbol: str) -> None:
    site.sender.post()
    answer = site.sender.post(action="CLOSE", symbol=symbol)
    assert (answer.status_code, answer.json()["field"]) == (400, "symbol")
    assert len(site.store.list_open_positions()) == 1


def test_a_strategy_that_does_not_exist_closes_nothing(site: Site) -> None:
    site.sender.post()
    theirs = site.user()
    for strategy in (str(uuid4()), str(site.strategy(user_id=theirs.user_id))):
        answer = site.sender.post(action="CLOSE", strategy_id=strategy)
        assert (answer.status_code, answer.json()["field"]) == (400, "strategy_id")
    assert site.sender.post(action="CLOSE", strategy_id=str(site.strategy())).json()["action"] == "skipped"


def test_an_exit_on_an_exchange_where_its_strategy_does_not_trade_is_refused(site: Site) -> None:
    strategy = str(site.strategy(exchange="binance"))
    answer = site.sender.post(action="CLOSE", strategy_id=strategy)
    assert (answer.status_code, answer.json()["field"]) == (400, "exchange")
    assert "binance" in answer.json()["error"]


def test_an_exit_on_an_exchange_that_nobody_knows_is_refused(site: Site) -> None:
    answer = site.sender.post(action="CLOSE", exchange="nowhere")
    assert (answer.status_code, answer.json()["field"]) == (400, "exchange")


def test_what_is_held_by_others_of_the_person_is_told(site: Site) -> None:
    strategy = site.strategy(name="Momentum")
    site.sender.engine(strategy_id=str(strategy), source="ai_engine_v1")
    answer = site.sender.post(action="CLOSE").json()
    assert answer["action"] == "skipped"
    assert str(strategy) in answer["reason"]
    assert "strategy_id" in answer["reason"]


def test_what_is_held_in_the_other_book_is_told(site: Site) -> None:
    site.sender.post()
    answer = site.sender.post(action="CLOSE", environment="production").json()
    assert (answer["action"], "paper" in answer["reason"]) == ("skipped", True)


def test_an_exit_of_one_book_tells_what_stays_open_in_the_other(site: Site) -> None:
    site.credentials()
    site.sender.post()
    site.sender.post(environment="production")
    first = site.sender.post(action="CLOSE").json()
    assert (first["action"], first["paper"]) == ("closed", False)
    assert first["still_open"] == [{"side": "LONG", "quantity": 0.039, "paper": True}]
    second = site.sender.post(action="CLOSE").json()
    assert (second["action"], second["paper"], "still_open" in second) == ("closed", True, False)


def test_a_venue_that_is_away_cannot_say_whether_it_lists_the_symbol(site: Site) -> None:
    site.market.away = VenueUnavailable("no connection")
    answer = site.sender.post(action="CLOSE").json()
    assert (answer["action"], "whether aster lists it is not known" in answer["reason"]) == ("skipped", True)
