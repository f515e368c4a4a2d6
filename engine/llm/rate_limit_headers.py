"""Parses the rate-limit headers of a response, in the forms of Groq and of Groq-compatible servers. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from engine.llm.stated_limits import MIN_TOKENS
from engine.platform.http.retry_after import duration_s, retry_after_s


def parse_rate_limit_headers(headers: Mapping[str, str], wait_s: float | None, now: datetime) -> dict[str, Any]:
    """The stated limits (requests per day, tokens per minute) and the wait in seconds that the response asks for.

    `wait_s` is the wait by the response's text; where text and header disagree, the longer one counts. Without either,
    the wait is until the used-up limit resets.
    """
    in_ms = duration_s(f"{headers.get('retry-after-ms', '').strip()}ms")
    waits = [wait for wait in (retry_after_s(headers.get("retry-after"), now), in_ms, wait_s) if wait is not None]
    resets = [
        retry_after_s(headers.get(f"x-ratelimit-reset-{name}"), now)
        for name in ("requests", "tokens")
        if headers.get(f"x-ratelimit-remaining-{name}", "").strip() == "0"
    ]
    candidates = waits or [reset for reset in resets if reset is not None]
    return {
        "requests_per_day": _parse_count(headers.get("x-ratelimit-limit-requests")),
        "tokens_per_minute": _parse_count(headers.get("x-ratelimit-limit-tokens"), MIN_TOKENS),
        "retry_after_s": max(candidates, default=None),
    }


def _parse_count(value: str | None, least: int = 1) -> int | None:
    text = (value or "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 and int(text) >= least else None
