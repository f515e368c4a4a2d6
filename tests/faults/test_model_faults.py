"""Everything that a model's provider does wrong, to real strategies in processes of their own: named for what it is,
blamed on nobody, and over when it is over."""

import json
import time
from collections import Counter
from collections.abc import Container, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from uuid import UUID

import pytest

from tests.faults.conftest import FleetMaker
from tests.support.clients.outages import (
    CHAT,
    PATIENCE_S,
    PATIENT,
    QUICK,
    assert_nobody_is_paused_or_restarted,
    broken,
    facts,
    logged,
    requests,
    wait_for_all,
)
from tests.support.processes.directories import short_directory
from tests.support.processes.fleet import Fleet, launched
from tests.support.servers.groq_double import completion

DATE = "an HTTP date 3 s from now"


@pytest.fixture(scope="module")
def three() -> Iterator[Fleet]:
    """Three strategies a second; every test leaves them well."""
    with short_directory() as root, launched(Fleet(root / "home", 3, 1.0, **QUICK)) as running:
        yield running


FAULTS: dict[str, tuple[str, dict[str, Any]]] = {
    "429 with 2 s": ("rate_limited", {"kind": "status", "status": 429, "headers": {"retry-after": "2"}}),
    "429 with a date": ("rate_limited", {"kind": "status", "status": 429, "headers": {"retry-after": DATE}}),
    "429 with garbage": ("rate_limited", {"kind": "status", "status": 429, "headers": {"retry-after": "soon, maybe"}}),
    "498": ("server_error", {"kind": "status", "status": 498}),
    "500": ("server_error", {"kind": "status", "status": 500}),
    "502": ("server_error", {"kind": "status", "status": 502, "body": "<html>Bad gateway</html>"}),
    "503": ("server_error", {"kind": "status", "status": 503}),
    "a hang": ("timeout", {"kind": "hang", "seconds": 30}),
    "one byte a second": ("timeout", {"kind": "drip", "seconds": 1}),
    "a reset": ("unreachable", {"kind": "reset"}),
    "a truncated body": ("unreachable", {"kind": "truncate"}),
    "a huge body": ("server_error", {"kind": "huge", "size": 8 * 1024 * 1024}),
}


@pytest.mark.parametrize("name", FAULTS)
def test_it_is_named_blamed_on_nobody_and_over_when_it_is_over(three: Fleet, name: str) -> None:
    outcome, fault = FAULTS[name]
    if fault.get("headers", {}).get("retry-after") == DATE:
        fault = fault | {"headers": {"retry-after": format_datetime(datetime.now(UTC) + timedelta(seconds=3))}}
    before = requests(three, outcome)
    broken(three, **fault)
    wait_for_all(three, "upstream_groq")  # on a crowded machine some of them for the time alone that an answer took
    three.wait_for(lambda: requests(three, outcome) > before, f"a request that ended as {outcome}", PATIENCE_S)
    three.order("groq")
    wait_for_all(three, "ok")
    assert_nobody_is_paused_or_restarted(three)


LONG = (
    '{"action":"LONG","symbol":"BTCUSDT","size_usd":100,"confidence":0.9,"reasoning":"x",'
    '"stop_loss_percent":1.5,"take_profit_percent":3}'
)
DRAFT = f"<|channel|>analysis<|message|>Candidate: {LONG} but the right answer is HOLD. Let me double-check RSI"


def drafts(fleet: Fleet, known: Container[UUID] = ()) -> dict[UUID, str | None]:
    """What became of each decision that was made of a draft, but for those that are `known`."""
    with fleet.store() as store:
        stories = [store.get_decision_trace(row.id) for row in store.list_decisions(limit=200)]
    made = [story.decision for story in stories if story is not None and story.decision.raw_answer == DRAFT]
    return {decision.id: decision.signal_action for decision in made if decision.id not in known}


def some_drafts(fleet: Fleet, edit: dict[str, object]) -> bool:
    """Answers with drafts, but fewer than the five faults in a row after which a strategy is paused: all may go to one
    strategy while the others wait for the machine."""
    fleet.order("groq", {"path": CHAT, "kind": "edit", "replace": edit, "times": 4})
    fleet.wait_for(lambda: fleet.faults_left("groq") == 0, "every draft being sent")
    wait_for_all(fleet, "ok")
    return True


@pytest.mark.parametrize("finish", ["length", "stop"])
def test_a_draft_is_never_traded_by_anybody(three: Fleet, finish: str) -> None:
    with three.store() as store:
        before = len(store.list_signals(limit=1_000))
    known = drafts(three)
    edit = {"choices.0.message.content": DRAFT, "choices.0.finish_reason": finish, "usage.completion_tokens": 800}
    if finish == "length":
        broken(three, kind="edit", replace=edit)
        wait_for_all(three, "cut")
    else:
        three.wait_for(
            lambda: some_drafts(three, edit) and drafts(three, known), "a draft that is recorded", PATIENCE_S
        )
    three.order("groq")
    wait_for_all(three, "ok")  # what began with a draft has ended
    with three.store() as store:
        sent = store.list_signals(limit=1_000)
    found = drafts(three, known)
    assert set(found.values()) == {"HOLD"}
    assert not found.keys() & {signal.id for signal in sent[: len(sent) - before]}
    assert_nobody_is_paused_or_restarted(three)


def test_cuts_are_told_with_their_tokens_and_pause_nobody_however_long_they_last(three: Fleet) -> None:
    body = {"error": {"message": "max completion tokens reached", "code": "json_validate_failed"}}
    broken(three, kind="status", status=400, body=json.dumps(body))
    reasons = wait_for_all(three, "cut")
    assert all("cut off after" in reason and "tokens" in reason for reason in reasons.values())
    three.wait_for(lambda: all(f["breaker"] == "open" for f in facts(three).values()), "open breakers")
    assert_nobody_is_paused_or_restarted(three)
    three.order("groq")
    wait_for_all(three, "ok")
    assert_nobody_is_paused_or_restarted(three)


@pytest.mark.parametrize(
    "use", [None, {"prompt_tokens": 3_000_000_000, "completion_tokens": 5.5}, {"prompt_tokens": "many"}]
)
def test_a_decision_counts_and_is_paid_for_whatever_is_said_of_its_use(three: Fleet, use: object) -> None:
    broken(three, kind="edit", replace={"usage": use})
    wait_for_all(three, "ok")
    with three.store() as store:
        rows = store.list_decisions(limit=3)
    assert all(row.cost_usd is not None and row.cost_usd > 0 for row in rows)
    three.order("groq")
    wait_for_all(three, "ok")
    assert_nobody_is_paused_or_restarted(three)


def test_an_answer_of_another_schema_is_asked_for_again_and_counts_as_the_strategys_fault(three: Fleet) -> None:
    body = json.dumps(completion('{"decision": "up"}'))
    three.order("groq", {"path": CHAT, "times": 6, "kind": "status", "status": 200, "body": body})

    def faults() -> list[Any]:
        with three.store() as store:
            stories = [store.get_decision_trace(row.id) for row in store.list_decisions(limit=60) if row.is_fault]
        rows = [story.decision for story in stories if story is not None]
        return [row for row in rows if row.raw_answer == '{"decision": "up"}']

    kept = three.wait_for(faults, "a recorded fault")[0]
    assert (kept.signal_action, kept.reason) == ("HOLD", "unknown field 'decision'")
    assert len(kept.decision_json["calls"]) == 2
    wait_for_all(three, "ok")
    assert_nobody_is_paused_or_restarted(three)


def test_a_wish_of_two_minutes_is_kept_by_everybody_and_is_no_failure(three: Fleet) -> None:
    wish = {"kind": "status", "status": 429, "headers": {"retry-after": "120"}, "path": CHAT, "times": 1}
    began, before = time.monotonic(), requests(three, "rate_limited")
    three.order("groq", wish)
    three.wait_for(lambda: requests(three, "rate_limited") > before, "a refusal")
    wait_for_all(three, "skip_no_permit")  # whatever had been under way is over
    asked = three.status()["totals"]["llm_requests"]
    while time.monotonic() < began + 100:
        assert three.status()["totals"]["llm_requests"] == asked
        time.sleep(1)
    wait_for_all(three, "ok")
    assert time.monotonic() > began + 119
    assert all(cycle["failures"] == 0 for cycle in facts(three).values())


def test_a_model_that_is_gone_is_replaced_by_the_next_one_and_told_once(fleet_of: FleetMaker) -> None:
    fleet = fleet_of(3, 1.0, GROQ_MODEL="llama-3.3-70b-versatile,llama-3.1-70b-versatile,openai/gpt-oss-20b", **PATIENT)
    fleet.launch()
    wait_for_all(fleet, "ok")
    wait_for_all(fleet, "ok")
    told = Counter(row["model"] for row in logged(fleet, "model_gone"))
    assert told == {"llama-3.3-70b-versatile": 1, "llama-3.1-70b-versatile": 1}


def test_without_another_model_everybody_says_where_to_name_one_and_nobody_is_paused(fleet_of: FleetMaker) -> None:
    fleet = fleet_of(3, 1.0, GROQ_MODEL="llama-3.3-70b-versatile", **PATIENT)
    fleet.launch(is_well=False)
    fleet.wait_for(lambda: all(f["breaker"] == "open" for f in facts(fleet).values()), "open breakers")
    told = [row for row in logged(fleet, "cycle") if row.get("strategy") in fleet.ids]
    assert sorted(row["strategy"] for row in told) == sorted(fleet.ids)
    assert all("no model of GROQ_MODEL is available, name another one there" in row["reason"] for row in told)
    assert_nobody_is_paused_or_restarted(fleet)
