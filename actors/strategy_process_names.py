"""Names of strategies' processes: the runtime knows children by name alone, everything else knows strategies by id."""

from typing import Final
from uuid import UUID

PREFIX: Final = "strategy-"


def build_process_name(strategy_id: UUID) -> str:
    """Such as ``strategy-0b9d…``; also the address at which the strategy takes messages."""
    return f"{PREFIX}{strategy_id}"


def parse_strategy_id(process_name: str) -> UUID | None:
    """The id in a strategy's process name; None for every other process."""
    try:
        return UUID(process_name.removeprefix(PREFIX)) if process_name.startswith(PREFIX) else None
    except ValueError:  # another process whose name begins alike
        return None
