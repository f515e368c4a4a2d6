"""Who asks for permits, and the most that was granted in any window, by brute force."""

from uuid import UUID

from engine.ratelimit.scheduler import PermitRequest


def asker(
    strategy: int, now: float, tokens: int = 100, *, holds: bool = False, patience_s: float = 1e9
) -> PermitRequest:
    return PermitRequest(UUID(int=strategy), tokens, holds, now, now + patience_s)


def most_in_any_window(times: list[float], amounts: list[float], window_s: float) -> float:
    """Brute force: a fullest window can be moved until it begins with some request."""
    return max(
        (
            sum(amount for time, amount in zip(times, amounts, strict=True) if start <= time < start + window_s)
            for start in times
        ),
        default=0.0,
    )
