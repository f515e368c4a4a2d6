"""Accounts whose venue did not answer in one round: each timeout lasts seconds, for which other accounts wait."""

from uuid import UUID


class UnavailableAccounts:
    """Skips an account after one failure in a round, and a venue after failures of two of its accounts."""

    def __init__(self) -> None:
        self._accounts: set[tuple[UUID, str]] = set()

    def add(self, user_id: UUID, exchange: str) -> None:
        self._accounts.add((user_id, exchange))

    def has(self, user_id: UUID, exchange: str) -> bool:
        """Whether this account failed itself."""
        return (user_id, exchange) in self._accounts

    def should_skip(self, user_id: UUID, exchange: str) -> bool:
        """Whether the account or its whole venue is left out for the rest of the round."""
        failed = [user for user, name in self._accounts if name == exchange]
        return user_id in failed or len(failed) > 1
