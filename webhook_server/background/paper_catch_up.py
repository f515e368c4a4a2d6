"""What the market has done to a paper position by the time a signal comes for it: that is booked first.

Rounds look at the market every few seconds. Where none has lately, as after a downtime, an exit would be made at the
price of now of a position that was liquidated before, and an addition would hide it. Nothing is asked for what a round
has looked at in this minute.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

from engine.domain.errors import VenueUnavailable
from engine.domain.positions import MarginMode, Position
from engine.platform.errors import DatabaseUnavailable, SparkyError
from engine.store.store import Store
from webhook_server.background.mark_to_market import group_by_symbol
from webhook_server.background.paper_round import MINUTE_MS, MarketExit, PaperRound, build_exit_terms
from webhook_server.background.protective_exits import ProtectiveExits
from webhook_server.clock import Clock
from webhook_server.execution.execution_context import Request
from webhook_server.execution.pipeline import MarketExitsPending
from webhook_server.intake.schemas import ExitTerms, WebhookSignal
from webhook_server.venue_registry import Venues

logger = structlog.get_logger()

CATCH_UP_TIMEOUT_S: Final = 1.5  # an exit waits no longer for what the venue tells of the past
RECENT_CATCH_UP_TIMEOUT_S: Final = 0.5  # where rounds have looked lately
RECENT_MS: Final = 3 * MINUTE_MS
MAX_CONCURRENT_CATCH_UPS: Final = 4  # at a time


@dataclass(frozen=True)
class _CatchUpResult:
    """What one look found: how positions ended, and the round that knows the rest."""

    market_round: PaperRound
    exits: tuple[tuple[MarketExit, ExitTerms | None], ...]


class PaperCatchUp:
    """One for all requests."""

    def __init__(self, store: Store, venues: Venues, exits: ProtectiveExits, clock: Clock) -> None:
        self._store = store
        self._venues = venues
        self._exits = exits
        self._clock = clock
        self._workers = ThreadPoolExecutor(MAX_CONCURRENT_CATCH_UPS, thread_name_prefix="paper-catch-up")

    def check_market_exits(self, request: Request) -> None:
        """Raises MarketExitsPending where the market has ended a paper position of the request's sender in its symbol,
        or with cross margin one that shares its equity.

        Where the venue does not tell that in time an exit goes on. Raises UpstreamUnavailable for an addition then,
        unless rounds have looked lately, and for the database.
        """
        signal = request.signal
        if request.position_id is not None or (signal.strategy_id is None and signal.environment == "production"):
            return
        own = self._store.list_strategy_positions(request.user_id, signal.exchange, signal.strategy_id)
        paper = [each for each in own if each.is_paper]
        held = [each for each in paper if each.symbol == signal.symbol or each.margin_mode is MarginMode.CROSS]
        now_ms = int(self._clock.now().timestamp() * 1_000)
        minute_ms = now_ms - now_ms % MINUTE_MS
        if any(not minute_ms <= (each.watched_until_ms or 0) <= minute_ms + MINUTE_MS for each in held):
            is_late = any(abs(now_ms - (each.watched_until_ms or 0)) > RECENT_MS for each in held)
            self._check_positions(signal, paper, held, is_late=is_late)

    def _check_positions(
        self, signal: WebhookSignal, paper: Sequence[Position], held: Sequence[Position], *, is_late: bool
    ) -> None:
        """`is_late` says that no round has looked for minutes."""
        found = self._compare_with_timeout(paper, held, CATCH_UP_TIMEOUT_S if is_late else RECENT_CATCH_UP_TIMEOUT_S)
        if found is not None and found.exits:
            raise MarketExitsPending(partial(self._book_exits, found))
        if found is not None:
            self._store.update_margins(found.market_round.build_margin_notes())
        adds = any(each.symbol == signal.symbol and each.side is signal.side for each in held) and signal.is_entry
        if adds and is_late and (found is None or found.market_round.is_history_unavailable):
            raise VenueUnavailable(f"it does not tell what {signal.symbol} did since it was last looked at")

    def _book_exits(self, found: _CatchUpResult) -> None:
        for (position, end), terms in found.exits:
            self._exits.exit(position, end.reason, terms)
        self._store.update_margins(found.market_round.build_margin_notes())

    def _compare_with_timeout(
        self, paper: Sequence[Position], held: Sequence[Position], wait_s: float
    ) -> _CatchUpResult | None:
        """None where the venue does not tell it in time."""
        future = self._workers.submit(self._compare_with_market, paper, held)
        try:
            return future.result(wait_s)
        except TooLate:
            future.cancel()
            logger.warning("paper_catch_up_failed", symbol=held[0].symbol, reason=f"nothing within {wait_s} s")
        except SparkyError as error:
            if isinstance(error, DatabaseUnavailable):
                raise
            logger.warning("paper_catch_up_failed", symbol=held[0].symbol, reason=str(error))
        return None

    def _compare_with_market(self, paper: Sequence[Position], held: Sequence[Position]) -> _CatchUpResult:
        """Asks with the client of the past alone, for which no exit waits."""
        market_round = PaperRound(self._venues, paper, self._store.list_paper_margins(held[0].user_id))
        exits: list[tuple[MarketExit, ExitTerms | None]] = []
        for (exchange, symbol), positions in group_by_symbol(held):
            market_round.fetch_mark_price(exchange, symbol)
            ticker = self._venues.history(exchange).fetch_ticker(symbol)
            found = market_round.find_exits(exchange, symbol, positions, ticker)
            exits += [(each, build_exit_terms(each[1], ticker)) for each in found]
        exits += [(each, build_exit_terms(each[1])) for each in market_round.find_cross_exits()]
        return _CatchUpResult(market_round, tuple(exits))
