"""`sparky doctor`: what is well, what is not, and what to do about it."""

import typer
from rich.table import Table
from rich.text import Text

from console import output
from console.check import Check, fault
from console.checks import examine
from console.session import settings_here
from engine.errors import BadConfiguration

_MARKS = {"ok": Text("✓", style="green"), "fault": Text("✗", style="red"), "skipped": Text("-", style="dim")}


def doctor(*, as_json: bool) -> int:
    """Prints every check; returns 1 when one found a fault."""
    try:
        checks = examine(settings_here())
    except BadConfiguration as error:
        checks = [
            fault("settings", str(error), "correct the environment or .env; docs/settings.md explains every name")
        ]
    if as_json:
        output.print_json([check.model_dump() for check in checks])
    else:
        _print(checks)
    return int(any(check.state == "fault" for check in checks))


def _print(checks: list[Check]) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    for _ in range(3):
        table.add_column()
    for check in checks:
        table.add_row(_MARKS[check.state], check.name, Text(check.found))
        if check.remedy is not None:
            table.add_row("", "", Text(f"→ {check.remedy}", style="yellow"))
    output.screen().print(table)
    faults = sum(check.state == "fault" for check in checks)
    typer.echo("All is well." if faults == 0 else f"{faults} fault{'s' if faults > 1 else ''} found.")
