"""HUP on the real product: settings are read again, and only those who use what has changed get another process."""

import signal

from tests.faults.conftest import FleetMaker
from tests.support.processes.fleet import Fleet


def pids(fleet: Fleet) -> dict[str, int]:
    return {name: child["pid"] for name, child in fleet.children().items() if child["pid"] is not None}


def hang_up(fleet: Fleet, dotenv: str) -> None:
    (fleet.home.parent / ".env").write_text(dotenv)
    assert fleet.process is not None
    fleet.process.send_signal(signal.SIGHUP)


def test_only_those_who_use_a_changed_setting_get_another_process_and_a_faulty_one_changes_nothing(
    fleet_of: FleetMaker,
) -> None:
    fleet = fleet_of(3, 2.0)
    fleet.launch()
    before = pids(fleet)

    hang_up(fleet, "SPARKY_STRATEGY_POLL_S=1\n")
    fleet.wait_for(
        lambda: fleet.pid("strategy-watcher") not in (None, before["strategy-watcher"]), "another strategy watcher"
    )
    fleet.wait_for_cycles(180)
    after = pids(fleet)
    assert {name for name in before if before[name] != after.get(name)} == {"strategy-watcher"}

    hang_up(fleet, "SPARKY_STRATEGY_POLL_S=99\n")
    fleet.wait_for(lambda: "settings_refused" in fleet.log_path.read_text(), "the refusal")
    fleet.wait_for_cycles(180)
    assert pids(fleet) == after
    assert fleet.children()["strategy-watcher"]["restarts"] == 0
