"""Store methods of the command line: strategies, decisions, signals, trades and users."""

from uuid import UUID

from engine.domain.strategy import StrategyStatus
from engine.platform.values import Frozen
from engine.store.admin_rows import (
    DatabaseHealth,
    DecisionRow,
    DecisionTrace,
    HeldPosition,
    SignalHistory,
    SignalRow,
    StrategyRow,
    TradeRow,
)
from engine.store.overview import OverviewRow, UnattendedPosition
from engine.store.transport.rpc import Rpc


class AdminStore:
    rpc: Rpc

    def list_strategies(self) -> tuple[StrategyRow, ...]:
        """All strategies, terminated ones too, in order of creation."""
        return tuple(StrategyRow.model_validate(row) for row in self.rpc.call("list_strategies"))

    def get_strategy(self, ref: UUID | str) -> StrategyRow | None:
        """By id, or by name among those not terminated. Raises ConfigurationError if several have the name."""
        row = self.rpc.call("get_strategy", ref=str(ref))
        return None if row is None else StrategyRow.model_validate(row)

    def create_strategy(self, new: Frozen) -> StrategyRow:
        """Writes the row whose columns `new` has (`engine.admin.strategy_checks.NewStrategy`).

        Raises ConfigurationError if the user has a strategy of this name, or there is no such user.
        """
        return StrategyRow.model_validate(self.rpc.call("create_strategy", strategy=new.model_dump(mode="json")))

    def set_strategy_status(self, strategy_id: UUID, status: StrategyStatus) -> StrategyRow:
        """Raises ConfigurationError if there is no such strategy, or it is terminated."""
        row = self.rpc.call("set_strategy_status", strategy_id=strategy_id, status=status.value)
        return StrategyRow.model_validate(row)

    def delete_strategy(self, strategy_id: UUID) -> StrategyRow:
        """Terminates the strategy for good; its records stay."""
        return StrategyRow.model_validate(self.rpc.call("delete_strategy", strategy_id=strategy_id))

    def list_decisions(self, strategy_id: UUID | None = None, limit: int = 50) -> tuple[DecisionRow, ...]:
        """Newest first, without raw answers and market blocks."""
        rows = self.rpc.call("decisions", strategy_id=strategy_id, limit=limit)
        return tuple(DecisionRow.model_validate(row) for row in rows)

    def get_decision_trace(self, decision_id: UUID) -> DecisionTrace | None:
        """The decision with its signal, the deliveries, the webhook server's answer, fills, positions and trades."""
        row = self.rpc.call("decision_trace", decision_id=decision_id)
        return None if row is None else DecisionTrace.model_validate(row)

    def list_signals(
        self, strategy_id: UUID | None = None, status: str | None = None, limit: int = 50
    ) -> tuple[SignalRow, ...]:
        """Newest first; `status` is pending, delivered, refused, expired or dead."""
        rows = self.rpc.call("signals", strategy_id=strategy_id, status=status, limit=limit)
        return tuple(SignalRow.model_validate(row) for row in rows)

    def get_signal(self, signal_id: UUID) -> SignalHistory | None:
        """One signal with every attempt to deliver it."""
        row = self.rpc.call("signal", signal_id=signal_id)
        return None if row is None else SignalHistory.model_validate(row)

    def retry_signal(self, signal_id: UUID, ttl_s: float) -> None:
        """Sends an undelivered signal again, for `ttl_s` from now. Raises ConfigurationError if that cannot be."""
        self.rpc.call("retry_signal", signal_id=signal_id, ttl_s=ttl_s)

    def drop_signal(self, signal_id: UUID, reason: str) -> None:
        """Ends a pending signal unsent. Raises ConfigurationError if it has ended or is being sent."""
        self.rpc.call("drop_signal", signal_id=signal_id, reason=reason)

    def list_trades(self, strategy_id: UUID | None = None, limit: int = 50) -> tuple[TradeRow, ...]:
        """Newest first."""
        return tuple(
            TradeRow.model_validate(row) for row in self.rpc.call("trades", strategy_id=strategy_id, limit=limit)
        )

    def list_strategy_overviews(self) -> tuple[OverviewRow, ...]:
        """Every strategy that is not terminated, in order of creation."""
        return tuple(OverviewRow.from_row(row) for row in self.rpc.call("strategy_overview"))

    def list_held_positions(
        self, user_id: UUID | None = None, strategy_id: UUID | None = None
    ) -> tuple[HeldPosition, ...]:
        """As `list_open_positions`, with positions that have invalid figures, so that people can remove them."""
        rows = self.rpc.call("open_positions", user_id=user_id, strategy_id=strategy_id, exchange=None)
        return tuple(HeldPosition.model_validate(row) for row in rows)

    def list_unattended_positions(self) -> tuple[UnattendedPosition, ...]:
        """Open positions of strategies, past and present, that no running strategy manages; live ones first."""
        return tuple(UnattendedPosition.model_validate(row) for row in self.rpc.call("unattended_positions"))

    def find_user(self, email: str) -> UUID | None:
        """The user with this address, or None."""
        user_id = self.rpc.call("find_user", email=email)
        return UUID(user_id) if user_id else None

    def find_user_email(self, user_id: UUID) -> str | None:
        """A user's address; None without one, or without such a user."""
        email = self.rpc.call("user_email", user_id=user_id)
        return None if email is None else str(email)

    def ensure_user(self, email: str) -> UUID:
        """The id of the user with this address, created if there is none."""
        return UUID(self.rpc.call("ensure_user", email=email))

    def get_database_health(self) -> DatabaseHealth:
        return DatabaseHealth.model_validate(self.rpc.call("health"))
