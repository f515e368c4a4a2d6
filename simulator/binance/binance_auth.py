"""Authenticates signed Binance requests: an API key names the account, an HMAC-SHA256 signs the parameters.

Protocol: header ``X-MBX-APIKEY``; ``signature`` is the last parameter and the hex HMAC of all before it, query and body
as sent; ``timestamp`` in ms, at most 1 s ahead of the server and at most ``recvWindow`` (5,000 by default) behind it.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

from simulator.venue.api_error import VenueApiError

KEY_LENGTH: Final = 64
RECV_WINDOW_MS: Final = 5_000
AHEAD_MS: Final = 1_000


@dataclass(frozen=True)
class ApiKey:
    """The secret of a key and its account; an account may have several keys."""

    secret: str
    user: str


KEYS: Final[Mapping[str, ApiKey]] = {
    "simulated".ljust(KEY_LENGTH, "0"): ApiKey("simulated-secret", "simulated"),
    "another".ljust(KEY_LENGTH, "0"): ApiKey("another-secret", "another"),
}


def authenticate(text: str, api_key: str, keys: Mapping[str, ApiKey], now_ms: int) -> tuple[str, dict[str, str]]:
    """The account and the parameters. Raises VenueApiError, by checks in the order of the real venue."""
    if len(api_key) != KEY_LENGTH or not api_key.isalnum():
        raise VenueApiError(-2014, "API-key format invalid.", status=401)
    key = keys.get(api_key)
    if key is None:
        raise VenueApiError(-2015, "Invalid API-key, IP, or permissions for action.", status=401)
    message, _, signature = text.rpartition("signature=")
    message = message.removesuffix("&")
    given = dict(parse_qsl(message, keep_blank_values=True))
    _check_time(given, now_ms)
    expected = hmac.new(key.secret.encode(), message.encode(), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected.encode(), signature.encode()):
        raise VenueApiError(-1022, "Signature for this request is not valid.")
    return key.user, {name: value for name, value in given.items() if name not in ("timestamp", "recvWindow")}


def _check_time(params: Mapping[str, str], now_ms: int) -> None:
    sent, window = params.get("timestamp", ""), params.get("recvWindow", str(RECV_WINDOW_MS))
    if not sent.isdecimal() or not window.isdecimal():
        raise VenueApiError(-1102, "Mandatory parameter 'timestamp' was not sent, was empty/null, or malformed.")
    if int(sent) > now_ms + AHEAD_MS:
        raise VenueApiError(-1021, "Timestamp for this request was 1000ms ahead of the server's time.")
    if int(sent) < now_ms - int(window):
        raise VenueApiError(-1021, "Timestamp for this request is outside of the recvWindow.")
