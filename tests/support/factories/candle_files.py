"""Candle files for replays: seeded, in the format of `--candles`, and the same on every machine."""

import math
import random
from pathlib import Path

HEADER = "open_time_ms,open,high,low,close,volume"
START_MS = 1_700_006_400_000


def write_walk(path: Path, minutes: int, seed: int = 7) -> Path:
    """A geometric walk of one-minute candles with waves of trend, prices to the cent."""
    noise, price, lines = random.Random(seed), 25_000.0, [HEADER]
    for minute in range(minutes):
        drift = 0.0006 * math.sin(minute / 45)
        close = price * math.exp(drift + noise.gauss(0, 0.0006))
        high, low = (f(price, close) * (1 + s * abs(noise.gauss(0, 0.0002))) for f, s in ((max, 1), (min, -1)))
        cells = (f"{value:.2f}" for value in (price, high, low, close))
        lines.append(f"{START_MS + minute * 60_000},{','.join(cells)},{noise.expovariate(0.3) + 0.01:.5f}")
        price = close
    path.write_text("\n".join(lines) + "\n")
    return path
