"""A stop that is sent to all processes of the real product: each child finishes its work in its turn."""

import os
import random
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import psutil
import psycopg
import pytest

from engine.platform.settings.settings import Settings
from engine.store.embedded import command_database, postgres_process
from engine.store.embedded.embedded_postgres import build_dsn, get_data_dir
from tests.faults.conftest import FleetMaker
from tests.support.processes.fleet import Fleet
from tests.support.processes.supervised import is_alive, wait_until_gone

PATIENCE_S = 180.0
COUNT = 5
DEATHS = ("child_died", "child_killed", "fork_server_lost", "orphan_killed", "record_not_finished")

Send = Callable[[Fleet], None]


def to_the_group(number: signal.Signals) -> Send:
    def send(fleet: Fleet) -> None:
        assert fleet.process is not None
        os.killpg(fleet.process.pid, number)

    return send


def to_each(number: signal.Signals, seed: int) -> Send:
    """Every process twice, in an order that `seed` gives, the database's own processes included."""

    def send(fleet: Fleet) -> None:
        family = fleet.family() * 2
        random.Random(seed).shuffle(family)
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    return send


def recording(connection: "psycopg.Connection[tuple[int]]") -> int:
    """How many strategies are in the middle of their record."""
    row = connection.execute(
        "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like '%record_decision%'"
    ).fetchone()
    return 0 if row is None else row[0]


def ended_cleanly(fleet: Fleet) -> bool:
    told = subprocess.run(
        [postgres_process.get_binary_path("pg_controldata"), get_data_dir(fleet.home)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return any("cluster state" in line and line.endswith(" shut down") for line in told.splitlines())


@pytest.mark.parametrize("seed", range(2))
def test_a_record_that_loses_its_session_is_made_all_the_same(fleet_of: FleetMaker, seed: int) -> None:
    fleet = fleet_of(COUNT, 1.0)
    fleet.launch()
    with (
        suppress(psycopg.OperationalError),  # our own sessions end as well
        psycopg.connect(build_dsn(fleet.home)) as holding,
        psycopg.connect(build_dsn(fleet.home), autocommit=True) as looking,
    ):
        holding.execute("lock table ai_trade_log in exclusive mode")
        fleet.wait_for(lambda: recording(looking) == COUNT, "every strategy in mid-record")
        before = recorded(holding)
        to_each(signal.SIGTERM, seed)(fleet)
    assert fleet.process is not None
    assert fleet.process.wait(PATIENCE_S) == 0, fleet.log()
    with (
        command_database.open_database(Settings(sparky_home=fleet.home)) as address,
        psycopg.connect(address) as connection,
    ):
        assert recorded(connection) == before + COUNT


@pytest.mark.parametrize(
    "send",
    [
        pytest.param(to_the_group(signal.SIGTERM), id="the-group-TERM"),
        pytest.param(to_the_group(signal.SIGINT), id="the-group-INT"),
        pytest.param(to_the_group(signal.SIGQUIT), id="the-group-QUIT"),
    ],
)
def test_every_strategy_in_mid_record_finishes_and_the_database_ends_last(fleet_of: FleetMaker, send: Send) -> None:
    fleet = fleet_of(COUNT, 1.0)
    fleet.launch()
    with (
        psycopg.connect(build_dsn(fleet.home)) as holding,
        psycopg.connect(build_dsn(fleet.home), autocommit=True) as looking,
    ):
        holding.execute("lock table ai_trade_log in exclusive mode")
        fleet.wait_for(lambda: recording(looking) == COUNT, "every strategy in mid-record")
        before = recorded(holding)
        family = [process.pid for process in fleet.family()]
        send(fleet)
        fleet.wait_for(lambda: told_to_stop(fleet) == COUNT, "every strategy being told to stop")
        holding.commit()
    assert fleet.process is not None
    assert fleet.process.wait(PATIENCE_S) == 0, fleet.log()
    wait_until_gone(family)
    assert ended_cleanly(fleet)
    log = fleet.log_path.read_text()
    assert [word for word in DEATHS if f'"{word}"' in log] == []
    with (
        command_database.open_database(Settings(sparky_home=fleet.home)) as address,
        psycopg.connect(address) as connection,
    ):
        assert recorded(connection) == before + COUNT
        assert leased(connection) == 0


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_to_each_process_in_any_order_ends_everything_well(
    fleet_of: FleetMaker, number: signal.Signals, seed: int
) -> None:
    fleet = fleet_of(COUNT, 1.0)
    fleet.launch()
    family = [process.pid for process in fleet.family()]
    to_each(number, seed)(fleet)
    assert fleet.process is not None
    assert fleet.process.wait(PATIENCE_S) == 0, fleet.log()
    wait_until_gone(family)
    assert ended_cleanly(fleet)
    log = fleet.log_path.read_text()
    assert [word for word in DEATHS if f'"{word}"' in log] == []
    with (
        command_database.open_database(Settings(sparky_home=fleet.home)) as address,
        psycopg.connect(address) as connection,
    ):
        assert leased(connection) == 0


def test_a_group_that_is_stopped_while_the_database_is_made_ends_with_0(fleet_of: FleetMaker) -> None:
    fleet = making_its_database(fleet_of)
    assert fleet.process is not None
    family = [process.pid for process in fleet.family()]
    os.killpg(fleet.process.pid, signal.SIGTERM)
    assert fleet.process.wait(PATIENCE_S) == 0, fleet.log()
    assert not any(is_alive(pid) for pid in family)


def making_its_database(fleet_of: FleetMaker) -> Fleet:
    """One that was seen at it. It takes a second or two: where nobody could look in that time, another one is tried."""
    while True:
        fleet = fleet_of(0, 1.0)
        fleet.start()
        if fleet.wait_for(partial(progress_of_database, fleet), "the database being made") == "being made":
            return fleet
        fleet.close()


def progress_of_database(fleet: Fleet) -> str:
    if any(process.name() == "initdb" for process in fleet.family()):
        return "being made"
    return "made" if get_data_dir(fleet.home).exists() else ""


def recorded(connection: "psycopg.Connection[tuple[int]]") -> int:
    row = connection.execute("select count(*) from ai_trade_log").fetchone()
    assert row is not None
    return row[0]


def leased(connection: "psycopg.Connection[tuple[int]]") -> int:
    row = connection.execute("select count(*) from signal_outbox where status = 'leased'").fetchone()
    assert row is not None
    return row[0]


def told_to_stop(fleet: Fleet) -> int:
    lines = fleet.log_path.read_text().splitlines()
    return sum('"stopping"' in line and '"fleet-' in line for line in lines)
