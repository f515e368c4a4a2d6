"""While the books and the venue disagree about a symbol, nothing is entered there; what is held can be closed."""

from typing import Any
from uuid import UUID

import pytest

from tests.venues.conftest import Floor

STOP: dict[str, Any] = {"stop_loss_percent": 2}


def differ(floor: Floor, symbol: str = "BTCUSDT", user_id: UUID | None = None) -> None:
    """The books and the venue disagree since a quarter of an hour."""
    floor.sql(
        "insert into reconciliation_differences (user_id, exchange, symbol, booked, at_venue, first_seen_at) "
        "values (%s, 'aster', %s, 0.01, -0.5, '2026-03-04T11:45:00Z')",
        user_id or floor.user_id,
        symbol,
    )


def test_an_entry_is_refused_with_both_quantities_the_time_and_what_to_do(floor: Floor) -> None:
    differ(floor)
    told = floor.send(**STOP)
    assert told["status"] == 429
    assert told["data"] == {"limitType": "unsettled_difference", "current": -0.5, "limit": 0.01}
    for words in ("BTCUSDT", "2026-03-04 11:45:00 UTC", "sparky reconcile"):
        assert words in told["message"]
    assert floor.metric("risk_refusals_total", limit_type="unsettled_difference") == 1
    assert floor.net() == 0
    floor.sql("update reconciliation_differences set resolved_at = now()")
    assert floor.send(**STOP)["action"] == "opened"


@pytest.mark.parametrize("is_of_strategy", [False, True], ids=["person", "strategy"])
@pytest.mark.parametrize("reads_twice", [False, True], ids=["one limit", "limits over all strategies"])
def test_an_addition_is_refused_and_an_exit_is_not(floor: Floor, *, is_of_strategy: bool, reads_twice: bool) -> None:
    owner = {"strategy_id": floor.strategy()} if is_of_strategy else {}
    assert floor.send(**owner, **STOP)["action"] == "opened"
    differ(floor)
    if reads_twice:
        floor.sql(
            "insert into trade_settings_exchange (user_id, exchange, max_concurrent_positions) values (%s, 'aster', 9)",
            floor.user_id,
        )
    assert floor.send(**owner, **STOP)["data"]["limitType"] == "unsettled_difference"
    assert floor.send(**owner, action="close")["action"] == "closed"
    assert floor.net() == 0
    floor.check_books()


def test_the_exit_of_a_reversal_is_made_and_its_entry_is_not(floor: Floor) -> None:
    assert floor.send(**STOP)["action"] == "opened"
    differ(floor)
    told = floor.send(action="sell", **STOP)
    assert (told["status"], told["action"]) == (200, "closed")
    assert told["entryRefused"]["data"]["limitType"] == "unsettled_difference"
    assert floor.net() == floor.booked() == 0
    floor.check_books()


def test_paper_other_symbols_and_other_people_go_on(floor: Floor) -> None:
    differ(floor, "ETHUSDT")
    differ(floor, user_id=floor.store.ensure_user("other@example.org"))
    assert floor.send(**STOP)["action"] == "opened"
    differ(floor)
    assert floor.send(environment="paper", **STOP)["action"] == "opened"
    assert floor.send(strategy_id=floor.strategy(is_paper_trading=True), **STOP)["action"] == "opened"
