"""Every limit at its boundary, the order in which they speak, and what no limit may ever do."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.positions import Position
from engine.domain.strategy import Adding, EntryRules, StrategyStatus
from engine.risk.entry_limits import check_entry
from engine.risk.entry_size import AllowedEntry
from engine.risk.limit_breach import LimitBreach
from tests.support.factories.entry_values import NOW, order, portfolio, position, settings, strategy


def limit_of(verdict: LimitBreach | AllowedEntry) -> str | None:
    return verdict.limit_type.value if isinstance(verdict, LimitBreach) else None


def room(verdict: LimitBreach | AllowedEntry) -> Decimal:
    assert isinstance(verdict, AllowedEntry), verdict
    return verdict.size_usd


# For each limit: a portfolio (and order) that just passes and one that just does not.
BOUNDARIES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "kill_switch": ({}, {"settings": settings()}, {}, {"settings": settings(kill_switch=True)}),
    "strategy_status": ({}, {}, {}, {"strategy": strategy(status=StrategyStatus.PAUSED)}),
    "stale_signal": ({"expires_at": NOW + timedelta(milliseconds=1)}, {}, {"expires_at": NOW}, {}),
    "daily_loss": (
        {},
        {"settings": settings(max_daily_loss_usd=100), "realized_pnl_today_usd": Decimal("-99.99")},
        {},
        {"settings": settings(max_daily_loss_usd=100), "realized_pnl_today_usd": Decimal(-100)},
    ),
    "weekly_loss": (
        {},
        {"settings": settings(max_loss_per_week_usd=100), "realized_pnl_week_usd": Decimal("-99.99")},
        {},
        {"settings": settings(max_loss_per_week_usd=100), "realized_pnl_week_usd": Decimal(-100)},
    ),
    "weekly_trades": (
        {},
        {"settings": settings(max_trades_per_week=5), "trades_this_week": 4},
        {},
        {"settings": settings(max_trades_per_week=5), "trades_this_week": 5},
    ),
    "consecutive_failures": (
        {},
        {"settings": settings(max_consecutive_failures=3), "consecutive_failures": 2},
        {},
        {"settings": settings(max_consecutive_failures=3), "consecutive_failures": 3},
    ),
    "concurrent_positions": (
        {},
        {"settings": settings(max_concurrent_positions=2), "open_positions": (position(symbol="A1"),)},
        {},
        {
            "settings": settings(max_concurrent_positions=2),
            "open_positions": (position(symbol="A1"), position(symbol="A2")),
        },
    ),
    "drawdown": ({}, {"strategy": strategy(drawdown_percent=19.99)}, {}, {"strategy": strategy(drawdown_percent=20)}),
    "entry_rules": (
        {"is_ai_signal": True, "stop_loss_percent": "0.2"},
        {"strategy": strategy(rules=EntryRules())},
        {"is_ai_signal": True, "stop_loss_percent": "0.1999"},
        {"strategy": strategy(rules=EntryRules())},
    ),
    "leverage": ({"leverage": 10}, {}, {"leverage": 11}, {}),
}


@pytest.mark.parametrize("name", BOUNDARIES)
def test_each_limit_passes_just_below_and_refuses_at_its_boundary(name: str) -> None:
    fields, view, refused_fields, refused_view = BOUNDARIES[name]
    assert limit_of(check_entry(order(**fields), portfolio(**view), None, NOW)) is None
    assert limit_of(check_entry(order(**refused_fields), portfolio(**refused_view), None, NOW)) == name


@pytest.mark.parametrize(
    ("age_s", "limit"), [(60, None), (60.001, "stale_signal"), (-299, None), (-301, "stale_signal")]
)
def test_a_signals_age_is_limited_where_the_user_says_so(age_s: float, limit: str | None) -> None:
    timed = order(timestamp=(NOW - timedelta(seconds=age_s)).isoformat())
    assert limit_of(check_entry(timed, portfolio(settings=settings(max_signal_age_sec=60)), None, NOW)) == limit
    assert limit_of(check_entry(timed, portfolio(settings=settings(max_signal_age_sec=0)), None, NOW)) is None
    assert limit_of(check_entry(timed, portfolio(), None, NOW)) is None


@pytest.mark.parametrize(("days", "limit"), [(0, None), (2, None), (3, "weekend"), (4, "weekend"), (5, None)])
def test_weekends_are_closed_only_where_the_user_says_so(days: int, limit: str | None) -> None:
    day = NOW + timedelta(days=days)
    closed = portfolio(settings=settings(allow_weekends=False))
    assert limit_of(check_entry(order(), closed, None, day)) == limit
    assert limit_of(check_entry(order(), portfolio(settings=settings()), None, day)) is None


def test_zero_and_absent_limits_are_no_limits() -> None:
    names = [name for name in type(settings()).model_fields if name.startswith("max_")]
    unlimited = portfolio(
        settings=settings(**dict.fromkeys(names, 0)),
        realized_pnl_today_usd=Decimal(-10_000),
        realized_pnl_week_usd=Decimal(-10_000),
        trades_this_week=1_000,
        consecutive_failures=1_000,
    )
    assert limit_of(check_entry(order(), unlimited, None, NOW)) is None


def test_more_of_a_position_or_its_reversal_is_no_further_position() -> None:
    held = position()
    full = portfolio(settings=settings(max_concurrent_positions=1), open_positions=(held,))
    assert limit_of(check_entry(order(), full, held, NOW)) is None
    assert limit_of(check_entry(order(action="SELL"), full, held, NOW)) is None
    assert limit_of(check_entry(order(symbol="ETHUSDT"), full, None, NOW)) == "concurrent_positions"


def test_the_size_is_cut_to_what_the_caps_leave() -> None:
    assert room(check_entry(order(position_size_usd=5000), portfolio(), None, NOW)) == 1000
    capped = portfolio(settings=settings(max_position_size_usd=400))
    assert room(check_entry(order(), capped, None, NOW)) == 400
    held = position()
    assert room(check_entry(order(), portfolio(open_positions=(held,)), held, NOW)) == 500
    assert room(check_entry(order(), capped, held, NOW)) == 0
    assert room(check_entry(order(action="SELL"), portfolio(open_positions=(held,)), held, NOW)) == 1000


def test_all_positions_of_a_strategy_stay_within_its_leverage() -> None:
    thin = strategy(equity_usd=1000, leverage_max=1)
    other = position(symbol="ETHUSDT", position_size_usd=Decimal("0.01"))
    assert limit_of(check_entry(order(), portfolio(strategy=thin), None, NOW)) is None
    assert limit_of(check_entry(order(), portfolio(strategy=thin, open_positions=(other,)), None, NOW)) == "leverage"
    somebody_elses = other.model_copy(update={"strategy_id": None})
    assert limit_of(check_entry(order(), portfolio(strategy=thin, open_positions=(somebody_elses,)), None, NOW)) is None
    held = position(position_size_usd=Decimal(1000))
    assert (
        limit_of(check_entry(order(action="SELL"), portfolio(strategy=thin, open_positions=(held,)), held, NOW)) is None
    )


def test_a_strategy_without_equity_opens_nothing() -> None:
    assert limit_of(check_entry(order(), portfolio(strategy=strategy(equity_usd=0)), None, NOW)) == "leverage"
    assert limit_of(check_entry(order(), portfolio(strategy=strategy(equity_usd=-1)), None, NOW)) == "leverage"


def test_an_ai_signal_is_cut_to_the_share_that_its_strategy_may_enter_with() -> None:
    view = portfolio(strategy=strategy(rules=EntryRules()))
    asked = {"is_ai_signal": True, "stop_loss_percent": 2}
    assert room(check_entry(order(**asked), view, None, NOW)) == 250
    assert room(check_entry(order(**asked, position_size_usd=100), view, None, NOW)) == 100


@pytest.mark.parametrize(
    ("adding", "pnl_usd", "limit"),
    [
        (Adding.NEVER, 5, "entry_rules"),
        (Adding.TO_WINNER, None, "entry_rules"),
        (Adding.TO_WINNER, 0, "entry_rules"),
        (Adding.TO_WINNER, "0.01", None),
        (Adding.ALWAYS, -5, None),
    ],
)
def test_an_ai_signal_adds_only_where_its_strategys_rules_let_it(
    adding: Adding, pnl_usd: object, limit: str | None
) -> None:
    held = position(unrealized_pnl_usd=pnl_usd)
    view = portfolio(strategy=strategy(rules=EntryRules(adding=adding)), open_positions=(held,))
    asked = {"is_ai_signal": True, "stop_loss_percent": 2}
    assert limit_of(check_entry(order(**asked), view, held, NOW)) == limit
    assert limit_of(check_entry(order(**asked, action="SELL"), view, held, NOW)) is None


def test_entry_rules_that_are_not_known_refuse_an_ai_signal_and_nothing_else() -> None:
    view = portfolio(strategy=strategy(rules=None))
    assert limit_of(check_entry(order(is_ai_signal=True, stop_loss_percent=2), view, None, NOW)) == "unreadable"
    assert limit_of(check_entry(order(), view, None, NOW)) is None


def test_a_person_is_not_bound_by_the_entry_rules_of_a_strategy() -> None:
    held = position(unrealized_pnl_usd=-5)
    view = portfolio(strategy=strategy(rules=EntryRules()), open_positions=(held,))
    assert room(check_entry(order(), view, held, NOW)) == 500


money = st.decimals(min_value=0, max_value=100_000, places=2)


@given(
    asked=st.decimals(min_value="0.01", max_value=1_000_000, places=2),
    cap=st.decimals(min_value="0.01", max_value=100_000, places=2),
    user_cap=st.none() | money,
    has=money,
    action=st.sampled_from(["BUY", "SELL"]),
)
def test_a_position_never_outgrows_its_caps(
    asked: Decimal, cap: Decimal, user_cap: Decimal | None, has: Decimal, action: str
) -> None:
    held: Position = position(position_size_usd=has)
    rich = strategy(max_position_usd=cap, equity_usd=10**9)
    view = portfolio(strategy=rich, settings=settings(max_position_size_usd=user_cap), open_positions=(held,))
    allowed = room(check_entry(order(position_size_usd=asked, action=action), view, held, NOW))
    after = allowed + (has if action == "BUY" else 0)
    assert 0 <= allowed <= asked
    assert allowed == 0 or after <= min(cap, user_cap or cap)


def test_a_signal_without_strategy_meets_the_users_limits_only() -> None:
    free = portfolio(strategy=None)
    assert room(check_entry(order(strategy_id=None, position_size_usd=50_000, leverage=100), free, None, NOW)) == 50_000
