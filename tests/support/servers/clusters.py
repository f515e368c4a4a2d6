"""A PostgreSQL server of a test's own: its roles, its logins and its rules belong to nobody else's tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from engine.store.embedded.embedded_postgres import EmbeddedPostgres, build_dsn, get_data_dir
from tests.support.processes.directories import short_directory


@contextmanager
def own_cluster() -> Iterator[Path]:
    """State directory of a running server without a role of ours; logins named `word_...` need their password."""
    with short_directory() as home:
        server = EmbeddedPostgres(home, {"fsync": "off", "max_connections": "20"})
        try:
            server.start()
            rules = get_data_dir(home) / "pg_hba.conf"
            rules.write_text("local all /^word_ scram-sha-256\n" + rules.read_text())
            with psycopg.connect(build_dsn(home, "postgres"), autocommit=True) as connection:
                connection.execute("select pg_reload_conf()")
            yield home
        finally:
            server.stop()


def answers_in_time(server: EmbeddedPostgres) -> bool:
    """Whether it is healthy: a busy machine may keep it from an answer within the limit of one look, not of all."""
    return any(server.is_healthy() for _ in range(30))
