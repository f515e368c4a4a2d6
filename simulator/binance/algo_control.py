"""``/_control/algo``: faults of the simulated algo service.

``POST`` takes a JSON object; ``GET`` shows the present values. Only from the same host.

- ``{"unseen_for": 2}``: algo orders placed from now on are unknown to two queries.
- ``{"new_for": 2}``: orders cancelled from now on are reported as NEW to two queries.
- ``{"triggering_for": 2}``: orders that have filled are reported as TRIGGERING to two queries.
- ``{"triggered_end": "REJECTED"}`` (or ``EXPIRED``, or ``FINISHED``: with a plain order that expired): orders end
  without a fill when their condition is met (``"FILLED"``: they fill again).
"""

from typing import Final, Literal

from pydantic import Field
from starlette.types import ASGIApp

from engine.platform.values import Frozen
from simulator.binance.algo_orders import AlgoOrders
from simulator.control_address import with_control

CONTROL: Final = "/_control/algo"


class AlgoChange(Frozen):
    """The changes; None keeps a value."""

    unseen_for: int | None = Field(default=None, ge=0)
    triggering_for: int | None = Field(default=None, ge=0)
    new_for: int | None = Field(default=None, ge=0)
    triggered_end: Literal["FILLED", "REJECTED", "EXPIRED", "FINISHED"] | None = None


def with_algo_control(app: ASGIApp, algo: AlgoOrders) -> ASGIApp:
    """`app` behind the control address."""
    return with_control(
        app,
        CONTROL,
        lambda: _describe_state(algo),
        AlgoChange.model_validate_json,
        lambda change: _apply_change(change, algo),
    )


def _apply_change(change: AlgoChange, algo: AlgoOrders) -> None:
    for name in ("unseen_for", "triggering_for", "new_for"):
        if getattr(change, name) is not None:
            setattr(algo, name, getattr(change, name))
    if change.triggered_end is not None:
        algo.venue.triggered_end = change.triggered_end


def _describe_state(algo: AlgoOrders) -> dict[str, int | str]:
    return {
        "unseen_for": algo.unseen_for,
        "triggering_for": algo.triggering_for,
        "new_for": algo.new_for,
        "triggered_end": algo.venue.triggered_end,
    }
