"""One delivery attempt of a signal to the webhook server: signs it, posts it and classifies the response.

Signed by Standard Webhooks 1.0.0: `webhook-id` is the same on every attempt, timestamp and signature are new.
"""

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import requests
from pydantic import SecretStr
from standardwebhooks.webhooks import Webhook
from urllib3.exceptions import HTTPError

from engine.domain.signal import Signal, SignalOutcome
from engine.domain.signal_payload import write_json
from engine.platform.backoff import jittered_backoff_s
from engine.platform.http.deadline_session import DeadlineSession
from engine.platform.http.retry_after import retry_after_s

CONNECT_TIMEOUT_S: Final = 3.0
TOTAL_S: Final = 10.0  # for one attempt
FIRST_RETRY_S: Final = 0.5
MAX_RETRY_S: Final = 15.0
MAX_RETRY_AFTER_S: Final = 3_600.0
MAX_REASON: Final = 500  # the database's bound
_RETRYABLE_STATUSES: Final = frozenset({408, 409, 425, 429})


@dataclass(frozen=True, slots=True)
class DeliveryAttempt:
    """How one attempt ended; `retry_in_s` is set when the outcome is RETRY. `status` is None without a response."""

    outcome: SignalOutcome
    status: int | None
    reason: str | None
    retry_in_s: float | None = None


def build_signed_headers(signal_id: UUID, body: str, secret: SecretStr, now: datetime) -> dict[str, str]:
    """The headers of one attempt at `now`. Raises ValueError when the secret does not have the ``whsec_`` form."""
    return {
        "content-type": "application/json",
        "webhook-id": str(signal_id),
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret.get_secret_value()).sign(str(signal_id), now, body),
    }


def post(
    sender: DeadlineSession,
    url: str,
    signal: Signal,
    secret: SecretStr,
    jitter: Callable[[], float] = random.random,
    total_s: float = TOTAL_S,
) -> DeliveryAttempt:
    """Sends `signal` once, as it is stored; see `post_body`."""
    body = write_json(signal.payload)
    return post_body(sender, url, signal.id, body, secret, signal.attempts, jitter, total_s)


def post_body(
    sender: DeadlineSession,
    url: str,
    signal_id: UUID,
    body: str,
    secret: SecretStr,
    attempts: int = 1,
    jitter: Callable[[], float] = random.random,
    total_s: float = TOTAL_S,
) -> DeliveryAttempt:
    """Sends a signal once, within `total_s`. A receiver's fault is an outcome of the attempt and is not raised.

    `attempts` counts those made so far, this one included. `jitter` returns numbers from 0 up to 1. Raises ValueError
    for an invalid secret.
    """
    headers = build_signed_headers(signal_id, body, secret, datetime.now(UTC))
    try:
        status, response_headers, answer = sender.send(
            url, body.encode(), headers, min(CONNECT_TIMEOUT_S, total_s), total_s
        )
    except (requests.RequestException, HTTPError, OSError) as error:
        # The receiver may have executed it; the same `webhook-id` gets the first answer again, so a retry is safe.
        reason = f"no answer: {type(error).__name__}"
        return DeliveryAttempt(SignalOutcome.RETRY, None, reason, compute_retry_wait_s(attempts, jitter()))
    return classify_response(status, response_headers, answer, attempts, datetime.now(UTC), jitter())


def classify_response(
    status: int, headers: Mapping[str, str], answer: bytes, attempts: int, now: datetime, jitter: float = 1.0
) -> DeliveryAttempt:
    """The outcome of a response: 2xx is delivered, 410 is final, a status that may change is retried, others refuse.

    A venue's refusal comes as 200 with `success` false. A 429 with `data.limitType` is a risk refusal, which a retry
    would only repeat; the limit `stale_signal` means that the signal has expired.
    """
    reason = _parse_reason(answer)
    if 200 <= status < 300:
        outcome = SignalOutcome.REFUSED if _parse_body(answer).get("success") is False else SignalOutcome.DELIVERED
        return DeliveryAttempt(outcome, status, reason)
    if status == 410:
        return DeliveryAttempt(SignalOutcome.DEAD, status, reason or "the receiver is gone")
    # A receiver in trouble says so by its status alone; a limit in the body says that it is well and has decided.
    if (status in _RETRYABLE_STATUSES and _parse_limit_type(answer) is None) or status >= 500:
        wait = retry_after_s(headers.get("retry-after"), now)
        wait = compute_retry_wait_s(attempts, jitter) if wait is None else min(wait, MAX_RETRY_AFTER_S)
        return DeliveryAttempt(SignalOutcome.RETRY, status, reason, wait)
    is_late = _parse_limit_type(answer) == "stale_signal"
    return DeliveryAttempt(SignalOutcome.EXPIRED if is_late else SignalOutcome.REFUSED, status, reason)


def compute_retry_wait_s(attempts: int, jitter: float = 1.0) -> float:
    """Seconds before the next attempt when the receiver states none, after `attempts` (1 or more) of them."""
    return jittered_backoff_s(attempts, FIRST_RETRY_S, MAX_RETRY_S, jitter)


def _parse_reason(answer: bytes) -> str | None:
    parsed = _parse_body(answer)
    keys = ("action", "error" if parsed.get("error") else "reason", "message")  # beside an error, the reason repeats it
    texts = [str(parsed[key]) for key in keys if isinstance(parsed.get(key), str)]
    return ": ".join(texts)[:MAX_REASON] or None


def _parse_limit_type(answer: bytes) -> str | None:
    """The receiver's risk limit that refused the signal; None where none did."""
    data = _parse_body(answer).get("data")
    return str(data["limitType"]) if isinstance(data, dict) and "limitType" in data else None


def _parse_body(answer: bytes) -> dict[str, object]:
    try:
        parsed = json.loads(answer)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}
