"""The limiter as an actor: grants at once or when there is room, and never forgets an asker."""

import time
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from actors.messages import (
    AcquirePermit,
    LimiterState,
    LlmDemand,
    LlmDemandReport,
    Permit,
    PriorLlmRequests,
    PriorLlmUsage,
    ReleasePermit,
)
from actors.rate_limiter import make
from actors.runtime.messages import ChildEnded, ErrorReply
from actors.strategy_process_names import build_process_name
from engine.platform.errors import CycleSkipped
from engine.platform.settings.settings import Settings
from tests.support.clients.local_peers import LocalPeers

MODEL = "openai/gpt-oss-120b"
PATIENCE_S = 120.0


def ask(peers: LocalPeers, *, strategy: UUID | None = None, tokens: int = 100, within_s: float = PATIENCE_S) -> Permit:
    """The permit. Raises as `MessageClient` does, but waits for the answer however late it is on a busy machine."""
    strategy_id, answer = strategy or uuid4(), None
    while answer is None:  # None: the ask came after its own deadline, and was dropped
        message = AcquirePermit(
            strategy_id=strategy_id, model=MODEL, tokens=tokens, deadline=time.monotonic() + within_s
        )
        answer = peers.refs["limiter"].ask(message, block=False).get(timeout=PATIENCE_S)
    if isinstance(answer, ErrorReply):
        raise answer.to_exception()
    assert isinstance(answer, Permit)
    return answer


def start(peers: LocalPeers, home: Path, **limits: Any) -> None:
    settings = Settings(sparky_home=home, **limits)
    peers.start("limiter", lambda: make(settings, peers, ""))


def state(peers: LocalPeers) -> LimiterState:
    seen = len(peers.of(LimiterState))
    return peers.wait_for(LimiterState, count=seen + 2)[-1]


def test_a_permit_is_granted_at_once_while_there_is_room(peers: LocalPeers, home: Path) -> None:
    start(peers, home)
    assert ask(peers).waited_s == 0


def test_who_waits_is_served_as_soon_as_a_permit_comes_back(peers: LocalPeers, home: Path) -> None:
    start(peers, home, sparky_llm_concurrency=1)
    first = ask(peers)
    message = AcquirePermit(strategy_id=uuid4(), model=MODEL, tokens=1, deadline=time.monotonic() + PATIENCE_S)
    waiting = peers.refs["limiter"].ask(message, block=False)
    peers.tell("limiter", ReleasePermit(permit_id=first.permit_id, model=MODEL, tokens=10))
    assert isinstance(waiting.get(timeout=PATIENCE_S), Permit)


def test_no_permit_in_time_is_said_before_the_asker_gives_up(peers: LocalPeers, home: Path) -> None:
    start(peers, home, sparky_llm_rpm=1)
    ask(peers)
    with pytest.raises(CycleSkipped, match=r"no permit for .* in time") as refused:
        ask(peers, within_s=0.5)
    assert refused.value.kind == "no_permit"


def test_a_request_that_can_never_be_granted_is_refused_at_once(peers: LocalPeers, home: Path) -> None:
    start(peers, home, sparky_llm_tpm=1_000)
    with pytest.raises(CycleSkipped, match="more than the limit of 1000") as refused:
        ask(peers, tokens=1_001)
    assert refused.value.kind == "too_large"


def test_announced_limits_and_refusals_hold_everybody_back(peers: LocalPeers, home: Path) -> None:
    start(peers, home)
    permit = ask(peers)
    release = ReleasePermit(
        permit_id=permit.permit_id, model=MODEL, tokens=0, tokens_per_minute=8_000, requests_per_day=1_000
    )
    peers.tell("limiter", release.model_copy(update={"refused": True, "retry_after_s": 60.0}))
    with pytest.raises(CycleSkipped, match="Groq refuses until") as refused:
        ask(peers, within_s=0.3)
    assert 0 < (refused.value.retry_after_s or 0) <= 60
    assert state(peers).limit == {"rpm": 30, "tpm": 8_000, "rpd": 1_000, "concurrency": 16}


def test_a_model_that_is_gone_is_told_once_and_nobody_else_has_to_ask_for_it(
    peers: LocalPeers, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start(peers, home)
    for permit in [ask(peers), ask(peers)]:  # both were under way when the first one heard it
        peers.tell(
            "limiter", ReleasePermit(permit_id=permit.permit_id, model=MODEL, tokens=0, gone="404: no such model")
        )
    with pytest.raises(CycleSkipped, match="404: no such model") as refused:
        ask(peers)
    assert refused.value.kind == "model_gone"
    assert state(peers).gone == "404: no such model"
    peers.tell("limiter", ReleasePermit(permit_id=uuid4(), model=MODEL, tokens=100, is_served=True))
    ask(peers)
    assert state(peers).gone is None
    peers.stop()
    said = capsys.readouterr().out
    assert (said.count("model_gone"), said.count("model_recovered")) == (1, 1)


def test_announced_limits_are_known_to_a_restarted_limiter_from_the_start(peers: LocalPeers, home: Path) -> None:
    start(peers, home)
    release = ReleasePermit(permit_id=ask(peers).permit_id, model=MODEL, tokens=0, tokens_per_minute=8_000)
    peers.tell("limiter", release)
    state(peers)
    peers.stop_one("limiter")
    start(peers, home)
    ask(peers, tokens=7_000)
    with pytest.raises(CycleSkipped, match="no permit"):
        ask(peers, tokens=7_000, within_s=0.3)


def test_a_strategy_that_ended_frees_its_permit_and_its_place(peers: LocalPeers, home: Path) -> None:
    start(peers, home, sparky_llm_concurrency=1)
    dead, other = uuid4(), uuid4()
    ask(peers, strategy=dead)
    message = AcquirePermit(strategy_id=other, model=MODEL, tokens=1, deadline=time.monotonic() + PATIENCE_S)
    waiting = peers.refs["limiter"].ask(message, block=False)
    peers.tell("limiter", ChildEnded(name=build_process_name(dead), at=time.monotonic()))
    assert isinstance(waiting.get(timeout=PATIENCE_S), Permit)
    peers.refs["limiter"].ask(message.model_copy(update={"strategy_id": dead}), block=False)
    peers.tell("limiter", ChildEnded(name=build_process_name(dead), at=time.monotonic() + 1))
    assert state(peers).queue_length == 0


def test_the_monitor_hears_of_queue_and_use(peers: LocalPeers, home: Path) -> None:
    start(peers, home, sparky_llm_rpm=1)
    ask(peers, tokens=500)
    message = AcquirePermit(strategy_id=uuid4(), model=MODEL, tokens=1, deadline=time.monotonic() + PATIENCE_S)
    peers.refs["limiter"].ask(message, block=False)
    told = state(peers)
    assert (told.model, told.queue_length) == (MODEL, 1)
    assert told.used == {"rpm": 1, "tpm": 500, "rpd": 1, "tpd": 500, "concurrency": 1}


def test_a_restarted_limiter_does_not_grant_the_same_minute_twice(peers: LocalPeers, home: Path) -> None:
    start(peers, home, sparky_llm_rpm=2)
    ask(peers)
    ask(peers)
    peers.stop_one("limiter")
    start(peers, home, sparky_llm_rpm=2)
    with pytest.raises(CycleSkipped, match="no permit"):
        ask(peers, within_s=0.3)


def test_what_the_limit_cannot_carry_is_said_once_with_need_limit_and_cadence(
    peers: LocalPeers, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start(peers, home, sparky_llm_rpm=30, groq_model=("gone", MODEL))
    ask(peers)  # of the second one: the first one is not served
    own = LlmDemand(model="own", cadence_s=45, strategies=1)
    peers.tell("limiter", LlmDemandReport(demands=(LlmDemand(model=None, cadence_s=45, strategies=100), own)))
    wanted = peers.wait_for(LimiterState, lambda s: s.need_rpm not in (None, 0), count=4)
    states = {each.model: each for each in wanted}
    assert set(states) == {MODEL, "own"}
    crowded = states[MODEL]
    assert crowded.need_rpm == pytest.approx(133.33, abs=0.01)
    assert (crowded.limit_rpm, crowded.limited_by) == (30, "rpm")
    assert crowded.effective_cadence_s == pytest.approx(200.0)
    assert states["own"].effective_cadence_s is None
    peers.tell("limiter", LlmDemandReport(demands=(own,)))
    peers.wait_for(LimiterState, lambda s: s.model == MODEL and s.need_rpm == 0, count=2)
    peers.stop()
    said = capsys.readouterr().out
    assert said.count("capacity_exceeded") == said.count("capacity_sufficient") == 1
    assert "effective_cadence_s=200.0" in said


def test_capacity_is_announced_from_what_is_reserved(peers: LocalPeers, home: Path) -> None:
    """A request that may use 7,000 of 8,000 tokens a minute lets one other of 1,000 in before it, whatever it uses."""
    start(peers, home, sparky_llm_tpm=8_000)
    peers.tell("limiter", LlmDemandReport(demands=(LlmDemand(model=None, cadence_s=15, strategies=1),)))
    permit = ask(peers, tokens=7_000)
    peers.tell("limiter", ReleasePermit(permit_id=permit.permit_id, model=MODEL, tokens=1_000))
    told = state(peers)
    assert told.limit_rpm == pytest.approx(2.0)
    assert told.limited_by == "tpm"


def test_a_restarted_limiter_counts_what_was_used_and_not_what_was_reserved(peers: LocalPeers, home: Path) -> None:
    start(peers, home)
    permit = ask(peers, tokens=3_000)
    peers.tell("limiter", ReleasePermit(permit_id=permit.permit_id, model=MODEL, tokens=900))
    state(peers)
    peers.stop_one("limiter")
    start(peers, home)
    assert state(peers).used["tpd"] == 900


def test_what_another_hosts_engine_asked_counts_in_the_minute_and_outlives_the_limiter(
    peers: LocalPeers, home: Path
) -> None:
    start(peers, home, sparky_llm_rpm=2)
    asked = PriorLlmRequests(model=MODEL, at=time.monotonic() - 10, requests=2, tokens=100)
    peers.tell("limiter", PriorLlmUsage(asked=(asked,)))
    with pytest.raises(CycleSkipped, match="no permit"):
        ask(peers, within_s=0.3)
    peers.stop_one("limiter")
    start(peers, home, sparky_llm_rpm=2)
    with pytest.raises(CycleSkipped, match="no permit"):
        ask(peers, within_s=0.3)
