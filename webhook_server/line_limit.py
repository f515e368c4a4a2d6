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
class Untold:
    """Lines that were left out and that no line has told of; `source` when they are all of one."""

    suppressed: int
    source: str | None


class LineLimit:
    """For each source OF_ONE_AT_ONCE lines and then one every OF_ONE_EVERY_S; AT_ONCE and EVERY_S for all together.

    A source is an address, or a user who proved to be the sender. Of MOST_REMEMBERED sources the count is kept apart.
    Not safe for threads. `now` is monotonic, in seconds.
    """

    def __init__(self) -> None:
        self._all = _Bucket(AT_ONCE, EVERY_S, 0.0, AT_ONCE)
        self._of: OrderedDict[str, _Bucket] = OrderedDict()
        self._forgotten = 0

    def __len__(self) -> int:
        return len(self._of)

    def ask(self, source: str, now: float) -> int | None:
        """None leaves this line out; else how many of this source were left out since its last one, now told."""
        bucket = self._bucket(source, now)
        bucket.refill(now)
        self._all.refill(now)
        if bucket.tokens < 1 or self._all.tokens < 1:
            bucket.left_out += 1
            return None
        bucket.tokens -= 1
        self._all.tokens -= 1
        told, bucket.left_out = bucket.left_out, 0
        return told

    def untold(self) -> Untold | None:
        """What was left out and not told so far, which counts as told from now on."""
        left_out = {source: bucket.left_out for source, bucket in self._of.items() if bucket.left_out}
        suppressed = sum(left_out.values()) + self._forgotten
        if suppressed == 0:
            return None
        is_of_one = len(left_out) == 1 and self._forgotten == 0
        for bucket in self._of.values():
            bucket.left_out = 0
        self._forgotten = 0
        return Untold(suppressed, next(iter(left_out)) if is_of_one else None)

    def _bucket(self, source: str, now: float) -> _Bucket:
        if source not in self._of:
            self._of[source] = _Bucket(OF_ONE_AT_ONCE, OF_ONE_EVERY_S, now, OF_ONE_AT_ONCE)
            if len(self._of) > MOST_REMEMBERED:
                self._forgotten += self._of.popitem(last=False)[1].left_out
        self._of.move_to_end(source)
        return self._of[source]
