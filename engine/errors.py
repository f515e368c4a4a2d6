"""Failures named by what the caller does next; adapters translate foreign exceptions into these at their edge."""

from typing import Final, Literal

EXIT_CONFIGURATION: Final = 78  # EX_CONFIG of sysexits.h: a restart cannot help
EXIT_TRY_AGAIN: Final = 75  # EX_TEMPFAIL of sysexits.h: the same may be well in a while


class SparkyError(Exception):
    """Root of every failure that the product raises on purpose."""


class Skip(SparkyError):
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


class ClockRefused(UpstreamUnavailable):
    """A venue that answers, and refuses requests by this host's clock for now."""

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__("venue", reason, retry_after_s)


class SealedElsewhere(UpstreamUnavailable):
    """A secret is sealed with a key that this process does not hold. Whoever holds it can go on: nothing ends here."""

    def __init__(self, reason: str) -> None:
        super().__init__("key", reason)


class OrderUnclear(UpstreamUnavailable):
    """The venue answers, and contradicts itself about one order: ask again in a moment. All else there can be asked."""

    def __init__(self, reason: str) -> None:
        super().__init__("venue", reason)


class AnswerCut(UpstreamUnavailable):
    """The model's answer was cut off, however many tokens it might have: an outcome of its own, and no row's fault."""


class Superseded(Skip):
    """Another engine holds the database's lease: what this one asks for or wants to record is refused, for good."""

    def __init__(self, reason: str) -> None:
        super().__init__("superseded", reason)


class AnotherEngineRuns(SparkyError):
    """Another engine holds the database's lease; in a while it may not. The process exits with 75."""


class ModelGone(SparkyError):
    """The provider does not serve this model (to this account), as another strategy has heard: take the next one."""


class StrategyFault(SparkyError):
    """The strategy's own doing (unusable answer, invalid row): five in a row pause its row."""


class BadConfiguration(SparkyError):
    """Only a person can mend this. One clear sentence; the process exits with 78 and is parked at once."""


class FaultySettings(BadConfiguration):
    """All faults of the settings at once, one line each below a first one."""


class Declined(BadConfiguration):
    """What a person asked for cannot be, and the sentence says why; nothing is configured wrong."""


class CredentialsRefused(BadConfiguration):
    """One account's keys are missing, wrong or revoked: only its owner can mend that.

    A process that serves one account may end on it like on any BadConfiguration; one that serves many answers this
    account's request with it and goes on.
    """


RefusalKind = Literal[
    "funds", "filter", "leverage", "reduce_only", "would_trigger", "not_marketable", "account", "rejected"
]


class VenueRefused(SparkyError):
    """The venue understood the order and said no; sending it again would be refused again.

    `kind` says why in one word: too little margin (``funds``), a quantity, price or notional that the instrument's
    filters do not take (``filter``), another ``leverage`` than asked for, nothing to reduce (``reduce_only``), a stop
    or target that the market is already beyond (``would_trigger``), a limit price that the market does not reach
    (``not_marketable``), a setting or a right of the ``account``, or any other reason (``rejected``).
    """

    def __init__(self, reason: str, kind: RefusalKind = "rejected") -> None:
        super().__init__(reason)
        self.kind: RefusalKind = kind


class OutsidePriceBand(VenueRefused):
    """The best price is now further from the mark price than the venue lets orders trade."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, "filter")


class OrderIdTaken(VenueRefused):
    """The venue refuses the client order id as taken, by an order that has ended: another id is needed."""


class OutcomeUnknown(SparkyError):
    """The venue may or may not have accepted the order: ask by client order id before anything else."""
