"""When to look for payments of funding: at the start, when the venue says that one was due, and now and then."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from engine.venues.market_data.funding import FundingState

SWEEP_EVERY_S: Final = 60.0
EVERY_ROUND: Final = 8  # so many rounds after a payment was due it is looked for in each
LAST_ROUND: Final = 40  # up to here in every second one; then the sweep finds it


@dataclass
class Calendar:
    """When the next payment of one symbol is due, as its venue told last, and the newest that has become due."""

    next_ms: int | None = None
    is_nothing: bool = False  # a rate of 0

    def passed(self, state: FundingState) -> int | None:
        """The time of a payment that has become due since the last call, if one has."""
        due_ms, was_nothing = self.next_ms, self.is_nothing
        self.next_ms, self.is_nothing = state.next_ms, state.rate == 0
        if due_ms is None or state.at_ms < due_ms or (was_nothing and self.is_nothing):
            return None
        return due_ms


class Found(NamedTuple):
    """What a look has found: the time of the newest payment by symbol, and whether all that is shown is booked."""

    newest_ms: Mapping[str, int]
    is_whole: bool = True


@dataclass
class Looks:
    """Of one account, or of one symbol on paper. `wanted` are payments that are due and not seen, by symbol."""

    wanted: dict[str, int] = field(default_factory=dict)
    known: frozenset[str] = frozenset()  # symbols that were looked at before
    rounds: int = 0
    looked_at: float | None = None
    failed_at: float | None = None

    def expect(self, passed: Mapping[str, int], symbols: Iterable[str]) -> None:
        """One more round: `passed` are payments that have become due."""
        self.rounds += 1
        new = {symbol: passed[symbol] for symbol in symbols if symbol in passed}
        if new:
            self.wanted |= new
            self.rounds = 0
        if self.rounds > LAST_ROUND:
            self.wanted.clear()

    def is_due(self, now: float, symbols: Iterable[str], *, is_held: bool = True) -> bool:
        """`now` is monotonic. Symbols that were entered since the last look are a reason too. After a failure what is
        not held any more has time: its keys may never be good again."""
        if not is_held and self.failed_at is not None and now - self.failed_at < SWEEP_EVERY_S:
            return False
        if self.looked_at is None or now - self.looked_at >= SWEEP_EVERY_S or not self.known.issuperset(symbols):
            return True
        return bool(self.wanted) and (self.rounds < EVERY_ROUND or self.rounds % 2 == 0)

    def failed(self, now: float) -> None:
        self.failed_at = now

    def looked(self, now: float, symbols: Iterable[str], found: Found) -> None:
        """A look has succeeded. Where something is left to be booked the next one is due in the next round."""
        self.failed_at = None
        self.looked_at, self.known = (now if found.is_whole else None), frozenset(symbols)
        self.wanted = {symbol: due for symbol, due in self.wanted.items() if found.newest_ms.get(symbol, -1) < due}
