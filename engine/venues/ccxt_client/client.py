"""Opens ccxt clients: any base URL, bounded time and size, no retries, perpetuals only."""

import difflib
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

import ccxt
import requests

from engine.domain.decimals import format_plain, to_decimal
from engine.platform.errors import ConfigurationError
from engine.platform.http.deadline_session import read_body
from engine.platform.http.request_budget import RequestBudget
from engine.platform.http.retry_after import retry_after_s
from engine.venues.ccxt_client.error_text import ErrorTextReader, InconclusiveAnswer
from engine.venues.ccxt_client.instrument_cache import LISTINGS
from engine.venues.ccxt_client.request_weight import RequestWeightLimiter, get_shared_limiter, may_be_urgent
from engine.venues.ccxt_client.venue_classes import BINANCE_SHAPED, find_client_class
from engine.venues.ccxt_client.venue_clock import VenueClockMixin
from engine.venues.venue import Credentials

TIMEOUT_S: Final = 10.0
MAX_BODY_BYTES: Final = 32 * 1024 * 1024  # exchangeInfo of a large venue is a few megabytes
USED_WEIGHT_HEADER: Final = "X-MBX-USED-WEIGHT-1M"


class BoundedSession(requests.Session):
    """A session with a total deadline and a size limit for answers: requests' own timeout restarts with every byte.

    Every request first acquires `limiter`, and its answer is recorded there; `is_urgent` requests may use the whole of
    the venue's limit.
    """

    def __init__(self, timeout_s: float, limiter: RequestWeightLimiter, *, is_urgent: bool) -> None:
        super().__init__()
        self.limiter = limiter
        self._timeout_s = timeout_s
        self._is_urgent = is_urgent

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Raises requests.Timeout after `timeout_s` in all, requests.ConnectionError for a body that is too large, and
        UpstreamUnavailable, with nothing sent, while the venue's limit is reached."""
        self.limiter.acquire(is_urgent=self._is_urgent and may_be_urgent())
        budget = RequestBudget(time.monotonic() + self._timeout_s, MAX_BODY_BYTES)
        bounds = {"timeout": self._timeout_s, "stream": True, "allow_redirects": False}
        response = super().send(request, **{**kwargs, **bounds})
        self._record_response(response)
        response._content = read_body(response, budget)  # noqa: SLF001 - the attribute that `content` and `text` read
        return response

    @contextmanager
    def limit_timeout(self, share: float) -> Iterator[None]:
        """Requests inside the block end within that share of `timeout_s`. The caller must keep other threads from
        sending."""
        before, self._timeout_s = self._timeout_s, share * self._timeout_s
        try:
            yield
        finally:
            self._timeout_s = before

    def _record_response(self, response: requests.Response) -> None:
        used = response.headers.get(USED_WEIGHT_HEADER, "")
        wait_s = retry_after_s(response.headers.get("Retry-After"), datetime.now(UTC))
        self.limiter.record_response(response.status_code, int(used) if used.isdecimal() else None, wait_s)


class StrictResponseMixin:
    """Mixed in before a ccxt class: a 5xx or a redirect is "unavailable" whatever its body states, and numbers with a
    decimal point keep the venue's text."""

    @staticmethod
    def on_json_response(body: str) -> Any:
        """Raises ValueError for anything but JSON."""
        ccxt.Exchange.on_json_response(body)  # stricter than ours: it rejects lone surrogates, NaN and deep nesting
        try:
            return json.loads(body, parse_float=str)
        except RecursionError as error:
            raise ValueError("the answer is nested too deeply") from error

    def fetch2(self, path: Any, api: Any = "public", method: str = "GET", params: Any = None, *rest: Any) -> Any:
        """As ccxt's. Raises InconclusiveAnswer for an answer about another symbol than requested."""
        given = dict(params or {})
        answer = super().fetch2(path, api, method, given, *rest)  # type: ignore[misc] # ccxt's
        if getattr(self, "id", None) in BINANCE_SHAPED and given.get("symbol") is not None:
            check_symbol(answer, str(given["symbol"]))
        return answer

    def handle_errors(self, code: int, reason: str, url: str, method: str, headers: Any, body: str, *rest: Any) -> Any:
        if code >= 500 or 300 <= code < 400:
            text = ErrorTextReader(self).from_body(body or "")
            raise InconclusiveAnswer(f"{method} {url.partition('?')[0]} answered {code}{text and ': '}{text}")
        return super().handle_errors(code, reason, url, method, headers, body, *rest)  # type: ignore[misc] # ccxt's


def check_symbol(answer: Any, market_id: str) -> None:
    """Raises InconclusiveAnswer for an answer about other symbols only than `market_id`."""
    rows = answer if isinstance(answer, list) else [answer]
    symbols = [row["symbol"] for row in rows if isinstance(row, dict) and row.get("symbol")]
    if symbols and market_id not in symbols:
        raise InconclusiveAnswer(f"the request was about {market_id}, the answer is about {symbols[0]}")


def open_ccxt_client(
    venue: str,
    base_url: str | None = None,
    credentials: Credentials | None = None,
    timeout_s: float = TIMEOUT_S,
    limiter: RequestWeightLimiter | None = None,
) -> Any:
    """A ccxt client of `venue`; `base_url` replaces scheme and host of every address.

    All clients of one address share its `limiter`; None means the process's own. A client with credentials is urgent.
    No request is sent. Raises ConfigurationError for a venue that ccxt does not know.
    """
    unknown = find_unknown_venue(venue)
    if unknown is not None:
        raise ConfigurationError(unknown)
    client_class = find_client_class(venue)
    exchange = type(venue, (VenueClockMixin, StrictResponseMixin, client_class), {})(
        _build_config(timeout_s, credentials)
    )
    shared = limiter or get_shared_limiter(base_url or venue)

    def open_public_client() -> Any:
        """Urgent (except inside `low_priority`), because an exit may wait for the list."""
        client = open_ccxt_client(venue, base_url, None, timeout_s, shared)
        client.session = BoundedSession(timeout_s, shared, is_urgent=True)
        return client

    exchange.number = to_lossless_number
    exchange.session = BoundedSession(timeout_s, shared, is_urgent=credentials is not None)
    exchange.listing = LISTINGS.get_or_create(
        (venue, base_url, timeout_s, shared), open_public_client, shared.monotonic
    )
    exchange.has["fetchCurrencies"] = False  # load_markets would ask for them, often with a key
    if base_url is not None:
        exchange.urls["api"] = rebase_urls(exchange.urls["api"], base_url)
    return exchange


def to_lossless_number(number: Any) -> float | str:
    """A number for ccxt (`Exchange.number`): a float, or its text where a float would round it.

    ccxt accepts both, but no Decimal. Raises ValueError, which ccxt reads as a missing number.
    """
    value = to_decimal(number)
    rounded = float(value)
    return rounded if to_decimal(rounded) == value else format_plain(value)


def find_unknown_venue(venue: str) -> str | None:
    """One sentence with the closest name for a venue that ccxt does not know; None for one that it knows."""
    return None if find_client_class(venue) else f"No exchange is called {venue!r}; {_suggest_name(venue)}"


def _suggest_name(venue: str) -> str:
    near = difflib.get_close_matches(venue, ["aster", *ccxt.exchanges], 1)
    return f"did you mean {near[0]!r}?" if near else "see the list of exchanges that ccxt supports."


def rebase_urls(addresses: Any, base_url: str) -> Any:
    """ccxt's (nested) addresses with scheme and host replaced by `base_url`."""
    if isinstance(addresses, dict):
        return {name: rebase_urls(address, base_url) for name, address in addresses.items()}
    return re.sub(r"^https?://[^/]+", base_url.rstrip("/"), addresses) if isinstance(addresses, str) else addresses


def _build_config(timeout_s: float, credentials: Credentials | None) -> dict[str, Any]:
    options: dict[str, Any] = {"defaultType": "swap", "builderFee": False, "maxRetriesOnFailure": 0}
    config: dict[str, Any] = {"enableRateLimit": False, "timeout": round(timeout_s * 1000), "options": options}
    if credentials is None:
        return config
    secrets = {"apiKey": credentials.api_key, "secret": credentials.api_secret, "privateKey": credentials.private_key}
    config |= {name: secret.get_secret_value() for name, secret in secrets.items() if secret is not None}
    identity = {"user": credentials.user_address, "signer": credentials.signer_address}
    options["identity"] = {name: address for name, address in identity.items() if address is not None}
    return config
