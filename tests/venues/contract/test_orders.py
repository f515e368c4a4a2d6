"""Plain orders at every venue: sent once, found again, booked to the cent, and refused for the venue's own reason."""

from decimal import Decimal

import httpx
import pytest

from engine.domain.errors import OrderOutcomeUnknown, OrderRejected, StrategyFault
from engine.domain.positions import Side
from engine.platform.errors import CredentialsError, UpstreamUnavailable
from engine.venues.live.ccxt_venue import CcxtVenue
from engine.venues.orders import OrderStatus, build_client_order_id
from tests.venues.contract.conftest import TIMEOUT_S, Bench, order

PRICE = Decimal("28001.4")
RATE = Decimal("0.0004")


def test_a_market_order_is_filled_with_price_quantity_and_fee_of_the_venue(bench: Bench) -> None:
    result = bench.venue.place_market_order(order(quantity="0.0123"))
    assert result.status is OrderStatus.FILLED
    assert (result.price, result.quantity, result.fee_usd) == (PRICE, Decimal("0.012"), Decimal("0.012") * PRICE * RATE)
    assert result.order_id == bench.number_of(build_client_order_id("1"))
    assert bench.venue.find_order("BTCUSDT", build_client_order_id("1")) == result
    assert bench.venue.find_order("BTCUSDT", build_client_order_id("2")) is None


def test_a_fee_that_the_trades_do_not_tell_yet_is_the_taker_rate(bench: Bench) -> None:
    bench.misbehave({"kind": "status", "status": 200, "body": "[]", "path": "/userTrades"})
    assert bench.venue.place_market_order(order()).fee_usd == Decimal("0.01") * PRICE * RATE


def test_a_limit_order_fills_within_its_price_and_never_rests(bench: Bench) -> None:
    assert bench.venue.place_limit_order(order("1"), Decimal(28_010)).price <= 28_010
    with pytest.raises(OrderRejected) as caught:
        bench.venue.place_limit_order(order("2"), Decimal(27_990))
    assert caught.value.kind == "not_marketable"
    assert bench.names() == []


def test_a_market_order_that_takes_its_time_is_followed_to_its_end(bench: Bench) -> None:
    bench.direct(fill_delay_s=1)
    assert bench.venue.place_market_order(order()).status is OrderStatus.FILLED


@pytest.mark.parametrize("accept", [True, False], ids=["accepted", "not accepted"])
@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 503, "body": '{"code":-1000,"msg":"Unknown error, please try again later."}'},
        {"kind": "status", "status": 408, "body": '{"code":-1007,"msg":"Timeout waiting for response from backend."}'},
        {"kind": "reset"},
    ],
    ids=["503", "timeout code", "reset"],
)
def test_an_order_whose_answer_is_lost_is_unknown_and_then_found_or_not(
    bench: Bench, fault: dict[str, object], *, accept: bool
) -> None:
    bench.venue.fetch_instrument("BTCUSDT")
    bench.misbehave(fault | {"path": bench.simulated.order_path, "method": "POST", "accept": accept})
    with pytest.raises(OrderOutcomeUnknown):
        bench.venue.place_market_order(order())
    found = bench.venue.find_order("BTCUSDT", build_client_order_id("1"))
    assert (found is not None and found.status is OrderStatus.FILLED) is accept


def test_an_order_that_is_never_answered_is_unknown_and_then_found(bench: Bench) -> None:
    bench.venue.fetch_instrument("BTCUSDT")
    bench.misbehave(
        {"kind": "hang", "seconds": TIMEOUT_S, "path": bench.simulated.order_path, "method": "POST", "accept": True}
    )
    two_seconds = bench.venue._exchange.session.limit_timeout(2 / TIMEOUT_S)
    with pytest.raises(OrderOutcomeUnknown), two_seconds:
        bench.venue.place_market_order(order())
    assert bench.venue.find_order("BTCUSDT", build_client_order_id("1")) is not None


def test_an_order_under_an_id_that_an_open_order_has_is_that_order(bench: Bench) -> None:
    bench.direct(fill_delay_s=60)
    first = bench.venue.place_market_order(order())
    assert first.status is OrderStatus.OPEN
    assert bench.venue.place_market_order(order()).order_id == first.order_id
    bench.hands.now += 60
    assert bench.net() == Decimal("0.01")


def test_a_reduce_only_order_closes_what_is_held_and_is_refused_when_nothing_is(long: Bench) -> None:
    closed = long.venue.place_market_order(order("2", "0.500", is_buy=False, reduce_only=True))
    assert (closed.status, closed.quantity) == (OrderStatus.FILLED, Decimal("0.01"))
    with pytest.raises(OrderRejected, match="ReduceOnly") as caught:
        long.venue.place_market_order(order("3", is_buy=False, reduce_only=True))
    assert caught.value.kind == "reduce_only"
    assert long.venue.fetch_positions() == ()


@pytest.mark.parametrize(
    ("code", "kind"),
    [(-2019, "funds"), (-2022, "reduce_only"), (-4164, "filter"), (-2027, "leverage"), (-1111, "filter")],
)
def test_the_venues_refusal_is_of_the_same_kind_everywhere(bench: Bench, code: int, kind: str) -> None:
    body = f'{{"code":{code},"msg":"The reason why."}}'
    bench.misbehave({"kind": "status", "status": 400, "path": "/order", "method": "POST", "body": body})
    with pytest.raises(OrderRejected, match="The reason why") as caught:
        bench.venue.place_market_order(order())
    assert caught.value.kind == kind


def test_a_429_is_surely_not_accepted_and_says_how_long(bench: Bench) -> None:
    body = '{"code":-1015,"msg":"Too many new orders"}'
    fault = {"kind": "status", "status": 429, "path": "/order", "headers": {"retry-after": "2"}, "body": body}
    bench.venue.fetch_instrument("BTCUSDT")
    bench.misbehave(fault)
    with pytest.raises(UpstreamUnavailable) as caught:
        bench.venue.place_market_order(order())
    assert caught.value.retry_after_s == 2


def test_leverage_is_set_and_read_back_before_an_entry(bench: Bench) -> None:
    bench.venue.place_market_order(order("1", leverage=3))
    (account,) = bench.exchange._accounts.values()
    assert account.get_holding("BTCUSDT").leverage == 3
    bench.misbehave({"kind": "status", "status": 400, "path": "/leverage", "body": '{"code":-4028,"msg":"no"}'})
    with pytest.raises(OrderRejected):
        bench.venue.place_market_order(order("2", leverage=7))
    assert bench.venue.find_order("BTCUSDT", build_client_order_id("2")) is None


def test_positions_and_balance_are_the_venues_own(bench: Bench) -> None:
    assert bench.venue.fetch_positions() == ()
    bench.buy(is_buy=False)
    (held,) = bench.venue.fetch_positions()
    assert (held.symbol, held.side, held.quantity) == ("BTCUSDT", Side.SHORT, Decimal("0.01"))
    assert held.entry_price == Decimal("27998.6")
    bench.direct(jump_percent=10)
    fee = Decimal("0.01") * Decimal("27998.6") * RATE
    assert bench.venue.fetch_balance().wallet_usd == 10_000 - fee  # without what the position has not lost yet
    assert bench.venue.fetch_balance().available_usd < 10_000 - fee


def test_quotes_and_instruments_are_the_venues_own(bench: Bench) -> None:
    quote = bench.venue.fetch_quote("BTCUSDT")
    assert quote.bid < 28_000 < quote.ask
    instrument = bench.venue.fetch_instrument("BTCUSDT")
    assert (instrument.tick, instrument.lot, instrument.min_notional) == (Decimal("0.1"), Decimal("0.001"), Decimal(5))
    with pytest.raises(StrategyFault):
        bench.venue.fetch_quote("DOGEUSDT")


def test_keys_that_are_not_accepted_are_the_accounts_trouble(bench: Bench) -> None:
    keys = bench.simulated.credentials()
    wrong = keys.model_copy(update={"api_secret": keys.api_key, "signer_address": "0x" + "1" * 40})
    account = CcxtVenue(bench.simulated.name, wrong, bench.url, TIMEOUT_S)
    with pytest.raises(CredentialsError, match="Signature"):
        account.fetch_positions()
    account.close()


def test_nothing_is_asked_outside_the_futures_addresses(bench: Bench) -> None:
    """Another path would be 404 here, and spot or wallet elsewhere; each request to the venue is answered."""
    asked: list[str] = []
    inner = bench.venue._exchange.session.send

    def send(request: object, **kwargs: object) -> object:
        asked.append(httpx.URL(request.url).path)  # type: ignore[attr-defined] # requests' prepared request
        return inner(request, **kwargs)

    bench.venue._exchange.session.send = send
    bench.buy()
    bench.venue.fetch_balance()
    bench.venue.fetch_positions()
    bench.venue.fetch_open_orders("BTCUSDT")
    assert {path.split("/")[1] for path in asked} == {"fapi"}
    assert sum(path.endswith("exchangeInfo") for path in asked) == 1
