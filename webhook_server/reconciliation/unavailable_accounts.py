"""Which accounts a venue did not answer for in one round of work: each silence lasts seconds, and others wait."""

from uuid import UUID


class UnavailableAccounts:
    """An account that failed is not asked again in the round; a venue that failed two of them is asked for nobody."""

    def __init__(self) -> None:
        self._accounts: set[tuple[UUID, str]] = set()

    def add(self, user_id: UUID, exchange: str) -> None:
        self._accounts.add((user_id, exchange))

    def has(self, user_id: UUID, exchange: str) -> bool:
        """Whether this very account failed."""
        return (user_id, exchange) in self._accounts

    def should_skip(self, user_id: UUID, exchange: str) -> bool:
        """Whether it makes no sense to ask for this account now."""
        failed = [person for person, name in self._accounts if name == exchange]
        return user_id in failed or len(failed) > 1
