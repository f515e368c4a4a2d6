"""Waits before a retry that double with each one, spread at random so that clients do not all return at once. Pure."""

from typing import Final

_MAX_DOUBLINGS: Final = 16  # beyond it a float could overflow; every longest wait here is reached long before


def jittered_backoff_s(failures: int, first_s: float, longest_s: float, random: float) -> float:
    """Seconds to wait after the `failures`-th failure in a row (1 or more).

    The wait doubles from `first_s` up to `longest_s`, of which `random` in [0, 1) keeps between half and all ("equal
    jitter"; Brooker, "Exponential Backoff and Jitter", AWS 2015).
    """
    return min(longest_s, first_s * 2.0 ** min(failures - 1, _MAX_DOUBLINGS)) * (0.5 + random / 2)
