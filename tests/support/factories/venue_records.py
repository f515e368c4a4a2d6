"""What an account's record at its venue holds, and the books' side of it: valid defaults that a test changes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from engine.domain.errors import StrategyFault
from engine.domain.positions import Position, Side
from engine.store.venue_record import SymbolFacts
from engine.venues.account_record import AccountTrade, ForcedExitCause, ForcedOrder, Income
from engine.venues.account_state import USD_ASSETS, OpenOrder, OrderKind, VenuePosition
from tests.support.factories.entry_values import position

SYMBOL = "BTCUSDT"


def live(quantity: str, **fields: Any) -> Position:
    """What the books hold at 100 USD each; negative for a short."""
    signed = Decimal(quantity)
    own = {"side": Side.LONG if signed > 0 else Side.SHORT, "quantity": abs(signed), "entry_price": Decimal(100)}
    return position(**{**own, "position_size_usd": abs(signed) * 100, "is_paper": False, **fields})


def at_venue(net: str, **fields: Any) -> VenuePosition:
    signed = Decimal(net)
    given = {
        "symbol": SYMBOL,
        "side": Side.LONG if signed > 0 else Side.SHORT,
        "quantity": abs(signed),
        "entry_price": Decimal(100),
        "leverage": 1,
        "unrealized_pnl_usd": None,
    }
    return VenuePosition.model_validate(given | fields)


def facts(*positions: Position, **fields: Any) -> SymbolFacts:
    """Books that agree with the venue, were read up to trade 10 at 1,000 ms, and know nothing else."""
    given = {
        "positions": positions,
        "order_ids": frozenset(),
        "outside_order_ids": frozenset(),
        "forced_order_ids": frozenset(),
        "order_positions": {},
        "booked_outside": {},
        "first_ms": 500,
        "last_trade_id": 10,
        "unbooked_net": Decimal(0),
        "costs_until_ms": 0,
        "cost_ids": frozenset(),
        "read_ms": 1_000,
        "last_fill_ms": 1_000,
        "outside_net": Decimal(0),
        "unsettled": (),
        "last_fill_id": 1,
    }
    return SymbolFacts.model_validate(given | fields)


def traded(number: int, change: str, **fields: Any) -> AccountTrade:
    """Trade `number` of order ``o<number>`` at 100 USD, two seconds after the reading."""
    given = {
        "trade_id": number,
        "order_id": f"o{number}",
        "symbol": SYMBOL,
        "is_buy": Decimal(change) > 0,
        "quantity": abs(Decimal(change)),
        "price": Decimal(100),
        "fee_usd": Decimal("0.04"),
        "at_ms": 3_000 + number,
    }
    return AccountTrade.model_validate(given | fields)


def forced(order_id: str, change: str, **fields: Any) -> ForcedOrder:
    given = {
        "order_id": order_id,
        "symbol": SYMBOL,
        "cause": ForcedExitCause.LIQUIDATED,
        "is_buy": Decimal(change) > 0,
        "quantity": abs(Decimal(change)),
        "price": Decimal(90),
        "at_ms": 3_000,
    }
    return ForcedOrder.model_validate(given | fields)


def income(name: str, amount: str, **fields: Any) -> Income:
    """What a liquidation cost (negative) in dollars."""
    given = {
        "income_id": name,
        "kind": "INSURANCE_CLEAR",
        "symbol": SYMBOL,
        "amount": Decimal(amount),
        "asset": "USDT",
        "trade_id": None,
        "at_ms": 3_000,
    }
    return Income.model_validate(given | fields)


def waiting(client_order_id: str | None, symbol: str = SYMBOL) -> OpenOrder:
    return OpenOrder(
        order_id=f"w-{client_order_id}",
        client_order_id=client_order_id,
        symbol=symbol,
        kind=OrderKind.STOP_LOSS,
        is_buy=False,
        quantity=Decimal(1),
        filled=Decimal(0),
        price=Decimal(90),
        reduce_only=True,
        at_ms=0,
    )


@dataclass
class RecordedAccount:
    """A venue's record of one account, answered as `AccountRecord` says. `worth` are dollars for one of a coin;
    `is_gone`: the symbol is listed no more, and the record refuses to tell of it. `asked` names the questions."""

    trades: tuple[AccountTrade, ...] = ()
    forced: tuple[ForcedOrder, ...] = ()
    incomes: tuple[Income, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    worth: Mapping[str, Decimal] = field(default_factory=dict)
    held: tuple[VenuePosition, ...] = ()
    is_gone: bool = False
    asked: list[tuple[str, object]] = field(default_factory=list)

    def fetch_trades(
        self, symbol: str, *, since_ms: int | None = None, after_id: int | None = None
    ) -> tuple[AccountTrade, ...]:
        self._ask("trades", since_ms if after_id is None else f"after {after_id}")
        if after_id is not None:
            return tuple(each for each in self.trades if each.symbol == symbol and each.trade_id > after_id)
        return tuple(each for each in self.trades if each.symbol == symbol and each.at_ms >= (since_ms or 0))

    def fetch_forced_orders(self, symbol: str, since_ms: int) -> tuple[ForcedOrder, ...]:
        self._ask("forced", since_ms)
        return tuple(each for each in self.forced if each.symbol == symbol and each.at_ms >= since_ms)

    def fetch_income(self, symbol: str | None, since_ms: int, kind: str | None = None) -> tuple[Income, ...]:
        self._ask("income", since_ms)
        of_symbol = (each for each in self.incomes if symbol in {None, each.symbol})
        return tuple(each for each in of_symbol if each.at_ms >= since_ms and kind in {None, each.kind})

    def convert_to_usd(self, asset: str, amount: Decimal, at_ms: int) -> Decimal | None:  # noqa: ARG002 - the protocol's
        if asset in USD_ASSETS:
            return amount
        return amount * self.worth[asset] if asset in self.worth else None

    def find_client_order_id(self, symbol: str, order_id: str) -> str | None:  # noqa: ARG002 - the protocol's
        self._ask("name", order_id)
        return self.names.get(order_id)

    def fetch_positions(self, symbol: str | None = None) -> tuple[VenuePosition, ...]:
        return tuple(each for each in self.held if symbol in {None, each.symbol})

    def _ask(self, what: str, detail: object) -> None:
        self.asked.append((what, detail))
        if self.is_gone:
            raise StrategyFault("the venue lists it no more")
