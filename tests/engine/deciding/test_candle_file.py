"""A whole file of candles through indicators and prompts, minute by minute, as a strategy would have seen them.

The candles are seeded ones by default. ``REPLAY_CANDLES=FILE`` goes through a file of one's own, to its end.
"""

import csv
import math
import os
from pathlib import Path

import pytest

from engine.deciding.indicators import compute
from engine.deciding.prompt import MAX_TOKENS, SymbolView, build_prompt
from engine.domain.market import Candle, MarketSnapshot
from engine.domain.strategy import RiskProfile
from engine.llm.prompt_tokens import estimate_tokens
from engine.venues.market_data.candle_repair import repair_candles
from tests.engine.deciding.examples import a_context, a_position, a_strategy
from tests.support.factories.candle_files import write_walk
from tests.support.factories.indicators import assert_same

MINUTE_MS = 60_000
SEEN = 100
SEEDED_MINUTES = 1_440


@pytest.fixture(scope="module")
def candles(tmp_path_factory: pytest.TempPathFactory) -> list[Candle]:
    named = os.environ.get("REPLAY_CANDLES")
    path = Path(named) if named else write_walk(tmp_path_factory.mktemp("candles") / "BTCUSDT-1m.csv", SEEDED_MINUTES)
    with path.open() as file:
        rows = list(csv.DictReader(file))
    columns = ("open", "high", "low", "close", "volume")
    return [Candle(int(row["open_time_ms"]), *(float(row[name]) for name in columns)) for row in rows]


def longer(candles: list[Candle], minutes: int) -> list[Candle]:
    """Candles of `minutes`, whole ones only."""
    made = []
    for start in range(0, len(candles) - minutes + 1, minutes):
        part = candles[start : start + minutes]
        high, low = max(c.high for c in part), min(c.low for c in part)
        volume = math.fsum(c.volume for c in part)
        made.append(Candle(part[0].open_time_ms, part[0].open, high, low, part[-1].close, volume))
    return made


def snapshot(window: list[Candle], interval: str, minutes: int) -> MarketSnapshot:
    return MarketSnapshot(
        venue="aster",
        symbol="BTCUSDT",
        interval=interval,
        as_of_ms=window[-1].open_time_ms + minutes * MINUTE_MS,
        last_price=window[-1].close,
        change_24h_percent=1.234567,
        candles=tuple(window[-10:]),
        indicators=compute(window),
    )


@pytest.mark.timeout(1_800)
def test_every_minute_has_the_indicators_of_their_definition_and_no_nan(candles: list[Candle]) -> None:
    assert len(candles) > SEEN
    now_ms = candles[-1].open_time_ms + MINUTE_MS
    assert repair_candles(candles, MINUTE_MS, len(candles), now_ms) == (tuple(candles), frozenset(), None)
    step = 1 if os.environ.get("REPLAY_CANDLES") else 7
    for end in range(SEEN, len(candles) + 1, step):
        window = candles[end - SEEN : end]
        assert_same(window)
        values = compute(window).model_dump()
        assert all(value is not None and math.isfinite(value) for value in values.values()), (end, values)


@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("intervals", [(), ("15m", "1h")])
def test_every_prompt_stays_within_its_tokens(candles: list[Candle], intervals: tuple[str, ...]) -> None:
    minutes = {"15m": 15, "1h": 60}
    series = {name: longer(candles, minutes[name]) for name in intervals}
    profiles = list(RiskProfile)
    longest, fewest = 0, 10
    for end in range(SEEN, len(candles) + 1, 1 if os.environ.get("REPLAY_CANDLES") else 7):
        context = a_context(a_strategy(risk_profile=profiles[end % 3]), positions=(a_position(),))
        known = {name: series[name][: end // minutes[name]][-SEEN:] for name in intervals}
        beside = {name: snapshot(window, name, minutes[name]) if window else None for name, window in known.items()}
        prompt = build_prompt(context, [SymbolView(snapshot(candles[end - SEEN : end], "1m", 1), beside)])
        longest, fewest = max(longest, estimate_tokens(prompt)), min(fewest, prompt.candles)
        assert "NaN" not in prompt.user
        assert "Infinity" not in prompt.user
    assert longest <= MAX_TOKENS
    assert fewest >= (5 if intervals else 9)
