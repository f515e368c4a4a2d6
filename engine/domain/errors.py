"""Failures of trading, named by what the caller does next; adapters translate foreign exceptions into these."""

from typing import Literal

from engine.platform.errors import CycleSkipped, SkipKind, SparkyError, UpstreamUnavailable


class VenueUnavailable(UpstreamUnavailable):
    """A venue does not answer, refuses us for now, or has no usable answer."""

    service = "venue"


class ClockRejected(VenueUnavailable):
    """A venue that answers, and refuses requests by this host's clock for now."""


class OrderContradictory(VenueUnavailable):
    """The venue answers, and contradicts itself about one order: ask again in a moment. All else there can be asked."""


class LlmUnavailable(UpstreamUnavailable):
    """The provider of the language model does not answer, or refuses us for now."""

    service = "groq"


class CompletionCutOff(LlmUnavailable):
    """The model's answer was cut off, however many tokens it might have: an outcome of its own, and no row's fault."""


class Superseded(CycleSkipped):
    """Another engine holds the database's lease: what this one asks for or wants to record is refused, for good."""

    def __init__(self, reason: str) -> None:
        super().__init__(SkipKind.SUPERSEDED, reason)


class ModelUnavailable(SparkyError):
    """The provider does not serve this model (to this account), as another strategy has heard: take the next one."""


class StrategyFault(SparkyError):
    """The strategy's own doing (unusable answer, invalid row): five in a row pause its row."""


RejectionKind = Literal[
    "funds", "filter", "leverage", "reduce_only", "would_trigger", "not_marketable", "account", "rejected"
]


class OrderRejected(SparkyError):
    """The venue understood the order and said no; sending it again would be refused again.

    `kind` says why in one word: too little margin (``funds``), a quantity, price or notional that the instrument's
    filters do not take (``filter``), another ``leverage`` than asked for, nothing to reduce (``reduce_only``), a stop
    or target that the market is already beyond (``would_trigger``), a limit price that the market does not reach
    (``not_marketable``), a setting or a right of the ``account``, or any other reason (``rejected``).
    """

    def __init__(self, reason: str, kind: RejectionKind = "rejected") -> None:
        super().__init__(reason)
        self.kind: RejectionKind = kind


class OutsidePriceBand(OrderRejected):
    """The best price is now further from the mark price than the venue lets orders trade."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, "filter")


class OrderIdTaken(OrderRejected):
    """The venue refuses the client order id as taken, by an order that has ended: another id is needed."""


class OrderOutcomeUnknown(SparkyError):
    """The venue may or may not have accepted the order: ask by client order id before anything else."""
