"""When and at what price a paper position exits by the market alone: liquidation, stop-loss or take-profit. Pure.

Source: Binance's documentation of USDⓈ-M futures, "How to calculate liquidation price", for linear contracts: a
position is liquidated when its margin plus its unrealised profit is at or below the maintenance margin, a rate of its
notional. An isolated position's own margin is its cost divided by its leverage, and funding is paid from it; fees are
paid from the wallet. With cross margin the positions of a strategy share its wallet. The rate is the one that the venue
publishes, but never above half of the initial margin, which matches the tiers of Binance-shaped venues (125x: 0.4 %,
20x: 2.5 %). The fee of a liquidation is `LIQUIDATION_FEE` of the notional (`liquidationFee` in Binance's exchangeInfo
for BTCUSDT), as far as margin is left. No more than the margin is lost: the worst exit is at the bankruptcy price.
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
MAX_MAINTENANCE_RATE: Final = Decimal("0.025")  # also for a venue that publishes none: a high rate liquidates early
LIQUIDATION_FEE: Final = Decimal("0.0125")
ZERO: Final = Decimal(0)


class Bar(NamedTuple):
    """Prices (USD) of one symbol: those of a candle that opened at `at_ms`, or one price at `at_ms` four times."""

    at_ms: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal

    @classmethod
    def from_price(cls, price: Decimal, at_ms: int) -> "Bar":
        """A bar of one price at one moment."""
        return cls(at_ms, price, price, price, price)


class MarginedPosition(NamedTuple):
    """The figures of a position that decide about its liquidation.

    `cost_usd` is the quantity (base asset) at its entry prices, `rate` the maintenance rate, a share of the notional.
    """

    side: Side
    quantity: Decimal
    cost_usd: Decimal
    rate: Decimal

    @property
    def sign(self) -> int:
        return 1 if self.side is Side.LONG else -1

    def calculate_profit(self, price: Decimal) -> Decimal:
        """The unrealised profit in USD at `price`, before fees."""
        value = decimals.product(self.quantity, price)
        return decimals.subtract(value, self.cost_usd) * self.sign

    def calculate_maintenance_margin(self, price: Decimal) -> Decimal:
        """The maintenance margin in USD at `price`."""
        return decimals.product(decimals.product(self.quantity, price), self.rate)

    def calculate_liquidation_price(self, margin_usd: Decimal) -> Decimal | None:
        """The price at which margin plus profit equals the maintenance margin; None where no price does."""
        return self._solve_price(margin_usd, self.rate)

    def calculate_bankruptcy_price(self, margin_usd: Decimal) -> Decimal | None:
        """The price at which margin plus profit is 0; None where no price does that."""
        return self._solve_price(margin_usd, ZERO)

    def _solve_price(self, margin_usd: Decimal, rate: Decimal) -> Decimal | None:
        # margin + sign * (quantity * price - cost) = rate * quantity * price, solved for the price
        share = decimals.product(self.quantity, 1 - rate * self.sign)
        price = decimals.quotient(decimals.subtract(self.cost_usd, margin_usd * self.sign), share)
        return price if price > 0 else None


class PaperExit(NamedTuple):
    """An exit by the market: `reason` is LIQUIDATED, STOP_LOSS or TAKE_PROFIT.

    With a `fee_usd` the exit is booked at `price` and with that fee. None means that a market order is simulated at
    `price`, with slippage and the taker fee.
    """

    reason: str
    price: Decimal
    at_ms: int
    fee_usd: Decimal | None = None


def calculate_maintenance_rate(public_rate: Decimal | None, leverage: int) -> Decimal:
    """The maintenance rate of a position, given the rate in the venue's public list (None where it has none)."""
    return min(
        MAX_MAINTENANCE_RATE if public_rate is None else public_rate,
        decimals.quotient(Decimal(1), Decimal(2 * leverage)),
    )


def build_margined_position(position: Position, public_rate: Decimal | None) -> MarginedPosition:
    """The figures of `position`; `public_rate` as in `calculate_maintenance_rate`."""
    rate = calculate_maintenance_rate(public_rate, position.leverage)
    return MarginedPosition(position.side, position.quantity, position.position_size_usd, rate)


def is_cross(position: Position, wallet_usd: Decimal | None) -> bool:
    """Whether a paper position shares its strategy's wallet (USD).

    A position without a strategy has no wallet and is isolated, whatever margin mode was requested.
    """
    return position.margin_mode is MarginMode.CROSS and wallet_usd is not None


def calculate_isolated_margin(position: Position) -> Decimal:
    """The position's own margin in USD, without its unrealised profit."""
    initial = decimals.quotient(position.position_size_usd, Decimal(position.leverage))
    return decimals.add(initial, position.funding_usd)


def calculate_cross_wallet(wallet_usd: Decimal, positions: Sequence[Position]) -> Decimal:
    """The margin (USD) that the cross positions of a strategy share, without their unrealised profit.

    It is the wallet (capital plus realised P&L) less the fees of all its open `positions` and the initial margins of
    the isolated ones, plus the funding of the cross ones.
    """
    cross = [position for position in positions if position.margin_mode is MarginMode.CROSS]
    isolated = [position for position in positions if position.margin_mode is not MarginMode.CROSS]
    return decimals.total(
        (
            wallet_usd,
            # Entry fees are in no realised P&L yet: they are booked with the trade that closes the position.
            *(-position.fees_usd for position in positions),
            *(-decimals.quotient(position.position_size_usd, Decimal(position.leverage)) for position in isolated),
            *(position.funding_usd for position in cross),
        )
    )


def find_exit_in_bar(
    position: Position, margined: MarginedPosition, margin_usd: Decimal | None, bar: Bar, tick: Decimal
) -> PaperExit | None:
    """The exit of the position within `bar`; None when it stays open.

    `margin_usd` is its own margin; None where margin is cross, see `find_cross_liquidations`.
    """
    level, reason = _find_first_loss_level(position, margined, margin_usd)
    # The open is the first price of the bar: beyond a level there, the market has jumped it and fills at the open.
    if level is not None and _is_beyond(bar.open, level, margined.sign):
        return _build_exit(margined, reason, bar.open, margin_usd, bar.at_ms, tick)
    take_profit = position.take_profit_price
    if take_profit is not None and _is_beyond(take_profit, bar.open, margined.sign):
        return PaperExit(TAKE_PROFIT, bar.open, bar.at_ms)
    # A bar does not tell the order of its high and low, so the loss is assumed to come first.
    worst, best = (bar.low, bar.high) if margined.side is Side.LONG else (bar.high, bar.low)
    if level is not None and _is_beyond(worst, level, margined.sign):
        return _build_exit(margined, reason, level, margin_usd, bar.at_ms, tick)
    if take_profit is not None and _is_beyond(take_profit, best, margined.sign):
        return PaperExit(TAKE_PROFIT, take_profit, bar.at_ms)
    return None


def find_exit_now(
    position: Position,
    margined: MarginedPosition,
    margin_usd: Decimal | None,
    last: Bar | None,
    mark: Bar | None,
    tick: Decimal,
) -> PaperExit | None:
    """The exit of the position at current prices; None when it stays open. A price that is None is not used.

    As at the venue, liquidation follows the `mark` price, stop-loss and take-profit the `last` price.
    """
    unprotected = position.model_copy(update={"stop_loss_price": None, "take_profit_price": None})
    liquidation = None if mark is None else find_exit_in_bar(unprotected, margined, margin_usd, mark, tick)
    if last is None:
        return liquidation
    # Without a liquidation by the mark price, the last price must not cause one: hence no margin.
    exit_at_last = find_exit_in_bar(position, margined, None if liquidation is None else margin_usd, last, tick)
    if liquidation is None or (exit_at_last is not None and exit_at_last.reason != TAKE_PROFIT):
        return exit_at_last
    return liquidation


def calculate_cross_margin(
    group: Mapping[UUID, MarginedPosition], position_id: UUID, prices: Mapping[UUID, Decimal], wallet_usd: Decimal
) -> Decimal:
    """The margin (USD) of one cross position when the others of its `group` are at `prices`.

    It is the wallet plus the others' profit less their maintenance margins.
    """
    others = [(margined, prices[other]) for other, margined in group.items() if other != position_id]
    contributions = (
        margined.calculate_profit(price) - margined.calculate_maintenance_margin(price) for margined, price in others
    )
    return decimals.total((wallet_usd, *contributions))


def find_cross_liquidations(
    group: Mapping[UUID, MarginedPosition],
    bars: Mapping[UUID, Bar],
    wallet_usd: Decimal,
    ticks: Mapping[UUID, Decimal],
) -> dict[UUID, PaperExit]:
    """The exits of all cross positions of a strategy, if one reaches its liquidation price within its bar; else {}.

    The others are valued at the closes of their bars, because bars do not tell which prices came together.
    """
    closes = {position_id: bar.close for position_id, bar in bars.items()}
    for position_id, margined in group.items():
        bar = bars[position_id]
        margin_usd = calculate_cross_margin(group, position_id, closes, wallet_usd)
        level = margined.calculate_liquidation_price(margin_usd)
        worst = bar.low if margined.side is Side.LONG else bar.high
        if level is not None and _is_beyond(worst, level, margined.sign):
            at = bar.open if _is_beyond(bar.open, level, margined.sign) else level
            return _liquidate_group(group, {**closes, position_id: at}, position_id, wallet_usd, ticks, bar.at_ms)
    return {}


def _liquidate_group(
    group: Mapping[UUID, MarginedPosition],
    prices: Mapping[UUID, Decimal],
    first_id: UUID,
    wallet_usd: Decimal,
    ticks: Mapping[UUID, Decimal],
    at_ms: int,
) -> dict[UUID, PaperExit]:
    """The exits of all of `group` at `prices`, the first one not beyond the bankruptcy price of the group."""
    others_usd = decimals.total(
        margined.calculate_profit(prices[position_id])
        for position_id, margined in group.items()
        if position_id != first_id
    )
    bankruptcy = group[first_id].calculate_bankruptcy_price(decimals.add(wallet_usd, others_usd))
    exit_prices = {
        **prices,
        first_id: _round_exit_price(group[first_id], prices[first_id], bankruptcy, ticks[first_id]),
    }
    profits = (margined.calculate_profit(exit_prices[position_id]) for position_id, margined in group.items())
    left_usd = decimals.total((wallet_usd, *profits))
    exits = {}
    for position_id, margined in group.items():
        fee_usd = _calculate_liquidation_fee(margined, exit_prices[position_id], left_usd)
        left_usd -= fee_usd
        exits[position_id] = PaperExit(LIQUIDATED, exit_prices[position_id], at_ms, fee_usd)
    return exits


def _find_first_loss_level(
    position: Position, margined: MarginedPosition, margin_usd: Decimal | None
) -> tuple[Decimal | None, str]:
    """The stop-loss or liquidation price, whichever a falling (for a short: rising) market reaches first."""
    liquidation = None if margin_usd is None else margined.calculate_liquidation_price(margin_usd)
    stop_loss = position.stop_loss_price
    if stop_loss is None or (liquidation is not None and _is_beyond(stop_loss, liquidation, margined.sign)):
        return liquidation, LIQUIDATED
    return stop_loss, STOP_LOSS


def _build_exit(
    margined: MarginedPosition, reason: str, price: Decimal, margin_usd: Decimal | None, at_ms: int, tick: Decimal
) -> PaperExit:
    bankruptcy = None if margin_usd is None else margined.calculate_bankruptcy_price(margin_usd)
    is_bankrupt = bankruptcy is not None and _is_beyond(price, bankruptcy, margined.sign)
    if margin_usd is None or (reason == STOP_LOSS and not is_bankrupt):
        return PaperExit(reason, price, at_ms)
    price = _round_exit_price(margined, price, bankruptcy, tick)
    left_usd = max(ZERO, decimals.add(margin_usd, margined.calculate_profit(price)))
    return PaperExit(reason, price, at_ms, _calculate_liquidation_fee(margined, price, left_usd))


def _calculate_liquidation_fee(margined: MarginedPosition, price: Decimal, left_usd: Decimal) -> Decimal:
    """The fee in USD, at most the margin that is left."""
    fee_usd = decimals.product(decimals.product(margined.quantity, price), LIQUIDATION_FEE)
    return decimals.round_for_books(min(max(ZERO, left_usd), fee_usd))


def _round_exit_price(margined: MarginedPosition, price: Decimal, bankruptcy: Decimal | None, tick: Decimal) -> Decimal:
    """`price`, or the bankruptcy price if it is beyond that, rounded to the tick in the position's favour."""
    if bankruptcy is not None and _is_beyond(price, bankruptcy, margined.sign):
        price = bankruptcy
    # In its favour, because a tick beyond the bankruptcy price would lose more than the margin.
    rounding = ROUND_CEILING if margined.side is Side.LONG else ROUND_FLOOR
    return max(tick, decimals.round_to_step(price, tick, rounding))


def _is_beyond(price: Decimal, level: Decimal, sign: int) -> bool:
    """Whether `price` is at or below `level` for a long (`sign` 1), at or above it for a short (-1)."""
    return (price - level) * sign <= 0
