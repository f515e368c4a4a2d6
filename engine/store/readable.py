"""A portfolio in which a limit cannot be read: the rest still says which limit refuses first, and what is held."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

# In place of what cannot be read; a limit of the person's is left out. An entry is refused whatever stands here, since
# a limit is unreadable: these let the limits before that one refuse, and would allow nothing without that check.
_NARROWEST: Final[Mapping[tuple[str, object], object]] = {
    ("settings", "kill_switch"): False,
    ("settings", "allow_weekends"): False,
    ("strategy", "status"): "running",
    ("strategy", "leverage_max"): 1,
    ("strategy", "max_position_usd"): "0.00000001",
    ("strategy", "max_drawdown_percent"): 0.0001,
    ("strategy", "drawdown_percent"): 100,
    ("strategy", "equity_usd"): 0,
}


def as_far_as_readable(found: Mapping[str, Any], error: ValidationError) -> dict[str, Any]:
    """`found` without what `error` names: a field of the settings or of the strategy, a figure, or a position.

    What cannot be spared is then missing, which the next validation says.
    """
    faulty = [entry["loc"] for entry in error.errors(include_url=False, include_input=False)]
    names = {**found, **{str(loc[0]): None for loc in faulty if loc[0] not in found}}
    return {
        name: _readable(name, value, [loc[1:] for loc in faulty if loc[0] == name]) for name, value in names.items()
    }


def _readable(name: str, value: Any, faulty: list[tuple[int | str, ...]]) -> Any:
    inner = {loc[0] for loc in faulty if loc}
    if not faulty:
        return value
    if isinstance(value, Mapping):
        return {**value, **{field: _NARROWEST.get((name, field)) for field in inner}}
    if isinstance(value, list):
        return [each for index, each in enumerate(value) if index not in inner]
    return value if name in {"settings", "strategy", "open_positions"} else None
