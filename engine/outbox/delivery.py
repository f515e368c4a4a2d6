"""One delivery attempt of a signal to the webhook server: sign, post, and name what its answer means.

Signed by Standard Webhooks 1.0.0: `webhook-id` is the same on every attempt, the timestamp and signature are made anew.
"""

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import requests
from pydantic import SecretStr
from standardwebhooks.webhooks import Webhook
from urllib3.exceptions import HTTPError

from engine.domain.signal import Signal, SignalOutcome
from engine.platform.backoff import jittered_backoff_s
from engine.platform.http.deadline_session import DeadlineSession
from engine.platform.http.retry_after import retry_after_s

CONNECT_TIMEOUT_S: Final = 3.0
TOTAL_S: Final = 10.0  # one attempt, whatever the receiver does or leaves undone
FIRST_RETRY_S: Final = 0.5
MAX_RETRY_S: Final = 15.0
MAX_RETRY_AFTER_S: Final = 3_600.0
MAX_REASON: Final = 500  # as much as the database keeps
_RETRYABLE_STATUSES: Final = frozenset({408, 409, 425, 429})


@dataclass(frozen=True, slots=True)
class DeliveryAttempt:
    """How one attempt ended; `retry_in_s` is set when the outcome is RETRY."""

    outcome: SignalOutcome
    status: int | None
    reason: str | None
    retry_in_s: float | None = None


def build_signed_headers(signal: Signal, body: str, secret: SecretStr, now: datetime) -> dict[str, str]:
    """The headers of one attempt at `now`. Raises ValueError when the secret is not of the ``whsec_`` form."""
    return {
        "content-type": "application/json",
        "webhook-id": str(signal.id),
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret.get_secret_value()).sign(str(signal.id), now, body),
    }


def post(
    sender: DeadlineSession,
    url: str,
    signal: Signal,
    secret: SecretStr,
    jitter: Callable[[], float] = random.random,
    total_s: float = TOTAL_S,
) -> DeliveryAttempt:
    """Sends `signal` once. Every way it can end comes back as an `Attempt`; nothing is raised for a peer's fault.

    It ends within `total_s`. `jitter` gives numbers from 0 up to 1.
    """
    body = json.dumps(signal.payload, separators=(",", ":"))
    headers = build_signed_headers(signal, body, secret, datetime.now(UTC))
    try:
        status, told, answer = sender.send(url, body.encode(), headers, min(CONNECT_TIMEOUT_S, total_s), total_s)
    except (requests.RequestException, HTTPError, OSError) as error:
        reason = f"no answer: {type(error).__name__}"
        return DeliveryAttempt(SignalOutcome.RETRY, None, reason, compute_retry_wait_s(signal.attempts, jitter()))
    return classify_response(status, told, answer, signal.attempts, datetime.now(UTC), jitter())


def classify_response(
    status: int, headers: Mapping[str, str], answer: bytes, attempts: int, now: datetime, jitter: float = 1.0
) -> DeliveryAttempt:
    """What an answer means: only 2xx is delivered, 410 ends it, what may pass is sent again, the rest is refused.

    The venue's refusal comes as 200 with `success` false. A risk refusal is a 429 whose body carries `data.limitType`
    and would come again; one that came too late for the receiver has expired.
    """
    reason = _reason(answer)
    if 200 <= status < 300:
        outcome = SignalOutcome.REFUSED if _parse_body(answer).get("success") is False else SignalOutcome.DELIVERED
        return DeliveryAttempt(outcome, status, reason)
    if status == 410:
        return DeliveryAttempt(SignalOutcome.DEAD, status, reason or "the receiver is gone")
    if (status in _RETRYABLE_STATUSES and _limit_type(answer) is None) or status >= 500:
        wait = retry_after_s(headers.get("retry-after"), now)
        wait = compute_retry_wait_s(attempts, jitter) if wait is None else min(wait, MAX_RETRY_AFTER_S)
        return DeliveryAttempt(SignalOutcome.RETRY, status, reason, wait)
    is_late = _limit_type(answer) == "stale_signal"
    return DeliveryAttempt(SignalOutcome.EXPIRED if is_late else SignalOutcome.REFUSED, status, reason)


def compute_retry_wait_s(attempts: int, jitter: float = 1.0) -> float:
    """Seconds before the next attempt when the peer named none, after `attempts` of them (1 or more)."""
    return jittered_backoff_s(attempts, FIRST_RETRY_S, MAX_RETRY_S, jitter)


def _reason(answer: bytes) -> str | None:
    parsed = _parse_body(answer)
    keys = ("action", "error" if parsed.get("error") else "reason", "message")  # beside an error, the reason repeats it
    said = [str(parsed[key]) for key in keys if isinstance(parsed.get(key), str)]
    return ": ".join(said)[:MAX_REASON] or None


def _limit_type(answer: bytes) -> str | None:
    """Which of the receiver's risk limits refused."""
    data = _parse_body(answer).get("data")
    return str(data["limitType"]) if isinstance(data, dict) and "limitType" in data else None


def _parse_body(answer: bytes) -> dict[str, object]:
    try:
        parsed = json.loads(answer)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}
