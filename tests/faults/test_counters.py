"""What a process has counted against its strategy survives that process."""

import json
import os
import signal

from engine.domain.strategy import StrategyStatus
from tests.faults.conftest import FleetMaker
from tests.support.servers.groq_double import completion


def test_failures_are_counted_on_across_the_death_of_the_process_that_counted_them(fleet_of: FleetMaker) -> None:
    fleet = fleet_of(1, 4.0)
    fleet.launch()
    (key,) = fleet.ids
    name = f"strategy-{key}"
    unusable = json.dumps(completion("I would rather not say."))
    fleet.order("groq", {"kind": "status", "status": 200, "body": unusable, "path": "chat/completions", "times": None})
    fleet.wait_for(lambda: fleet.status()["strategies"][key]["failures"] >= 2, "two failures")
    os.kill(fleet.living(name), signal.SIGKILL)

    def row_status() -> str:
        with fleet.store() as store:
            return next(row.status for row in store.list_strategies() if str(row.id) == key)

    fleet.wait_for(lambda: row_status() == StrategyStatus.PAUSED, "the pause")
    with fleet.store() as store:
        faults = [row for row in store.list_decisions(limit=1_000) if row.is_fault]
        paused = next(row for row in store.list_strategies() if str(row.id) == key)
    assert 5 <= len(faults) <= 6  # six when the kill came between a record and its count
    assert paused.paused_reason
    assert "crashes" not in paused.paused_reason
