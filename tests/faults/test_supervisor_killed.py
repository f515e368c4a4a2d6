"""kill -9 of the supervisor of the real product: nobody survives it, nothing is doubled, no recorded signal is lost."""

import signal
import time
from collections import Counter

import psycopg

from engine.platform.errors import EXIT_TRY_AGAIN
from engine.store.embedded.embedded_postgres import build_dsn
from tests.faults.conftest import FleetMaker
from tests.support.processes.crowding import slowed
from tests.support.processes.fleet import Fleet
from tests.support.processes.sparky import command_lines
from tests.support.processes.supervised import is_alive, wait_until_gone


def ends_of_signals(fleet: Fleet) -> dict[str, str]:
    with fleet.store() as store:
        return {str(row.id): row.status for row in store.list_signals(limit=100_000)}


def test_nothing_survives_and_a_restart_makes_no_double_and_loses_no_recorded_signal(fleet_of: FleetMaker) -> None:
    fleet = fleet_of(20, 1.0, SPARKY_SIGNAL_TTL_S="20")
    fleet.launch()
    fleet.wait_for(lambda: len(ends_of_signals(fleet)) > 20, "signals")
    family = [process.pid for process in fleet.family()]
    assert fleet.process is not None
    fleet.process.kill()
    fleet.process.wait()
    wait_until_gone(family)

    fleet.start("--no-demo")
    fleet.wait_for(lambda: fleet.cycles().keys() >= fleet.ids, "every strategy at work again")
    fleet.wait_for(fleet.is_all_that_runs, "a report on every strategy")
    recorded = set(ends_of_signals(fleet))
    pids = [child["pid"] for child in fleet.strategies().values()]
    assert len(set(pids)) == fleet.count
    assert all(is_alive(pid) for pid in pids)
    titles = Counter(line for _, line in command_lines(fleet.family()))
    assert [title for title, count in titles.items() if "fleet-" in title and count > 1] == []

    def all_ended() -> bool:
        ends = ends_of_signals(fleet)
        return all(ends[key] in ("delivered", "refused", "expired", "dead") for key in recorded)

    fleet.wait_for(all_ended, "an end of every signal that was recorded")
    assert_booked_once(fleet)


def assert_booked_once(fleet: Fleet) -> None:
    """Every delivered signal was answered by exactly one request of the webhook server."""
    with psycopg.connect(build_dsn(fleet.home)) as connection:
        doubled = connection.execute(
            "select request_id from webhook_requests group by user_id, request_id having count(*) > 1"
        ).fetchall()
        unanswered = connection.execute(
            "select id from signal_outbox where status = 'delivered' and id::text not in"
            " (select request_id from webhook_requests)"
        ).fetchall()
    assert (doubled, unanswered) == ([], [])


def test_a_second_supervisor_on_the_same_home_is_refused_and_the_first_goes_on(fleet_of: FleetMaker) -> None:
    fleet = fleet_of(2, 2.0)
    fleet.launch()
    assert fleet.process is not None
    done = fleet.run("up")
    assert done.returncode == EXIT_TRY_AGAIN
    assert str(fleet.process.pid) in done.stderr
    assert fleet.process.poll() is None
    fleet.wait_for_cycles(180)
    fleet.process.send_signal(signal.SIGINT)
    began = time.monotonic()
    assert fleet.process.wait(180) == 0
    assert time.monotonic() - began < slowed(30)
