"""Failures that every part knows, named by what the caller does next."""

from enum import StrEnum
from typing import ClassVar, Final

EXIT_CONFIGURATION: Final = 78  # EX_CONFIG of sysexits.h: a restart cannot help
EXIT_TRY_AGAIN: Final = 75  # EX_TEMPFAIL of sysexits.h: the same command may succeed later


class SparkyError(Exception):
    """Root of every failure that the product raises on purpose."""


class SkipKind(StrEnum):
    """Why an ask or a cycle was skipped. The values travel between processes and are labels of metrics."""

    ACCOUNT_REFUSED = "account_refused"
    BAD_DATA = "bad_data"
    BREAKER_OPEN = "breaker_open"
    BUDGET = "budget"
    DRAWDOWN = "drawdown"
    ERROR = "error"
    GONE = "gone"
    HOST_BUDGET = "host_budget"
    MODEL_GONE = "model_gone"
    NO_DATA = "no_data"
    NO_LIMITER = "no_limiter"
    NO_MARKET = "no_market"
    NO_PEER = "no_peer"  # any process but the limiter and the market
    NO_PERMIT = "no_permit"
    NOT_RUNNING = "not_running"
    STOPPING = "stopping"
    SUPERSEDED = "superseded"
    TOO_LARGE = "too_large"
    UNKNOWN_SYMBOL = "unknown_symbol"

    @classmethod
    def for_absent_peer(cls, name: str) -> "SkipKind":
        """The kind for a process called `name` that is away or did not answer in time."""
        return {"limiter": cls.NO_LIMITER, "market": cls.NO_MARKET}.get(name, cls.NO_PEER)


class CycleSkipped(SparkyError):
    """Nothing to do this time (no data, no permit in time, budget spent): counted, never a fault.

    `retry_after_s` is how long the upstream behind it asks to wait, if it named a time.
    """

    def __init__(self, kind: SkipKind, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.kind = kind
        self.retry_after_s = retry_after_s


class UpstreamUnavailable(SparkyError):
    """A shared service is down or refuses us for now: opens the breaker for a cool-down, never pauses a row.

    Adapters raise a subclass, whose `service` is its label in messages, metrics and the breaker's state.
    `retry_after_s` is the peer's own wish, if it named one.
    """

    service: ClassVar[str]

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(f"{self.service}: {reason}")
        self.reason = reason
        self.retry_after_s = retry_after_s


class DatabaseUnavailable(UpstreamUnavailable):
    """The database cannot serve now; `state` is its SQLSTATE, empty if it gave none."""

    service = "database"

    def __init__(self, reason: str, retry_after_s: float | None = None, *, state: str = "") -> None:
        super().__init__(reason, retry_after_s)
        self.state = state


class SealedElsewhere(UpstreamUnavailable):
    """A secret is sealed with a key that this process does not hold. Another process may hold it, so that nothing that
    needs the secret is given up here."""

    service = "key"


class AnotherEngineRuns(SparkyError):
    """Another engine holds the database's lease, which it may release later. The process exits with 75."""


class ConfigurationError(SparkyError):
    """Only a person can correct this. One clear sentence; the process exits with 78 and is parked at once."""


class InvalidSettings(ConfigurationError):
    """All faults of the settings at once: a first line, then one line for each."""


class InvalidCommand(ConfigurationError):
    """A command cannot do what was asked, and the message says why; no setting is wrong."""


class CredentialsError(ConfigurationError):
    """One account's keys are missing, wrong or revoked: only its owner can correct that.

    A process that serves one account may end on it like on any ConfigurationError; one that serves many answers this
    account's request with it and goes on.
    """
