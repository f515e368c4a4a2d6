"""Runs and prints the checks of `sparky doctor`."""

from typing import Final

from rich.table import Table
from rich.text import Text

from cli import output
from cli.context import load_settings
from cli.doctor.check_result import CheckResult, fault
from cli.doctor.checks import run_checks
from engine.platform.errors import ConfigurationError
from engine.platform.plain_text import many_lines, one_line

_SETTINGS: Final = "settings"
_MAX_NAME_WIDTH: Final = 30  # an account's name has an address in it, and findings need the room
_MARKS = {"ok": Text("✓", style="green"), "fault": Text("✗", style="red"), "skipped": Text("-", style="dim")}


def doctor(*, as_json: bool) -> int:
    """Prints every check; the exit code: 1 if one found a fault."""
    try:
        checks = run_checks(load_settings())
    except ConfigurationError as error:
        checks = [fault(_SETTINGS, str(error), "correct the environment or .env; docs/settings.md explains every name")]
    if as_json:
        output.print_json([check.model_dump() for check in checks])
    else:
        _print_table(checks)
    return int(any(check.state == "fault" for check in checks))


def _print_table(checks: list[CheckResult]) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    for widest in (None, _MAX_NAME_WIDTH, None):
        table.add_column(max_width=widest, overflow="fold")
    for check in checks:
        table.add_row(_MARKS[check.state], Text(one_line(check.name)), _format_cell(check, check.found))
        if check.remedy is not None:
            table.add_row("", "", _format_cell(check, f"→ {check.remedy}", "yellow"))
    output.make_console().print(table)
    faults = sum(check.state == "fault" for check in checks)
    output.say("All is well." if faults == 0 else f"{faults} fault{'s' if faults > 1 else ''} found.")


def _format_cell(check: CheckResult, text: str, style: str = "") -> Text:
    """One line; several only for the settings, whose faults are reported together."""
    sanitize = many_lines if check.name == _SETTINGS else one_line
    return Text(sanitize(text, output.MAX_SENTENCE), style=style)
