"""Daily budgets of spending on the model, of one strategy and of the whole host, until 00:00 UTC. Pure."""

from dataclasses import dataclass
from decimal import Decimal

from engine.domain.strategy import StrategyContext
from engine.platform.errors import CycleSkipped, SkipKind


@dataclass
class UnrecordedSpend:
    """One strategy's spending on the model since its last record, in USD: the next record carries it, and budgets count
    it until then. It is lost with the strategy's process, which is one cycle's worth."""

    usd: Decimal = Decimal(0)


def find_spent_budget(
    context: StrategyContext, host_budget_usd: Decimal | None, more_usd: Decimal = Decimal(0)
) -> CycleSkipped | None:
    """The skip for a daily budget that today's recorded spending and `more_usd` use up; None while both have room."""
    budget = context.strategy.daily_llm_budget_usd
    if budget is not None and context.llm_spent_today_usd + more_usd >= budget:
        return CycleSkipped(SkipKind.BUDGET, f"today's LLM budget of {budget} USD is spent")
    if host_budget_usd is not None and context.llm_spent_today_by_all_usd + more_usd >= host_budget_usd:
        return CycleSkipped(
            SkipKind.HOST_BUDGET, f"today's LLM budget of {host_budget_usd} USD for all strategies is spent"
        )
    return None
