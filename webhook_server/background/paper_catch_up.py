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

from engine.domain.positions import MarginMode, Position
from engine.platform.errors import SparkyError, UpstreamUnavailable
from engine.store.store import Store
from webhook_server.background.mark_to_market import by_symbol
from webhook_server.background.paper_round import MINUTE_MS, Ended, PaperRound, terms_of
from webhook_server.background.protective_exits import Exits
from webhook_server.clock import Clock
from webhook_server.execution.execution_context import Request
from webhook_server.execution.pipeline import MarketFirst
from webhook_server.intake.schemas import ExitTerms, Order
from webhook_server.venue_registry import Venues

logger = structlog.get_logger()

LOOK_S: Final = 1.5  # an exit waits no longer for what the venue tells of the past
SHORT_LOOK_S: Final = 0.5  # where rounds have looked lately
LATELY_MS: Final = 3 * MINUTE_MS
LOOKS: Final = 4  # at a time


@dataclass(frozen=True)
class _Look:
    """What one look found: how positions ended, and the round that knows the rest."""

    round: PaperRound
    ended: tuple[tuple[Ended, ExitTerms | None], ...]


class PaperPast:
    """One for all requests."""

    def __init__(self, store: Store, venues: Venues, exits: Exits, clock: Clock) -> None:
        self._store = store
        self._venues = venues
        self._exits = exits
        self._clock = clock
        self._workers = ThreadPoolExecutor(LOOKS, thread_name_prefix="paper past")

    def before(self, request: Request) -> None:
        """Raises MarketFirst where the market has ended a paper position of the request's sender in its symbol, or
        with cross margin one that shares its equity.

        Where the venue does not tell that in time an exit goes on. Raises UpstreamUnavailable for an addition then,
        unless rounds have looked lately, and for the database.
        """
        order = request.order
        if request.position_id is not None or (order.strategy_id is None and order.environment == "production"):
            return
        own = self._store.own_positions(request.user_id, order.exchange, order.strategy_id)
        paper = [each for each in own if each.is_paper]
        held = [each for each in paper if each.symbol == order.symbol or each.margin_mode is MarginMode.CROSS]
        now_ms = int(self._clock.now().timestamp() * 1_000)
        minute_ms = now_ms - now_ms % MINUTE_MS
        if any(not minute_ms <= (each.watched_until_ms or 0) <= minute_ms + MINUTE_MS for each in held):
            is_late = any(abs(now_ms - (each.watched_until_ms or 0)) > LATELY_MS for each in held)
            self._settle(order, paper, held, is_late=is_late)

    def _settle(self, order: Order, paper: Sequence[Position], held: Sequence[Position], *, is_late: bool) -> None:
        """`is_late` says that no round has looked for minutes."""
        found = self._found(paper, held, LOOK_S if is_late else SHORT_LOOK_S)
        if found is not None and found.ended:
            raise MarketFirst(partial(self._book, found))
        if found is not None:
            self._store.note_margins(found.round.notes())
        adds = any(each.symbol == order.symbol and each.side is order.side for each in held) and order.is_entry
        if adds and is_late and (found is None or found.round.is_silent):
            raise UpstreamUnavailable("venue", f"it does not tell what {order.symbol} did since it was last looked at")

    def _book(self, found: _Look) -> None:
        for (position, end), terms in found.ended:
            self._exits.exit(position, end.reason, terms)
        self._store.note_margins(found.round.notes())

    def _found(self, paper: Sequence[Position], held: Sequence[Position], wait_s: float) -> _Look | None:
        """None where the venue does not tell it in time."""
        looking = self._workers.submit(self._look, paper, held)
        try:
            return looking.result(wait_s)
        except TooLate:
            looking.cancel()
            logger.warning("paper_past_not_told", symbol=held[0].symbol, reason=f"nothing within {wait_s} s")
        except SparkyError as error:
            if isinstance(error, UpstreamUnavailable) and error.service == "database":
                raise
            logger.warning("paper_past_not_told", symbol=held[0].symbol, reason=str(error))
        return None

    def _look(self, paper: Sequence[Position], held: Sequence[Position]) -> _Look:
        """Asks with the client of the past alone, for which no exit waits."""
        round_ = PaperRound(self._venues, paper, self._store.paper_margins(held[0].user_id))
        ended: list[tuple[Ended, ExitTerms | None]] = []
        for (exchange, symbol), positions in by_symbol(held):
            round_.ask_mark(exchange, symbol)
            ticker = self._venues.history(exchange).ticker(symbol)
            found = round_.ends(exchange, symbol, positions, ticker)
            ended += [(each, terms_of(each[1], ticker)) for each in found]
        ended += [(each, terms_of(each[1])) for each in round_.ends_together()]
        return _Look(round_, tuple(ended))
