"""One delivery attempt of a signal to the webhook server: sign, post, and name what its answer means.

Signed by Standard Webhooks 1.0.0: `webhook-id` is the same on every attempt, the timestamp and signature are made anew.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import requests
from pydantic import SecretStr
from standardwebhooks.webhooks import Webhook

from engine.types import Signal, SignalOutcome

CONNECT_TIMEOUT_S: Final = 3.0
READ_TIMEOUT_S: Final = 10.0
FIRST_RETRY_S: Final = 0.5
LONGEST_RETRY_S: Final = 15.0
_LARGEST_ANSWER: Final = 64 * 1024
_CAN_BE_SENT_AGAIN: Final = frozenset({408, 409, 425, 429})


@dataclass(frozen=True, slots=True)
class Attempt:
    """How one attempt ended; `retry_in_s` is set when the outcome is RETRY."""

    outcome: SignalOutcome
    status: int | None
    reason: str | None
    retry_in_s: float | None = None


def signed_headers(signal: Signal, body: str, secret: SecretStr, now: datetime) -> dict[str, str]:
    """The headers of one attempt at `now`. Raises ValueError when the secret is not of the ``whsec_`` form."""
    return {
        "content-type": "application/json",
        "webhook-id": str(signal.id),
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret.get_secret_value()).sign(str(signal.id), now, body),
    }


def post(session: requests.Session, url: str, signal: Signal, secret: SecretStr) -> Attempt:
    """Sends `signal` once. Every way it can end comes back as an `Attempt`; nothing is raised for a peer's fault."""
    body = json.dumps(signal.payload, separators=(",", ":"))
    headers = signed_headers(signal, body, secret, datetime.now(UTC))
    try:
        with session.post(
            url,
            data=body.encode(),
            headers=headers,
            timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S),
            allow_redirects=False,
            stream=True,
        ) as response:
            answer = response.raw.read(_LARGEST_ANSWER, decode_content=True)
            return judge(response.status_code, response.headers, answer, signal.attempts, time.time())
    except (requests.RequestException, OSError) as error:
        return Attempt(SignalOutcome.RETRY, None, type(error).__name__, wait_before_retry(signal.attempts))


def judge(status: int, headers: Mapping[str, str], answer: bytes, attempts: int, now_unix_s: float) -> Attempt:
    """What an answer means: only 2xx is delivered, 410 ends it, what may pass is sent again, the rest is refused.

    The venue's refusal comes as 200 with `success` false. A risk refusal is a 429 whose body carries `data.limitType`
    and would come again.
    """
    reason = _reason(answer)
    if 200 <= status < 300:
        outcome = SignalOutcome.REFUSED if _parsed(answer).get("success") is False else SignalOutcome.DELIVERED
        return Attempt(outcome, status, reason)
    if status == 410:
        return Attempt(SignalOutcome.DEAD, status, reason or "the receiver is gone")
    if (status in _CAN_BE_SENT_AGAIN and not _is_risk_refusal(answer)) or status >= 500:
        wait = retry_after_s(headers.get("retry-after"), now_unix_s)
        return Attempt(
            SignalOutcome.RETRY, status, reason, wait_before_retry(attempts) if wait is None else min(wait, 3_600.0)
        )
    return Attempt(SignalOutcome.REFUSED, status, reason)


def wait_before_retry(attempts: int) -> float:
    """Seconds before the next attempt when the peer named none, after `attempts` of them (1 or more)."""
    return min(LONGEST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(attempts - 1, 16))


def retry_after_s(header: str | None, now_unix_s: float) -> float | None:
    """Seconds that a Retry-After header (RFC 9110: seconds or an HTTP date) asks for; None without a usable one."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header.strip())
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - now_unix_s)
    except ValueError:
        return None


def _reason(answer: bytes) -> str | None:
    parsed = _parsed(answer)
    said = [str(parsed[key]) for key in ("action", "error", "message") if isinstance(parsed.get(key), str)]
    return ": ".join(said)[:200] or None


def _is_risk_refusal(answer: bytes) -> bool:
    data = _parsed(answer).get("data")
    return isinstance(data, dict) and "limitType" in data


def _parsed(answer: bytes) -> dict[str, object]:
    try:
        parsed = json.loads(answer)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}
