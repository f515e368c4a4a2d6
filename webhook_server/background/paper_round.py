"""Compares paper positions with the market in one round: with present prices, and with the candles until now.

As live, the present mark price liquidates a position, and the present last price triggers its stop-loss or take-profit.
A price that is older than the entry, or stale by the venue's clock, ends nothing.

One-minute candles show what happened between two rounds, or while no server ran. Every closed candle counts that opened
after the last entry or addition; within the minute of that entry only the prices that rounds see count. The column
`watched_until_ms` says how far candles were compared, and is written after the exits are made, so that a server that
dies in between misses nothing. With each new candle the last ten minutes are compared again, unless the position has
changed since: a venue may publish a candle late, or correct it.
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
MAX_PRICE_AGE_MS: Final = 30_000  # by the venue's clock
MAX_CANDLES: Final = 1_440  # one day; older candles are not compared after a long downtime
UNKNOWN_MARK_PRICE: Final = MarkPrice(price=None, at_ms=None, clock_ms=0)
MarketExit = tuple[Position, PaperExit]


@dataclass
class _CheckedPosition:
    """A position in this round: `bars` are the closed candles that count, `last` and `mark` the present prices that do
    (None: missing or stale). `price` is for display. `has_all_candles` is False while candles up to now are missing."""

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
        """The position's own margin in USD; None with cross margin."""
        return None if self.is_cross else liquidation.calculate_isolated_margin(self.position)


class PaperRound:
    """Built anew for every round from `positions`, of which the live ones are dropped, and the `margins` of the paper
    ones."""

    def __init__(self, venues: Venues, positions: Iterable[Position], margins: Iterable[PaperMargin]) -> None:
        self._venues = venues
        self._positions = [position for position in positions if position.is_paper]
        self._margins = {margin.position_id: margin for margin in margins}
        self._checked_positions: dict[UUID, _CheckedPosition] = {}
        self._marks: dict[tuple[str, str], MarkPrice | None] = {}
        self._exited_ids: set[UUID] = set()
        self.is_history_unavailable = False  # whether a venue could not be asked for candles

    def fetch_mark_price(self, exchange: str, symbol: str) -> None:
        """Fetches the mark price and the venue's clock. Call it before fetching the last price, which must not be older
        than that clock."""
        try:
            self._marks[exchange, symbol] = self._venues.history(exchange).fetch_mark_price(symbol)
        except SparkyError as error:
            logger.warning("mark_price_unavailable", exchange=exchange, symbol=symbol, reason=str(error))

    def find_exits(self, exchange: str, symbol: str, held: Iterable[Position], ticker: Ticker) -> Iterator[MarketExit]:
        """Exits of paper positions in one symbol at stop-loss, take-profit or isolated liquidation; see
        `find_cross_exits` for cross margin. Without candles only present prices count; without an instrument none are
        found until a later round."""
        paper = [position for position in held if position.is_paper and position.id in self._margins]
        for checked in self._check_symbol(exchange, symbol, paper, ticker) if paper else ():
            margined = (checked.position, checked.stake, checked.margin_usd)
            past_ends = (liquidation.find_exit_in_bar(*margined, bar, checked.tick) for bar in checked.bars)
            end = next((past_end for past_end in past_ends if past_end is not None), None)
            end = end or liquidation.find_exit_now(*margined, checked.last, checked.mark, checked.tick)
            if end is not None:
                self._exited_ids.add(checked.position.id)
                yield checked.position, end

    def find_cross_exits(self) -> Iterator[MarketExit]:
        """Liquidations of positions with cross margin. Call it after `find_exits` of all symbols, since a strategy's
        positions share one wallet."""
        for group in self._group_cross_positions():
            ends = _find_group_exits(group, self._compute_shared_wallet_usd(group[0].position))
            for checked in group:
                if checked.position.id in ends:
                    self._exited_ids.add(checked.position.id)
                    yield checked.position, ends[checked.position.id]

    def build_margin_updates(self) -> Iterator[MarginUpdate]:
        """Changed liquidation prices and compared-until times of the positions that stay open."""
        groups = self._group_cross_positions()
        cross_prices = {
            position_id: price
            for group in groups
            for position_id, price in self._compute_cross_liquidation_prices(group)
        }
        complete_ids = {checked.position.id for group in groups if _has_all_candles(group) for checked in group}
        for position_id, checked in self._checked_positions.items():
            until_ms = checked.checked_until_ms if position_id in complete_ids or not checked.is_cross else None
            own = None if checked.margin_usd is None else checked.stake.calculate_liquidation_price(checked.margin_usd)
            exact_price = own if checked.margin_usd is not None else cross_prices.get(position_id)
            price = _round_to_tick(exact_price, checked.tick)
            is_new = price != checked.position.liquidation_price
            if position_id not in self._exited_ids and (is_new or until_ms is not None):
                yield MarginUpdate(
                    position_id=position_id, liquidation_price=price, updates_price=is_new, watched_until_ms=until_ms
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
        checked_positions = [
            self._build_checked_position(position, instrument, ticker, mark_price) for position in held
        ]
        self._checked_positions |= {checked.position.id: checked for checked in checked_positions}
        now_ms = max(ticker.at_ms, 0 if mark_price is None else mark_price.clock_ms)
        until_ms = now_ms - now_ms % MINUTE_MS
        if until_ms <= min(self._find_checked_until_ms(position, until_ms) for position in held):
            return checked_positions
        since = {
            checked.position.id: self._find_first_candle_ms(checked.position, until_ms) for checked in checked_positions
        }
        candles = self._fetch_candles(exchange, symbol, min(since.values()), until_ms)
        for checked in checked_positions:
            checked.has_all_candles = bool(candles)
            since_ms = since[checked.position.id]
            checked.bars = [_build_bar(candle) for candle in candles if candle.open_time_ms >= since_ms]
            checked.checked_until_ms = candles[-1].open_time_ms + MINUTE_MS if candles else None
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

    def _find_first_candle_ms(self, position: Position, until_ms: int) -> int:
        """The open time of the first candle to compare, never before the entry. Candles of the last ten minutes are
        compared again, as far as the position has not changed since."""
        checked_ms, changed_ms = self._find_checked_until_ms(position, until_ms), self._margins[position.id].changed_ms
        recheck_ms = checked_ms if changed_ms is None else max(checked_ms - RECHECK_MS, _round_up_to_minute(changed_ms))
        return max(self._get_entered_ms(position, until_ms), min(checked_ms, recheck_ms))

    def _find_checked_until_ms(self, position: Position, until_ms: int) -> int:
        """Up to when candles were compared with `position`, at first its entry. With cross margin the earliest time of
        the strategy's positions, since one minute's prices of all of them are compared together."""
        group = [position]
        if liquidation.is_cross(position, self._margins[position.id].wallet_usd):
            group = self._list_cross_positions(position)
        checked_ms = min(other.watched_until_ms or self._get_entered_ms(other, until_ms) for other in group)
        return max(checked_ms, self._get_entered_ms(position, until_ms))

    def _list_cross_positions(self, position: Position) -> list[Position]:
        """The cross positions of the strategy of `position`, itself included."""
        own = [other for other in self._positions if other.strategy_id == position.strategy_id]
        return [other for other in own if other.margin_mode is position.margin_mode and other.id in self._margins]

    def _get_entered_ms(self, position: Position, until_ms: int) -> int:
        entered_ms = self._margins[position.id].entered_ms
        return until_ms if entered_ms is None else _round_up_to_minute(entered_ms)

    def _fetch_candles(self, exchange: str, symbol: str, since_ms: int, until_ms: int) -> list[Candle]:
        """The closed candles from `since_ms` on; none where the venue does not answer."""
        count = min(MAX_CANDLES, (until_ms - since_ms) // MINUTE_MS)
        try:
            candles = self._venues.history(exchange).fetch_candles(symbol, "1m", count).candles
        except SparkyError as error:
            logger.warning("candle_history_unavailable", exchange=exchange, symbol=symbol, reason=str(error))
            self.is_history_unavailable = True
            return []
        return [candle for candle in candles if candle.open_time_ms >= since_ms]

    def _group_cross_positions(self) -> list[list[_CheckedPosition]]:
        """The open cross positions of each strategy whose positions all have a present price. A group with a missing
        price is left out: its equity is not known, so nothing of it may be liquidated."""
        by_strategy: dict[UUID, list[Position]] = {}
        for position in self._positions:
            wallet_usd = self._margins[position.id].wallet_usd if position.id in self._margins else None
            if (
                position.strategy_id is not None
                and liquidation.is_cross(position, wallet_usd)
                and position.id not in self._exited_ids
            ):
                by_strategy.setdefault(position.strategy_id, []).append(position)
        return [
            [self._checked_positions[position.id] for position in group]
            for group in by_strategy.values()
            if all(position.id in self._checked_positions for position in group)
        ]

    def _compute_shared_wallet_usd(self, position: Position) -> Decimal:
        """The wallet in USD that the cross positions of the strategy of `position` share."""
        own = [other for other in self._positions if other.strategy_id == position.strategy_id]
        wallet_usd = self._margins[position.id].wallet_usd
        return liquidation.calculate_cross_wallet(wallet_usd or Decimal(0), own)

    def _compute_cross_liquidation_prices(
        self, group: Sequence[_CheckedPosition]
    ) -> Iterator[tuple[UUID, Decimal | None]]:
        stakes = {checked.position.id: checked.stake for checked in group}
        prices = {checked.position.id: checked.price for checked in group}
        wallet_usd = self._compute_shared_wallet_usd(group[0].position)
        for position_id, stake in stakes.items():
            margin_usd = liquidation.calculate_cross_margin(stakes, position_id, prices, wallet_usd)
            yield position_id, stake.calculate_liquidation_price(margin_usd)


def build_exit_terms(end: PaperExit, ticker: Ticker | None = None) -> ExitTerms | None:
    """The terms at which the exit is booked; None for an end at the present price, which closes at the market."""
    is_now = ticker is not None and end.fee_usd is None and (end.price, end.at_ms) == (ticker.last, ticker.at_ms)
    return None if is_now else ExitTerms(price=end.price, at_ms=end.at_ms, fee_usd=end.fee_usd)


def _find_group_exits(group: Sequence[_CheckedPosition], wallet_usd: Decimal) -> dict[UUID, PaperExit]:
    """Ends by position id in the first minute in which the group's wallet is used up, or now; {} when it is not."""
    times = _list_comparable_minutes(group) if _has_all_candles(group) else []
    past = [{checked.position.id: bar for checked in group for bar in checked.bars if bar.at_ms == at} for at in times]
    now = {checked.position.id: checked.mark for checked in group if checked.mark is not None}
    for bars in [*past, now] if len(now) == len(group) else past:
        held = [checked for checked in group if checked.position.id in bars]
        stakes = {checked.position.id: checked.stake for checked in held}
        ends = liquidation.find_cross_liquidations(
            stakes, bars, wallet_usd, {checked.position.id: checked.tick for checked in held}
        )
        if ends:
            return ends
    return {}


def _has_all_candles(group: Sequence[_CheckedPosition]) -> bool:
    return all(checked.has_all_candles for checked in group)


def _list_comparable_minutes(group: Sequence[_CheckedPosition]) -> list[int]:
    """Open times of minutes for which every position that was held by then has a candle."""
    firsts = {checked.position.id: min((bar.at_ms for bar in checked.bars), default=None) for checked in group}
    times_by_id = {checked.position.id: {bar.at_ms for bar in checked.bars} for checked in group}
    times = sorted(set().union(*times_by_id.values()))
    return [
        at
        for at in times
        if all(first is None or at < first or at in times_by_id[position_id] for position_id, first in firsts.items())
    ]


def _build_current_bar(price: Decimal | None, at_ms: int | None, clock_ms: int, entered_ms: int | None) -> Bar | None:
    """A present price as a bar; None where it is missing, older than the entry, or stale by the venue's clock."""
    if price is None or at_ms is None or at_ms < max(clock_ms - MAX_PRICE_AGE_MS, entered_ms or 0):
        return None
    return Bar.from_price(price, at_ms)


def _round_up_to_minute(at_ms: int) -> int:
    return at_ms + -at_ms % MINUTE_MS


def _build_bar(candle: Candle) -> Bar:
    return Bar(candle.open_time_ms, *(decimals.to_decimal(price) for price in candle[1:5]))


def _round_to_tick(price: Decimal | None, tick: Decimal) -> Decimal | None:
    """For display only: liquidation is decided by the exact price."""
    return None if price is None else decimals.round_for_books(decimals.round_to_step(price, tick, ROUND_HALF_EVEN))
