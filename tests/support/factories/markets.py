"""A market whose prices are known and whose time is in a test's hands."""

from typing import Final

from engine.domain.market import Candle
from simulator.market.candles import MINUTE_MS, FileSeries

START_MS: Final = 1_700_000_040_000


class Hands:
    """Monotonic time that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def flat_then_rising(start_ms: int = START_MS) -> FileSeries:
    """28,000 for 110 minutes, then 100 more every minute."""
    closes = [28_000.0] * 110 + [28_000.0 + 100 * step for step in range(1, 91)]
    opens = [28_000.0, *closes[:-1]]
    return FileSeries(
        [
            Candle(start_ms + i * MINUTE_MS, opened, max(opened, close), min(opened, close), close, 1.0 + i)
            for i, (opened, close) in enumerate(zip(opens, closes, strict=True))
        ],
        decimals=1,
    )
