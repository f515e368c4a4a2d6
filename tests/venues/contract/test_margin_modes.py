"""The margin mode of a strategy at every venue: set and read back before an entry, refused where it cannot be so."""

from typing import Any

import pytest
import requests

from tests.venues.conftest import Floor

STOP: dict[str, Any] = {"stop_loss_percent": 2}


def be_rude(floor: Floor, **wishes: Any) -> None:
    """See `simulator.control.margin_control`."""
    requests.post(f"{floor.venue_url}/_control/margin", json=wishes, timeout=30).raise_for_status()


def at_venue(floor: Floor) -> str:
    account = floor.exchange.get_account(*floor.exchange._accounts)
    return account.get_holding("BTCUSDT").margin_type


def modes(floor: Floor) -> list[str | None]:
    return [held.margin_mode for held in floor.store.list_open_positions()]


@pytest.mark.parametrize(("mode", "before"), [("isolated", []), ("cross", ["BTCUSDT"]), ("isolated", ["BTCUSDT"])])
def test_an_entry_has_the_margin_mode_of_its_strategy_and_its_position_keeps_it(
    floor: Floor, mode: str, before: list[str]
) -> None:
    floor.arrange(isolated=before)
    told = floor.send("a", strategy_id=floor.strategy(margin_mode=mode), **STOP)
    assert (told["action"], at_venue(floor), modes(floor)) == ("opened", mode, [mode])
    floor.check_books()


def test_a_strategy_without_a_mode_and_a_person_leave_the_account_as_it_is(floor: Floor) -> None:
    floor.arrange(isolated=["BTCUSDT"])
    assert floor.send(strategy_id=floor.strategy())["action"] == floor.send()["action"] == "opened"
    assert (at_venue(floor), modes(floor)) == ("isolated", [None, None])


@pytest.mark.parametrize("shown_only_held", [False, True])
def test_a_change_that_the_venue_accepts_and_does_not_make_refuses_the_entry(
    floor: Floor, *, shown_only_held: bool
) -> None:
    be_rude(floor, ignored=True, shown_only_held=shown_only_held)
    told = floor.send(strategy_id=floor.strategy(margin_mode="isolated"))
    assert (told["success"], told["action"]) == (False, "rejected")
    assert floor.net() == 0
    assert "isolated" in told["reason"]
    assert "BTCUSDT" in told["reason"]
    assert "on the venue's page" in told["reason"]


def test_a_venue_that_shows_the_mode_only_of_what_is_held_is_asked_twice_and_believed(floor: Floor) -> None:
    be_rude(floor, shown_only_held=True)
    told = floor.send(strategy_id=floor.strategy(margin_mode="isolated"))
    assert (told["action"], at_venue(floor)) == ("opened", "isolated")


def test_leverage_that_changes_with_the_margin_mode_is_set_afterwards(floor: Floor) -> None:
    floor.send(leverage=5)
    floor.send(action="close")  # the server remembers a leverage of 5
    be_rude(floor, sets_leverage=50)
    floor.send(strategy_id=floor.strategy(margin_mode="isolated"), leverage=5)
    account = floor.exchange.get_account(*floor.exchange._accounts)
    assert account.get_holding("BTCUSDT").leverage == 5


def test_multi_assets_mode_refuses_isolated_margin_with_a_sentence(floor: Floor) -> None:
    floor.arrange(multi_assets=True)
    told = floor.send(strategy_id=floor.strategy(margin_mode="isolated"))
    assert told["action"] == "rejected"
    assert floor.net() == 0
    assert "leave multi-assets mode" in told["reason"]


@pytest.mark.parametrize("left", ["position", "order"])
def test_what_is_at_the_venue_in_the_other_mode_refuses_the_entry_and_no_exit(floor: Floor, left: str) -> None:
    floor.send("a", **STOP)
    if left == "order":
        floor.misbehave({"kind": "status", "status": 503, "path": "rder", "method": "DELETE", "times": None})
        floor.send(action="close")
        floor.misbehave()
    told = floor.send(strategy_id=floor.strategy(margin_mode="isolated"))
    assert told["action"] == "rejected"
    assert "margin" in told["reason"]
    assert "close" in told["reason"] or "cancel" in told["reason"]
    assert floor.send(action="close")["status"] == 200
    assert floor.net() == 0


def test_a_second_strategy_that_wants_another_mode_is_refused_while_the_first_holds(floor: Floor) -> None:
    one, other = floor.strategy(margin_mode="isolated"), floor.strategy(margin_mode="cross")
    floor.send("a", strategy_id=one, **STOP)
    told = floor.send(strategy_id=other, **STOP)
    assert told["action"] == "rejected"
    assert "isolated margin" in told["reason"]
    ((failed,),) = floor.sql("select count(*) from webhook_requests where status = 'failed'")
    assert failed == 0  # nothing was tried
    assert floor.send(strategy_id=one, action="close")["action"] == "closed"
    assert floor.send(strategy_id=other, **STOP)["action"] == "opened"
    assert (at_venue(floor), modes(floor)) == ("cross", ["cross"])
    floor.check_books()


def test_an_exit_never_touches_the_margin_mode(floor: Floor) -> None:
    name = floor.strategy(margin_mode="isolated")
    floor.send("a", strategy_id=name, **STOP)
    floor.misbehave({"kind": "status", "status": 400, "path": "/marginType", "times": None})
    assert floor.send(strategy_id=name, action="close")["action"] == "closed"


def test_a_mode_that_was_read_is_remembered_for_a_minute(floor: Floor) -> None:
    name = floor.strategy(margin_mode="isolated")
    floor.send("a", strategy_id=name)
    used = floor.exchange.meter.used
    floor.send("b", strategy_id=name)
    first = floor.exchange.meter.used - used
    floor.send("c", strategy_id=floor.strategy())
    assert floor.exchange.meter.used - used - first == first  # as much as without a mode


def test_a_live_position_shows_the_price_at_which_the_venue_liquidates_it(floor: Floor) -> None:
    name = floor.strategy(margin_mode="isolated", leverage_max=20)
    floor.send("a", strategy_id=name, leverage=20)
    floor.server.reconciliation.run()
    (held,) = floor.store.list_open_positions()
    assert held.liquidation_price is not None
    assert 26_600 < held.liquidation_price < 26_800
    headers = {"X-Webhook-Secret": floor.secret.get_secret_value()}
    (told,) = requests.get(f"{floor.url}/positions", headers=headers, timeout=30).json()["positions"]
    assert (told["margin_mode"], 26_600 < told["liquidation_price"] < 26_800) == ("isolated", True)


@pytest.mark.parametrize("is_paper", [True, False])
def test_a_stop_beyond_the_liquidation_price_refuses_an_isolated_entry(floor: Floor, *, is_paper: bool) -> None:
    name = floor.strategy(margin_mode="isolated", leverage_max=20, is_paper_trading=is_paper)
    told = floor.send("a", strategy_id=name, leverage=20, stop_loss_percent=12)
    assert told["action"] == "rejected"
    assert floor.booked() == floor.net() == 0
    assert "liquidat" in told["reason"]
    assert "stop" in told["reason"]
    assert floor.send("b", strategy_id=name, leverage=20, stop_loss_percent=2)["action"] == "opened"


def test_without_a_mode_the_stop_is_checked_with_the_mode_that_the_account_has(floor: Floor) -> None:
    far: dict[str, Any] = {"leverage": 20, "stop_loss_percent": 12}
    name = floor.strategy(leverage_max=20)
    floor.arrange(isolated=["BTCUSDT"])
    for told in (floor.send("a", strategy_id=name, **far), floor.send("b", **far)):
        assert told["action"] == "rejected"
        assert "liquidat" in told["reason"]
    assert floor.net() == 0
    floor.arrange(isolated=[])
    assert floor.send("c", strategy_id=name, **far)["action"] == "opened"


def test_where_the_venue_does_not_tell_the_mode_a_stop_that_may_never_act_is_refused(floor: Floor) -> None:
    be_rude(floor, shown_only_held=True)
    name = floor.strategy(leverage_max=20)
    told = floor.send("a", strategy_id=name, leverage=20, stop_loss_percent=12)
    assert told["action"] == "rejected"
    assert "does not tell" in told["reason"]
    assert floor.send("b", strategy_id=name, leverage=20, stop_loss_percent=2)["action"] == "opened"


REFUSED_CHANGE = '{"code":-4067,"msg":"Position side cannot be changed if there exists open orders."}'


def test_a_refusal_of_a_change_that_is_none_refuses_nothing(floor: Floor) -> None:
    be_rude(floor, shown_only_held=True)
    floor.arrange(isolated=["BTCUSDT"])
    path = "/v3/account" if floor.simulated.name == "aster" else "/v2/account"
    shown = '{"positions": [{"symbol": "BTCUSDT", "isolated": true, "positionAmt": "0"}], "assets": []}'
    floor.misbehave(
        {"kind": "status", "status": 400, "path": "/marginType", "times": None, "body": REFUSED_CHANGE},
        {"kind": "status", "status": 200, "path": path, "times": None, "body": shown},
    )
    told = floor.send(strategy_id=floor.strategy(margin_mode="isolated"))
    assert (told["action"], at_venue(floor)) == ("opened", "isolated")


def test_a_refused_change_of_a_mode_that_is_not_told_says_so(floor: Floor) -> None:
    be_rude(floor, shown_only_held=True)
    floor.arrange(isolated=["BTCUSDT"])
    fault = {"kind": "status", "status": 400, "path": "/marginType", "times": None, "body": REFUSED_CHANGE}
    floor.misbehave(fault)
    told = floor.send(strategy_id=floor.strategy(margin_mode="isolated"))
    assert told["action"] == "rejected"
    assert "does not tell which margin mode it has" in told["reason"]
    assert floor.net() == 0


def test_a_mode_that_a_person_has_changed_since_the_symbol_was_left_is_set_again(floor: Floor) -> None:
    name = floor.strategy(margin_mode="isolated")
    floor.send("a", strategy_id=name)
    floor.send("b", strategy_id=name, action="close")
    floor.arrange(isolated=[])
    assert floor.send("c", strategy_id=name)["action"] == "opened"
    assert (at_venue(floor), modes(floor)) == ("isolated", ["isolated"])
