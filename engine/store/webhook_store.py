"""The webhook server's part of the store: has it been asked before, what is at risk, what was filled."""

from typing import Any, Literal
from uuid import UUID

from pydantic import ValidationError

from engine.errors import BadConfiguration
from engine.store.rows import (
    BeganRequest,
    BookedFill,
    Fill,
    Portfolio,
    UnfinishedRequest,
)
from engine.store.rpc import Rpc
from engine.store.values import faults


class WebhookStore:
    rpc: Rpc

    def begin_request(
        self,
        request_id: str,
        user_id: UUID,
        strategy_id: UUID | None,
        exchange: str,
        symbol: str,
        action: str,
        fingerprint: str,
        payload: dict[str, Any],
    ) -> BeganRequest:
        """Claims the request for execution, or says what became of it. `payload` must hold no secret.

        A request that ended `failed` with a status of 500 or more is new again: it had no effect.
        """
        began = self.rpc.call(
            "begin_request",
            request_id=request_id,
            user_id=user_id,
            strategy_id=strategy_id,
            exchange=exchange,
            symbol=symbol,
            action=action,
            fingerprint=fingerprint,
            payload=payload,
        )
        return BeganRequest.model_validate(began)

    def portfolio(self, user_id: UUID, exchange: str, strategy_id: UUID | None, is_paper: bool) -> Portfolio:  # noqa: FBT001 - part of the key
        """Raises BadConfiguration if a limit or the strategy's row cannot be understood: entries are then refused."""
        found = self.rpc.call(
            "portfolio", user_id=user_id, exchange=exchange, strategy_id=strategy_id, is_paper=is_paper
        )
        try:
            return Portfolio.model_validate(found)
        except ValidationError as error:
            raise BadConfiguration(f"The risk limits on {exchange} are invalid: {faults(error)}") from None

    def book_fill(
        self, request_id: str, user_id: UUID, fill: Fill, status: int | None, answer: dict[str, Any] | None
    ) -> BookedFill:
        """Books one fill of a request that was begun: position, trade, P&L, equity and the request's answer at once.

        Without `answer` the request stays open for its second fill (a reversal is a close and an open). Booking the
        same kind of fill for the same request again changes nothing and answers the same. Raises BadConfiguration if
        the position's side or size does not allow it.
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
        state: Literal["refused", "failed", "skipped"],
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

    def unfinished_requests(self) -> tuple[UnfinishedRequest, ...]:
        """Requests begun and not ended, oldest first: at start, those of executors that died."""
        return tuple(UnfinishedRequest.model_validate(row) for row in self.rpc.call("unfinished_requests"))
