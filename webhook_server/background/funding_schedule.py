"""When to look for payments of funding: at the start, when the venue says that one was due, and now and then."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from engine.venues.market_data.funding import FundingState

SWEEP_EVERY_S: Final = 60.0
EVERY_ROUND_UNTIL: Final = 8  # so many rounds after a payment was due it is looked for in each
MAX_ROUNDS: Final = 40  # up to here in every second one; then the sweep finds it


@dataclass
class FundingCalendar:
    """When the next payment of one symbol is due, as its venue told last, and the newest that has become due."""

    next_ms: int | None = None
    is_zero_rate: bool = False  # a rate of 0

    def pop_due(self, state: FundingState) -> int | None:
        """The time of a payment that has become due since the last call, if one has."""
        due_ms, was_zero_rate = self.next_ms, self.is_zero_rate
        self.next_ms, self.is_zero_rate = state.next_ms, state.rate == 0
        if due_ms is None or state.at_ms < due_ms or (was_zero_rate and self.is_zero_rate):
            return None
        return due_ms


class FundingResult(NamedTuple):
    """What a look has found: the time of the newest payment by symbol, and whether all that is shown is booked."""

    newest_ms: Mapping[str, int]
    is_complete: bool = True


@dataclass
class FundingSchedule:
    """Of one account, or of one symbol on paper. `expected_payments` are payments that are due and not seen, by
    symbol."""

    expected_payments: dict[str, int] = field(default_factory=dict)
    known_symbols: frozenset[str] = frozenset()  # symbols that were looked at before
    rounds: int = 0
    read_at: float | None = None
    failed_at: float | None = None

    def expect(self, due_payments: Mapping[str, int], symbols: Iterable[str]) -> None:
        """One more round: `due_payments` are payments that have become due."""
        self.rounds += 1
        new = {symbol: due_payments[symbol] for symbol in symbols if symbol in due_payments}
        if new:
            self.expected_payments |= new
            self.rounds = 0
        if self.rounds > MAX_ROUNDS:
            self.expected_payments.clear()

    def is_due(self, now: float, symbols: Iterable[str], *, is_held: bool = True) -> bool:
        """`now` is monotonic. Symbols that were entered since the last look are a reason too. After a failure what is
        not held any more has time: its keys may never be good again."""
        if not is_held and self.failed_at is not None and now - self.failed_at < SWEEP_EVERY_S:
            return False
        if self.read_at is None or now - self.read_at >= SWEEP_EVERY_S or not self.known_symbols.issuperset(symbols):
            return True
        return bool(self.expected_payments) and (self.rounds < EVERY_ROUND_UNTIL or self.rounds % 2 == 0)

    def mark_failed(self, now: float) -> None:
        self.failed_at = now

    def mark_read(self, now: float, symbols: Iterable[str], result: FundingResult) -> None:
        """A look has succeeded. Where something is left to be booked the next one is due in the next round."""
        self.failed_at = None
        self.read_at, self.known_symbols = (now if result.is_complete else None), frozenset(symbols)
        self.expected_payments = {
            symbol: due for symbol, due in self.expected_payments.items() if result.newest_ms.get(symbol, -1) < due
        }
