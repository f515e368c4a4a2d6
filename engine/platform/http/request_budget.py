"""The budget of one HTTP request, whichever library sends it: total time, and bytes of the response.

Timeouts of HTTP libraries are for each read: a server that sends one byte a second would never run into one. There are
two adapters because the libraries differ: `deadline_transport` applies this budget to every wait on the network
(httpcore takes a network backend); urllib3 has none, so `deadline_session` closes the socket from a thread, or checks
the budget between the reads of a body.
"""

import time


class RequestBudget:
    """Time until `until` (monotonic seconds), and `bytes_left` of the response as they come over the wire."""

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
