"""What one HTTP request may take, whichever library sends it: time in all, and bytes of the answer.

Timeouts of HTTP libraries are per read: a server that sends one byte a second would never be timed out. There are two
adapters because the libraries differ in what they let us replace: `deadline_transport` puts this budget under every
wait on the network (httpcore takes a network backend); `deadline_session` cannot (urllib3 has none), so that it hangs
up from a thread, or checks the budget between the reads of a body.
"""

import time


class RequestBudget:
    """Time until the monotonic `until`, and `bytes_left` of the answer as they come over the wire."""

    def __init__(self, until: float = 0.0, answer_bytes: int = 0) -> None:
        self.reset(until, answer_bytes)

    def reset(self, until: float, answer_bytes: int) -> None:
        """The budget of the next request, with nothing used."""
        self.until = until
        self.bytes_left = answer_bytes
        self.blocked_s = 0.0
        self.too_large = False

    def is_overdue(self) -> bool:
        return time.monotonic() >= self.until

    def remaining_s(self, error: type[Exception]) -> float:
        """Seconds that a wait may take. Raises `error` when there are none."""
        left_s = self.until - time.monotonic()
        if left_s <= 0:
            raise error("the deadline of the whole request has passed")
        return left_s

    def count_received(self, count: int, error: type[Exception]) -> None:
        """Raises `error` when the answer is larger than it may be."""
        self.bytes_left -= count
        if self.bytes_left < 0:
            self.too_large = True
            raise error("the answer is too large")

    def add_wait_since(self, start: float) -> None:
        self.blocked_s += time.monotonic() - start
