"""How many lines of one kind go into the log: a few at once, then one every some seconds; the others are counted."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

MOST_REMEMBERED: Final = 256  # sources
OF_ONE_AT_ONCE: Final = 5
OF_ONE_EVERY_S: Final = 10.0
AT_ONCE: Final = 20
EVERY_S: Final = 5.0


@dataclass
class _Bucket:
    most: int
    every_s: float
    at: float
    tokens: float
    left_out: int = field(default=0)

    def refill(self, now: float) -> None:
        self.tokens = min(self.most, self.tokens + max(0.0, now - self.at) / self.every_s)
        self.at = max(self.at, now)


@dataclass(frozen=True)
class Unreported:
    """How many lines were left out that no line has reported; `source` when they are all of one."""

    suppressed: int
    source: str | None


class LineLimit:
    """For each source OF_ONE_AT_ONCE lines and then one every OF_ONE_EVERY_S; AT_ONCE and EVERY_S for all of a kind.

    A source is an address, or a user who proved to be the sender: two kinds, since anybody has many addresses, and a
    flood from them must leave the lines of users. Of MOST_REMEMBERED sources of a kind the count is kept apart. Not
    safe for threads. `now` is monotonic, in seconds.
    """

    def __init__(self) -> None:
        self._users = _Kind()
        self._addresses = _Kind()

    def allow(self, source: str, now: float, *, is_user: bool = False) -> int | None:
        """None leaves this line out; else how many of this source were left out since its last one, to be reported."""
        return (self._users if is_user else self._addresses).allow(source, now)

    def unreported(self) -> Unreported | None:
        """What was left out and not reported so far, which counts as reported from now on."""
        kinds = (self._users, self._addresses)
        left_out = [(source, count) for kind in kinds for source, count in kind.left_out()]
        suppressed = sum(count for _, count in left_out) + sum(kind.forgotten for kind in kinds)
        if suppressed == 0:
            return None
        is_of_one = len(left_out) == 1 and suppressed == left_out[0][1]
        for kind in kinds:
            kind.clear()
        return Unreported(suppressed, left_out[0][0] if is_of_one else None)


class _Kind:
    """The sources of one kind and what they have in common; `forgotten` lines were of sources not remembered."""

    def __init__(self) -> None:
        self._all = _Bucket(AT_ONCE, EVERY_S, 0.0, AT_ONCE)
        self._of: OrderedDict[str, _Bucket] = OrderedDict()
        self.forgotten = 0

    def allow(self, source: str, now: float) -> int | None:
        bucket = self._bucket(source, now)
        bucket.refill(now)
        self._all.refill(now)
        if bucket.tokens < 1 or self._all.tokens < 1:
            bucket.left_out += 1
            return None
        bucket.tokens -= 1
        self._all.tokens -= 1
        reported, bucket.left_out = bucket.left_out, 0
        return reported

    def left_out(self) -> list[tuple[str, int]]:
        return [(source, bucket.left_out) for source, bucket in self._of.items() if bucket.left_out]

    def clear(self) -> None:
        self.forgotten = 0
        for bucket in self._of.values():
            bucket.left_out = 0

    def _bucket(self, source: str, now: float) -> _Bucket:
        if source not in self._of:
            self._of[source] = _Bucket(OF_ONE_AT_ONCE, OF_ONE_EVERY_S, now, OF_ONE_AT_ONCE)
            if len(self._of) > MOST_REMEMBERED:
                self.forgotten += self._of.popitem(last=False)[1].left_out
        self._of.move_to_end(source)
        return self._of[source]
