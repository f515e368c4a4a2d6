"""Errors of trading, one class for each next move of the caller; adapters translate foreign exceptions into them."""

from typing import Literal

from engine.platform.errors import CycleSkipped, SkipKind, SparkyError, UpstreamUnavailable


class VenueUnavailable(UpstreamUnavailable):
    """The venue does not answer, refuses requests for now, or sends an unusable answer: try again later."""

    service = "venue"


class ClockRejected(VenueUnavailable):
    """The venue refuses requests for now because this host's clock differs too much from its own."""


class OrderContradictory(VenueUnavailable):
    """The venue contradicts itself about one order: query that one again in a moment; other requests work."""


class LlmUnavailable(UpstreamUnavailable):
    """The provider of the language model does not answer, or refuses requests for now."""

    service = "groq"


class CompletionCutOff(LlmUnavailable):
    """The model's answer was cut off at every token limit tried; not counted as a fault of the strategy."""


class Superseded(CycleSkipped):
    """Another engine holds the database's lease: this one's calls are refused, and repeating them does not help."""

    def __init__(self, reason: str) -> None:
        super().__init__(SkipKind.SUPERSEDED, reason)


class ModelUnavailable(SparkyError):
    """The provider does not serve this model (to this account), as a strategy has found out: use the next model."""


class StrategyFault(SparkyError):
    """The strategy itself is the cause (unusable answer, invalid row): five in a row pause it."""


RejectionKind = Literal[
    "funds", "filter", "leverage", "reduce_only", "would_trigger", "not_marketable", "account", "rejected"
]


class OrderRejected(SparkyError):
    """The venue rejected the order; the same order would be rejected again.

    `kind` is the reason: too little margin (``funds``), a quantity, price or notional that violates the instrument's
    filters (``filter``), leverage or margin mode that could not be set (``leverage``), nothing to reduce
    (``reduce_only``), a stop-loss or take-profit that the market has already passed (``would_trigger``), a limit price
    that the market does not reach (``not_marketable``), a setting or permission of the ``account``, or any other
    (``rejected``).
    """

    def __init__(self, reason: str, kind: RejectionKind = "rejected") -> None:
        super().__init__(reason)
        self.kind: RejectionKind = kind


class OutsidePriceBand(OrderRejected):
    """The best price is further from the mark price than the venue's PERCENT_PRICE filter allows now."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, "filter")


class OrderIdTaken(OrderRejected):
    """The client order id was used by an order that has ended, and the venue does not accept it again: use another."""


class OrderOutcomeUnknown(SparkyError):
    """The venue may or may not have accepted the order: query it by client order id before anything else."""
