"""When and at what price a position on paper ends by the market alone: liquidated, stopped or at its target. Pure.

Source: Binance's documentation of USDⓈ-M futures, "How to calculate liquidation price", for linear contracts: a
position is liquidated when its margin with its unrealised profit is no more than the maintenance margin, a rate of its
notional. An isolated position's own margin is its cost by its leverage, and funding is paid from it; fees are paid from
the wallet. With cross margin the positions of a book share its wallet. The rate is the venue's public one, but never
above half of the initial margin, which is what the tiers of Binance-shaped venues come to (125x: 0.4 %, 20x: 2.5 %).
The fee of a liquidation is `LIQUIDATION_FEE` of the notional (`liquidationFee` in Binance's exchangeInfo for
BTCUSDT), as far as margin is left. Nothing is lost beyond the margin: the exit is at the bankruptcy price at worst.
"""

from collections.abc import Mapping, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Final, NamedTuple
from uuid import UUID

from engine.domain import decimals
from engine.domain.positions import MarginMode, Position, Side

LIQUIDATED: Final = "liquidated"
STOP_LOSS: Final = "stop_loss"
TAKE_PROFIT: Final = "take_profit"
MAX_MAINTENANCE_RATE: Final = Decimal("0.025")
LIQUIDATION_FEE: Final = Decimal("0.0125")
ZERO: Final = Decimal(0)


class Bar(NamedTuple):
    """Prices of one symbol from `at_ms` on: a candle's, or one price four times."""

    at_ms: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal

    @classmethod
    def of(cls, price: Decimal, at_ms: int) -> "Bar":
        """One price at one moment."""
        return cls(at_ms, price, price, price, price)


class MarginedPosition(NamedTuple):
    """What a position is to its margin: `cost_usd` is its quantity at its entry prices, `rate` that of maintenance."""

    side: Side
    quantity: Decimal
    cost_usd: Decimal
    rate: Decimal

    @property
    def sign(self) -> int:
        return 1 if self.side is Side.LONG else -1

    def profit(self, price: Decimal) -> Decimal:
        """Unrealised, in USD, before fees."""
        value = decimals.product(self.quantity, price)
        return decimals.subtract(value, self.cost_usd) * self.sign

    def maintenance(self, price: Decimal) -> Decimal:
        """What must be left as margin at that price, in USD."""
        return decimals.product(decimals.product(self.quantity, price), self.rate)

    def liquidation_price(self, margin_usd: Decimal) -> Decimal | None:
        """The price at which margin and profit come to the maintenance margin; None where no price does that."""
        return self._price(margin_usd, self.rate)

    def bankruptcy_price(self, margin_usd: Decimal) -> Decimal | None:
        """The price at which nothing of the margin is left; None where no price does that."""
        return self._price(margin_usd, ZERO)

    def _price(self, margin_usd: Decimal, rate: Decimal) -> Decimal | None:
        share = decimals.product(self.quantity, 1 - rate * self.sign)
        price = decimals.quotient(decimals.subtract(self.cost_usd, margin_usd * self.sign), share)
        return price if price > 0 else None


class End(NamedTuple):
    """How a position ends. `fee_usd` is given for a price that already is what the exit brings; None: an order at the
    market is made at it."""

    reason: str
    price: Decimal
    at_ms: int
    fee_usd: Decimal | None = None


def maintenance_rate(public_rate: Decimal | None, leverage: int) -> Decimal:
    """The maintenance rate of a position, from what the venue publishes to anybody (None: nothing)."""
    return min(
        MAX_MAINTENANCE_RATE if public_rate is None else public_rate,
        decimals.quotient(Decimal(1), Decimal(2 * leverage)),
    )


def margined_position(position: Position, public_rate: Decimal | None) -> MarginedPosition:
    rate = maintenance_rate(public_rate, position.leverage)
    return MarginedPosition(position.side, position.quantity, position.position_size_usd, rate)


def is_cross(position: Position, wallet_usd: Decimal | None) -> bool:
    """Whether a paper position shares its strategy's wallet; without one it is isolated whatever was asked for."""
    return position.margin_mode is MarginMode.CROSS and wallet_usd is not None


def isolated_margin(position: Position) -> Decimal:
    """The position's own margin in USD, without its unrealised profit."""
    initial = decimals.quotient(position.position_size_usd, Decimal(position.leverage))
    return decimals.add(initial, position.funding_usd)


def cross_wallet(wallet_usd: Decimal, positions: Sequence[Position]) -> Decimal:
    """What the cross positions of a strategy share: its wallet (capital and realised P&L) less the fees and isolated
    margins of all its open `positions`, with the funding of the cross ones."""
    cross = [each for each in positions if each.margin_mode is MarginMode.CROSS]
    isolated = [each for each in positions if each.margin_mode is not MarginMode.CROSS]
    return decimals.total(
        (
            wallet_usd,
            *(-each.fees_usd for each in positions),
            *(-decimals.quotient(each.position_size_usd, Decimal(each.leverage)) for each in isolated),
            *(each.funding_usd for each in cross),
        )
    )


def end_within(
    position: Position, stake: MarginedPosition, margin_usd: Decimal | None, bar: Bar, tick: Decimal
) -> End | None:
    """How the position ends within `bar`; None when it does not. Within one bar a loss comes before a gain.

    `margin_usd` is its own; None where margin is cross, which `cross_ends` looks at.
    """
    level, reason = _first_level(position, stake, margin_usd)
    if level is not None and _is_beyond(bar.open, level, stake.sign):
        return _build_end(stake, reason, bar.open, margin_usd, bar.at_ms, tick)
    target = position.take_profit_price
    if target is not None and _is_beyond(target, bar.open, stake.sign):
        return End(TAKE_PROFIT, bar.open, bar.at_ms)
    worst, best = (bar.low, bar.high) if stake.side is Side.LONG else (bar.high, bar.low)
    if level is not None and _is_beyond(worst, level, stake.sign):
        return _build_end(stake, reason, level, margin_usd, bar.at_ms, tick)
    if target is not None and _is_beyond(target, best, stake.sign):
        return End(TAKE_PROFIT, target, bar.at_ms)
    return None


def end_now(
    position: Position,
    stake: MarginedPosition,
    margin_usd: Decimal | None,
    last: Bar | None,
    mark: Bar | None,
    tick: Decimal,
) -> End | None:
    """How the position ends at the prices of now: its margin by the `mark` price, stop and target by the `last` one.
    None of them is a price that does not count."""
    bare = position.model_copy(update={"stop_loss_price": None, "take_profit_price": None})
    liquidated = None if mark is None else end_within(bare, stake, margin_usd, mark, tick)
    if last is None:
        return liquidated
    found = end_within(position, stake, None if liquidated is None else margin_usd, last, tick)
    return found if liquidated is None or (found is not None and found.reason != TAKE_PROFIT) else liquidated


def cross_margin(
    stakes: Mapping[UUID, MarginedPosition], which: UUID, prices: Mapping[UUID, Decimal], wallet_usd: Decimal
) -> Decimal:
    """What a cross position has as margin when all others stand at `prices`: the wallet, their profit, and less what
    must be kept for them."""
    others = [(stake, prices[name]) for name, stake in stakes.items() if name != which]
    gained = (stake.profit(price) - stake.maintenance(price) for stake, price in others)
    return decimals.total((wallet_usd, *gained))


def cross_ends(
    stakes: Mapping[UUID, MarginedPosition],
    bars: Mapping[UUID, Bar],
    wallet_usd: Decimal,
    ticks: Mapping[UUID, Decimal],
) -> dict[UUID, End]:
    """How all cross positions of a book end when one of them reaches its liquidation price within its bar, the others
    standing at the ends of theirs; {} when none does."""
    closes = {name: bar.close for name, bar in bars.items()}
    for name, stake in stakes.items():
        bar = bars[name]
        level = stake.liquidation_price(cross_margin(stakes, name, closes, wallet_usd))
        worst = bar.low if stake.side is Side.LONG else bar.high
        if level is not None and _is_beyond(worst, level, stake.sign):
            at = bar.open if _is_beyond(bar.open, level, stake.sign) else level
            return _book_ended(stakes, {**closes, name: at}, name, wallet_usd, ticks, bar.at_ms)
    return {}


def _book_ended(
    stakes: Mapping[UUID, MarginedPosition],
    prices: Mapping[UUID, Decimal],
    first: UUID,
    wallet_usd: Decimal,
    ticks: Mapping[UUID, Decimal],
    at_ms: int,
) -> dict[UUID, End]:
    """All of them at `prices`, the `first` no lower than where nothing of the book is left."""
    others = decimals.total(stake.profit(prices[name]) for name, stake in stakes.items() if name != first)
    bankruptcy = stakes[first].bankruptcy_price(decimals.add(wallet_usd, others))
    kept = {**prices, first: _exit_price(stakes[first], prices[first], bankruptcy, ticks[first])}
    left = decimals.total((wallet_usd, *(stake.profit(kept[name]) for name, stake in stakes.items())))
    ends = {}
    for name, stake in stakes.items():
        fee_usd = _fee(stake, kept[name], left)
        left -= fee_usd
        ends[name] = End(LIQUIDATED, kept[name], at_ms, fee_usd)
    return ends


def _first_level(position: Position, stake: MarginedPosition, margin_usd: Decimal | None) -> tuple[Decimal | None, str]:
    """Which of stop and liquidation a falling (for a short: rising) price reaches first."""
    at, stop = None if margin_usd is None else stake.liquidation_price(margin_usd), position.stop_loss_price
    if stop is None or (at is not None and _is_beyond(stop, at, stake.sign)):
        return at, LIQUIDATED
    return stop, STOP_LOSS


def _build_end(
    stake: MarginedPosition, reason: str, price: Decimal, margin_usd: Decimal | None, at_ms: int, tick: Decimal
) -> End:
    bankruptcy = None if margin_usd is None else stake.bankruptcy_price(margin_usd)
    is_bankrupt = bankruptcy is not None and _is_beyond(price, bankruptcy, stake.sign)
    if margin_usd is None or (reason == STOP_LOSS and not is_bankrupt):
        return End(reason, price, at_ms)
    price = _exit_price(stake, price, bankruptcy, tick)
    left = max(ZERO, decimals.add(margin_usd, stake.profit(price)))
    return End(reason, price, at_ms, _fee(stake, price, left))


def _fee(stake: MarginedPosition, price: Decimal, left_usd: Decimal) -> Decimal:
    """Of a liquidation, as far as margin is left."""
    return decimals.round_for_books(
        min(max(ZERO, left_usd), decimals.product(decimals.product(stake.quantity, price), LIQUIDATION_FEE))
    )


def _exit_price(stake: MarginedPosition, price: Decimal, bankruptcy: Decimal | None, tick: Decimal) -> Decimal:
    """`price` on the tick on its better side, not beyond the bankruptcy price."""
    if bankruptcy is not None and _is_beyond(price, bankruptcy, stake.sign):
        price = bankruptcy
    return max(tick, decimals.round_to_step(price, tick, ROUND_CEILING if stake.side is Side.LONG else ROUND_FLOOR))


def _is_beyond(price: Decimal, level: Decimal, sign: int) -> bool:
    """Whether a price that falls for a long (rises for a short) has reached `level`."""
    return (price - level) * sign <= 0
