"""Reads from an account's record what others than Sparky did there: trades, forced orders and the costs of those."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Final
from uuid import UUID

from engine.domain import decimals
from engine.domain.errors import VenueUnavailable
from engine.store.venue_record import BookedOutsideOrder, SymbolFacts
from engine.venues.account_record import (
    SETTLEMENT_ORDER_ID_PREFIXES,
    AccountRecord,
    AccountTrade,
    ForcedExitCause,
    ForcedOrder,
    Income,
    UsdConverter,
    convert_fees_to_usd,
    parse_forced_exit_cause,
)
from engine.venues.live.order_fees import ASSUMED_TAKER_RATE
from webhook_server.reconciliation.attribution import ZERO, Attribution, OutsideTrade
from webhook_server.reconciliation.liquidation_costs import find_unbooked_costs, split_cost
from webhook_server.reconciliation.outside_exits import SETTLED

CLOSED_AT_VENUE: Final = "closed_at_venue"
COMMISSION: Final = "COMMISSION"
INCOME_TIME_TOLERANCE_MS: Final = 1_000  # income may carry the time of the order rather than of its trade
MAX_ORDER_LOOKUPS: Final = 40  # orders of others whose client order ids are fetched, one request each


@dataclass(frozen=True)
class OutsideRecord:
    """Trades that no booked order of ours made, oldest first, with the client order ids by order id.

    `hidden` are trades of forced orders that the record of trades does not show (yet). `costs_usd` is the cost of
    liquidations beyond the fees of their trades, by the income `cost_ids`. `read_ms` is the newest moment in the record
    (Unix ms).
    """

    trades: tuple[OutsideTrade, ...] = ()
    hidden: tuple[OutsideTrade, ...] = ()
    client_order_ids: Mapping[str, str | None] = field(default_factory=dict)
    last_trade_id: int = 0
    costs_usd: Decimal = ZERO
    cost_ids: tuple[str, ...] = ()
    read_ms: int = 0

    @property
    def candidate_trades(self) -> Iterator[tuple[OutsideTrade, ...]]:
        """Trades that may explain a difference, the likeliest set first: without the hidden ones, then with them."""
        yield self.trades
        if self.hidden:
            yield tuple(sorted([*self.trades, *self.hidden], key=lambda outside: outside.trade.at_ms))


def fetch_outside_record(account: AccountRecord, symbol: str, facts: SymbolFacts, *, differs: bool) -> OutsideRecord:
    """The record since it was last read, else since the first entry after books and venue were both empty.

    Forced orders are read only where there is something to explain, since they weigh much: books and venue differ
    (`differs`), or there are trades of others. Raises what the account raises.
    """
    if facts.last_trade_id:
        trades = account.fetch_trades(symbol, after_id=facts.last_trade_id)
    else:
        trades = account.fetch_trades(symbol, since_ms=facts.first_ms)
    last_id = max((trade.trade_id for trade in trades), default=facts.last_trade_id or 0)
    booked_ids = facts.order_ids | facts.forced_order_ids
    others = _drop_self_trades([trade for trade in trades if trade.order_id not in booked_ids])
    read_ms = max((trade.at_ms for trade in trades), default=facts.read_ms)
    if not others and not differs:
        return OutsideRecord(last_trade_id=last_id, read_ms=read_ms)
    since_ms = _find_start_ms(others, facts) - INCOME_TIME_TOLERANCE_MS
    forced = account.fetch_forced_orders(symbol, since_ms)
    # Only the newest orders, which most likely explain the difference; an older one counts as closed at the venue.
    names = {
        order_id: account.find_client_order_id(symbol, order_id)
        for order_id in _list_order_ids(others)[-MAX_ORDER_LOOKUPS:]
    }
    own = [trade for trade in trades if trade.order_id in booked_ids]
    priced = convert_fees_to_usd(others, account.convert_to_usd)
    outside_trades = tuple(
        _build_outside_trade(trade, _find_exit_reason(trade.order_id, forced, names), own, facts) for trade in priced
    )
    hidden = _find_hidden_orders(forced, trades, facts)
    # Income has the heaviest request, and is needed only for the costs of liquidations and hidden trades.
    is_forced = bool(hidden) or any(trade.reason == ForcedExitCause.LIQUIDATED for trade in outside_trades)
    incomes = account.fetch_income(symbol, since_ms) if is_forced else ()
    unshown = [income for income in incomes if not _has_listed_trade(income, trades, facts)]
    costs = find_unbooked_costs(incomes, facts.cost_ids, facts.costs_until_ms, account.convert_to_usd)
    hidden_trades = _build_hidden_trades(hidden, unshown, account.convert_to_usd)
    return OutsideRecord(
        trades=outside_trades,
        hidden=tuple(
            _build_outside_trade(trade, _find_exit_reason(trade.order_id, forced, names), own, facts)
            for trade in hidden_trades
        ),
        client_order_ids=names,
        last_trade_id=last_id,
        costs_usd=decimals.total(cost.amount.copy_negate() for cost in costs),
        cost_ids=tuple(cost.income_id for cost in costs),
        read_ms=max((order.at_ms for order in hidden), default=read_ms),
    )


def distribute_costs(attribution: Attribution, trades: Iterable[OutsideTrade], costs_usd: Decimal) -> Attribution:
    """`attribution` with `costs_usd`, the cost of the liquidations among `trades` beyond their fees, added to the fees
    of the liquidated parts, by quantity. A quantity that was liquidated beyond the books bears its own share."""
    liquidated = [part for part in attribution.exits if part.reason == ForcedExitCause.LIQUIDATED]
    if not costs_usd or not liquidated:
        return attribution
    whole = decimals.total(outside.trade.quantity for outside in trades if outside.reason == ForcedExitCause.LIQUIDATED)
    shares = iter(split_cost(costs_usd, [part.quantity for part in liquidated], whole))
    parts = (
        replace(part, fee_usd=decimals.total((part.fee_usd, next(shares))))
        if part.reason == ForcedExitCause.LIQUIDATED
        else part
        for part in attribution.exits
    )
    return replace(attribution, exits=tuple(parts))


def _drop_self_trades(others: Sequence[AccountTrade]) -> list[AccountTrade]:
    """Without trades in which this account was both sides: they moved nothing, and both halves have one trade id."""
    sides = Counter((trade.trade_id, trade.is_buy) for trade in others)
    return [trade for trade in others if not sides[trade.trade_id, not trade.is_buy]]


def _find_start_ms(others: Sequence[AccountTrade], facts: SymbolFacts) -> int:
    """From when on something may be unbooked (Unix ms): a forced order whose trades are not shown may be older than the
    trades that are, but not older than the last reading that explained everything."""
    start_ms = max(facts.first_ms or 0, facts.read_ms)
    times = [trade.at_ms for trade in others] + ([start_ms] if start_ms else [])
    return min(times, default=INCOME_TIME_TOLERANCE_MS)


def _find_hidden_orders(
    forced: Sequence[ForcedOrder], trades: Sequence[AccountTrade], facts: SymbolFacts
) -> list[ForcedOrder]:
    """Forced orders whose trades the record does not show, less what is booked of them: some venues keep such trades
    apart."""
    shown = {trade.order_id for trade in trades} | (facts.outside_order_ids - facts.forced_order_ids) | facts.order_ids
    unbooked = (
        _subtract_booked(order, facts.booked_outside.get(order.order_id))
        for order in forced
        if order.order_id not in shown
    )
    return [order for order in unbooked if order.quantity > 0]


def _subtract_booked(order: ForcedOrder, part: BookedOutsideOrder | None) -> ForcedOrder:
    """`order` with the quantity and average price that it has filled since a `part` of it was booked."""
    if part is None:
        return order
    if part.until_ms is not None and order.at_ms <= part.until_ms:
        return order.model_copy(update={"quantity": ZERO})
    quantity = decimals.total((order.quantity, part.quantity.copy_negate()))
    value = decimals.total((decimals.product(order.quantity, order.price), part.value_usd.copy_negate()))
    price = decimals.quotient(value, quantity) if quantity > 0 and value > 0 else order.price
    return order.model_copy(update={"quantity": quantity, "price": price})


def _has_listed_trade(income: Income, trades: Sequence[AccountTrade], facts: SymbolFacts) -> bool:
    """Whether the trade of `income` is in the record of trades, so that it belongs to no hidden order."""
    trade_id = income.trade_id
    if trade_id is None:
        return False
    return trade_id <= (facts.last_trade_id or 0) or any(trade.trade_id == trade_id for trade in trades)


def _build_hidden_trades(
    hidden: Sequence[ForcedOrder], unshown: Sequence[Income], to_usd: UsdConverter
) -> list[AccountTrade]:
    """One trade for each hidden forced order. Raises VenueUnavailable for an order without a price."""
    for order in hidden:
        if not order.price:
            raise VenueUnavailable(f"it tells neither trades nor a price of forced order {order.order_id}")
    return [
        AccountTrade(
            trade_id=0,
            order_id=order.order_id,
            symbol=order.symbol,
            is_buy=order.is_buy,
            quantity=order.quantity,
            price=order.price,
            fee_usd=_sum_commissions(order, hidden, unshown, to_usd),
            at_ms=order.at_ms,
        )
        for order in hidden
    ]


def _sum_commissions(
    order: ForcedOrder, hidden: Sequence[ForcedOrder], unshown: Sequence[Income], to_usd: UsdConverter
) -> Decimal | None:
    """Commissions in USD that were paid nearer in time to `order` than to another hidden one; None where none is shown
    or one has no price."""
    commissions = [income for income in unshown if income.kind == COMMISSION]
    paid = [income for income in commissions if _find_nearest_order(income.at_ms, hidden) is order]
    usd = [to_usd(income.asset, income.amount.copy_negate(), income.at_ms) for income in paid]
    priced = [amount for amount in usd if amount is not None]
    return decimals.total(priced) if priced and len(priced) == len(usd) else None


def _find_nearest_order(at_ms: int, hidden: Sequence[ForcedOrder]) -> ForcedOrder | None:
    near = [order for order in hidden if abs(order.at_ms - at_ms) <= INCOME_TIME_TOLERANCE_MS]
    return min(near, key=lambda order: abs(order.at_ms - at_ms), default=None)


def _list_order_ids(trades: Iterable[AccountTrade]) -> list[str]:
    return list(dict.fromkeys(trade.order_id for trade in trades))


def _find_exit_reason(order_id: str, forced: Sequence[ForcedOrder], names: Mapping[str, str | None]) -> str:
    name = names.get(order_id) or ""
    if name.startswith(SETTLEMENT_ORDER_ID_PREFIXES):
        return SETTLED
    cause = next((order.cause for order in forced if order.order_id == order_id), None) or parse_forced_exit_cause(name)
    return CLOSED_AT_VENUE if cause is None else cause.value


def _build_outside_trade(
    trade: AccountTrade, reason: str, own: Iterable[AccountTrade], facts: SymbolFacts
) -> OutsideTrade:
    """`trade` with what the booked trades `own` did after it, by position."""
    fee_usd = trade.fee_usd
    if fee_usd is None:
        fee_usd = decimals.product(decimals.product(trade.quantity, trade.price), ASSUMED_TAKER_RATE)
    since: dict[UUID | None, Decimal] = {}
    for own_trade in own:
        if _is_later(own_trade, trade):
            position_id = facts.order_positions.get(own_trade.order_id)
            since[position_id] = decimals.total((since.get(position_id, ZERO), own_trade.signed_quantity))
    return OutsideTrade(trade, reason, fee_usd, since)


def _is_later(trade: AccountTrade, other: AccountTrade) -> bool:
    # A hidden trade has no id of its own (0), so only its time can be compared.
    return trade.trade_id > other.trade_id if other.trade_id else trade.at_ms > other.at_ms
