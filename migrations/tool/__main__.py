"""`python -m migrations.tool NAME`, which `make migration` runs."""

import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from engine.platform.errors import SparkyError
from engine.store.embedded.embedded_postgres import EmbeddedPostgres, build_dsn
from migrations.tool.make_migration import make_migration
from migrations.tool.source import MigrationToolError

MIGRATIONS = Path(__file__).parent.parent


def main(arguments: list[str]) -> int:
    """Exit code 0 with what was written, or that nothing changed; 1 with the reason why nothing could be written."""
    name = arguments[0] if len(arguments) == 1 else ""
    with tempfile.TemporaryDirectory(prefix="sparky-", dir="/tmp") as home:
        server = EmbeddedPostgres(Path(home), {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"})
        try:
            server.start()
            path = make_migration(name, build_dsn(Path(home), "postgres"), MIGRATIONS, datetime.now(UTC))
        except (MigrationToolError, SparkyError) as error:
            sys.stderr.write(f"{error}\n")
            return 1
        finally:
            server.stop()
    done = f"Wrote migrations/{path.name}." if path else "No function has changed, so nothing was written."
    sys.stdout.write(f"{done}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
