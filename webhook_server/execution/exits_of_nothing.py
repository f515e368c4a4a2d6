"""An exit that finds nothing to close: did its sender name what exists, and may it have meant a position elsewhere?"""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from engine.domain import decimals, symbol_names
from engine.domain.errors import StrategyFault
from engine.domain.positions import Position
from engine.platform.errors import ConfigurationError, UpstreamUnavailable
from engine.store.store import Store
from engine.store.webhook_rows import PortfolioStrategy
from engine.venues.account_record import ForcedExitCause
from webhook_server.execution.execution_context import Request, RequestEnded, end_on_configuration_error
from webhook_server.execution.results import Invalid
from webhook_server.intake.schemas import WebhookSignal
from webhook_server.reconciliation.outside_exits import DELISTED, SETTLED
from webhook_server.reconciliation.outside_record import CLOSED_AT_VENUE
from webhook_server.venue_registry import Venues

MAX_LISTED_POSITIONS: Final = 5
RECENT_S: Final = 86_400.0
VENUE_EXIT_REASONS: Final = frozenset({*(cause.value for cause in ForcedExitCause), CLOSED_AT_VENUE, SETTLED, DELISTED})


def explain_empty_exit(request: Request, store: Store, venues: Venues) -> str:
    """Why nothing is closed, for the answer `skipped`.

    Raises RequestEnded (400) for a strategy that its user does not have or that trades on another exchange, and for a
    symbol that the exchange does not list: an exit under a wrong name must not look like a success.
    """
    signal = request.signal
    _check_strategy(request, store)
    held = [each for each in store.list_open_positions(user_id=request.user_id) if each.symbol == signal.symbol]
    venue_exit = _describe_venue_exit(request, store)
    is_held = any(each.exchange.lower() == signal.exchange for each in held)
    is_known = is_held or bool(venue_exit) or _is_listed(signal, venues)
    message = _describe_positions(signal, [each for each in held if signal.strategy_id in (None, each.strategy_id)])
    message += venue_exit
    return (
        message if is_known else f"{message}; whether {signal.exchange} lists it is not known while it does not answer"
    )


def _describe_venue_exit(request: Request, store: Store) -> str:
    """What became of the sender's last position in the symbol, where its venue ended it lately: in the book that the
    exit is about (see `execution_plan.find_position_to_close`)."""
    signal, is_paper = request.signal, None
    if signal.strategy_id is None and signal.environment is not None:
        is_paper = signal.environment != "production"
    key = (request.user_id, signal.exchange, signal.symbol, signal.strategy_id)
    exit_reason = store.get_last_exit_reason(*key, RECENT_S, is_paper=is_paper)
    return f"; the last one had ended at the venue ({exit_reason})" if exit_reason in VENUE_EXIT_REASONS else ""


def resolve_held_symbol(signal: WebhookSignal, body: Mapping[str, Any], user_id: UUID, store: Store) -> WebhookSignal:
    """The exit `signal`, for what is held under the very symbol that was written, where that is understood as another.

    Exchanges have names of their own for markets (BTC_USDT, PF_XBTUSD), under which positions may be booked.
    """
    written = symbol_names.to_upper(str(body.get("symbol", "")))
    if written == signal.symbol or not symbol_names.is_possible_venue_symbol(written):
        return signal
    held = store.list_strategy_positions(user_id, signal.exchange, signal.strategy_id, written)
    return signal.model_copy(update={"symbol": written}) if held else signal


def _check_strategy(request: Request, store: Store) -> None:
    signal = request.signal
    if signal.strategy_id is None:
        return
    try:
        strategy = _load_strategy(request, store)
    except ConfigurationError:  # a limit of the exchange that cannot be read is no reason to doubt the strategy
        return
    if strategy is None:
        raise _build_refusal("strategy_id", "this user has no such strategy")
    if strategy.exchange.lower() != signal.exchange:
        raise _build_refusal("exchange", f"this strategy trades on {strategy.exchange}")


def _load_strategy(request: Request, store: Store) -> PortfolioStrategy | None:
    signal = request.signal
    return store.get_portfolio(request.user_id, signal.exchange, signal.strategy_id, is_paper=True).strategy


def _is_listed(signal: WebhookSignal, venues: Venues) -> bool:
    """False when that is not known. Raises RequestEnded for a symbol that the exchange does not list."""
    with end_on_configuration_error(signal.exchange):
        quotes = venues.quotes(signal.exchange)
        try:
            quotes.fetch_instrument(signal.symbol)
        except StrategyFault as fault:
            raise _build_refusal("symbol", str(fault)) from fault
        except UpstreamUnavailable:  # no order was wanted of it, so that this is no failure of the venue to count
            return False
    return True


def _describe_positions(signal: WebhookSignal, held: Sequence[Position]) -> str:
    message = f"no open position in {signal.symbol}"
    if not held:
        return message
    named = "; ".join(_describe_position(each) for each in held[:MAX_LISTED_POSITIONS])
    more = f"; and {len(held) - MAX_LISTED_POSITIONS} more" if len(held) > MAX_LISTED_POSITIONS else ""
    return f"{message} under this exchange, strategy_id and environment; there is {named}{more}"


def _describe_position(position: Position) -> str:
    book = "paper" if position.is_paper else "production"
    whose = "without a strategy" if position.strategy_id is None else f"of strategy_id {position.strategy_id}"
    return f"{position.side.value} {decimals.format_plain(position.quantity)} {whose} on {position.exchange}, {book}"


def _build_refusal(field: str, message: str) -> RequestEnded:
    return RequestEnded("refused", Invalid(field, message), message)
