"""From the rows of a Binance-shaped record to our values: exact from the venue's text, and what cannot be read is an
error, since a row that is left out would look like something that never happened."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from engine.domain.decimals import BEYOND, exact, quotient
from engine.domain.positions import Side
from engine.venues.account_record import AccountTrade, Forced, ForcedOrder, Income, cause_named
from engine.venues.live.parsers import DOLLARS
from engine.venues.venue import VenuePosition

Row = Mapping[str, Any]
MOST_DIGITS: Final = 18  # of a number of a trade, which the books keep in 64 bits
MOMENT_DIGITS: Final = 14
SIDES: Final = {"BUY": True, "SELL": False}


def rows_of(answer: Any, market_id: str | None) -> list[Row]:
    """The rows of an answer. Raises ValueError where it is none, or tells of another symbol than `market_id`."""
    if not isinstance(answer, list) or not all(isinstance(row, dict) for row in answer):
        raise ValueError("the answer is no list of rows")
    for row in answer:
        if market_id is not None and row["symbol"] != market_id:
            raise ValueError(f"asked about {market_id}, the venue told of {row['symbol']}")
    return answer


def account_trade(row: Row, symbol: str) -> AccountTrade:
    """A row of ``userTrades``. Raises ValueError or KeyError, as all functions here."""
    return AccountTrade(
        trade_id=whole(row["id"]),
        order_id=name(row["orderId"]),
        symbol=symbol,
        is_buy=SIDES[row["side"]],
        quantity=number(row["qty"]),
        price=number(row["price"]),
        **_fee(row),
        at_ms=moment(row["time"]),
    )


def forced_order(row: Row, symbol: str, adl_ids: frozenset[str]) -> ForcedOrder:
    """A row of ``forceOrders``; `quantity` is 0 where nothing was filled, `price` 0 where none is told. ADL where its
    name says so or `adl_ids` has it, else a liquidation."""
    order_id, quantity = name(row["orderId"]), number(row["executedQty"])
    is_adl = order_id in adl_ids or cause_of(row) is Forced.ADL
    return ForcedOrder(
        order_id=order_id,
        symbol=symbol,
        cause=Forced.ADL if is_adl else Forced.LIQUIDATED,
        is_buy=SIDES[row["side"]],
        quantity=quantity,
        price=number(row["avgPrice"]) or _by_cost(row, quantity),
        at_ms=moment(row["updateTime"]) or moment(row["time"]),
    )


def _by_cost(row: Row, quantity: Decimal) -> Decimal:
    cost = number(row.get("cumQuote") or 0)
    return quotient(cost, quantity) if quantity and cost else Decimal(0)


def cause_of(row: Row) -> Forced | None:
    """What the order's client id says of its cause; None where it says nothing."""
    return cause_named(str(row.get("clientOrderId") or ""))


def income(row: Row, symbol: str) -> Income:
    """A row of ``income``. Its id is unique within a kind only, and a trade may pay in two assets."""
    kind, asset, traded = name(row["incomeType"]), name(row["asset"]), row.get("tradeId")
    trade_id = None if traded in (None, "") else whole(traded)
    return Income(
        income_id=f"{kind}:{name(row['tranId'])}:{'' if trade_id is None else trade_id}:{asset}",
        kind=kind,
        symbol=symbol,
        amount=number(row["income"]),
        asset=asset,
        trade_id=trade_id,
        at_ms=moment(row["time"]),
    )


def position(row: Row, symbol: str) -> VenuePosition | None:
    """A row of ``positionRisk``; None for an empty position."""
    amount, leverage, profit = number(row["positionAmt"]), row.get("leverage"), row.get("unRealizedProfit")
    if amount == 0:
        return None
    return VenuePosition(
        symbol=symbol,
        side=Side.LONG if amount > 0 else Side.SHORT,
        quantity=abs(amount),
        entry_price=number(row["entryPrice"]),
        leverage=None if leverage is None else whole(leverage),
        unrealized_pnl_usd=None if profit is None else number(profit),
        changed_ms=moment(row.get("updateTime") or 0),
        liquidation_price=_positive(row.get("liquidationPrice")),
    )


def _positive(told: Any) -> Decimal | None:
    """None where the venue tells none, or 0; what is only for showing makes no answer unreadable."""
    try:
        price = number(told)
    except ValueError:
        return None
    return price if price > 0 else None


def number(told: Any) -> Decimal:
    """The decimal that the venue wrote. Raises ValueError for anything else, and for what no figure can be."""
    if not isinstance(told, str | int) or isinstance(told, bool):
        raise ValueError(f"{told!r} is no number")  # noqa: TRY004 - an answer that cannot be read, whatever it is
    read = exact(told)
    if abs(read) >= BEYOND:
        raise ValueError(f"{told!r} is beyond any figure")
    return read


def whole(told: Any, most_digits: int = MOST_DIGITS) -> int:
    """Raises ValueError for what is no whole number of up to `most_digits` digits."""
    text = str(told)
    if isinstance(told, bool) or not (text.isascii() and text.isdecimal() and len(text) <= most_digits):
        raise ValueError(f"{text[:40]!r} is no whole number")
    return int(text)


def moment(told: Any) -> int:
    """A time in ms since 1970."""
    return whole(told, MOMENT_DIGITS)


def name(told: Any) -> str:
    """An id or a word, as text. Raises ValueError for an empty one."""
    if not isinstance(told, str | int) or isinstance(told, bool) or told == "":
        raise ValueError(f"{told!r} is no name")
    return str(told)


def _fee(row: Row) -> Mapping[str, Any]:
    """What the trade cost, in dollars or in a coin. A taker always pays, while Binance's documents write what he pays
    with a minus and its answers without; only a maker may be paid."""
    commission, asset = number(row["commission"]), name(row["commissionAsset"])
    paid = commission if str(row.get("maker")).lower() == "true" else abs(commission)
    return {"fee_usd": paid} if asset in DOLLARS else {"fee_usd": None, "fee_coin": asset, "fee_amount": paid}
