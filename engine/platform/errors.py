"""Failures that every part knows, named by what the caller does next."""

from typing import Final

EXIT_CONFIGURATION: Final = 78  # EX_CONFIG of sysexits.h: a restart cannot help
EXIT_TRY_AGAIN: Final = 75  # EX_TEMPFAIL of sysexits.h: the same may be well in a while


class SparkyError(Exception):
    """Root of every failure that the product raises on purpose."""


class CycleSkipped(SparkyError):
    """Nothing to do this time (no data, no permit in time, budget spent): counted, never a fault.

    `kind` is one short word for metrics, such as ``no_data``, ``no_permit`` or ``budget``.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


class UpstreamUnavailable(SparkyError):
    """A shared service is down or refuses us for now: opens the breaker for a cool-down, never pauses a row.

    `service` is ``groq``, ``venue``, ``database``, ``webhook`` or ``key`` (of sealed secrets); `retry_after_s` is the
    peer's own wish, if it said one.
    """

    def __init__(self, service: str, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(f"{service}: {reason}")
        self.service = service
        self.reason = reason
        self.retry_after_s = retry_after_s


class SealedElsewhere(UpstreamUnavailable):
    """A secret is sealed with a key that this process does not hold. Whoever holds it can go on: nothing ends here."""

    def __init__(self, reason: str) -> None:
        super().__init__("key", reason)


class AnotherEngineRuns(SparkyError):
    """Another engine holds the database's lease; in a while it may not. The process exits with 75."""


class ConfigurationError(SparkyError):
    """Only a person can mend this. One clear sentence; the process exits with 78 and is parked at once."""


class InvalidSettings(ConfigurationError):
    """All faults of the settings at once, one line each below a first one."""


class InvalidCommand(ConfigurationError):
    """What a person asked for cannot be, and the sentence says why; nothing is configured wrong."""


class CredentialsError(ConfigurationError):
    """One account's keys are missing, wrong or revoked: only its owner can mend that.

    A process that serves one account may end on it like on any BadConfiguration; one that serves many answers this
    account's request with it and goes on.
    """
