"""The order of risk checks is written once, in docs/webhooks.md: code and answers follow that table."""

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pytest

from engine.domain.errors import OrderRejected
from engine.domain.strategy import EntryRules, StrategyStatus
from engine.platform.settings.settings import Settings
from engine.risk.entry_costs import CostLimits, check_book, check_slippage
from engine.risk.entry_limits import check_entry
from engine.risk.limit_breach import LimitBreach, LimitType
from engine.store.store import Store
from engine.venues.order_book import Level, OrderBook
from tests.support.factories.entry_values import NOW, order, portfolio, position, settings, strategy
from tests.webhook_server.conftest import Front, Site
from tests.webhook_server.execution.test_limits import Saturday
from tests.webhook_server.market import Venues
from webhook_server.app import build

DOCS: Final = Path(__file__).parents[3] / "docs" / "webhooks.md"

# What reaches each limit, by where it is set: the order, the person's settings, the strategy, or the portfolio. The day
# is a Saturday.
REACHED: Final[dict[str, dict[str, dict[str, Any]]]] = {
    "kill_switch": {"settings": {"kill_switch": True}},
    "strategy_status": {"strategy": {"status": StrategyStatus.PAUSED}},
    "stale_signal": {"order": {"expires_at": NOW}},
    "unreadable": {"view": {"unreadable": "max_daily_loss_usd: must be 0 or more"}},
    "unsettled_difference": {"view": {"difference": {"booked": 1, "at_venue": -1, "first_seen_at": NOW}}},
    "weekend": {"settings": {"allow_weekends": False}},
    "daily_loss": {"settings": {"max_daily_loss_usd": 1}, "view": {"realized_pnl_today_usd": -2}},
    "weekly_loss": {"settings": {"max_loss_per_week_usd": 1}, "view": {"realized_pnl_week_usd": -2}},
    "weekly_trades": {"settings": {"max_trades_per_week": 1}, "view": {"trades_this_week": 2}},
    "consecutive_failures": {"settings": {"max_consecutive_failures": 1}, "view": {"consecutive_failures": 2}},
    "resting_symbol": {"view": {"undone_in_symbol": 1, "last_undone_at": NOW}},
    "concurrent_positions": {
        "settings": {"max_concurrent_positions": 1},
        "view": {"open_positions": (position(symbol="A1"),)},
    },
    "drawdown": {"strategy": {"drawdown_percent": 50}},
    "stale_quote": {"book": {"at_ms": 0}},
    "max_spread": {"settings": {"max_spread_percent": "0.0001"}},
    "mark_distance": {"book": {"mark": Decimal(20_000)}},
    "max_slippage": {"strategy": {"max_slippage_percent": "0.0001"}},
    "entry_rules": {"order": {"is_ai_signal": True}, "strategy": {"rules": EntryRules()}},
    "leverage": {"order": {"leverage": 11}},
}

BOOK: Final = OrderBook(
    bids=(Level(Decimal("24999.9"), Decimal(9)),),
    asks=(Level(Decimal("25000.1"), Decimal("0.001")), Level(Decimal("25010.1"), Decimal(9))),
    at_ms=1_700_000_000_000,
    clock_ms=1_700_000_000_000,
    mark=Decimal(25_000),
    mark_ms=1_700_000_000_000,
)


def documented() -> list[str]:
    """The limit types of the table in the documentation, from its first row to its last."""
    table = DOCS.read_text().partition("| limitType | refuses an entry when |")[2]
    rows = re.findall(r"^\| (`[^|]*) \|", table.partition("\n\n")[0], re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`(\w+)`", row)]


def first_limit(reached: Mapping[str, Any]) -> str | None:
    """The limit that refuses an entry which reaches all of `reached`."""
    merged: dict[str, dict[str, Any]] = {"order": {}, "settings": {}, "strategy": {}, "view": {}, "book": {}}
    for limit in reached.values():
        for where, fields in limit.items():
            merged[where] |= fields
    view = portfolio(settings=settings(**merged["settings"]), strategy=strategy(**merged["strategy"]), **merged["view"])
    limits, book = CostLimits.from_portfolio(view), BOOK.model_copy(update=merged["book"])

    def costs(size_usd: Decimal) -> LimitBreach | None:
        return check_book(book, limits) or check_slippage(book, size_usd / 25_000, limits, is_buy=True)

    verdict = check_entry(order(**merged["order"]), view, None, NOW + timedelta(days=3), costs)
    return verdict.limit_type.value if isinstance(verdict, LimitBreach) else None


def test_limits_refuse_in_the_order_of_the_documentation() -> None:
    told, left = [], {**REACHED}
    while (limit := first_limit(left)) is not None:
        told.append(limit)
        del left[limit]
    assert told == documented()
    assert not left


def test_the_documentation_and_the_answers_know_the_same_limits() -> None:
    assert documented() == [each.value for each in LimitType]


@pytest.mark.usefixtures("one_day")
def test_the_server_refuses_in_the_order_of_the_documentation(
    site: Site, store: Store, front: tuple[Front, str]
) -> None:
    """All limits are reached by a live entry into ETHUSDT, and one after the other is lifted."""
    owner = everything_reached(site)
    server = build(Settings(), store, Venues(site.market, site.account), Saturday())
    front[0].app = server.app
    entry: dict[str, Any] = {"symbol": "ETHUSDT", "strategy_id": owner, "leverage": 20, "stop_loss_percent": 0.015}
    entry["expires_at"] = "2026-01-01T00:00:00Z"

    def ordered(**changes: Any) -> None:
        entry.update(changes)

    lifted: dict[str, Callable[[], object]] = {
        "kill_switch": lambda: site.limits(kill_switch=False),
        "strategy_status": lambda: site.store.set_strategy_status(UUID(owner), StrategyStatus.RUNNING),
        "stale_signal": lambda: ordered(expires_at=None),
        "unreadable": lambda: site.limits(max_position_size_usd=0),
        "unsettled_difference": lambda: site.sql("update reconciliation_differences set resolved_at = now()"),
        "weekend": lambda: site.limits(allow_weekends=True),
        "daily_loss": lambda: site.limits(max_daily_loss_usd=0),
        "weekly_loss": lambda: site.limits(max_loss_per_week_usd=0),
        "weekly_trades": lambda: site.limits(max_trades_per_week=0),
        "consecutive_failures": lambda: site.limits(max_consecutive_failures=0),
        "resting_symbol": lambda: site.sql("delete from fills where kind = 'undo'"),
        "concurrent_positions": lambda: site.limits(max_concurrent_positions=0),
        "drawdown": lambda: site.sql("update ai_strategies set max_drawdown_percent = 90"),
        "stale_quote": lambda: site.market.book.pop("at_ms"),
        "max_spread": lambda: site.limits(max_spread_percent=None),
        "mark_distance": lambda: site.market.book.pop("mark"),
        "max_slippage": lambda: site.sql("update ai_strategies set max_slippage_percent = null"),
        "entry_rules": lambda: ordered(stop_loss_percent=2),
        "leverage": lambda: ordered(leverage=1),
    }
    told: list[str] = []
    while (answer := site.sender.engine(**entry)).status_code == 429 and len(told) < len(lifted):
        told.append(answer.json()["data"]["limitType"])
        lifted[told[-1]]()
    server.workers.shutdown()
    assert told == documented()
    assert answer.json()["action"] == "opened"


def everything_reached(site: Site) -> str:
    """A live strategy, against whose entries into ETHUSDT everything speaks that is kept in the database."""
    site.credentials()
    owner = str(site.strategy(is_paper_trading=False, leverage_max=10, min_stop_loss_percent=None))
    entry = {"strategy_id": owner, "stop_loss_percent": 2}
    site.sender.engine(**entry)
    site.move("BTCUSDT", "24000.0")
    assert site.sender.engine(strategy_id=owner, action="CLOSE").json()["pnl"]["usd"] < -5
    assert site.sender.engine(**entry).json()["action"] == "opened"
    site.account.protection_fails = OrderRejected("New order is rejected.")
    assert "undone" in site.sender.engine(**entry, symbol="ETHUSDT").json()
    site.account.protection_fails = None
    losses = {"max_daily_loss_usd": 5, "max_loss_per_week_usd": 5}
    numbers = {"max_trades_per_week": 1, "max_consecutive_failures": 1, "max_concurrent_positions": 1}
    site.limits(kill_switch=True, allow_weekends=False, max_position_size_usd=-1, **losses, **numbers)
    site.store.set_strategy_status(UUID(owner), StrategyStatus.PAUSED)
    site.sql("update ai_strategies set max_drawdown_percent = 0.1, max_slippage_percent = 0.0001")
    site.limits(max_spread_percent=Decimal("0.0001"))
    asks = (Level(Decimal("2000.1"), Decimal("0.001")), Level(Decimal("2010.1"), Decimal(9)))
    site.market.book = {"at_ms": 0, "mark": Decimal(1_000), "asks": asks}
    site.sql(
        "insert into reconciliation_differences (user_id, exchange, symbol, booked, at_venue) "
        "values (%s, 'aster', 'ETHUSDT', 0, 1)",
        site.sender.user_id,
    )
    return owner


@pytest.mark.parametrize("limits", [{"max_daily_loss_usd": -1}, {"max_trades_per_week": -1}])
def test_a_limit_that_cannot_be_read_stops_no_exit_of_a_reversal(site: Site, limits: dict[str, Any]) -> None:
    assert site.sender.post().json()["action"] == "opened"
    site.limits(**limits)
    told = site.sender.post(action="SELL").json()
    assert told["action"] == "closed"
    assert told["entryRefused"]["data"]["limitType"] == "unreadable"
    assert next(iter(limits)) in told["entryRefused"]["message"]


def test_a_limit_of_a_strategy_that_cannot_be_read_is_named_and_refuses_its_entries(site: Site) -> None:
    """As in a database that another system made, without our constraints."""
    owner = site.strategy()
    ((text,),) = site.sql("select pg_get_functiondef('portfolio'::regproc)")
    site.sql(text.replace("'drawdown_percent', f.drawdown_percent", "'drawdown_percent', 'NaN'::numeric"))
    try:
        refused = site.sender.post(strategy_id=str(owner)).json()
        site.store.set_strategy_status(owner, StrategyStatus.PAUSED)
        paused = site.sender.post(strategy_id=str(owner)).json()
    finally:
        site.sql(text)
    assert refused["data"]["limitType"] == "unreadable"
    assert "drawdown_percent" in refused["message"]
    assert paused["data"]["limitType"] == "strategy_status"
