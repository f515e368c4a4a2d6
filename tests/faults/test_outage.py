"""The model's provider away from many strategies at once: each says so once, none is paused, and all come back."""

import json
import time

from tests.faults.conftest import FleetMaker, Note
from tests.support.clients.outages import (
    PATIENCE_S,
    PATIENT,
    assert_nobody_is_paused_or_restarted,
    broken,
    facts,
    logged,
    refusing,
    wait_for_all,
)


def steepest(counts: list[tuple[float, int]]) -> float:
    """The most requests a second between two looks, by time and requests so far, that are a second or more apart."""
    rates = []
    for number, (at, earlier) in enumerate(counts):
        later = next(((then, count) for then, count in counts[number:] if then - at >= 1.0), None)
        if later is not None:
            rates.append((later[1] - earlier) / (later[0] - at))
    return max(rates)


def test_a_revoked_key_is_reported_once_by_each_and_all_recover_when_it_returns(
    fleet_of: FleetMaker, measured: Note
) -> None:
    fleet = fleet_of(20, 2.0, **PATIENT)
    fleet.launch()
    refusing(fleet, 401, "invalid_api_key")
    reasons = wait_for_all(fleet, "upstream_groq")
    assert all("key refused (401 invalid_api_key" in reason for reason in reasons.values())
    fleet.wait_for(lambda: all(f["breaker"] == "open" for f in facts(fleet).values()), "open breakers", PATIENCE_S)
    fleet.order("groq")
    began = time.monotonic()
    wait_for_all(fleet, "ok")
    measured(f"20 strategies were back {time.monotonic() - began:.0f} s after the key was")
    assert_nobody_is_paused_or_restarted(fleet)
    reports = [row["strategy"] for row in logged(fleet, "cycle") if "key refused" in str(row.get("reason"))]
    assert sorted(reports) == sorted(fleet.ids)


def test_an_outage_with_100_strategies_pauses_none_and_ends_with_probes_not_a_stampede(
    fleet_of: FleetMaker, measured: Note
) -> None:
    cadence_s = 10.0
    fleet = fleet_of(100, cadence_s, SPARKY_LLM_TIMEOUT_S="5", SPARKY_CYCLE_DEADLINE_S="9", SPARKY_SIM_SPEED="1")
    fleet.launch()
    broken(fleet, kind="status", status=503)
    fleet.wait_for(lambda: all(f["breaker"] == "open" for f in facts(fleet).values()), "open breakers", 2 * PATIENCE_S)
    asked = fleet.status()["totals"]["llm_requests"]
    time.sleep(5)
    quiet = fleet.status()["totals"]["llm_requests"] - asked
    fleet.order("groq")
    counts, began = list[tuple[float, int]](), time.monotonic()

    def all_are_well() -> bool:
        status = fleet.status()
        counts.append((time.monotonic(), status["totals"]["llm_requests"]))
        mine = [status["strategies"][key] for key in fleet.ids]
        return all(cycle["breaker"] == "closed" and cycle["outcome"] == "ok" for cycle in mine)

    fleet.wait_for(all_are_well, "recovery", 2 * PATIENCE_S)
    most = steepest(counts)
    measured(
        f"outage with 100 strategies: {quiet} requests in 5 s meanwhile; recovered {time.monotonic() - began:.0f} s "
        f"after its end with at most {most:.0f} requests a second (the cadence alone makes {100 / cadence_s:g})"
    )
    assert most <= 5 * 100 / cadence_s
    assert_nobody_is_paused_or_restarted(fleet)


def test_a_restart_by_hand_ends_every_wait_after_an_outage(fleet_of: FleetMaker) -> None:
    """The provider asks for more patience than this test has: only new processes can be well in time."""
    fleet = fleet_of(4, 2.0, **PATIENT)
    fleet.launch()
    refusing(fleet, 503, "over_capacity", **{"Retry-After": "900"})
    fleet.wait_for(lambda: all(f["breaker"] == "open" for f in facts(fleet).values()), "open breakers", PATIENCE_S)
    told = facts(fleet)
    assert all(each["probe_at"] > time.time() + PATIENCE_S for each in told.values()), told
    assert all("503" in each["breaker_reason"] for each in told.values()), told
    fleet.order("groq")
    done = fleet.run("strategy", "restart", "--all", "--json")
    assert (done.returncode, len(json.loads(done.stdout))) == (0, fleet.count), done.stderr
    wait_for_all(fleet, "ok")
    assert not fleet.samples("sparky_breaker_probe_timestamp_seconds")
    assert_nobody_is_paused_or_restarted(fleet)
