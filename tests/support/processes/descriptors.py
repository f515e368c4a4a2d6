"""The standard descriptors of a process as shells leave them."""

import os
from collections.abc import Callable

CLOSED = {"<&-": (0,), ">&-": (1,), "2>&-": (2,), "<&- >&- 2>&-": (0, 1, 2)}
FULL = "/dev/full"


def closing(*numbers: int) -> Callable[[], None]:
    """For `preexec_fn`: closes these as a shell's ``>&-`` does."""

    def close() -> None:
        for number in numbers:
            os.close(number)

    return close
