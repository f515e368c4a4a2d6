"""Differences between books and venue, and adoption plans, as JSON data. Pure."""

from typing import Any

from cli.output import to_json_data
from cli.reconcile.adoption_plan import AdoptionPlan, Observation
from engine.domain.decimals import format_plain
from engine.store.adoption import OpenDifference


def build_difference_row(difference: OpenDifference) -> dict[str, Any]:
    """JSON data of an open difference: `venue_net` is the venue's whole net quantity, `difference` the part that is
    neither booked nor noted."""
    return {
        **to_json_data(difference),
        "venue_net": format_plain(difference.at_venue + difference.outside),
        "difference": format_plain(difference.at_venue - difference.booked),
    }


def build_observation_json(observation: Observation, plan: AdoptionPlan) -> dict[str, Any]:
    """Observation and plan as JSON data."""
    position = observation.position
    return {
        **observation.account_symbol.model_dump(mode="json"),
        "booked": str(observation.books_net),
        "outside": str(observation.books.outside),
        "difference": str(observation.difference),
        "since": None
        if observation.books.difference is None
        else to_json_data(observation.books.difference)["first_seen_at"],
        "reason": None if observation.books.difference is None else observation.books.difference.reason,
        "held": [position.model_dump(mode="json") for position in observation.books.held],
        "can_be_noted": observation.can_be_noted,
        "venue": {
            "net": f"{observation.venue_net:f}",
            "entry_price": None if position is None else str(position.entry_price),
            "last_price": None if observation.last_price is None else str(observation.last_price),
            "is_listed": observation.is_listed,
        },
        "trades": [trade.model_dump(mode="json") for trade in observation.unbooked_trades],
        "record_trouble": observation.record_trouble,
        "plan": plan.model_dump(mode="json"),
    }
