"""Daily budgets of the model: those of a strategy and of the whole host, until 00:00 UTC. Pure."""

from decimal import Decimal

from engine.errors import Skip
from engine.types import StrategyContext


def budget_spent(
    context: StrategyContext, host_budget_usd: Decimal | None, more_usd: Decimal = Decimal(0)
) -> Skip | None:
    """Which daily budget is used up by what is recorded today and `more_usd`; None while there is room in both."""
    budget = context.strategy.daily_llm_budget_usd
    if budget is not None and context.llm_spent_today_usd + more_usd >= budget:
        return Skip("budget", f"today's LLM budget of {budget} USD is spent")
    if host_budget_usd is not None and context.llm_spent_today_by_all_usd + more_usd >= host_budget_usd:
        return Skip("host_budget", f"today's LLM budget of {host_budget_usd} USD for all strategies is spent")
    return None
