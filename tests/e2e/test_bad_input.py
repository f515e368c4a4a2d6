"""What a person gets wrong is answered with one clear sentence and a non-zero exit, and nothing is lost by it."""

import socket
from pathlib import Path

import psycopg
import pytest

from tests.e2e.conftest import SparkyMaker
from tests.support.factories.candle_files import write_walk
from tests.support.processes.sparky import Sparky

NOT_LISTENING = "postgresql://nobody@127.0.0.1:9/none"


def refusal(sparky: Sparky, *arguments: str) -> str:
    """What the command says on stderr as it fails; never a traceback."""
    done = sparky.run(*arguments)
    assert done.returncode not in (0, None), done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    return done.stderr


def test_every_fault_of_the_settings_is_named_at_once(sparky_at: SparkyMaker) -> None:
    sparky = sparky_at(SPARKY_MONITOR_PORT="many", SPARKY_SIM_SPEDE="60", WEBHOOK_URL="ftp://x", SPARKY_LLM_RPM="0")
    said = refusal(sparky, "up")
    for name in ("SPARKY_MONITOR_PORT", "SPARKY_SIM_SPEDE", "WEBHOOK_URL", "SPARKY_LLM_RPM", "SPARKY_SIM_SPEED?"):
        assert name in said
    assert not sparky.home.exists()


@pytest.mark.parametrize(
    ("line", "text", "fault"),
    [(200, "", "line"), (150, "1700015340000,abc,1,1,1,1", "line 150"), (150, None, "gap")],
)
def test_a_faulty_candle_file_is_named_with_its_line(
    sparky_at: SparkyMaker, tmp_path: Path, line: int, text: str | None, fault: str
) -> None:
    path = write_walk(tmp_path / "BTCUSDT-bad.csv", 1_500)
    lines = path.read_text().splitlines()
    lines[line - 1 : line] = [] if text is None else [text]
    path.write_text("\n".join(lines))
    sparky = sparky_at()
    said = refusal(sparky, "up", "--candles", str(path))
    assert "BTCUSDT-bad.csv" in said
    assert fault in said
    assert not (sparky.home / "postgres").exists()


def test_a_database_that_is_down_at_start_is_one_sentence(sparky_at: SparkyMaker) -> None:
    said = refusal(sparky_at(DATABASE_URL=NOT_LISTENING), "up")
    assert "database" in said


@pytest.mark.parametrize("setting", ["SPARKY_WEBHOOK_PORT", "SPARKY_MONITOR_PORT", "SPARKY_SIM_GROQ_PORT"])
def test_a_taken_port_is_named_with_its_setting(sparky_at: SparkyMaker, setting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        sparky = sparky_at(**{setting: str(port)})
        done = sparky.run("up")
    assert done.returncode == 78
    assert f"{port}" in done.stderr.splitlines()[-1]
    assert setting in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_migration_edited_after_it_ran_stops_the_start_and_loses_nothing(
    sparky_at: SparkyMaker, database_url: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("insert into auth.users (id, email) values (gen_random_uuid(), 'kept@example.org')")
        (table,) = connection.execute(
            "select format('%I.%I', table_schema, table_name) from information_schema.columns "
            "where column_name = 'checksum'"
        ).fetchall()
        connection.execute(f"update {table[0]} set checksum = repeat('0', 64)")  # noqa: S608 - a name of our own
    sparky = sparky_at(DATABASE_URL=database_url)
    for command in ("migrate", "up"):
        said = refusal(sparky, command)
        assert "20260101000100_auth_compatibility.sql" in said
    with psycopg.connect(database_url) as connection:
        assert connection.execute("select count(*) from auth.users").fetchone() == (1,)


def test_an_unknown_strategy_field_is_named(sparky_at: SparkyMaker, database_url: str, tmp_path: Path) -> None:
    path = tmp_path / "strategy.json"
    path.write_text('{"name": "mine", "cadance_seconds": 10}')
    said = refusal(sparky_at(DATABASE_URL=database_url), "strategy", "create", "--from-json", str(path))
    assert "cadance_seconds" in said


def test_a_second_start_on_the_same_home_is_refused_with_the_first_ones_pid(sparky_at: SparkyMaker) -> None:
    sparky = sparky_at()
    sparky.start()
    sparky.wait_for(lambda: sparky.json("status")["shared"], "the first one running")
    assert sparky.process is not None
    assert str(sparky.process.pid) in refusal(sparky, "up")
    assert sparky.process.poll() is None
