"""Books how the market has ended a paper position before a signal for that position executes.

Mark to market compares positions every few seconds. After a downtime it has not: an exit would close at the present
price a position that was liquidated earlier, and an addition would hide the liquidation. Positions that were compared
within this minute are skipped.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
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

CATCH_UP_TIMEOUT_S: Final = 1.5  # an exit must not wait longer for the venue's candles
RECENT_CATCH_UP_TIMEOUT_S: Final = 0.5  # where the last comparison is younger than RECENT_MS
RECENT_MS: Final = 3 * MINUTE_MS
MAX_CONCURRENT_CATCH_UPS: Final = 4


@dataclass(frozen=True)
class _CatchUpResult:
    """The exits that one comparison found, and its round, which has the margins of the other positions."""

    market_round: PaperRound
    exits: tuple[tuple[MarketExit, ExitTerms | None], ...]


class PaperCatchUp:
    """Shared by all requests of a process."""

    def __init__(
        self,
        store: Store,
        venues: Venues,
        exits: ProtectiveExits,
        clock: Clock,
        timeout_s: float = CATCH_UP_TIMEOUT_S,
        recent_timeout_s: float = RECENT_CATCH_UP_TIMEOUT_S,
    ) -> None:
        self._store = store
        self._venues = venues
        self._exits = exits
        self._clock = clock
        self._timeout_s = timeout_s
        self._recent_timeout_s = recent_timeout_s
        self._workers = ThreadPoolExecutor(MAX_CONCURRENT_CATCH_UPS, thread_name_prefix="paper-catch-up")

    def check_market_exits(self, request: Request) -> None:
        """Raises MarketExitsPending where the market has ended a paper position of the sender in the signal's symbol,
        or one that shares its equity by cross margin.

        Where the venue does not answer in time an exit goes on (exits are never blocked), and an addition raises
        UpstreamUnavailable unless positions were compared lately. Raises UpstreamUnavailable for the database too.
        """
        signal = request.signal
        # The server's own exits (`position_id`) come from a comparison, and a person's live signal is about no paper
        # position.
        if request.position_id is not None or (signal.strategy_id is None and signal.environment == "production"):
            return
        # Without rows that cannot be read: one in another symbol is no reason to refuse this exit.
        readable = self._store.list_open_positions(request.user_id, signal.strategy_id, signal.exchange)
        paper = [each for each in readable if each.is_paper and each.strategy_id == signal.strategy_id]
        held = [
            position
            for position in paper
            if position.symbol == signal.symbol or position.margin_mode is MarginMode.CROSS
        ]
        now_ms = int(self._clock.now().timestamp() * 1_000)
        minute_ms = now_ms - now_ms % MINUTE_MS
        if any(not minute_ms <= (position.watched_until_ms or 0) <= minute_ms + MINUTE_MS for position in held):
            is_late = any(abs(now_ms - (position.watched_until_ms or 0)) > RECENT_MS for position in held)
            self._check_positions(signal, paper, held, is_late=is_late)

    def _check_positions(
        self, signal: WebhookSignal, paper: Sequence[Position], held: Sequence[Position], *, is_late: bool
    ) -> None:
        """`is_late` says that a position was last compared more than RECENT_MS ago."""
        result = self._compare_with_timeout(paper, held, self._timeout_s if is_late else self._recent_timeout_s)
        if result is not None and result.exits:
            raise MarketExitsPending(partial(self._book_exits, result))
        if result is not None:
            self._store.update_margins(result.market_round.build_margin_updates())
        is_addition = signal.is_entry and any(
            position.symbol == signal.symbol and position.side is signal.side for position in held
        )
        if is_addition and is_late and (result is None or result.market_round.is_history_unavailable):
            raise VenueUnavailable(f"it does not tell what {signal.symbol} did since it was last looked at")

    def _book_exits(self, result: _CatchUpResult) -> None:
        for (position, end), terms in result.exits:
            self._exits.exit(position, end.reason, terms)
        self._store.update_margins(result.market_round.build_margin_updates())

    def _compare_with_timeout(
        self, paper: Sequence[Position], held: Sequence[Position], wait_s: float
    ) -> _CatchUpResult | None:
        """None where the venue does not answer within `wait_s` seconds."""
        future = self._workers.submit(self._compare_with_market, paper, held)
        try:
            return future.result(wait_s)
        except FutureTimeout:
            future.cancel()
            logger.warning("paper_catch_up_failed", symbol=held[0].symbol, reason=f"nothing within {wait_s} s")
        except SparkyError as error:
            if isinstance(error, DatabaseUnavailable):
                raise
            logger.warning("paper_catch_up_failed", symbol=held[0].symbol, reason=str(error))
        return None

    def _compare_with_market(self, paper: Sequence[Position], held: Sequence[Position]) -> _CatchUpResult:
        """Asks with the client for history alone, so that no exit waits for its requests."""
        market_round = PaperRound(self._venues, paper, self._store.list_paper_margins(held[0].user_id))
        exits: list[tuple[MarketExit, ExitTerms | None]] = []
        for (exchange, symbol), positions in group_by_symbol(held):
            market_round.fetch_mark_price(exchange, symbol)
            ticker = self._venues.history(exchange).fetch_ticker(symbol)
            symbol_exits = market_round.find_exits(exchange, symbol, positions, ticker)
            exits += [(market_exit, build_exit_terms(market_exit[1], ticker)) for market_exit in symbol_exits]
        exits += [(market_exit, build_exit_terms(market_exit[1])) for market_exit in market_round.find_cross_exits()]
        return _CatchUpResult(market_round, tuple(exits))
