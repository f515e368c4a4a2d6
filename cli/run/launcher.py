"""`sparky up` and `sparky supervise`: check everything that can be checked first, then hand over to the supervisor."""

import contextlib
import os
import shlex
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

import structlog
import zmq

from actors.runtime.child_spec import ChildSpec
from actors.runtime.heartbeat import TERMINATING_SIGNALS
from actors.runtime.messages import Ack, RestartChild
from actors.runtime.messaging import MessageClient
from actors.runtime.state_dir import prepare_run_dir
from actors.runtime.systemd import Notifier
from actors.strategy_process_names import build_process_name
from cli import key_file, running_instance
from cli.output import MAX_SENTENCE, say, say_lines
from cli.run import process_plan
from cli.run.progress import StartupProgress
from cli.run.reload import SettingsReader, SettingsReloader, is_hangup_ignored
from cli.streams import OutputLost
from engine.deciding.circuit_breaker_file import BreakerFile
from engine.platform import logs
from engine.platform.errors import AnotherEngineRuns, ConfigurationError, SparkyError
from engine.platform.plain_text import one_line
from engine.platform.settings.component_settings import WebhookServerSettings
from engine.platform.settings.settings import Settings
from engine.store.embedded import embedded_postgres
from engine.store.store import open_store
from engine.store.transport.postgres import connect
from supervisor import Supervisor

logger = structlog.get_logger()

HEALTH_INTERVAL_S: Final = 5.0
GRACE_S: Final = 5.0
RESTART_TIMEOUT_S: Final = 5.0
RELEASE_TIMEOUT_S: Final = 2.0


def up(
    read_settings: SettingsReader, *, has_demo: bool, is_standby: bool = False, has_custom_home: bool = False
) -> int:
    """Runs everything on this host until told to stop; returns the exit code. Raises ConfigurationError.

    `read_settings` is called now and at each SIGHUP. `is_standby`: wait while another engine runs on the database.
    `has_custom_home`: other commands need SPARKY_HOME to find this instance, so the hint names it.
    """
    settings, engine = read_settings(), process_plan.EngineRun(uuid4(), is_standby)

    def compose(now: Settings) -> list[ChildSpec]:
        _check_candles(now)
        return process_plan.build_full_children(now, engine, has_demo=has_demo)

    # All checks come before anything is created, so that a refused start leaves nothing behind.
    compose(settings)
    _check_home_and_ports_free(settings, process_plan.list_listen_addresses(settings))
    _check_database(settings)
    settings = key_file.ensure_key(settings)
    hint = build_status_hint(sys.argv[0], settings.sparky_home if has_custom_home else None)
    return _run(settings, engine, compose, "sparky up", read_settings, hint)


def supervise(read_settings: SettingsReader, *, is_standby: bool = False) -> int:
    """Runs the engine alone until told to stop; returns the exit code. Raises ConfigurationError.

    Arguments are as in `up`. The database is not checked: it may come later, and the engine waits for it.
    """
    settings, engine = read_settings(), process_plan.EngineRun(uuid4(), is_standby)

    def compose(now: Settings) -> list[ChildSpec]:
        return process_plan.build_engine_children(now, engine)

    compose(settings)
    monitor = {"SPARKY_MONITOR_PORT": (settings.sparky_monitor_host, settings.sparky_monitor_port)}
    _check_home_and_ports_free(settings, monitor)
    return _run(settings, engine, compose, "sparky supervise", read_settings, build_status_hint(sys.argv[0]))


def _run(
    settings: Settings,
    engine: process_plan.EngineRun,
    compose: Callable[[Settings], list[ChildSpec]],
    command: str,
    read_settings: SettingsReader,
    hint: str,
) -> int:
    # Before SIGHUP is ignored: the reloader remembers whether it was ignored at the start, as after nohup.
    reloader = SettingsReloader(settings, engine, read_settings, compose)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the supervisor handles it
    resolved = process_plan.resolve_endpoints(settings)
    logs.configure(settings.sparky_log_level, settings.sparky_log_format, "supervisor", logs.collect_secrets(resolved))
    prepare_run_dir(settings.run_dir)
    with contextlib.suppress(OutputLost):  # the header is information only
        say_lines(build_startup_banner(settings, resolved, command, hint))
    specs = compose(settings)
    progress = StartupProgress([spec.name for spec in specs], settings.run_dir)
    plan = process_plan.build_plan(settings, engine, specs)
    code = Supervisor(settings.run_dir, plan, progress, notifier=Notifier(os.environ), read_plan=reloader).run()
    _release_lease(settings, engine)
    if progress.reason is not None and code != 0:
        say(f"sparky: {find_first_error_line(progress.reason)}", err=True)
    elif code == 0:
        say("Sparky has stopped; nothing is left running.", err=True)
    return code


def _release_lease(settings: Settings, engine: process_plan.EngineRun) -> None:
    """Releases the engine lease, so that a standby can take it at once; an embedded database has ended already."""
    if settings.embeds_database:
        return
    try:
        with open_store(settings, keep=False, engine=engine.run_id, timeout_s=RELEASE_TIMEOUT_S) as store:
            store.release_engine_lease()
    except SparkyError as error:
        logger.warning("engine_lease_not_released", reason=str(error))  # it expires by itself


def find_first_error_line(crash_report: str) -> str:
    """The first line of a child's crash report; of a traceback the error, without the notes that a library adds."""
    lines = crash_report.strip().splitlines()
    frames = [number for number, line in enumerate(lines) if line.startswith("  File ")]
    after = lines[frames[-1] + 1 :] if frames else lines
    return next((line for line in after if line and not line.startswith(" ")), lines[-1] if lines else "")


def serve(settings: Settings) -> int:
    """Runs the webhook server in this process until told to stop; returns the exit code. Raises ConfigurationError."""
    from webhook_server.service import make

    resolved = process_plan.resolve_endpoints(settings)
    if settings.embeds_database and not embedded_postgres.is_running(settings.sparky_home):
        raise ConfigurationError("DATABASE_URL is not set and no embedded database runs: set it, or run `sparky up`.")
    logs.configure(settings.sparky_log_level, settings.sparky_log_format, "webhook", logs.collect_secrets(resolved))
    service = make(resolved.select(WebhookServerSettings), "")
    stop_requested = threading.Event()
    for number in (signal.SIGTERM, *TERMINATING_SIGNALS):
        if number != signal.SIGHUP or not is_hangup_ignored():
            signal.signal(number, lambda *_: stop_requested.set())
    service.start()
    logger.info("listening", host=settings.sparky_webhook_host, port=settings.sparky_webhook_port)
    while not stop_requested.wait(HEALTH_INTERVAL_S):
        if not service.is_healthy():
            logger.error("unhealthy", reason="the server does not answer its own health check")
    service.stop(GRACE_S)
    for number in (signal.SIGTERM, *TERMINATING_SIGNALS):
        signal.signal(number, signal.SIG_IGN)  # a second signal must not change the exit code of an orderly stop
    return 0


def restart_strategies(settings: Settings, strategy_ids: Iterable[UUID]) -> None:
    """Asks the running supervisor to restart strategies, whose new processes begin with a closed breaker.

    Raises SparkyError when no supervisor runs, or it does not confirm.
    """
    if running_instance.find_supervisor_pid(settings) is None:
        raise SparkyError(
            f"Sparky is not running on {settings.sparky_home}; {running_instance.build_start_hint(settings)}."
        )
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        link = MessageClient(context, settings.run_dir)
        for strategy_id in strategy_ids:
            _restart(link, BreakerFile(settings.sparky_home, strategy_id), strategy_id)
    finally:
        context.destroy(linger=0)


def _restart(link: MessageClient, file: BreakerFile, strategy_id: UUID) -> None:
    # The request for a reset first: the new process reads it at its start.
    try:
        file.request_reset()
    except OSError as error:
        raise SparkyError(f"The breaker of {strategy_id} cannot be reset: {error.strerror}.") from error
    try:
        message = RestartChild(name=build_process_name(strategy_id), deadline=time.monotonic() + RESTART_TIMEOUT_S)
        link.ask("supervisor", message, Ack)
    except SparkyError:
        with contextlib.suppress(OSError):
            file.withdraw_reset()
        raise


def _check_home_and_ports_free(settings: Settings, listeners: Mapping[str, tuple[str, int]]) -> None:
    """Raises AnotherEngineRuns when another Sparky holds the home, ConfigurationError when a port is taken."""
    pid = running_instance.find_supervisor_pid(settings)
    if pid is not None:
        raise AnotherEngineRuns(
            f"Sparky already runs on {settings.sparky_home} as process {pid}; stop it, or set another SPARKY_HOME."
        )
    for setting, (host, port) in listeners.items():
        refusal = running_instance.find_port_error(host, port)
        if refusal is not None:
            raise ConfigurationError(
                f"Port {port} on {host} cannot be had ({refusal}): stop what holds it or set {setting} to another one."
            )


def _check_candles(settings: Settings) -> None:
    """Raises ConfigurationError, with the line, for a file of candles that cannot be read."""
    from simulator.market.candle_file import parse_symbol, read_candles

    if settings.sparky_candles is not None:
        parse_symbol(settings.sparky_candles)
        read_candles(settings.sparky_candles)


def _check_database(settings: Settings) -> None:
    """Raises UpstreamUnavailable when the database of the settings does not answer.

    Raises ConfigurationError when a Supabase project refuses the key or lacks our schema, which no child can repair.
    """
    if settings.supabase_url is not None:
        with open_store(settings, keep=False) as store:
            store.get_database_health()
    if settings.database_url is not None:
        with connect(settings.database_url.get_secret_value()) as connection:
            connection.execute("select 1")


def build_status_hint(program: str, home: Path | None = None) -> str:
    """The sentence with the command that shows the status, as it must be typed in the same directory; `program` is the
    path that this command was started by."""
    name = "sparky" if shutil.which("sparky") or Path(program).name != "sparky" else program
    where = "" if home is None else f"SPARKY_HOME={shlex.quote(str(home))} "
    return f"Look around from another terminal: {where}{name} status. Stop with Ctrl-C."


def build_startup_banner(settings: Settings, resolved: Settings, command: str, hint: str) -> str:
    """The lines printed at the start: each service, simulated or real, the addresses, and how to stop."""
    lines = [
        ("model", f"{', '.join(resolved.groq_model)} {_describe_groq(settings)}"),
        ("market", _describe_market(settings, resolved)),
        ("database", _describe_database(settings)),
        ("signals go to", str(resolved.webhook_url)),
        (
            "metrics",
            f"http://{settings.sparky_monitor_host}:{settings.sparky_monitor_port}/metrics (and /healthz, /status)",
        ),
        ("kept in", str(settings.sparky_home)),
    ]
    shown = "\n".join(f"  {name:<14} {one_line(value, MAX_SENTENCE)}" for name, value in lines)
    return f"{command}\n{shown}\n  {one_line(hint, MAX_SENTENCE)}\n"


def _describe_groq(settings: Settings) -> str:
    if settings.simulates_groq:
        return "from a local stand-in, not a model (set GROQ_API_KEY for the real one)"
    return f"at {settings.groq_base_url}" if settings.groq_base_url else "at Groq"


def _describe_market(settings: Settings, resolved: Settings) -> str:
    if not settings.simulates_market:
        return (
            f"{resolved.sparky_market}{f' at {resolved.sparky_market_url}' if resolved.sparky_market_url else ', live'}"
        )
    source = f"candles of {settings.sparky_candles}" if settings.sparky_candles else "synthetic candles"
    return f"simulated Aster on {source}, at {settings.sparky_sim_speed:g} times real time"


def _describe_database(settings: Settings) -> str:
    if settings.embeds_database:
        return "embedded PostgreSQL, kept across runs"
    return "Supabase" if settings.supabase_url else "PostgreSQL at DATABASE_URL"
