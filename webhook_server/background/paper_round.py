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
from engine.risk.liquidation import Bar, End, Stake
from engine.store.margin import MarginNote, PaperMargin
from engine.venues.order_book import MarkPrice
from engine.venues.venue import Instrument, Ticker
from webhook_server.intake.schemas import ExitTerms
from webhook_server.venue_registry import Venues

logger = structlog.get_logger()

MINUTE_MS: Final = 60_000
AGAIN_MS: Final = 10 * MINUTE_MS
MOST_AGE_MS: Final = 30_000  # of a price, by the venue's clock
MOST_MINUTES: Final = 1_440  # what was missed longer ago than a day is not looked at
UNKNOWN: Final = MarkPrice(price=None, at_ms=None, clock_ms=0)
Ended = tuple[Position, End]


@dataclass
class _Watched:
    """A position in this round: `bars` are the closed candles that count, `last` and `mark` the prices of now that do.
    `price` is for showing; `is_told` says that no candle is missing that there should be by now."""

    position: Position
    stake: Stake
    tick: Decimal
    wallet_usd: Decimal | None
    price: Decimal
    last: Bar | None
    mark: Bar | None
    bars: list[Bar] = field(default_factory=list)
    until_ms: int | None = None
    is_told: bool = True

    @property
    def is_cross(self) -> bool:
        return liquidation.is_cross(self.position, self.wallet_usd)

    @property
    def margin_usd(self) -> Decimal | None:
        """Its own margin; None where it shares one."""
        return None if self.is_cross else liquidation.isolated_margin(self.position)


class PaperRound:
    """Made anew for every round, with what the books say of all paper positions."""

    def __init__(self, venues: Venues, positions: Iterable[Position], margins: Iterable[PaperMargin]) -> None:
        self._venues = venues
        self._positions = [each for each in positions if each.is_paper]
        self._margins = {each.position_id: each for each in margins}
        self._watched: dict[UUID, _Watched] = {}
        self._marks: dict[tuple[str, str], MarkPrice | None] = {}
        self._ended: set[UUID] = set()
        self.is_silent = False  # whether a venue could not be asked for candles

    def ask_mark(self, exchange: str, symbol: str) -> None:
        """Asks for the mark price and the venue's clock; before the last price is asked for, which is no older then."""
        try:
            self._marks[exchange, symbol] = self._venues.history(exchange).mark(symbol)
        except SparkyError as error:
            logger.warning("no_mark_price", exchange=exchange, symbol=symbol, reason=str(error))

    def ends(self, exchange: str, symbol: str, held: Iterable[Position], ticker: Ticker) -> Iterator[Ended]:
        """Those of the paper positions in a symbol that the market has ended each for itself, at stop, target or
        isolated margin. Without candles the prices of now count alone; without an instrument, in a later round."""
        paper = [each for each in held if each.is_paper and each.id in self._margins]
        for each in self._watch(exchange, symbol, paper, ticker) if paper else ():
            given = (each.position, each.stake, each.margin_usd)
            found = (liquidation.end_within(*given, bar, each.tick) for bar in each.bars)
            end = next((end for end in found if end is not None), None)
            end = end or liquidation.end_now(*given, each.last, each.mark, each.tick)
            if end is not None:
                self._ended.add(each.position.id)
                yield each.position, end

    def ends_together(self) -> Iterator[Ended]:
        """Those with cross margin that have used up what their strategy has; once all symbols have their prices."""
        for book in self._books():
            ended = _book_ends(book, self._wallet_usd(book[0].position))
            for each in book:
                if each.position.id in ended:
                    self._ended.add(each.position.id)
                    yield each.position, ended[each.position.id]

    def notes(self) -> Iterator[MarginNote]:
        """What is new of the positions that go on."""
        books = self._books()
        shared = {name: price for book in books for name, price in self._cross_prices(book)}
        judged = {each.position.id for book in books if _is_told(book) for each in book}
        for name, each in self._watched.items():
            until_ms = each.until_ms if name in judged or not each.is_cross else None
            own = None if each.margin_usd is None else each.stake.liquidation_price(each.margin_usd)
            price = _on_tick(own if each.margin_usd is not None else shared.get(name), each.tick)
            is_new = price != each.position.liquidation_price
            if name not in self._ended and (is_new or until_ms is not None):
                yield MarginNote(
                    position_id=name, liquidation_price=price, notes_price=is_new, watched_until_ms=until_ms
                )

    def _watch(self, exchange: str, symbol: str, held: Sequence[Position], ticker: Ticker) -> list[_Watched]:
        try:
            instrument = self._venues.quotes(exchange).instrument(symbol)
        except SparkyError as error:
            logger.warning("no_instrument", exchange=exchange, symbol=symbol, reason=str(error))
            return []
        told = self._marks.get((exchange, symbol), UNKNOWN)
        watched = [self._of(each, instrument, ticker, told) for each in held]
        self._watched |= {each.position.id: each for each in watched}
        now_ms = max(ticker.at_ms, 0 if told is None else told.clock_ms)
        until_ms = now_ms - now_ms % MINUTE_MS
        if until_ms <= min(self._seen_ms(each, until_ms) for each in held):
            return watched
        since = {each.position.id: self._since_ms(each.position, until_ms) for each in watched}
        candles = self._candles(exchange, symbol, min(since.values()), until_ms)
        for each in watched:
            each.is_told = bool(candles)
            each.bars = [_bar(one) for one in candles if one.open_time_ms >= since[each.position.id]]
            each.until_ms = candles[-1].open_time_ms + MINUTE_MS if candles else None
        return watched

    def _of(self, position: Position, instrument: Instrument, ticker: Ticker, told: MarkPrice | None) -> _Watched:
        stake, margin = liquidation.stake_of(position, instrument.maintenance_rate), self._margins[position.id]
        clock_ms = 0 if told is None else told.clock_ms
        last = _counting(ticker.last, ticker.at_ms, clock_ms, margin.entered_ms)
        mark = last if told is None else _counting(told.price, told.at_ms, clock_ms, margin.entered_ms)
        price = ticker.last if mark is None else mark.close
        return _Watched(position, stake, instrument.tick, margin.wallet_usd, price, last, mark)

    def _since_ms(self, position: Position, until_ms: int) -> int:
        """When the first candle opened that counts; all that was before the entry does not."""
        seen_ms, changed_ms = self._seen_ms(position, until_ms), self._margins[position.id].changed_ms
        again_ms = seen_ms if changed_ms is None else max(seen_ms - AGAIN_MS, _next_minute(changed_ms))
        return max(self._entered_ms(position, until_ms), min(seen_ms, again_ms))

    def _seen_ms(self, position: Position, until_ms: int) -> int:
        """Until when candles were compared with it, or since when they can be; with cross margin, with all of its
        strategy, whose prices of a minute belong together."""
        each = [position]
        if liquidation.is_cross(position, self._margins[position.id].wallet_usd):
            each = self._sharing(position)
        seen_ms = min(one.watched_until_ms or self._entered_ms(one, until_ms) for one in each)
        return max(seen_ms, self._entered_ms(position, until_ms))

    def _sharing(self, position: Position) -> list[Position]:
        """The cross positions of its strategy."""
        own = [each for each in self._positions if each.strategy_id == position.strategy_id]
        return [each for each in own if each.margin_mode is position.margin_mode and each.id in self._margins]

    def _entered_ms(self, position: Position, until_ms: int) -> int:
        entered_ms = self._margins[position.id].entered_ms
        return until_ms if entered_ms is None else _next_minute(entered_ms)

    def _candles(self, exchange: str, symbol: str, since_ms: int, until_ms: int) -> list[Candle]:
        """The closed candles from `since_ms` on; none where the venue tells none."""
        count = min(MOST_MINUTES, (until_ms - since_ms) // MINUTE_MS)
        try:
            found = self._venues.history(exchange).feed(symbol, "1m", count).candles
        except SparkyError as error:
            logger.warning("no_candles_of_the_past", exchange=exchange, symbol=symbol, reason=str(error))
            self.is_silent = True
            return []
        return [each for each in found if each.open_time_ms >= since_ms]

    def _books(self) -> list[list[_Watched]]:
        """The cross positions that go on, by strategy; only where all of a strategy's have a price now."""
        books: dict[UUID, list[Position]] = {}
        for each in self._positions:
            wallet_usd = self._margins[each.id].wallet_usd if each.id in self._margins else None
            if each.strategy_id is not None and liquidation.is_cross(each, wallet_usd) and each.id not in self._ended:
                books.setdefault(each.strategy_id, []).append(each)
        priced = [[self._watched[each.id] for each in book if each.id in self._watched] for book in books.values()]
        return [book for book, whole in zip(priced, books.values(), strict=True) if len(book) == len(whole)]

    def _wallet_usd(self, position: Position) -> Decimal:
        """What the cross positions of its strategy share."""
        own = [each for each in self._positions if each.strategy_id == position.strategy_id]
        wallet_usd = self._margins[position.id].wallet_usd
        return liquidation.cross_wallet(wallet_usd or Decimal(0), own)

    def _cross_prices(self, book: Sequence[_Watched]) -> Iterator[tuple[UUID, Decimal | None]]:
        stakes = {each.position.id: each.stake for each in book}
        prices = {each.position.id: each.price for each in book}
        wallet_usd = self._wallet_usd(book[0].position)
        for name, stake in stakes.items():
            yield name, stake.liquidation_price(liquidation.cross_margin(stakes, name, prices, wallet_usd))


def terms_of(end: End, ticker: Ticker | None = None) -> ExitTerms | None:
    """At which the exit is booked; None for what is reached only now, which is closed at the market of now."""
    is_now = ticker is not None and end.fee_usd is None and (end.price, end.at_ms) == (ticker.last, ticker.at_ms)
    return None if is_now else ExitTerms(price=end.price, at_ms=end.at_ms, fee_usd=end.fee_usd)


def _book_ends(book: Sequence[_Watched], wallet_usd: Decimal) -> dict[UUID, End]:
    """How the book ends, in the first minute in which it does, or now; {} when it goes on."""
    times = _times(book) if _is_told(book) else []
    past = [{each.position.id: bar for each in book for bar in each.bars if bar.at_ms == at} for at in times]
    now = {each.position.id: each.mark for each in book if each.mark is not None}
    for bars in [*past, now] if len(now) == len(book) else past:
        held = [each for each in book if each.position.id in bars]
        stakes = {each.position.id: each.stake for each in held}
        ends = liquidation.cross_ends(stakes, bars, wallet_usd, {each.position.id: each.tick for each in held})
        if ends:
            return ends
    return {}


def _is_told(book: Sequence[_Watched]) -> bool:
    return all(each.is_told for each in book)


def _times(book: Sequence[_Watched]) -> list[int]:
    """Minutes for which every position that was held by then has a candle."""
    firsts = {each.position.id: min((bar.at_ms for bar in each.bars), default=None) for each in book}
    known = {each.position.id: {bar.at_ms for bar in each.bars} for each in book}
    times = sorted(set().union(*known.values()))
    return [
        at for at in times if all(first is None or at < first or at in known[name] for name, first in firsts.items())
    ]


def _counting(price: Decimal | None, at_ms: int | None, clock_ms: int, entered_ms: int | None) -> Bar | None:
    """A price of now; None where it is not known, older than the entry, or old by the venue's clock."""
    if price is None or at_ms is None or at_ms < max(clock_ms - MOST_AGE_MS, entered_ms or 0):
        return None
    return Bar.of(price, at_ms)


def _next_minute(at_ms: int) -> int:
    return at_ms + -at_ms % MINUTE_MS


def _bar(candle: Candle) -> Bar:
    return Bar(candle.open_time_ms, *(decimals.exact(price) for price in candle[1:5]))


def _on_tick(price: Decimal | None, tick: Decimal) -> Decimal | None:
    """For showing."""
    return None if price is None else decimals.kept(decimals.stepped(price, tick, ROUND_HALF_EVEN))
