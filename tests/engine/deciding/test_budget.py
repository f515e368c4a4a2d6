"""What may be spent on the model: by one strategy, by the host, and what no record holds yet."""

from decimal import Decimal

from engine.deciding.budget import UnrecordedSpend
from engine.llm.llm_call import LlmOutcome
from engine.platform.errors import DatabaseUnavailable
from tests.engine.deciding.cycle_world import World, failed
from tests.engine.deciding.examples import a_context, a_strategy


def test_what_a_cycle_spent_without_a_record_counts_in_the_budget_and_is_in_the_next_record() -> None:
    unrecorded = UnrecordedSpend()
    lost = failed(LlmOutcome.TIMEOUT, worst_case_cost_usd=Decimal("0.0007"))
    World(calls=[lost]).run(max_attempts=1, unrecorded=unrecorded)
    World(record_error=DatabaseUnavailable("away")).run(unrecorded=unrecorded)
    assert unrecorded.usd == Decimal("0.0009")
    frugal = a_context(a_strategy(daily_llm_budget_usd=Decimal("0.0009")))
    assert World(context=frugal).run(unrecorded=unrecorded).outcome == "skip_budget"
    world = World()
    world.run(unrecorded=unrecorded)
    world.run(unrecorded=unrecorded)
    assert [record.cost_usd for record in world.records] == [Decimal("0.0011"), Decimal("0.0002")]


def test_a_spent_budget_skips_before_anybody_is_asked() -> None:
    strategy = a_strategy(daily_llm_budget_usd=Decimal("0.50"))
    world = World(context=a_context(strategy, llm_spent_today_usd=Decimal("0.50")))
    assert world.run().outcome == "skip_budget"
    assert world.prompts == []
    assert World(context=a_context(strategy, llm_spent_today_usd=Decimal("0.49"))).run().outcome == "ok"


def test_the_hosts_budget_counts_what_all_strategies_have_spent() -> None:
    world = World(context=a_context(llm_spent_today_by_all_usd=Decimal("5.00")))
    assert world.run(host_budget_usd=Decimal("5.00")).outcome == "skip_host_budget"
    assert world.prompts == []
    assert world.run(host_budget_usd=Decimal("5.01")).outcome == "ok"


def test_a_budget_that_cannot_be_kept_for_want_of_a_price_is_a_fault() -> None:
    strategy = a_strategy(daily_llm_budget_usd=Decimal(1), model="unpriced")
    outcome = World(context=a_context(strategy)).run()
    assert outcome.outcome == "fault"
    assert "no price for unpriced" in (outcome.reason or "")
