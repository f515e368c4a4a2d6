"""Parses rows of a Binance-shaped record exactly. An unreadable row is an error, because omitting it would hide a
trade."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from engine.domain.decimals import UPPER_BOUND, quotient, to_decimal
from engine.domain.positions import Side
from engine.venues.account_record import AccountTrade, ForcedExitCause, ForcedOrder, Income, parse_forced_exit_cause
from engine.venues.account_state import USD_ASSETS, VenuePosition

Row = Mapping[str, Any]
MAX_DIGITS: Final = 18  # of a number of a trade, which the books keep in 64 bits
TIME_DIGITS: Final = 14
IS_BUY_BY_SIDE: Final = {"BUY": True, "SELL": False}


def parse_rows(answer: Any, market_id: str | None) -> list[Row]:
    """The rows of an answer. Raises ValueError for anything else, and for rows of another symbol than `market_id`."""
    if not isinstance(answer, list) or not all(isinstance(row, dict) for row in answer):
        raise ValueError("the answer is no list of rows")
    for row in answer:
        if market_id is not None and row["symbol"] != market_id:
            raise ValueError(f"the request was about {market_id}, the answer is about {row['symbol']}")
    return answer


def parse_account_trade(row: Row, symbol: str) -> AccountTrade:
    """A row of ``userTrades``. Raises ValueError or KeyError, as all functions here."""
    return AccountTrade(
        trade_id=parse_int(row["id"]),
        order_id=parse_text(row["orderId"]),
        symbol=symbol,
        is_buy=IS_BUY_BY_SIDE[row["side"]],
        quantity=parse_decimal(row["qty"]),
        price=parse_decimal(row["price"]),
        **_parse_fee(row),
        at_ms=parse_time_ms(row["time"]),
    )


def parse_forced_order(row: Row, symbol: str, adl_ids: frozenset[str]) -> ForcedOrder:
    """A row of ``forceOrders``; `quantity` is 0 where nothing was filled, `price` 0 where the venue gives none.

    The cause is ADL by the client id or `adl_ids`, else a liquidation.
    """
    order_id, quantity = parse_text(row["orderId"]), parse_decimal(row["executedQty"])
    is_adl = order_id in adl_ids or parse_cause(row) is ForcedExitCause.ADL
    return ForcedOrder(
        order_id=order_id,
        symbol=symbol,
        cause=ForcedExitCause.ADL if is_adl else ForcedExitCause.LIQUIDATED,
        is_buy=IS_BUY_BY_SIDE[row["side"]],
        quantity=quantity,
        price=parse_decimal(row["avgPrice"]) or _calculate_price_from_cost(row, quantity),
        at_ms=parse_time_ms(row["updateTime"]) or parse_time_ms(row["time"]),
    )


def _calculate_price_from_cost(row: Row, quantity: Decimal) -> Decimal:
    cost = parse_decimal(row.get("cumQuote") or 0)
    return quotient(cost, quantity) if quantity and cost else Decimal(0)


def parse_cause(row: Row) -> ForcedExitCause | None:
    """The cause that the order's client id states; None if it states none."""
    return parse_forced_exit_cause(str(row.get("clientOrderId") or ""))


def parse_income(row: Row, symbol: str) -> Income:
    """A row of ``income``. Its id is unique within a kind only, and a trade may pay in two assets."""
    kind, asset, traded = parse_text(row["incomeType"]), parse_text(row["asset"]), row.get("tradeId")
    trade_id = None if traded in (None, "") else parse_int(traded)
    return Income(
        income_id=f"{kind}:{parse_text(row['tranId'])}:{'' if trade_id is None else trade_id}:{asset}",
        kind=kind,
        symbol=symbol,
        amount=parse_decimal(row["income"]),
        asset=asset,
        trade_id=trade_id,
        at_ms=parse_time_ms(row["time"]),
    )


def parse_position(row: Row, symbol: str) -> VenuePosition | None:
    """A row of ``positionRisk``; None for an empty position."""
    amount, leverage, profit = parse_decimal(row["positionAmt"]), row.get("leverage"), row.get("unRealizedProfit")
    if amount == 0:
        return None
    return VenuePosition(
        symbol=symbol,
        side=Side.LONG if amount > 0 else Side.SHORT,
        quantity=abs(amount),
        entry_price=parse_decimal(row["entryPrice"]),
        leverage=None if leverage is None else parse_int(leverage),
        unrealized_pnl_usd=None if profit is None else parse_decimal(profit),
        changed_ms=parse_time_ms(row.get("updateTime") or 0),
        liquidation_price=_parse_positive(row.get("liquidationPrice")),
    )


def _parse_positive(raw: Any) -> Decimal | None:
    """None if missing, 0 or unreadable, because a value that is only displayed must not make the row unreadable."""
    try:
        price = parse_decimal(raw)
    except ValueError:
        return None
    return price if price > 0 else None


def parse_decimal(raw: Any) -> Decimal:
    """The exact decimal. Raises ValueError for anything else, and from `UPPER_BOUND` on."""
    if not isinstance(raw, str | int) or isinstance(raw, bool):
        raise ValueError(f"{raw!r} is no number")  # noqa: TRY004 - an answer that cannot be read, whatever it is
    read = to_decimal(raw)
    if abs(read) >= UPPER_BOUND:
        raise ValueError(f"{raw!r} is beyond any figure")
    return read


def parse_int(raw: Any, max_digits: int = MAX_DIGITS) -> int:
    """Raises ValueError for what is no whole number of up to `max_digits` digits."""
    text = str(raw)
    if isinstance(raw, bool) or not (text.isascii() and text.isdecimal() and len(text) <= max_digits):
        raise ValueError(f"{text[:40]!r} is no whole number")
    return int(text)


def parse_time_ms(raw: Any) -> int:
    """A time in ms since 1970."""
    return parse_int(raw, TIME_DIGITS)


def parse_text(raw: Any) -> str:
    """An id or a name, as text. Raises ValueError for an empty one."""
    if not isinstance(raw, str | int) or isinstance(raw, bool) or raw == "":
        raise ValueError(f"{raw!r} is no name")
    return str(raw)


def _parse_fee(row: Row) -> Mapping[str, Any]:
    """The fee, in dollars or in a coin. A taker's is always positive, because Binance's documents write it with a minus
    and its answers without; only a maker's may be a rebate."""
    commission, asset = parse_decimal(row["commission"]), parse_text(row["commissionAsset"])
    paid = commission if str(row.get("maker")).lower() == "true" else abs(commission)
    return {"fee_usd": paid} if asset in USD_ASSETS else {"fee_usd": None, "fee_coin": asset, "fee_amount": paid}
