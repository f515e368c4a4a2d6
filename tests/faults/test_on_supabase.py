"""The whole product on Supabase's REST API: it decides, trades and books, and survives as it does on PostgreSQL."""

import os
import signal
from collections.abc import Iterator

import pytest

from engine.domain.strategy import StrategyStatus
from tests.conftest import Project
from tests.support.factories.keys import ENCRYPTION_KEY
from tests.support.processes.directories import short_directory
from tests.support.processes.fleet import Fleet
from tests.support.servers.supabase import PUBLISHABLE_KEY, SECRET_KEY

COUNT = 4


@pytest.fixture
def fleet(supabase: Project) -> Iterator[Fleet]:
    settings = {
        "SUPABASE_URL": supabase.server.url,
        "SUPABASE_SERVICE_ROLE_KEY": SECRET_KEY.get_secret_value(),
        "SPARKY_ENCRYPTION_KEY": ENCRYPTION_KEY.get_secret_value(),
        "SPARKY_SIM_SPEED": "240",
    }
    with short_directory() as root:
        made = Fleet(root / "home", COUNT, 2.0, **settings)
        yield made
        made.close()


def test_it_trades_and_goes_on_after_crashes_and_the_end_of_the_database(fleet: Fleet, supabase: Project) -> None:
    fleet.launch(without=("database",))
    with fleet.store() as store:
        fleet.wait_for(lambda: store.list_signals(status="delivered"), "a delivery")
        fleet.wait_for(lambda: store.list_open_positions() or store.list_trades(), "a booked fill")

    for name in ("dispatcher", "webhook", "strategy-watcher", f"strategy-{min(fleet.ids)}"):
        kill_and_await(fleet, name)
    fleet.wait_for_cycles(240)

    supabase.server.stop()
    fleet.wait_for(lambda: "upstream_database" in str(fleet.samples("sparky_cycles_total")), "cycles in vain")
    supabase.server.start()
    fleet.wait_for_cycles(300)

    with fleet.store() as store:
        rows = [row for row in store.list_strategies() if str(row.id) in fleet.ids]
        assert {row.status for row in rows} == {StrategyStatus.RUNNING}
    assert fleet.press_ctrl_c() == 0


def kill_and_await(fleet: Fleet, name: str) -> None:
    pid = fleet.living(name)
    os.kill(pid, signal.SIGKILL)
    fleet.wait_for(lambda: fleet.pid(name) not in {None, pid}, f"{name} started again")


def test_a_key_that_is_not_the_service_roles_ends_the_start_with_one_sentence(fleet: Fleet) -> None:
    fleet.environ["SUPABASE_SERVICE_ROLE_KEY"] = PUBLISHABLE_KEY.get_secret_value()

    done = fleet.run("up")

    assert done.returncode == 78
    assert done.stderr.startswith("sparky: Supabase refuses SUPABASE_SERVICE_ROLE_KEY")
    assert done.stderr.count("\n") == 1
    assert not fleet.home.exists()
