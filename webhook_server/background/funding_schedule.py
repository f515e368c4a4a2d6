"""When funding payments are read: at the start, after the venue's time of a payment, and once a minute."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from engine.venues.market_data.funding import FundingState

SWEEP_EVERY_S: Final = 60.0
EVERY_ROUND_UNTIL: Final = 8  # an expected payment is read for in each round up to this one after it was due
MAX_ROUNDS: Final = 40  # and in every second round up to this one; after that the sweep finds it


@dataclass
class FundingCalendar:
    """The due time of one symbol's next payment by its venue's last answer (Unix ms)."""

    next_ms: int | None = None
    is_zero_rate: bool = False  # no payment follows a rate of 0

    def pop_due(self, state: FundingState) -> int | None:
        """The time of a payment that has become due since the last call, if one has."""
        due_ms, was_zero_rate = self.next_ms, self.is_zero_rate
        self.next_ms, self.is_zero_rate = state.next_ms, state.rate == 0
        if due_ms is None or state.at_ms < due_ms or (was_zero_rate and self.is_zero_rate):
            return None
        return due_ms


class FundingResult(NamedTuple):
    """The time of the newest payment by symbol (Unix ms), and whether all payments that the venue shows are booked."""

    newest_ms: Mapping[str, int]
    is_complete: bool = True


@dataclass
class FundingSchedule:
    """When one account, or one symbol on paper, is read next. `expected_payments` are due times (Unix ms) by symbol of
    payments that no reading has shown; `rounds` counts since the newest became due."""

    expected_payments: dict[str, int] = field(default_factory=dict)
    known_symbols: frozenset[str] = frozenset()  # symbols that were held at the last reading
    rounds: int = 0
    read_at: float | None = None
    failed_at: float | None = None

    def expect(self, due_payments: Mapping[str, int], symbols: Iterable[str]) -> None:
        """Begins a round: `due_payments` are due times by symbol that have passed since the last round."""
        self.rounds += 1
        new = {symbol: due_payments[symbol] for symbol in symbols if symbol in due_payments}
        if new:
            self.expected_payments |= new
            self.rounds = 0
        if self.rounds > MAX_ROUNDS:
            self.expected_payments.clear()

    def is_due(self, now: float, symbols: Iterable[str], *, is_held: bool = True) -> bool:
        """Whether to read at monotonic `now`: for an expected payment, a symbol that is new, or the sweep.

        After a failure an account without positions waits for the sweep: its keys may never be valid again.
        """
        if not is_held and self.failed_at is not None and now - self.failed_at < SWEEP_EVERY_S:
            return False
        if self.read_at is None or now - self.read_at >= SWEEP_EVERY_S or not self.known_symbols.issuperset(symbols):
            return True
        return bool(self.expected_payments) and (self.rounds < EVERY_ROUND_UNTIL or self.rounds % 2 == 0)

    def mark_failed(self, now: float) -> None:
        self.failed_at = now

    def mark_read(self, now: float, symbols: Iterable[str], result: FundingResult) -> None:
        """After a reading that succeeded. Where a payment is left to be booked the account is due in the next round."""
        self.failed_at = None
        self.read_at, self.known_symbols = (now if result.is_complete else None), frozenset(symbols)
        self.expected_payments = {
            symbol: due for symbol, due in self.expected_payments.items() if result.newest_ms.get(symbol, -1) < due
        }
