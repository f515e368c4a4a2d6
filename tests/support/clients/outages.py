"""A model's provider that misbehaves towards a fleet, and what each strategy makes of it."""

import json
import time
from typing import Any, Final

from tests.support.processes.fleet import Fleet

CHAT: Final = "chat/completions"
PATIENCE_S = 240.0
STILL = {"SPARKY_SIM_SPEED": "1"}  # the market is no part of this: its data do not grow old while the machine is busy
QUICK = {"SPARKY_LLM_TIMEOUT_S": "1.5", "SPARKY_CYCLE_DEADLINE_S": "6"} | STILL
# Where an answer that a crowded machine makes late would be another fault than the one that is told.
PATIENT = {"SPARKY_LLM_TIMEOUT_S": "60", "SPARKY_CYCLE_DEADLINE_S": "90"} | STILL


def broken(fleet: Fleet, **fault: Any) -> None:
    fleet.order("groq", {"path": CHAT, "times": None, **fault})


def refusing(fleet: Fleet, status: int, code: str, **headers: str) -> None:
    body = json.dumps({"error": {"message": "told to refuse", "type": "error", "code": code}})
    broken(fleet, kind="status", status=status, body=body, headers=headers)


def facts(fleet: Fleet) -> dict[str, dict[str, Any]]:
    known = fleet.status()["strategies"]
    return {key: known[key] for key in fleet.ids}


def wait_for_all(fleet: Fleet, outcome: str, patience_s: float = PATIENCE_S) -> dict[str, str]:
    """Until each strategy has ended a cycle with `outcome` from now on; the reasons that they gave."""
    began, seen = time.time(), dict[str, str]()

    def all_have() -> bool:
        for key, cycle in facts(fleet).items():
            if cycle["at"] > began and cycle["outcome"] == outcome:
                seen[key] = str(cycle["reason"])
        return len(seen) == fleet.count

    fleet.wait_for(all_have, f"{outcome} of every strategy, seen of {len(seen)}", patience_s)
    return seen


def requests(fleet: Fleet, outcome: str) -> float:
    return sum(value for (_, kind), value in fleet.samples("sparky_llm_requests_total").items() if kind == outcome)


def logged(fleet: Fleet, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in fleet.log_path.read_text().splitlines() if line.startswith("{")]
    return [row for row in lines if row["event"] == event]


def assert_nobody_is_paused_or_restarted(fleet: Fleet) -> None:
    with fleet.store() as store:
        assert "paused" not in {row.status for row in store.list_strategies()}
    assert {child["restarts"] for child in fleet.strategies().values()} == {0}
