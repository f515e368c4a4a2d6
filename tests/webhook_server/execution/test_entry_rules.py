"""The entry rules of a strategy over HTTP: the engine's signals meet them once more, people and exits do not."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from engine.risk.entry_rules import UNRESTRICTED
from tests.webhook_server.conftest import Site

BY_PROFILE = dict.fromkeys(UNRESTRICTED.model_dump())  # None: as the profile says


def bound(site: Site, profile: str = "conservative") -> str:
    """A strategy of at most 1,000 USD with the rules of `profile`."""
    return str(site.strategy(risk_profile=profile, **BY_PROFILE))


@pytest.mark.parametrize(
    ("entry", "current", "limit"),
    [({}, None, True), ({"stop_loss_percent": 0.015}, 0.015, 0.2)],
    ids=["without a stop", "with a stop nearer than the fees"],
)
def test_an_entry_of_the_engine_against_the_rules_is_refused(
    site: Site, entry: dict[str, Any], current: object, limit: object
) -> None:
    answer = site.sender.engine(strategy_id=bound(site), position_size_usd=900, **entry)
    assert answer.status_code == 429
    assert answer.json()["data"] == {"limitType": "entry_rules", "current": current, "limit": limit}
    assert "stop" in answer.json()["message"]
    assert site.store.list_open_positions() == ()


def test_an_entry_of_the_engine_is_cut_to_its_share(site: Site) -> None:
    answer = site.sender.engine(strategy_id=bound(site), position_size_usd=900, stop_loss_percent=2)
    assert answer.json()["action"] == "opened"
    (held,) = site.store.list_open_positions()
    assert 200 < held.position_size_usd <= 250  # in whole lots


@pytest.mark.parametrize(("price", "status"), [("26000.0", 200), ("24900.0", 429)])
def test_the_engine_adds_to_a_winner_only(site: Site, price: str, status: int) -> None:
    strategy = bound(site, "balanced")
    site.sender.engine(strategy_id=strategy, position_size_usd=100, stop_loss_percent=9)
    site.move("BTCUSDT", price)
    site.server.mark_to_market.run_once()
    answer = site.sender.engine(strategy_id=strategy, position_size_usd=100, stop_loss_percent=9)
    assert answer.status_code == status, answer.text
    assert len(site.sql("select 1 from fills")) == (2 if status == 200 else 1)


def test_of_entries_at_once_one_is_made_and_none_is_added(site: Site) -> None:
    strategy = bound(site)
    entry = {"strategy_id": strategy, "position_size_usd": 100, "stop_loss_percent": 2}
    with ThreadPoolExecutor(6) as senders:
        answers = list(senders.map(lambda _: site.sender.engine(**entry), range(6)))
    assert sorted(answer.status_code for answer in answers) == [200] + [429] * 5
    told = [answer.json()["data"] for answer in answers if answer.status_code == 429]
    assert told == [{"limitType": "entry_rules", "current": "LONG", "limit": "never"}] * 5
    assert len(site.sql("select 1 from fills")) == 1


def test_a_person_is_not_bound_by_them(site: Site) -> None:
    strategy = bound(site)
    for _ in range(2):
        assert site.sender.post(strategy_id=strategy, position_size_usd=400).json()["action"] == "opened"
    (held,) = site.store.list_open_positions()
    assert 700 < held.position_size_usd <= 800


def test_a_reversal_against_the_rules_closes_and_does_not_open(site: Site) -> None:
    strategy = bound(site)
    site.sender.engine(strategy_id=strategy, position_size_usd=100, stop_loss_percent=2)
    body = site.sender.engine(strategy_id=strategy, action="SELL", position_size_usd=100).json()
    assert (body["success"], body["action"]) == (True, "closed")
    assert body["entryRefused"]["data"]["limitType"] == "entry_rules"
    assert site.store.list_open_positions() == ()


def test_no_rule_blocks_an_exit(site: Site) -> None:
    strategy = bound(site)
    site.sender.engine(strategy_id=strategy, position_size_usd=100, stop_loss_percent=2)
    assert site.sender.engine(strategy_id=strategy, action="CLOSE").json()["action"] == "closed"


def test_rules_that_cannot_be_read_refuse_the_entry(site: Site) -> None:
    """As while the server is newer than the schema: `portfolio` does not give them."""
    strategy = bound(site)
    ((text,),) = site.sql("select pg_get_functiondef('portfolio'::regproc)")
    site.sql(text.replace("'rules', public.entry_rules(s)", "'rules', null"))
    try:
        answer = site.sender.engine(strategy_id=strategy, position_size_usd=100, stop_loss_percent=2)
    finally:
        site.sql(text)
    assert (answer.status_code, answer.json()["data"]["limitType"]) == (429, "unreadable")
