"""Margin at the simulated venue: tiers, maintenance and liquidation prices, as pure functions of an account and prices.

Source: Binance's documentation of USDⓈ-M futures ("How to calculate liquidation price", leverage and margin brackets).
Fees are paid from the wallet, and an isolated position's own margin is its cost divided by its leverage.
Simplifications: margin cannot be added or removed, and funding of an isolated position is taken from the wallet.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from simulator.venue.trading_account import ZERO, Account, Holding

Price = Callable[[str], Decimal]
ISOLATED: Final = "isolated"


@dataclass(frozen=True)
class Tier:
    """Up to the notional `cap` (USD) a position may have `leverage`; its maintenance margin is `rate` of it less
    `cum`."""

    floor: int
    cap: int
    leverage: int
    rate: Decimal
    cum: Decimal


@dataclass
class MarginConfig:
    """Faults in changing the margin type: the change is confirmed and not made (`ignored`), it changes the leverage
    too, or the type is shown for symbols with a position only."""

    ignored: bool = False
    sets_leverage: int | None = None
    shown_only_held: bool = False


def _build_tiers() -> Iterator[Tier]:
    floor, before, cum = 0, ZERO, ZERO
    steps = ((50_000, 125), (500_000, 100), (5_000_000, 50), (20_000_000, 20), (50_000_000, 10), (100_000_000, 5))
    for cap, leverage in steps:
        rate = 1 / Decimal(2 * leverage)
        cum += floor * (rate - before)
        yield Tier(floor, cap, leverage, rate, cum)
        floor, before = cap, rate


TIERS: Final = tuple(_build_tiers())


def find_tier(notional: Decimal) -> Tier:
    """The tier of a position of that notional (USD); the last one above all caps."""
    return next((tier for tier in TIERS if notional <= tier.cap), TIERS[-1])


def calculate_maintenance_margin(notional: Decimal) -> Decimal:
    """The maintenance margin of a position of that notional, in USD."""
    tier = find_tier(notional)
    return notional * tier.rate - tier.cum


def calculate_isolated_wallet(holding: Holding) -> Decimal:
    """A position's own margin without its unrealised profit; 0 where margin is cross."""
    return abs(holding.amount) * holding.entry_price / holding.leverage if holding.margin_type == ISOLATED else ZERO


def calculate_cross_wallet(account: Account) -> Decimal:
    """The balance without the margin of isolated positions."""
    return account.balance - sum((calculate_isolated_wallet(held) for held in account.holdings.values()), ZERO)


def calculate_cross_unrealized_pnl(account: Account, price: Price) -> Decimal:
    """Unrealised profit of all positions with cross margin."""
    return sum(
        (_calculate_unrealized_pnl(held, price(symbol)) for symbol, held in _list_cross_positions(account)), ZERO
    )


def is_cross_exhausted(account: Account, price: Price) -> bool:
    """Whether the cross positions are at or below their maintenance margin."""
    notionals = (abs(held.amount) * price(symbol) for symbol, held in _list_cross_positions(account))
    maintenance = sum((calculate_maintenance_margin(notional) for notional in notionals), ZERO)
    margin = calculate_cross_wallet(account) + calculate_cross_unrealized_pnl(account, price)
    return maintenance > 0 and margin <= maintenance


def calculate_liquidation_price(account: Account, symbol: str, price: Price) -> Decimal:
    """The mark price at which the position reaches its maintenance margin, with other prices unchanged; 0 if none."""
    holding = account.get_holding(symbol)
    amount = holding.amount
    if not amount:
        return ZERO
    wallet = calculate_isolated_wallet(holding)
    if holding.margin_type != ISOLATED:
        others = [(name, held) for name, held in _list_cross_positions(account) if name != symbol]
        wallet = calculate_cross_wallet(account)
        wallet += sum((_calculate_unrealized_pnl(held, price(name)) for name, held in others), ZERO)
        wallet -= sum((calculate_maintenance_margin(abs(held.amount) * price(name)) for name, held in others), ZERO)
    # The price depends on the tier, and the tier on the notional at that price: the one that fits both is the answer.
    for tier in TIERS:
        candidate = (wallet + tier.cum - amount * holding.entry_price) / (abs(amount) * tier.rate - amount)
        if find_tier(abs(amount) * candidate) == tier:
            return max(candidate, ZERO)
    return ZERO


def build_margin_fields(account: Account, symbol: str, price: Price, decimals: int) -> dict[str, Any]:
    """The margin fields of `positionRisk`."""
    holding = account.get_holding(symbol)
    wallet = calculate_isolated_wallet(holding)
    margin = wallet + _calculate_unrealized_pnl(holding, price(symbol)) if wallet else ZERO
    at = round(calculate_liquidation_price(account, symbol, price), decimals)
    return {
        "liquidationPrice": f"{at:f}" if at else "0",
        "isolatedMargin": f"{margin:.8f}" if margin else "0",
        "isolatedWallet": f"{wallet:.8f}" if wallet else "0",
    }


def build_brackets(symbol: str) -> dict[str, Any]:
    """The row of `leverageBracket` for one symbol."""
    rows = [
        {
            "bracket": number,
            "initialLeverage": tier.leverage,
            "notionalCap": tier.cap,
            "notionalFloor": tier.floor,
            "maintMarginRatio": float(tier.rate),
            "cum": float(tier.cum),
        }
        for number, tier in enumerate(TIERS, 1)
    ]
    return {"symbol": symbol, "brackets": rows}


def _list_cross_positions(account: Account) -> list[tuple[str, Holding]]:
    return [(name, held) for name, held in account.holdings.items() if held.amount and held.margin_type != ISOLATED]


def _calculate_unrealized_pnl(holding: Holding, price: Decimal) -> Decimal:
    return holding.amount * (price - holding.entry_price)
