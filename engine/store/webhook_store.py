"""Store methods of the webhook server: requests, risk, fills, leases and kill switches."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from pydantic import ValidationError

from engine.domain.positions import Position
from engine.platform.errors import ConfigurationError
from engine.store.transport.rpc import Rpc
from engine.store.values import format_validation_errors
from engine.store.webhook_rows import (
    BookedFill,
    EquityPoint,
    ExecutionClaim,
    Fill,
    KillSwitch,
    PlacedProtection,
    Portfolio,
    RequestEndState,
    UnfinishedRequest,
)

_LEASE: Final = "webhook"  # in `leases`; the SQL functions `has_lease` and `submit_request` look at the same row


class WebhookStore:
    rpc: Rpc
    engine: UUID | None

    def begin_execution(  # noqa: PLR0913, PLR0917 - the function's own arguments
        self,
        server: str | None,
        request_id: str,
        user_id: UUID,
        strategy_id: UUID | None,
        exchange: str,
        symbol: str,
        action: str,
        fingerprint: str,
        payload: dict[str, Any],
        is_paper: bool,  # noqa: FBT001 - part of what is asked
        ignored_unsettled: tuple[str, ...] = (),
    ) -> ExecutionClaim:
        """Claims the request and reads all that its execution needs, or returns its outcome, in one round trip.

        `payload` must hold no secret. A request that ended `failed` with a status of 500 or more and booked nothing is
        new again: it had no effect.

        Only the `server` that holds the lease may execute (None: any). `is_paper` applies to requests
        without a strategy. The unsettled requests `ignored_unsettled` do not hold this one back.
        """
        began = self.rpc.call(
            "begin_execution",
            server=server,
            request_id=request_id,
            user_id=user_id,
            strategy_id=strategy_id,
            exchange=exchange,
            symbol=symbol,
            action=action,
            fingerprint=fingerprint,
            payload=payload,
            is_paper=is_paper,
            ignore_unsettled=list(ignored_unsettled),
        )
        if began.get("portfolio") is None:
            return ExecutionClaim.model_validate(began)
        try:
            return ExecutionClaim.model_validate({**began, "portfolio": _parse_portfolio(began["portfolio"], exchange)})
        except ConfigurationError as error:
            return ExecutionClaim.model_validate({**began, "portfolio": None, "unreadable": str(error)})

    def find_repeated_request(
        self, user_id: UUID, fingerprint: str, derived_id: str | None, min_age_s: float
    ) -> str | None:
        """The id of the request that a body without an id repeats; None when it repeats nothing.

        `derived_id` is the id of a body that has a timestamp. Without one, the body repeats a request that is under
        way, or that ended within ten minutes and was not answered; in both cases only if it came more than `min_age_s`
        seconds ago, or its sender was asked to retry.
        """
        repeated_id = self.rpc.call(
            "repeated_request", user_id=user_id, fingerprint=fingerprint, derived_id=derived_id, least_s=min_age_s
        )
        return None if repeated_id is None else str(repeated_id)

    def mark_answered(self, request_id: str, user_id: UUID, *, is_final: bool, is_repetition: bool) -> None:
        """Records that the request was answered: finally, or (not `is_final`) with the request to retry."""
        self.rpc.call(
            "mark_answered",
            request_id=request_id,
            user_id=user_id,
            is_final=is_final,
            is_repetition=is_repetition,
        )

    def mark_request_submitted(self, server: str | None, request_id: str, user_id: UUID) -> bool:
        """Records that an order is about to be sent; False when this server may not send it (any more)."""
        return bool(self.rpc.call("submit_request", server=server, request_id=request_id, user_id=user_id))

    def mark_rest_waiting(self, request_id: str, user_id: UUID) -> None:
        """Records that an exit is booked in part and its remainder is unsent."""
        self.rpc.call("mark_rest_waiting", request_id=request_id, user_id=user_id)

    def book_protection(
        self,
        request_id: str | None,
        user_id: UUID,
        position_id: UUID,
        protection: PlacedProtection,
        status: int | None,
        answer: dict[str, Any] | None,
    ) -> None:
        """Books the orders that protect the position; with an `answer` also ends the request with it."""
        self.rpc.call(
            "book_protection",
            request_id=request_id,
            user_id=user_id,
            position_id=position_id,
            protection=protection.model_dump(mode="json"),
            status=status,
            answer=answer,
        )

    def list_strategy_positions(
        self, user_id: UUID, exchange: str, strategy_id: UUID | None, symbol: str | None = None
    ) -> tuple[Position, ...]:
        """Open positions of one strategy (None: of the person alone), oldest first, paper and live."""
        rows = self.rpc.call(
            "own_positions", user_id=user_id, exchange=exchange, strategy_id=strategy_id, symbol=symbol
        )
        return tuple(Position.model_validate(row) for row in rows)

    def hold_webhook_lease(self, owner: str, ttl_s: float) -> bool:
        """Takes or keeps the lease of the one webhook server that executes, for `ttl_s` more seconds.

        False while another owner has it, and of a store with an `engine` while another engine runs.
        """
        lease: dict[str, object] = {"name": _LEASE, "owner": owner, "ttl_s": ttl_s}
        if self.engine is None:
            return bool(self.rpc.call("hold_lease", **lease))
        return bool(self.rpc.call("hold_lease_of_engine", **lease, engine=self.engine))

    def has_webhook_lease(self, owner: str) -> bool:
        """Whether `owner` holds the lease now."""
        return bool(self.rpc.call("has_lease", owner=owner))

    def release_webhook_lease(self, owner: str) -> None:
        """Ends the lease, if `owner` holds it."""
        self.rpc.call("release_lease", name=_LEASE, owner=owner)

    def set_kill_switch(
        self, user_id: UUID | None, strategy_id: UUID | None, *, is_on: bool, reason: str | None = None
    ) -> bool:
        """Switches it for all users (neither id), one person or one strategy; False if nothing changed."""
        return bool(
            self.rpc.call("set_kill_switch", user_id=user_id, strategy_id=strategy_id, is_on=is_on, reason=reason)
        )

    def list_kill_switches(self) -> tuple[KillSwitch, ...]:
        """Kill switches that are on, oldest first."""
        return tuple(KillSwitch.model_validate(row) for row in self.rpc.call("kill_switches"))

    def get_portfolio(
        self,
        user_id: UUID,
        exchange: str,
        strategy_id: UUID | None,
        is_paper: bool,  # noqa: FBT001 - part of the key
        symbol: str | None = None,
    ) -> Portfolio:
        """The input of the risk checks for an entry, into `symbol` if given. `unreadable` names unreadable limits.

        Raises ConfigurationError if the rest is unreadable too: entries are then refused.
        """
        row = self.rpc.call(
            "portfolio", user_id=user_id, exchange=exchange, strategy_id=strategy_id, is_paper=is_paper, symbol=symbol
        )
        return _parse_portfolio(row, exchange)

    def book_fill(
        self, request_id: str, user_id: UUID, fill: Fill, status: int | None, answer: dict[str, Any] | None
    ) -> BookedFill:
        """Books one fill of a request in one transaction: position, trade, P&L, equity and the request's answer.

        Without `answer` the request stays open for its second fill (a reversal is a close and an open). Booking the
        same kind of fill for the same request again changes nothing and returns the same, so the call may
        be repeated. Raises ConfigurationError if the position's side or size does not allow the fill.
        """
        booked = self.rpc.call(
            "book_fill",
            request_id=request_id,
            user_id=user_id,
            fill=fill.model_dump(mode="json"),
            status=status,
            answer=answer,
        )
        return BookedFill.model_validate(booked)

    def finish_request(
        self,
        request_id: str,
        user_id: UUID,
        state: RequestEndState,
        status: int,
        answer: dict[str, Any],
        error: str | None = None,
    ) -> bool:
        """Ends a request that booked nothing more; False if it had ended before. `failed` counts as a venue failure."""
        return bool(
            self.rpc.call(
                "finish_request",
                request_id=request_id,
                user_id=user_id,
                state=state,
                status=status,
                answer=answer,
                error=error,
            )
        )

    def list_unfinished_requests(self) -> tuple[UnfinishedRequest, ...]:
        """Requests begun and not ended, oldest first: at start, those of executors that died."""
        return tuple(UnfinishedRequest.model_validate(row) for row in self.rpc.call("unfinished_requests"))

    def append_equity_points(self, interval_s: float) -> int:
        """Adds a point to every equity series that has changed, at most one per `interval_s`; returns how many."""
        return int(self.rpc.call("append_equity_points", interval_s=interval_s))

    def list_equity_points(
        self, strategy_id: UUID, *, is_paper: bool, since: datetime | None = None, limit: int = 1_000
    ) -> tuple[EquityPoint, ...]:
        """Oldest first: the newest `limit` points of one book. For dashboards."""
        rows = self.rpc.call("equity_series", strategy_id=strategy_id, is_paper=is_paper, since=since, limit=limit)
        return tuple(EquityPoint.model_validate(row) for row in rows)


def _parse_portfolio(row: Mapping[str, Any], exchange: str) -> Portfolio:
    try:
        portfolio = Portfolio.from_row(row)
    except ValidationError as error:
        raise ConfigurationError(
            f"The risk limits on {exchange} are invalid: {format_validation_errors(error)}"
        ) from None
    if portfolio.unreadable is None:
        return portfolio
    return portfolio.model_copy(
        update={"unreadable": f"The risk limits on {exchange} are invalid: {portfolio.unreadable}"}
    )
