"""What others than Sparky did on an account, read from its own record: trades, forced orders and what those cost."""

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
MAX_ORDER_LOOKUPS: Final = 40  # orders of others whose names are asked for, one request each


@dataclass(frozen=True)
class OutsideRecord:
    """Trades that no booked order of ours made, oldest first, with the client ids of their orders (`client_order_ids`).

    `hidden` are trades of forced orders that the record of trades does not show (yet). `costs_usd` is what liquidations
    cost beyond the fees of their trades, by the income `cost_ids`. `read_ms` is the newest moment that it tells of.
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
        """What may have happened, the simplest first."""
        yield self.trades
        if self.hidden:
            yield tuple(sorted([*self.trades, *self.hidden], key=lambda each: each.trade.at_ms))


def fetch_outside_record(account: AccountRecord, symbol: str, facts: SymbolFacts, *, differs: bool) -> OutsideRecord:
    """The record since it was last read, else since its start: the first entry after books and venue were empty.

    Forced orders are asked for where there is something to explain: what the books say `differs`, or trades of others.
    Raises what the account raises.
    """
    if facts.last_trade_id:
        trades = account.fetch_trades(symbol, after_id=facts.last_trade_id)
    else:
        trades = account.fetch_trades(symbol, since_ms=facts.first_ms)
    last_id = max((each.trade_id for each in trades), default=facts.last_trade_id or 0)
    known = facts.order_ids | facts.forced_order_ids
    others = _without_self_trades([each for each in trades if each.order_id not in known])
    read_ms = max((each.at_ms for each in trades), default=facts.read_ms)
    if not others and not differs:
        return OutsideRecord(last_trade_id=last_id, read_ms=read_ms)
    since_ms = _since_ms(others, facts) - INCOME_TIME_TOLERANCE_MS
    forced = account.fetch_forced_orders(symbol, since_ms)
    names = {
        order_id: account.find_client_order_id(symbol, order_id)
        for order_id in _list_order_ids(others)[-MAX_ORDER_LOOKUPS:]
    }
    own = [each for each in trades if each.order_id in known]
    priced = convert_fees_to_usd(others, account.convert_to_usd)
    found = tuple(
        _build_outside_trade(each, _find_exit_reason(each.order_id, forced, names), own, facts) for each in priced
    )
    hidden = _find_hidden_orders(forced, trades, facts)
    is_forced = bool(hidden) or any(each.reason == ForcedExitCause.LIQUIDATED for each in found)
    incomes = account.fetch_income(symbol, since_ms) if is_forced else ()
    unshown = [each for each in incomes if not _has_listed_trade(each, trades, facts)]
    costs = find_unbooked_costs(incomes, facts.cost_ids, facts.costs_until_ms, account.convert_to_usd)
    hidden_trades = _build_trades(hidden, unshown, account.convert_to_usd)
    return OutsideRecord(
        trades=found,
        hidden=tuple(
            _build_outside_trade(each, _find_exit_reason(each.order_id, forced, names), own, facts)
            for each in hidden_trades
        ),
        client_order_ids=names,
        last_trade_id=last_id,
        costs_usd=decimals.total(each.amount.copy_negate() for each in costs),
        cost_ids=tuple(each.income_id for each in costs),
        read_ms=max((each.at_ms for each in hidden), default=read_ms),
    )


def distribute_costs(found: Attribution, trades: Iterable[OutsideTrade], costs_usd: Decimal) -> Attribution:
    """`found` with what the liquidations among `trades` cost beyond their fees, by quantity: what they ended beyond the
    books bears its own share."""
    liquidated = [each for each in found.exits if each.reason == ForcedExitCause.LIQUIDATED]
    if not costs_usd or not liquidated:
        return found
    whole = decimals.total(each.trade.quantity for each in trades if each.reason == ForcedExitCause.LIQUIDATED)
    shares = iter(split_cost(costs_usd, [each.quantity for each in liquidated], whole))
    parts = (
        replace(each, fee_usd=decimals.total((each.fee_usd, next(shares))))
        if each.reason == ForcedExitCause.LIQUIDATED
        else each
        for each in found.exits
    )
    return replace(found, exits=tuple(parts))


def _without_self_trades(others: Sequence[AccountTrade]) -> list[AccountTrade]:
    """Trades of others of which this account was both sides moved nothing: they have one id."""
    sides = Counter((each.trade_id, each.is_buy) for each in others)
    return [each for each in others if not sides[each.trade_id, not each.is_buy]]


def _since_ms(others: Sequence[AccountTrade], facts: SymbolFacts) -> int:
    """From when on something may have happened that is not booked: a forced order whose trades are not shown may be
    older than all that are, but not older than a reading that explained all."""
    start_ms = max(facts.first_ms or 0, facts.read_ms)
    times = [each.at_ms for each in others] + ([start_ms] if start_ms else [])
    return min(times, default=INCOME_TIME_TOLERANCE_MS)


def _find_hidden_orders(
    forced: Sequence[ForcedOrder], trades: Sequence[AccountTrade], facts: SymbolFacts
) -> list[ForcedOrder]:
    """Forced orders whose trades the record does not show, or what those have filled since they were booked; some
    venues keep such trades apart."""
    shown = {each.order_id for each in trades} | (facts.outside_order_ids - facts.forced_order_ids) | facts.order_ids
    rests = (
        _subtract_booked(each, facts.booked_outside.get(each.order_id)) for each in forced if each.order_id not in shown
    )
    return [each for each in rests if each.quantity > 0]


def _subtract_booked(order: ForcedOrder, part: BookedOutsideOrder | None) -> ForcedOrder:
    """What `order` has filled since a `part` of it was booked."""
    if part is None:
        return order
    if part.until_ms is not None and order.at_ms <= part.until_ms:
        return order.model_copy(update={"quantity": ZERO})
    quantity = decimals.total((order.quantity, part.quantity.copy_negate()))
    value = decimals.total((decimals.product(order.quantity, order.price), part.value_usd.copy_negate()))
    price = decimals.quotient(value, quantity) if quantity > 0 and value > 0 else order.price
    return order.model_copy(update={"quantity": quantity, "price": price})


def _has_listed_trade(income: Income, trades: Sequence[AccountTrade], facts: SymbolFacts) -> bool:
    """Whether its trade is in the record of trades, so that it belongs to no hidden one."""
    number = income.trade_id
    if number is None:
        return False
    return number <= (facts.last_trade_id or 0) or any(each.trade_id == number for each in trades)


def _build_trades(hidden: Sequence[ForcedOrder], unshown: Sequence[Income], worth: UsdConverter) -> list[AccountTrade]:
    """Raises UpstreamUnavailable where nothing tells a price."""
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
            fee_usd=_sum_commissions(order, hidden, unshown, worth),
            at_ms=order.at_ms,
        )
        for order in hidden
    ]


def _sum_commissions(
    order: ForcedOrder, hidden: Sequence[ForcedOrder], unshown: Sequence[Income], worth: UsdConverter
) -> Decimal | None:
    """What is told of commissions next to `order` rather than to another hidden one; None where that is not known in
    dollars."""
    paid = [each for each in unshown if each.kind == COMMISSION and _find_nearest_order(each.at_ms, hidden) is order]
    usd = [worth(each.asset, each.amount.copy_negate(), each.at_ms) for each in paid]
    known = [each for each in usd if each is not None]
    return decimals.total(known) if known and len(known) == len(usd) else None


def _find_nearest_order(at_ms: int, hidden: Sequence[ForcedOrder]) -> ForcedOrder | None:
    near = [each for each in hidden if abs(each.at_ms - at_ms) <= INCOME_TIME_TOLERANCE_MS]
    return min(near, key=lambda each: abs(each.at_ms - at_ms), default=None)


def _list_order_ids(trades: Iterable[AccountTrade]) -> list[str]:
    return list(dict.fromkeys(each.order_id for each in trades))


def _find_exit_reason(order_id: str, forced: Sequence[ForcedOrder], names: Mapping[str, str | None]) -> str:
    name = names.get(order_id) or ""
    if name.startswith(SETTLEMENT_ORDER_ID_PREFIXES):
        return SETTLED
    known = next((each.cause for each in forced if each.order_id == order_id), None) or parse_forced_exit_cause(name)
    return CLOSED_AT_VENUE if known is None else known.value


def _build_outside_trade(
    trade: AccountTrade, reason: str, own: Iterable[AccountTrade], facts: SymbolFacts
) -> OutsideTrade:
    """`trade` with what the booked trades `own` did after it; of a hidden one only the time is known."""
    fee_usd = trade.fee_usd
    if fee_usd is None:
        fee_usd = decimals.product(decimals.product(trade.quantity, trade.price), ASSUMED_TAKER_RATE)
    since: dict[UUID | None, Decimal] = {}
    for each in own:
        if _is_later(each, trade):
            name = facts.order_positions.get(each.order_id)
            since[name] = decimals.total((since.get(name, ZERO), each.signed_quantity))
    return OutsideTrade(trade, reason, fee_usd, since)


def _is_later(one: AccountTrade, than: AccountTrade) -> bool:
    return one.trade_id > than.trade_id if than.trade_id else one.at_ms > than.at_ms
