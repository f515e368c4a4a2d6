"""SIGHUP: the settings are read again, and the supervisor restarts each child whose own settings have changed."""

import os
import signal
from collections.abc import Callable

import structlog

from actors.runtime.child_spec import ChildSpec, SupervisionPlan
from cli.run import process_plan
from engine.platform import logs
from engine.platform.errors import ConfigurationError
from engine.platform.settings.settings import Settings

logger = structlog.get_logger()

SettingsReader = Callable[[], Settings]


class SettingsReloader:
    """Called by the supervisor for a new plan; None leaves everything as it is.

    A terminal that hangs up sends the same signal: then Sparky stops, unless it was started to
    outlive its terminal (``nohup``): then the settings are read as ever.
    """

    def __init__(
        self,
        settings: Settings,
        engine: process_plan.EngineRun,
        read: SettingsReader,
        compose: Callable[[Settings], list[ChildSpec]],
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._read = read
        self._compose = compose
        self._had_terminal = _has_terminal()
        self._outlives_terminal = is_hangup_ignored()

    def __call__(self) -> SupervisionPlan | None:
        if self._had_terminal and not _has_terminal():
            self._had_terminal = False
            logger.warning("terminal_gone", stops=not self._outlives_terminal)
            if not self._outlives_terminal:
                os.kill(os.getpid(), signal.SIGTERM)
                return None
        try:
            return self._build_plan(self._read())
        except ConfigurationError as error:
            logger.error("settings_refused", reason=str(error))  # noqa: TRY400 - one clear sentence, no traceback
            return None
        finally:
            _configure_logging(self._settings)

    def _build_plan(self, settings: Settings) -> SupervisionPlan:
        if settings.sparky_home != self._settings.sparky_home:
            raise ConfigurationError("SPARKY_HOME cannot change while Sparky runs; stop it first.")
        plan = process_plan.build_plan(settings, self._engine, self._compose(settings))
        changed = [name for name, value in settings if value != getattr(self._settings, name)]
        self._settings = settings
        _configure_logging(settings)
        logger.info("settings_reloaded", changed=", ".join(sorted(changed)).upper() or "nothing")
        return plan


def _configure_logging(settings: Settings) -> None:
    secrets = logs.collect_secrets(process_plan.resolve_endpoints(settings))
    logs.configure(settings.sparky_log_level, settings.sparky_log_format, "supervisor", secrets)


def is_hangup_ignored() -> bool:
    """Whether the signal of a terminal that hangs up is to be ignored: so ``nohup`` starts a program."""
    return signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def _has_terminal() -> bool:
    """Whether this process has a controlling terminal that still exists."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
