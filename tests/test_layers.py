"""The two modules that import-linter cannot read, since they are not packages: what they import, in a fresh process."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# The supervisor knows no database, no HTTP and no business rule, and nothing that is heavy to fork.
FOREIGN = (
    "cli.main",
    "engine.store",
    "engine.venues",
    "engine.deciding.cycle",
    "engine.llm",
    "webhook_server",
    "simulator",
    "psycopg",
    "requests",
    "httpx",
    "uvicorn",
    "fastapi",
    "ccxt",
    "groq",
    "numpy",
    "typer",
)


def loaded_by(module: str) -> set[str]:
    program = f"import sys; import {module}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["supervisor", "actors.runtime.child_main"])
def test_the_supervisor_and_its_fork_server_load_nothing_foreign(module: str) -> None:
    loaded = loaded_by(module)
    assert sorted(name for name in FOREIGN if name in loaded) == []


def test_the_command_line_starts_without_the_heavy_libraries() -> None:
    assert (
        sorted(
            name
            for name in ("ccxt", "groq", "numpy", "fastapi", "uvicorn", "supabase")
            if name in loaded_by("cli.main")
        )
        == []
    )


def test_what_people_read_is_printed_in_the_one_place_that_makes_it_safe() -> None:
    printing = re.compile(r"typer\.s?echo\(|\bprint\(|Console\(|sys\.std(?:out|err)\.write")
    found = {
        str(path.relative_to(ROOT))
        for folder in ("actors", "cli", "engine", "simulator", "webhook_server")
        for path in (ROOT / folder).rglob("*.py")
        if printing.search(re.sub(r"(screen|make_console)(\(\))?\.print\(", "", path.read_text()))
    }
    assert found == {"cli/output.py"}
