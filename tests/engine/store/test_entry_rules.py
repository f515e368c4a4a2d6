"""The entry rules in force, as a real database gives them: the profile's own, and what the row says instead."""

from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest

from engine.admin.strategy_checks import NewStrategy
from engine.domain.strategy import Adding, EntryRules, RiskProfile
from engine.platform.errors import ConfigurationError
from engine.store.store import Store
from simulator.groq import rule_model
from tests.support.clients.sql import Sql

from .conftest import Desk

DEFAULTS = {
    "conservative": (True, 25, "never", "0.2"),
    "balanced": (True, 50, "to_winner", "0.2"),
    "aggressive": (True, 100, "to_winner", "0.2"),
}


def rules(stop: bool, share: object, adding: str, least: str) -> EntryRules:  # noqa: FBT001 - columns of a table
    return EntryRules(
        stop_loss_required=stop,
        max_entry_percent=Decimal(str(share)),
        adding=Adding(adding),
        min_stop_loss_percent=Decimal(least),
    )


def in_force(store: Store, user_id: UUID, strategy_id: UUID) -> EntryRules:
    """What a cycle is given, which is what the risk checks are given."""
    context = store.get_strategy_context(strategy_id)
    seen = store.get_portfolio(user_id, "aster", strategy_id, is_paper=True).strategy
    assert context is not None
    assert seen is not None
    assert seen.rules == context.strategy.rules
    return context.strategy.rules


@pytest.mark.parametrize("profile", DEFAULTS)
def test_a_row_that_says_nothing_has_the_rules_of_its_profile(desk: Desk, store: Store, profile: str) -> None:
    strategy = desk.strategy(risk_profile=profile)
    assert (strategy.stop_loss_required, strategy.max_entry_percent, strategy.adding) == (None, None, None)
    assert in_force(store, desk.user_id, strategy.id) == rules(*DEFAULTS[profile])


def test_what_the_row_says_wins_over_its_profile(desk: Desk, store: Store) -> None:
    said: dict[str, Any] = {
        "stop_loss_required": False,
        "max_entry_percent": "12.5",
        "adding": "always",
        "min_stop_loss_percent": "0.35",
    }
    strategy = desk.strategy(risk_profile="conservative", **said)
    assert in_force(store, desk.user_id, strategy.id) == rules(stop=False, share="12.5", adding="always", least="0.35")


def test_another_profile_changes_only_what_the_row_leaves_open(desk: Desk, store: Store, sql: Sql) -> None:
    strategy = desk.strategy(risk_profile="conservative", adding="never")
    sql("update ai_strategies set risk_profile = 'aggressive'")
    assert in_force(store, desk.user_id, strategy.id) == rules(stop=True, share=100, adding="never", least="0.2")


def test_an_unknown_profile_has_the_strictest_rules_and_so_has_an_answer_without_rules(store: Store, sql: Sql) -> None:
    ((found,),) = sql(
        "select entry_rules(jsonb_populate_record(null::ai_strategies, jsonb_build_object('risk_profile', 'reckless')))"
    )
    assert EntryRules.model_validate(found) == rules(*DEFAULTS["conservative"]) == EntryRules()
    assert store.list_strategies() == ()


@pytest.mark.parametrize(
    "change",
    [
        "max_entry_percent = 0",
        "max_entry_percent = 100.01",
        "max_entry_percent = 'NaN'",
        "adding = 'sometimes'",
        "min_stop_loss_percent = -0.1",
        "min_stop_loss_percent = 50",
        "min_stop_loss_percent = 'NaN'",
    ],
)
def test_rules_that_make_no_sense_are_refused_by_the_table(desk: Desk, sql: Sql, change: str) -> None:
    desk.strategy()
    with pytest.raises(psycopg.DatabaseError, match=r"violates check constraint|must be a number"):
        sql(f"update ai_strategies set {change}")  # noqa: S608 - these texts


def test_rules_that_make_no_sense_are_refused_by_name(desk: Desk) -> None:
    wrong = {
        "stop_loss_required": "perhaps",
        "max_entry_percent": 0.001,
        "adding": "sometimes",
        "min_stop_loss_percent": 50,
    }
    with pytest.raises(ConfigurationError) as caught:
        NewStrategy.from_input({"user_id": desk.user_id, "name": "x", **wrong})
    assert [name for name in wrong if name not in str(caught.value)] == []


@pytest.mark.parametrize("profile", RiskProfile)
def test_the_stand_in_keeps_the_rules_of_every_profile(desk: Desk, store: Store, profile: RiskProfile) -> None:
    found = in_force(store, desk.user_id, desk.strategy(risk_profile=profile).id)
    stop, _ = rule_model.STOP_AND_PROFIT_PERCENT[profile]
    assert Decimal(str(rule_model.SHARE[profile])) * 100 <= found.max_entry_percent
    assert Decimal(str(stop)) >= found.min_stop_loss_percent
