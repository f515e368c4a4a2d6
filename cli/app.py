"""The subcommands of `sparky`: options are read here, the work is done in other modules."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from cli import context, output, running_instance
from cli.arguments import AsJson
from cli.commands import credentials, history, kill, pause_and_delete, strategies
from cli.doctor import doctor
from cli.reconcile import reconcile
from cli.run import launcher as running
from cli.status import status
from cli.streams import OutputLost
from engine.platform import logs
from engine.platform.errors import (
    EXIT_CONFIGURATION,
    EXIT_TRY_AGAIN,
    AnotherEngineRuns,
    ConfigurationError,
    InvalidCommand,
    InvalidSettings,
    SparkyError,
)
from engine.platform.plain_text import one_line
from engine.platform.text_encoding import is_unicode
from engine.platform.validation_errors import VALUE_ERROR

_EXIT_USAGE: Final = 2

Standby = Annotated[
    bool, typer.Option("--standby", help="While another engine runs on the database: wait, and take over when it ends.")
]


class _ErrorReportingGroup(TyperGroup):
    """Turns each of our own exceptions into one sentence on stderr and an exit code."""

    def main(self, *args: Any, **more: Any) -> Any:
        """As typer's; catches here as well, because writing the help may fail too."""
        try:
            return super().main(*args, **more)
        except OutputLost as error:
            sys.exit(_exit_with_message(str(error), 1).exit_code)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As typer's, for arguments that are UTF-8; others are not repeated, because they may be secrets."""
        for number, argument in enumerate(args, 1):
            if not is_unicode(argument):
                raise _exit_with_message(f"Word {number} of the command is no UTF-8 text.", _EXIT_USAGE)
        with _sanitized_usage_errors():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            with _sanitized_usage_errors():
                return super().invoke(ctx)
        except InvalidCommand as error:
            text = str(error).rstrip(".")
            raise _exit_with_message(f"{text[:1].upper()}{text[1:]}.", 1) from error
        except InvalidSettings as error:
            output.say_lines(f"sparky: {error}", err=True)
            raise typer.Exit(EXIT_CONFIGURATION) from error
        except SparkyError as error:
            raise _exit_with_message(str(error), _exit_code(error)) from error


def _exit_code(error: SparkyError) -> int:
    if isinstance(error, AnotherEngineRuns):
        return EXIT_TRY_AGAIN
    return EXIT_CONFIGURATION if isinstance(error, ConfigurationError) else 1


@contextmanager
def _sanitized_usage_errors() -> Iterator[None]:
    """Makes typer's usage errors safe to show, because they repeat arguments, which may contain control characters."""
    try:
        yield
    except TyperException as error:
        if isinstance(message := getattr(error, "message", None), str):
            vars(error)["message"] = one_line(message.replace(VALUE_ERROR, ""), output.MAX_SENTENCE)
        raise


def _exit_with_message(sentence: str, code: int) -> typer.Exit:
    output.say(f"sparky: {sentence}", err=True)
    return typer.Exit(code)


app = typer.Typer(
    cls=_ErrorReportingGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Runs language-model trading strategies, each in a supervised process of its own.\n\n"
    "Settings come from the environment and from .env in the working directory; docs/settings.md lists them.",
)


def _print_version(value: bool) -> None:
    if value:
        output.say(f"sparky {installed_version('sparky-trading')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[  # noqa: ARG001 - its own callback has used it
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Takes the options of `sparky` itself, and configures the log, so that a crash is logged like everything else."""
    logs.configure("warning", actor="sparky")


app.add_typer(strategies.app, name="strategy")
app.add_typer(credentials.app, name="credentials")
app.add_typer(history.decisions, name="decisions")
app.add_typer(history.signals, name="signals")


@app.command()
def up(
    candles: Annotated[
        Path | None, typer.Option(help="Simulate the market on a CSV of one-minute candles (SPARKY_CANDLES).")
    ] = None,
    speed: Annotated[
        float | None, typer.Option(help="Market seconds per real second when simulated (SPARKY_SIM_SPEED).")
    ] = None,
    home: Annotated[Path | None, typer.Option(help="State directory (SPARKY_HOME).")] = None,
    no_demo: Annotated[bool, typer.Option("--no-demo", help="Create no demo strategies in an empty database.")] = False,
    standby: Standby = False,
) -> None:
    """Run everything on this host: database, webhook server, engine, and simulators of what has no key."""
    overrides = {"SPARKY_CANDLES": candles, "SPARKY_SIM_SPEED": speed, "SPARKY_HOME": home}
    given = {name: None if value is None else str(value) for name, value in overrides.items()}
    has_custom_home = home is not None
    raise typer.Exit(
        running.up(
            lambda: context.load_settings(given),
            has_demo=not no_demo,
            is_standby=standby,
            has_custom_home=has_custom_home,
        )
    )


@app.command()
def supervise(standby: Standby = False) -> None:
    """Run the engine alone, as in production: the database and the webhook server are units of their own."""
    raise typer.Exit(running.supervise(context.load_settings, is_standby=standby))


@app.command()
def serve() -> None:
    """Run the webhook server alone, in the foreground."""
    raise typer.Exit(running.serve(context.load_settings()))


@app.command()
def migrate(as_json: AsJson = False) -> None:
    """Bring the database's schema up to date; safe to repeat and to run twice at once."""
    applied = context.migrate_database()
    if as_json:
        output.print_json({"applied": list(applied)})
    else:
        lines = [f"Applied {name}" for name in applied] or ["The schema is current; nothing to do."]
        output.say_lines("\n".join(one_line(line) for line in lines))


@app.command("status")
def show_status(
    as_json: AsJson = False,
    once: Annotated[bool, typer.Option("--once", help="Show it once, also on a terminal.")] = False,
) -> None:
    """Show every process and every strategy, live on a terminal; exit code 1 when nothing runs."""
    raise typer.Exit(status.status(context.load_settings(), as_json=as_json, once=once))


@app.command("doctor")
def run_doctor(as_json: AsJson = False) -> None:
    """Check settings, directory, database, model, venue, clock, webhook and ports; say what to do about each fault."""
    raise typer.Exit(doctor.doctor(as_json=as_json))


@strategies.app.command()
def restart(
    which: Annotated[
        str | None, typer.Argument(metavar="STRATEGY", help="Name, id, or the beginning of an id.", show_default=False)
    ] = None,
    everyone: Annotated[bool, typer.Option("--all", help="Every running strategy.")] = False,
    as_json: AsJson = False,
) -> None:
    """Give a running strategy a new process, which waits for no breaker; its own faults still count."""
    if (which is None) is not everyone:
        raise SparkyError("Name one strategy, or give --all.")
    settings = context.load_settings()
    rows = [strategies.find_running(which)] if which is not None else strategies.list_running()
    if running_instance.find_supervisor_pid(settings) is None:
        raise SparkyError(
            f"Sparky is not running on {settings.sparky_home}; {running_instance.build_start_hint(settings)}."
        )
    running.restart_strategies(settings, [row.id for row in rows])
    if as_json:
        output.print_json(output.to_json_data(rows) if everyone else output.to_json_data(rows[0]))
        return
    for row in rows:
        output.say(f"{row.name} gets a new process.")
    if not rows:
        output.say("No strategy is to run.")


strategies.app.command("pause")(pause_and_delete.pause)
strategies.app.command("delete")(pause_and_delete.delete)
app.command("kill")(kill.kill)
app.command("reconcile")(reconcile.reconcile)
app.command("positions")(history.positions)
app.command("trades")(history.trades)


@app.command()
def version(as_json: AsJson = False) -> None:
    """Show the version."""
    number = installed_version("sparky-trading")
    if as_json:
        output.print_json({"version": number})
    else:
        output.say(f"sparky {number}")
