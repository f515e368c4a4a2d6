"""Which paper positions one round ends, at which prices, and what it notes of those that go on."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

import pytest

from engine.domain.errors import StrategyFault, VenueUnavailable
from engine.domain.market import Candle
from engine.domain.positions import MarginMode, Position, Side
from engine.risk.liquidation import PaperExit
from engine.store.margin import MarginUpdate, PaperMargin
from engine.venues.instrument import Instrument
from engine.venues.market_data.client import CandleSeries
from engine.venues.order_book import MarkPrice
from engine.venues.quotes import Ticker
from tests.support.factories.entry_values import position
from webhook_server.background.paper_round import (
    MAX_CANDLES,
    MAX_PRICE_AGE_MS,
    MINUTE_MS,
    RECHECK_MS,
    PaperRound,
    build_exit_terms,
)
from webhook_server.intake.schemas import ExitTerms
from webhook_server.venue_registry import Venues

ENTERED_MS = 1_700_000_040_000  # a full minute
NOW_MS = ENTERED_MS + 20 * MINUTE_MS + 30_000
LAST_MINUTE_MS = NOW_MS - NOW_MS % MINUTE_MS
LIQUIDATION = Decimal("24359.0")  # of LONG 0.02 from 25,000 with 20x: (500 - 25) / (0.02 * 0.975), on the tick
SHORT_LIQUIDATION = Decimal("25609.8")  # (500 + 25) / (0.02 * 1.025)


@dataclass
class Past:
    """A venue whose candles, mark prices and list a test sets; what has no price is not listed. `asked` are the
    numbers of candles that were asked for."""

    candles: dict[str, list[Candle]] = field(default_factory=dict)
    marks: dict[str, Decimal] = field(default_factory=lambda: {"BTCUSDT": Decimal(25_000), "ETHUSDT": Decimal(2_000)})
    mark_ms: int = NOW_MS
    clock_ms: int = NOW_MS
    is_away: bool = False
    asked: list[int] = field(default_factory=list)

    def history(self, _: str) -> "Past":
        return self

    quotes = history

    def fetch_candles(self, symbol: str, _: str, limit: int) -> CandleSeries:
        self.asked.append(limit)
        if self.is_away:
            raise VenueUnavailable("no connection")
        return CandleSeries(tuple(self.candles.get(symbol, ())[-limit:]), self.clock_ms)

    def fetch_mark_price(self, symbol: str) -> MarkPrice:
        return MarkPrice(price=self.marks[symbol], at_ms=self.mark_ms, clock_ms=self.clock_ms)

    def fetch_instrument(self, symbol: str) -> Instrument:
        if symbol not in self.marks:
            raise StrategyFault(f"it lists no {symbol}")
        return Instrument(symbol=symbol, tick=Decimal("0.1"), lot=Decimal("0.001"))


def candle(minute: int, low: float = 25_000, high: float = 25_000) -> Candle:
    """Of the `minute` since the entry: from 25,000 to 25,000, by way of `low` and `high`."""
    return Candle(ENTERED_MS + minute * MINUTE_MS, 25_000, high, low, 25_000, 1)


def quiet(count: int = 20) -> list[Candle]:
    return [candle(minute) for minute in range(count)]


def held(**fields: Any) -> Position:
    return position(**{"leverage": 20, **fields})


def margin(own: Position, **fields: Any) -> PaperMargin:
    return PaperMargin.model_validate({"position_id": own.id, "entered_ms": ENTERED_MS, **fields})


def round_of(past: Past, held_now: Sequence[Position], **fields: Any) -> PaperRound:
    return PaperRound(cast("Venues", past), held_now, [margin(each, **fields) for each in held_now])


def ends(
    market_round: PaperRound, own: Sequence[Position], last: str = "25000", last_ms: int = NOW_MS
) -> dict[UUID, PaperExit]:
    """How those of one symbol end."""
    symbol = own[0].symbol
    ticker = Ticker(last=Decimal(last), bid=None, ask=None, change_24h_percent=None, at_ms=last_ms)
    market_round.fetch_mark_price("aster", symbol)
    return {each.id: end for each, end in market_round.find_exits("aster", symbol, own, ticker)}


@pytest.mark.parametrize(
    ("side", "prices", "level", "last", "reason"),
    [
        (Side.LONG, {"stop_loss_price": 24_900}, {"low": 24_899.9}, "24900", "stop_loss"),
        (Side.LONG, {"take_profit_price": 25_100}, {"high": 25_100.1}, "25100", "take_profit"),
        (Side.SHORT, {"stop_loss_price": 25_100}, {"high": 25_100.1}, "25100", "stop_loss"),
        (Side.SHORT, {"take_profit_price": 24_900}, {"low": 24_899.9}, "24900", "take_profit"),
    ],
)
def test_a_candle_ends_a_position_at_the_price_that_it_reached_and_at_its_minute(
    side: Side, prices: dict[str, int], level: dict[str, float], last: str, reason: str
) -> None:
    own = held(side=side, **prices)
    past = Past({"BTCUSDT": [*quiet(4), candle(4, **level), *quiet(20)[5:]]})
    assert ends(round_of(past, [own]), [own]) == {own.id: PaperExit(reason, Decimal(last), candle(4).open_time_ms)}


def test_a_loss_comes_before_a_gain_within_one_candle_and_the_first_candle_counts() -> None:
    own = held(stop_loss_price=24_900, take_profit_price=25_100)
    both = [*quiet(4), candle(4, low=24_000, high=26_000), candle(5, high=26_000), *quiet(20)[6:]]
    assert ends(round_of(Past({"BTCUSDT": both}), [own]), [own])[own.id][:2] == ("stop_loss", Decimal(24_900))
    gain_first = [*quiet(3), candle(3, high=26_000), *both[4:]]
    assert ends(round_of(Past({"BTCUSDT": gain_first}), [own]), [own])[own.id].reason == "take_profit"


@pytest.mark.parametrize(("entered_ms", "is_ended"), [(ENTERED_MS, True), (ENTERED_MS + 1, False)])
def test_no_candle_counts_that_opened_before_the_entry(entered_ms: int, *, is_ended: bool) -> None:
    own = held(stop_loss_price=24_900)
    past = Past({"BTCUSDT": [candle(0, low=24_000), *quiet(20)[1:]]})
    assert bool(ends(round_of(past, [own], entered_ms=entered_ms), [own])) is is_ended


@pytest.mark.parametrize(
    ("side", "mark", "is_ended"),
    [
        (Side.LONG, "24358.9", True),
        (Side.LONG, "24359", False),
        (Side.SHORT, "25609.8", True),
        (Side.SHORT, "25609.7", False),
    ],
)
def test_the_mark_price_alone_liquidates(side: Side, mark: str, *, is_ended: bool) -> None:
    own = held(side=side)
    past = Past({"BTCUSDT": quiet()}, marks={"BTCUSDT": Decimal(mark)})
    found = ends(round_of(past, [own]), [own])
    assert {end.reason for end in found.values()} == ({"liquidated"} if is_ended else set())
    assert all(0 <= (end.fee_usd or 0) <= 25 for end in found.values())


def test_the_last_price_stops_a_position_and_the_exit_is_made_at_the_market_of_now() -> None:
    own = held(stop_loss_price=24_900)
    ticker = Ticker(last=Decimal(24_890), bid=None, ask=None, change_24h_percent=None, at_ms=NOW_MS)
    (end,) = ends(round_of(Past({"BTCUSDT": quiet()}), [own]), [own], last="24890").values()
    assert end == PaperExit("stop_loss", Decimal(24_890), NOW_MS)
    assert build_exit_terms(end, ticker) is None


@pytest.mark.parametrize(
    ("age_ms", "entered_ms", "is_ended"),
    [
        (MAX_PRICE_AGE_MS, ENTERED_MS, True),
        (MAX_PRICE_AGE_MS + 1, ENTERED_MS, False),
        (1_000, NOW_MS - 1_000, True),
        (1_000, NOW_MS - 999, False),  # of before the entry
    ],
)
def test_a_price_that_is_old_or_of_before_the_entry_ends_nothing(
    age_ms: int, entered_ms: int, *, is_ended: bool
) -> None:
    own = held(stop_loss_price=24_900)
    past = Past({"BTCUSDT": quiet()}, marks={"BTCUSDT": Decimal(20_000)}, mark_ms=NOW_MS - age_ms)
    found = ends(round_of(past, [own], entered_ms=entered_ms), [own], last="20000", last_ms=NOW_MS - age_ms)
    assert bool(found) is is_ended


def test_what_has_no_instrument_or_no_margin_is_left_to_a_later_round() -> None:
    own = held(stop_loss_price=24_900)
    unlisted = held(symbol="OLDUSDT", stop_loss_price=24_900)
    ticker = Ticker(last=Decimal(1), bid=None, ask=None, change_24h_percent=None, at_ms=NOW_MS)
    past = Past()
    assert list(round_of(past, [unlisted]).find_exits("aster", "OLDUSDT", [unlisted], ticker)) == []
    without = PaperRound(cast("Venues", past), [own], [])
    assert list(without.find_exits("aster", "BTCUSDT", [own], ticker)) == []
    live = held(stop_loss_price=24_900, is_paper=False)
    assert list(round_of(past, [live]).find_exits("aster", "BTCUSDT", [live], ticker)) == []


def test_without_candles_the_prices_of_now_count_alone_and_the_past_is_looked_at_again_later() -> None:
    own = held(stop_loss_price=24_900)
    past = Past(is_away=True)
    market_round = round_of(past, [own])
    assert ends(market_round, [own]) == {}
    assert market_round.is_history_unavailable
    (note,) = market_round.build_margin_updates()
    assert note.watched_until_ms is None
    assert ends(round_of(past, [own]), [own], last="24890")[own.id].reason == "stop_loss"


@pytest.mark.parametrize(("side", "price"), [(Side.LONG, LIQUIDATION), (Side.SHORT, SHORT_LIQUIDATION)])
def test_of_what_goes_on_the_liquidation_price_and_the_last_candle_are_noted(side: Side, price: Decimal) -> None:
    own = held(side=side)
    market_round = round_of(Past({"BTCUSDT": quiet()}), [own])
    ends(market_round, [own])
    assert list(market_round.build_margin_updates()) == [
        MarginUpdate(position_id=own.id, liquidation_price=price, updates_price=True, watched_until_ms=LAST_MINUTE_MS)
    ]
    known = own.model_copy(update={"liquidation_price": price, "watched_until_ms": LAST_MINUTE_MS})
    again = round_of(Past({"BTCUSDT": quiet()}), [known])
    ends(again, [known])
    assert list(again.build_margin_updates()) == []


def test_nothing_is_noted_of_what_has_ended() -> None:
    own = held(stop_loss_price=24_900)
    market_round = round_of(Past({"BTCUSDT": quiet()}), [own])
    assert ends(market_round, [own], last="24000")
    assert list(market_round.build_margin_updates()) == []


def test_candles_are_asked_for_once_a_minute_and_the_last_ten_minutes_again() -> None:
    seen = held(watched_until_ms=LAST_MINUTE_MS)
    past = Past({"BTCUSDT": quiet()})
    ends(round_of(past, [seen]), [seen])
    assert past.asked == []
    due = held(watched_until_ms=LAST_MINUTE_MS - MINUTE_MS)
    ends(round_of(past, [due]), [due])
    ends(round_of(past, [due], changed_ms=ENTERED_MS), [due])
    ends(round_of(past, [due], changed_ms=LAST_MINUTE_MS - 3 * MINUTE_MS), [due])
    assert past.asked == [1, 1 + RECHECK_MS // MINUTE_MS, 3]


def test_a_candle_that_was_told_late_ends_a_position_that_was_watched_beyond_it() -> None:
    own = held(stop_loss_price=24_900, watched_until_ms=LAST_MINUTE_MS - MINUTE_MS)
    past = Past({"BTCUSDT": [*quiet(15), candle(15, low=24_000), *quiet(20)[16:]]})
    found = ends(round_of(past, [own], changed_ms=ENTERED_MS), [own])
    assert found[own.id].at_ms == candle(15).open_time_ms


def test_no_more_than_a_day_of_candles_is_asked_for() -> None:
    own = held()
    past = Past({"BTCUSDT": quiet()})
    ends(round_of(past, [own], entered_ms=ENTERED_MS - 3 * MAX_CANDLES * MINUTE_MS), [own])
    assert past.asked == [MAX_CANDLES]


def cross_pair() -> list[Position]:
    """LONG 0.02 BTCUSDT from 25,000 and LONG 0.25 ETHUSDT from 2,000, 500 USD each, in one strategy."""
    shared = {"margin_mode": MarginMode.CROSS}
    return [
        held(id=UUID(int=1), **shared),
        held(id=UUID(int=2), symbol="ETHUSDT", quantity=Decimal("0.25"), entry_price=Decimal(2_000), **shared),
    ]


def checked(past: Past, pair: list[Position], wallet_usd: str = "50") -> PaperRound:
    market_round = round_of(past, pair, wallet_usd=Decimal(wallet_usd))
    for each in pair:
        if each.symbol in past.marks:
            assert ends(market_round, [each], last=str(past.marks[each.symbol])) == {}
    return market_round


def test_cross_positions_end_together_when_their_strategys_wallet_is_used_up() -> None:
    """At 50 USD less 25.4 of maintenance, both may lose 25 together, and no more than a little beyond."""
    pair = cross_pair()
    one_falls = Past(marks={"BTCUSDT": Decimal(24_400), "ETHUSDT": Decimal(2_000)})
    assert list(checked(one_falls, pair).find_cross_exits()) == []
    both_fall = Past(marks={"BTCUSDT": Decimal(24_400), "ETHUSDT": Decimal(1_940)})
    found = {each.id: end.reason for each, end in checked(both_fall, pair).find_cross_exits()}
    assert found == dict.fromkeys((UUID(int=1), UUID(int=2)), "liquidated")
    assert list(checked(both_fall, pair, wallet_usd="500").find_cross_exits()) == []


def test_a_book_of_cross_positions_is_not_judged_while_one_of_them_has_no_price() -> None:
    pair = cross_pair()
    unlisted = Past(marks={"BTCUSDT": Decimal(20_000)})
    assert list(checked(unlisted, pair).find_cross_exits()) == []


def test_the_terms_of_an_exit_are_its_price_unless_it_is_reached_only_now() -> None:
    ticker = Ticker(last=Decimal(99), bid=None, ask=None, change_24h_percent=None, at_ms=7)
    assert build_exit_terms(PaperExit("stop_loss", Decimal(99), 7), ticker) is None
    assert build_exit_terms(PaperExit("stop_loss", Decimal(99), 6), ticker) == ExitTerms(price=Decimal(99), at_ms=6)
    assert build_exit_terms(PaperExit("stop_loss", Decimal(98), 7), ticker) == ExitTerms(price=Decimal(98), at_ms=7)
    liquidated = PaperExit("liquidated", Decimal(99), 7, Decimal(1))
    assert build_exit_terms(liquidated, ticker) == ExitTerms(price=Decimal(99), at_ms=7, fee_usd=Decimal(1))
    assert build_exit_terms(liquidated) == build_exit_terms(liquidated, ticker)
