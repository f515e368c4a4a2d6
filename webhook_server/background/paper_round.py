"""One round of comparing paper positions with the market: with the prices of now, and with the candles until now.

Now a position is liquidated by the mark price, and stopped by the last one, as live. A price that is older than the
entry, or old by the venue's clock, ends nothing.

What happened between two rounds, or while no server ran, is in the one-minute candles. Each that has closed counts,
from the first that opened after the position was entered or added to last: in the minute before that only the prices
that rounds see count. `watched_until_ms` of the books says how far that went, and is noted after the exits were made,
so that a server that dies in between leaves nothing out. With each new candle the last ten minutes are looked at again,
as far as nothing has changed in what is held: a venue may tell a candle late, or other than it first told it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final
from uuid import UUID

import structlog

from engine.domain import decimals
from engine.domain.market import Candle
from engine.domain.positions import Position
from engine.platform.errors import SparkyError
from engine.risk import liquidation
from engine.risk.liquidation import Bar, MarginedPosition, PaperExit
from engine.store.margin import MarginUpdate, PaperMargin
from engine.venues.instrument import Instrument
from engine.venues.order_book import MarkPrice
from engine.venues.quotes import Ticker
from webhook_server.intake.schemas import ExitTerms
from webhook_server.venue_registry import Venues

logger = structlog.get_logger()

MINUTE_MS: Final = 60_000
RECHECK_MS: Final = 10 * MINUTE_MS
MAX_PRICE_AGE_MS: Final = 30_000  # of a price, by the venue's clock
MAX_CANDLES: Final = 1_440  # what was missed longer ago than a day is not looked at
UNKNOWN_MARK_PRICE: Final = MarkPrice(price=None, at_ms=None, clock_ms=0)
MarketExit = tuple[Position, PaperExit]


@dataclass
class _CheckedPosition:
    """A position in this round: `bars` are the closed candles that count, `last` and `mark` the prices of now that do.
    `price` is for showing; `has_all_candles` says that no candle is missing that there should be by now."""

    position: Position
    stake: MarginedPosition
    tick: Decimal
    wallet_usd: Decimal | None
    price: Decimal
    last: Bar | None
    mark: Bar | None
    bars: list[Bar] = field(default_factory=list)
    checked_until_ms: int | None = None
    has_all_candles: bool = True

    @property
    def is_cross(self) -> bool:
        return liquidation.is_cross(self.position, self.wallet_usd)

    @property
    def margin_usd(self) -> Decimal | None:
        """Its own margin; None where it shares one."""
        return None if self.is_cross else liquidation.calculate_isolated_margin(self.position)


class PaperRound:
    """Made anew for every round, with what the books say of all paper positions."""

    def __init__(self, venues: Venues, positions: Iterable[Position], margins: Iterable[PaperMargin]) -> None:
        self._venues = venues
        self._positions = [each for each in positions if each.is_paper]
        self._margins = {each.position_id: each for each in margins}
        self._checked_positions: dict[UUID, _CheckedPosition] = {}
        self._marks: dict[tuple[str, str], MarkPrice | None] = {}
        self._exited_ids: set[UUID] = set()
        self.is_history_unavailable = False  # whether a venue could not be asked for candles

    def fetch_mark_price(self, exchange: str, symbol: str) -> None:
        """Asks for the mark price and the venue's clock; before the last price is asked for, which is no older then."""
        try:
            self._marks[exchange, symbol] = self._venues.history(exchange).fetch_mark_price(symbol)
        except SparkyError as error:
            logger.warning("mark_price_unavailable", exchange=exchange, symbol=symbol, reason=str(error))

    def find_exits(self, exchange: str, symbol: str, held: Iterable[Position], ticker: Ticker) -> Iterator[MarketExit]:
        """Those of the paper positions in a symbol that the market has ended each for itself, at stop, target or
        isolated margin. Without candles the prices of now count alone; without an instrument, in a later round."""
        paper = [each for each in held if each.is_paper and each.id in self._margins]
        for each in self._check_symbol(exchange, symbol, paper, ticker) if paper else ():
            given = (each.position, each.stake, each.margin_usd)
            found = (liquidation.find_exit_in_bar(*given, bar, each.tick) for bar in each.bars)
            end = next((end for end in found if end is not None), None)
            end = end or liquidation.find_exit_now(*given, each.last, each.mark, each.tick)
            if end is not None:
                self._exited_ids.add(each.position.id)
                yield each.position, end

    def find_cross_exits(self) -> Iterator[MarketExit]:
        """Those with cross margin that have used up what their strategy has; once all symbols have their prices."""
        for book in self._cross_groups():
            ends = _find_group_exits(book, self._wallet_usd(book[0].position))
            for each in book:
                if each.position.id in ends:
                    self._exited_ids.add(each.position.id)
                    yield each.position, ends[each.position.id]

    def build_margin_notes(self) -> Iterator[MarginUpdate]:
        """What is new of the positions that go on."""
        books = self._cross_groups()
        cross_prices = {name: price for book in books for name, price in self._cross_liquidation_prices(book)}
        complete_ids = {each.position.id for book in books if _has_all_candles(book) for each in book}
        for name, each in self._checked_positions.items():
            until_ms = each.checked_until_ms if name in complete_ids or not each.is_cross else None
            own = None if each.margin_usd is None else each.stake.calculate_liquidation_price(each.margin_usd)
            price = _round_to_tick(own if each.margin_usd is not None else cross_prices.get(name), each.tick)
            is_new = price != each.position.liquidation_price
            if name not in self._exited_ids and (is_new or until_ms is not None):
                yield MarginUpdate(
                    position_id=name, liquidation_price=price, updates_price=is_new, watched_until_ms=until_ms
                )

    def _check_symbol(
        self, exchange: str, symbol: str, held: Sequence[Position], ticker: Ticker
    ) -> list[_CheckedPosition]:
        try:
            instrument = self._venues.quotes(exchange).fetch_instrument(symbol)
        except SparkyError as error:
            logger.warning("instrument_unavailable", exchange=exchange, symbol=symbol, reason=str(error))
            return []
        mark_price = self._marks.get((exchange, symbol), UNKNOWN_MARK_PRICE)
        checked_positions = [self._build_checked_position(each, instrument, ticker, mark_price) for each in held]
        self._checked_positions |= {each.position.id: each for each in checked_positions}
        now_ms = max(ticker.at_ms, 0 if mark_price is None else mark_price.clock_ms)
        until_ms = now_ms - now_ms % MINUTE_MS
        if until_ms <= min(self._checked_until_ms(each, until_ms) for each in held):
            return checked_positions
        since = {each.position.id: self._first_candle_ms(each.position, until_ms) for each in checked_positions}
        candles = self._fetch_candles(exchange, symbol, min(since.values()), until_ms)
        for each in checked_positions:
            each.has_all_candles = bool(candles)
            each.bars = [_build_bar(one) for one in candles if one.open_time_ms >= since[each.position.id]]
            each.checked_until_ms = candles[-1].open_time_ms + MINUTE_MS if candles else None
        return checked_positions

    def _build_checked_position(
        self, position: Position, instrument: Instrument, ticker: Ticker, mark_price: MarkPrice | None
    ) -> _CheckedPosition:
        stake, margin = (
            liquidation.build_margined_position(position, instrument.maintenance_rate),
            self._margins[position.id],
        )
        clock_ms = 0 if mark_price is None else mark_price.clock_ms
        last = _build_current_bar(ticker.last, ticker.at_ms, clock_ms, margin.entered_ms)
        mark = (
            last
            if mark_price is None
            else _build_current_bar(mark_price.price, mark_price.at_ms, clock_ms, margin.entered_ms)
        )
        price = ticker.last if mark is None else mark.close
        return _CheckedPosition(position, stake, instrument.tick, margin.wallet_usd, price, last, mark)

    def _first_candle_ms(self, position: Position, until_ms: int) -> int:
        """When the first candle opened that counts; all that was before the entry does not."""
        seen_ms, changed_ms = self._checked_until_ms(position, until_ms), self._margins[position.id].changed_ms
        again_ms = seen_ms if changed_ms is None else max(seen_ms - RECHECK_MS, _round_up_to_minute(changed_ms))
        return max(self._entered_ms(position, until_ms), min(seen_ms, again_ms))

    def _checked_until_ms(self, position: Position, until_ms: int) -> int:
        """Until when candles were compared with it, or since when they can be; with cross margin, with all of its
        strategy, whose prices of a minute belong together."""
        each = [position]
        if liquidation.is_cross(position, self._margins[position.id].wallet_usd):
            each = self._list_cross_positions(position)
        seen_ms = min(one.watched_until_ms or self._entered_ms(one, until_ms) for one in each)
        return max(seen_ms, self._entered_ms(position, until_ms))

    def _list_cross_positions(self, position: Position) -> list[Position]:
        """The cross positions of its strategy."""
        own = [each for each in self._positions if each.strategy_id == position.strategy_id]
        return [each for each in own if each.margin_mode is position.margin_mode and each.id in self._margins]

    def _entered_ms(self, position: Position, until_ms: int) -> int:
        entered_ms = self._margins[position.id].entered_ms
        return until_ms if entered_ms is None else _round_up_to_minute(entered_ms)

    def _fetch_candles(self, exchange: str, symbol: str, since_ms: int, until_ms: int) -> list[Candle]:
        """The closed candles from `since_ms` on; none where the venue tells none."""
        count = min(MAX_CANDLES, (until_ms - since_ms) // MINUTE_MS)
        try:
            found = self._venues.history(exchange).fetch_candles(symbol, "1m", count).candles
        except SparkyError as error:
            logger.warning("candle_history_unavailable", exchange=exchange, symbol=symbol, reason=str(error))
            self.is_history_unavailable = True
            return []
        return [each for each in found if each.open_time_ms >= since_ms]

    def _cross_groups(self) -> list[list[_CheckedPosition]]:
        """The cross positions that go on, by strategy; only where all of a strategy's have a price now."""
        books: dict[UUID, list[Position]] = {}
        for each in self._positions:
            wallet_usd = self._margins[each.id].wallet_usd if each.id in self._margins else None
            if (
                each.strategy_id is not None
                and liquidation.is_cross(each, wallet_usd)
                and each.id not in self._exited_ids
            ):
                books.setdefault(each.strategy_id, []).append(each)
        priced = [
            [self._checked_positions[each.id] for each in book if each.id in self._checked_positions]
            for book in books.values()
        ]
        return [book for book, whole in zip(priced, books.values(), strict=True) if len(book) == len(whole)]

    def _wallet_usd(self, position: Position) -> Decimal:
        """What the cross positions of its strategy share."""
        own = [each for each in self._positions if each.strategy_id == position.strategy_id]
        wallet_usd = self._margins[position.id].wallet_usd
        return liquidation.calculate_cross_wallet(wallet_usd or Decimal(0), own)

    def _cross_liquidation_prices(self, group: Sequence[_CheckedPosition]) -> Iterator[tuple[UUID, Decimal | None]]:
        stakes = {each.position.id: each.stake for each in group}
        prices = {each.position.id: each.price for each in group}
        wallet_usd = self._wallet_usd(group[0].position)
        for name, stake in stakes.items():
            yield (
                name,
                stake.calculate_liquidation_price(liquidation.calculate_cross_margin(stakes, name, prices, wallet_usd)),
            )


def build_exit_terms(end: PaperExit, ticker: Ticker | None = None) -> ExitTerms | None:
    """At which the exit is booked; None for what is reached only now, which is closed at the market of now."""
    is_now = ticker is not None and end.fee_usd is None and (end.price, end.at_ms) == (ticker.last, ticker.at_ms)
    return None if is_now else ExitTerms(price=end.price, at_ms=end.at_ms, fee_usd=end.fee_usd)


def _find_group_exits(group: Sequence[_CheckedPosition], wallet_usd: Decimal) -> dict[UUID, PaperExit]:
    """How the book ends, in the first minute in which it does, or now; {} when it goes on."""
    times = _comparable_minutes(group) if _has_all_candles(group) else []
    past = [{each.position.id: bar for each in group for bar in each.bars if bar.at_ms == at} for at in times]
    now = {each.position.id: each.mark for each in group if each.mark is not None}
    for bars in [*past, now] if len(now) == len(group) else past:
        held = [each for each in group if each.position.id in bars]
        stakes = {each.position.id: each.stake for each in held}
        ends = liquidation.find_cross_liquidations(
            stakes, bars, wallet_usd, {each.position.id: each.tick for each in held}
        )
        if ends:
            return ends
    return {}


def _has_all_candles(group: Sequence[_CheckedPosition]) -> bool:
    return all(each.has_all_candles for each in group)


def _comparable_minutes(group: Sequence[_CheckedPosition]) -> list[int]:
    """Minutes for which every position that was held by then has a candle."""
    firsts = {each.position.id: min((bar.at_ms for bar in each.bars), default=None) for each in group}
    known = {each.position.id: {bar.at_ms for bar in each.bars} for each in group}
    times = sorted(set().union(*known.values()))
    return [
        at for at in times if all(first is None or at < first or at in known[name] for name, first in firsts.items())
    ]


def _build_current_bar(price: Decimal | None, at_ms: int | None, clock_ms: int, entered_ms: int | None) -> Bar | None:
    """A price of now; None where it is not known, older than the entry, or old by the venue's clock."""
    if price is None or at_ms is None or at_ms < max(clock_ms - MAX_PRICE_AGE_MS, entered_ms or 0):
        return None
    return Bar.from_price(price, at_ms)


def _round_up_to_minute(at_ms: int) -> int:
    return at_ms + -at_ms % MINUTE_MS


def _build_bar(candle: Candle) -> Bar:
    return Bar(candle.open_time_ms, *(decimals.to_decimal(price) for price in candle[1:5]))


def _round_to_tick(price: Decimal | None, tick: Decimal) -> Decimal | None:
    """For showing."""
    return None if price is None else decimals.round_for_books(decimals.round_to_step(price, tick, ROUND_HALF_EVEN))
