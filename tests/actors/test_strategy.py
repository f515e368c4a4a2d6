"""A strategy's actor with everything real around it: PostgreSQL, limiter, market, and both simulators over HTTP."""

import time
from contextlib import closing
from typing import Any, cast

import psycopg
import pytest
from pydantic import SecretStr

from actors.messages import CycleFinished, LlmCalled, SignalQueued, StrategyChanged
from actors.runtime.messages import Tick
from actors.strategy import make
from engine.deciding.circuit_breaker import Breaker
from engine.deciding.circuit_breaker_file import BreakerFile
from engine.domain.strategy import StrategyStatus
from engine.store.store import open_store
from tests.actors.scene import MakeScene
from tests.support.servers.groq_double import Answer, GroqDouble, error, ok

NONSENSE = ok("I would rather not say.")
HOLD = ok('{"action":"HOLD","symbol":null,"size_usd":0,"confidence":0,"reasoning":""}')


def test_a_cycle_goes_from_the_market_to_a_recorded_decision_and_its_signal(scene: MakeScene, aster_url: str) -> None:
    here = scene(sparky_market_url=aster_url)  # where the market moves on until the rule sees an entry
    strategy_id = here.strategy(risk_profile="aggressive", min_confidence=0)
    here.run(strategy_id)
    finished = here.peers.wait_for(CycleFinished, lambda c: c.signal_id is not None)[0]
    assert finished.outcome == "ok"
    assert finished.action in ("LONG", "SHORT")
    assert 0 <= finished.engine_s < finished.duration_s
    assert finished.next_tick_at > finished.at
    assert here.peers.of(SignalQueued)[0].signal_id == finished.signal_id
    assert finished.signal_id is not None
    story = here.store.get_decision_trace(finished.signal_id)
    assert story is not None
    assert story.decision.signal_action == finished.action
    assert story.decision.raw_answer
    assert story.decision.market is not None
    (symbol,) = story.decision.market["symbols"]
    assert len(symbol["candles"]) == 10
    assert symbol["indicators"]["rsi_14"] is not None
    called = here.peers.wait_for(LlmCalled)[0]
    assert (called.outcome, called.model) == ("ok", "openai/gpt-oss-120b")
    assert called.cost_usd > 0
    (signal,) = [s for s in here.store.list_signals(strategy_id) if s.id == finished.signal_id]
    assert signal.symbol == "BTCUSDT"


def test_five_unusable_answers_are_recorded_and_pause_the_row(scene: MakeScene) -> None:
    with GroqDouble(NONSENSE) as groq:
        here = scene(groq.url)
        strategy_id = here.strategy()
        actor = here.run(strategy_id)
        cycles = here.cycles(5, "fault")
        here.peers.stop_one(f"strategy-{strategy_id}")
    assert [cycle.failures for cycle in cycles] == [1, 2, 3, 4, 5]
    assert actor.is_done
    assert here.status(strategy_id) == ("paused", "5 failures without a success: 5 \u00d7 no JSON object in the answer")
    decisions = here.store.list_decisions(strategy_id)
    assert [d.signal_action for d in decisions] == ["HOLD"] * 5
    assert all(d.is_fault for d in decisions)
    assert BreakerFile(here.settings.sparky_home, strategy_id).load().breaker == Breaker()


def test_an_outage_of_the_provider_opens_the_breaker_and_pauses_nobody(scene: MakeScene) -> None:
    with GroqDouble(error(503, headers={"retry-after": "3600"})) as groq:  # no second attempt within the cycle
        here = scene(groq.url)
        strategy_id = here.strategy()
        actor = here.run(strategy_id)
        failed = here.cycles(5, "upstream_groq")
        cooling = here.cycles(1, "skip_breaker_open")[0]
        here.peers.stop_one(f"strategy-{strategy_id}")
    assert "503" in (failed[-1].reason or "")
    assert (failed[-1].breaker, cooling.breaker, cooling.failures) == ("open", "open", 5)
    assert not actor.is_done
    assert here.status(strategy_id) == ("running", None)
    assert here.store.list_decisions(strategy_id) == ()
    kept = BreakerFile(here.settings.sparky_home, strategy_id).load().breaker
    assert (kept.state, kept.failures) == ("open", 5)


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (error(401, "invalid_api_key"), "key refused"),
        (error(404, "model_not_found"), "name another one there"),
        (error(400, "invalid_request_error"), "400"),
    ],
)
def test_what_is_wrong_for_all_strategies_is_no_ones_own_fault(scene: MakeScene, answer: Answer, word: str) -> None:
    with GroqDouble(answer) as groq:
        here = scene(groq.url)
        here.run(here.strategy())
        failed = here.cycles(1)[0]
    assert failed.outcome == "upstream_groq"
    assert word in (failed.reason or "")


def test_the_failure_counter_survives_the_process_and_a_success_clears_it(scene: MakeScene) -> None:
    with GroqDouble(NONSENSE) as groq:
        here = scene(groq.url)
        strategy_id = here.strategy()
        here.run(strategy_id)
        here.cycles(2, "fault")
        here.peers.stop_one(f"strategy-{strategy_id}")
        before = max(cycle.failures for cycle in here.peers.of(CycleFinished))
        assert before < 5
        groq.answers = [NONSENSE, NONSENSE, HOLD]  # the first cycle asks twice
        here.run(strategy_id)
        assert here.peers.wait_for(CycleFinished, lambda c: c.failures == before + 1)
        cured = here.cycles(1, "ok")[0]
        here.peers.stop_one(f"strategy-{strategy_id}")
    assert (cured.failures, cured.breaker) == (0, "closed")


def test_a_missing_model_is_replaced_by_the_next_one_named(scene: MakeScene) -> None:
    here = scene(groq_model="llama-3.1-70b-versatile,openai/gpt-oss-20b")
    here.run(here.strategy())
    here.cycles(1, "ok")
    assert [call.outcome for call in here.peers.of(LlmCalled)][:2] == ["model_gone", "ok"]
    assert here.peers.of(LlmCalled)[1].model == "openai/gpt-oss-20b"


def test_a_failed_call_is_tried_again_within_the_cycle(scene: MakeScene) -> None:
    hold = ok('{"action":"HOLD","symbol":null,"size_usd":0,"confidence":0,"reasoning":""}')
    with GroqDouble(error(500), error(502), hold) as groq:
        here = scene(groq.url)
        here.run(here.strategy())
        first = here.cycles(1)[0]
    assert first.outcome == "ok"
    assert [call.outcome for call in here.peers.of(LlmCalled)][:3] == ["server_error", "server_error", "ok"]


def test_an_unusable_answer_is_mended_by_the_model_once_it_is_shown_it(scene: MakeScene) -> None:
    with GroqDouble(NONSENSE, HOLD) as groq:
        here = scene(groq.url)
        strategy_id = here.strategy(custom_prompt="Prefer longs.")
        here.run(strategy_id)
        first = here.cycles(1)[0]
    assert (first.outcome, first.failures) == ("ok", 0)
    roles = [message["role"] for message in groq.requests[1]["messages"]]
    assert roles == ["system", "user", "assistant", "user"]
    assert groq.requests[1]["messages"][:2] == groq.requests[0]["messages"]
    assert "no JSON object in the answer" in groq.requests[1]["messages"][3]["content"]
    story = here.store.get_decision_trace(here.store.list_decisions(strategy_id)[-1].id)
    assert story is not None
    assert story.decision.decision_json is not None
    assert [call["answer"] for call in story.decision.decision_json["calls"]] == ["I would rather not say.", None]
    assert "Prefer longs." in story.decision.decision_json["notes"]


@pytest.mark.usefixtures("one_day")
def test_the_hosts_budget_stops_all_and_fails_none(scene: MakeScene) -> None:
    here = scene(sparky_daily_llm_budget_usd="0.00000001")
    one, other = here.strategy(), here.strategy(name="Other")
    here.run(one)
    here.cycles(1, "skip_host_budget")
    here.run(other)
    skipped = here.peers.wait_for(CycleFinished, lambda c: c.strategy_id == other)[0]
    assert (skipped.outcome, skipped.failures) == ("skip_host_budget", 0)
    assert len(here.store.list_decisions(one)) == 1
    assert here.store.list_decisions(other) == ()


def test_resuming_a_row_clears_its_history_whoever_saw_it_paused(scene: MakeScene) -> None:
    with GroqDouble(NONSENSE) as groq:
        here = scene(groq.url)
        strategy_id = here.strategy()
        here.run(strategy_id)
        here.cycles(2, "fault")
        here.peers.stop_one(f"strategy-{strategy_id}")
        assert BreakerFile(here.settings.sparky_home, strategy_id).load().breaker.faults >= 2
        here.store.set_strategy_status(strategy_id, StrategyStatus.PAUSED)
        here.store.set_strategy_status(strategy_id, StrategyStatus.RUNNING)
        seen = len(here.peers.of(CycleFinished))
        here.run(strategy_id)
        again = here.peers.wait_for(CycleFinished, count=seen + 1)[seen]
    assert (again.outcome, again.failures) == ("fault", 1)


def test_a_trouble_is_reported_once_until_it_is_over(scene: MakeScene, capsys: pytest.CaptureFixture[str]) -> None:
    refused = error(400, "invalid_request_error", message="no such parameter")
    with GroqDouble(refused, refused, HOLD, refused) as groq:
        here = scene(groq.url)
        here.run(here.strategy())
        here.cycles(1, "ok")
        failed = here.cycles(4, "upstream_groq")
    assert all("no such parameter" in (cycle.reason or "") for cycle in failed)
    here.peers.stop()
    assert capsys.readouterr().out.count("no such parameter") == 2  # once before it worked, once after


@pytest.mark.usefixtures("one_day")
def test_a_spent_budget_skips_cycles_and_is_no_failure(scene: MakeScene) -> None:
    here = scene()
    strategy_id = here.strategy(daily_llm_budget_usd="0.00000001")
    here.run(strategy_id)
    skipped = here.cycles(2, "skip_budget")
    assert skipped[-1].failures == 0
    assert len(here.store.list_decisions(strategy_id)) == 1


def test_an_unknown_symbol_is_the_rows_own_fault(scene: MakeScene) -> None:
    here = scene()
    strategy_id = here.strategy(target_assets=("NOSUCHUSDT",))
    here.run(strategy_id)
    failed = here.cycles(1, "fault")[0]
    assert "NOSUCHUSDT" in (failed.reason or "")
    assert failed.failures == 1


def test_a_database_that_is_away_is_waited_for(scene: MakeScene, database_url: str) -> None:
    here = scene()
    strategy_id = here.strategy()
    here.settings = here.settings.model_copy(update={"database_url": SecretStr("host=/nowhere dbname=none")})
    actor = here.run(strategy_id)
    failed = here.cycles(1, "upstream_database")[0]
    assert (failed.failures, failed.breaker) == (1, "closed")
    assert not actor.is_done


def test_a_row_that_is_not_running_ends_its_actor(scene: MakeScene) -> None:
    here = scene()
    strategy_id = here.strategy(status="paused")
    here.run(strategy_id)
    here.peers.wait_for_end(f"strategy-{strategy_id}")
    assert here.peers.of(CycleFinished) == []


def test_a_changed_cadence_is_followed_without_waiting_for_the_old_one(scene: MakeScene, database_url: str) -> None:
    here = scene()
    strategy_id = here.silent_strategy()
    actor = make(here.settings, here.peers, str(strategy_id))
    ref = here.peers.start("strategy", lambda: actor, ticking=False)
    assert cast("float", ref.ask(Tick())) > time.monotonic() + 1
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("update ai_strategies set cadence_seconds = 2 where id = %s", (strategy_id,))
    changed = StrategyChanged(revision="2")
    ref.tell(changed)
    assert actor.should_tick_now(changed)
    assert cast("float", ref.ask(Tick())) <= time.monotonic() + 2


def test_a_stopping_strategy_abandons_its_cycle_and_records_nothing(scene: MakeScene) -> None:
    with GroqDouble(ok("{}")) as groq:
        here = scene(groq.url)
        strategy_id = here.strategy()
        actor = here.run(strategy_id)

        def stop_then_answer(handler: Any) -> None:
            assert actor.commit_gate.close(5.0)
            ok('{"action":"HOLD","symbol":null,"size_usd":0,"confidence":0,"reasoning":""}')(handler)

        groq.answers = [stop_then_answer]
        abandoned = here.cycles(1, "abandoned")[0]
    assert abandoned.failures == 0
    assert here.store.list_decisions(strategy_id) == ()


def test_an_automatic_pause_is_a_warning_that_says_how_often_what_failed(
    scene: MakeScene, capsys: pytest.CaptureFixture[str]
) -> None:
    other = ok('{"decision": "up"}')
    with GroqDouble(NONSENSE, NONSENSE, other, other, NONSENSE) as groq:
        here = scene(groq.url)
        strategy_id = here.strategy()
        here.run(strategy_id)
        here.cycles(5, "fault")
        here.peers.stop_one(f"strategy-{strategy_id}")
    status, reason = here.status(strategy_id)
    assert status == "paused"
    assert reason is not None
    assert reason.startswith("5 failures without a success")
    assert "4 \u00d7 no JSON object in the answer" in reason
    assert "1 \u00d7 unknown field 'decision'" in reason
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "strategy_paused" in line]
    assert "warning" in line
    assert "4 \u00d7" in line


def test_a_changed_row_that_cannot_be_read_at_first_makes_no_tick_of_its_own(scene: MakeScene) -> None:
    """Its row is read before the next tick of its grid, which is hours away; nothing is decided before that."""
    here = scene()
    strategy_id = here.silent_strategy()
    actor = make(here.settings, here.peers, str(strategy_id))
    ref = here.peers.start("strategy", lambda: actor, ticking=False)
    due = cast("float", ref.ask(Tick()))
    nowhere = here.settings.model_copy(update={"database_url": SecretStr("host=/nowhere dbname=none")})
    real = actor._store
    with closing(open_store(nowhere, keep=False)) as actor._store:
        ref.tell(StrategyChanged(revision="2"))
        assert cast("float", ref.ask(Tick())) < due
    actor._store = real
    assert cast("float", ref.ask(Tick())) == due
    assert [cycle.outcome for cycle in here.peers.of(CycleFinished)] == ["upstream_database"]
