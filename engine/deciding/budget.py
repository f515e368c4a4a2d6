"""What the model was paid for and no record tells: kept until the next record carries it, so that budgets see it."""

from dataclasses import dataclass
from decimal import Decimal

from engine.domain.strategy import StrategyContext
from engine.platform.errors import CycleSkipped, SkipKind


@dataclass
class UnrecordedSpend:
    """One strategy's spending since its last record, in USD; lost with its process, which is one cycle's worth."""

    usd: Decimal = Decimal(0)


# Daily budgets of the model: those of a strategy and of the whole host, until 00:00 UTC. Pure.


def find_spent_budget(
    context: StrategyContext, host_budget_usd: Decimal | None, more_usd: Decimal = Decimal(0)
) -> CycleSkipped | None:
    """Which daily budget is used up by what is recorded today and `more_usd`; None while there is room in both."""
    budget = context.strategy.daily_llm_budget_usd
    if budget is not None and context.llm_spent_today_usd + more_usd >= budget:
        return CycleSkipped(SkipKind.BUDGET, f"today's LLM budget of {budget} USD is spent")
    if host_budget_usd is not None and context.llm_spent_today_by_all_usd + more_usd >= host_budget_usd:
        return CycleSkipped(
            SkipKind.HOST_BUDGET, f"today's LLM budget of {host_budget_usd} USD for all strategies is spent"
        )
    return None
