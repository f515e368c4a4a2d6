"""What a venue says reaches people: by its code, in its words, in one line, and without a secret."""

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from engine.domain.errors import OrderRejected
from engine.platform.errors import CredentialsError, SparkyError, UpstreamUnavailable
from engine.venues.ccxt_client import error_codes
from engine.venues.live.ccxt_venue import CcxtVenue
from engine.venues.orders import OrderRequest, build_client_order_id
from tests.engine.venues.conftest import keys_of

Misbehave = Callable[..., None]
OpenVenue = Callable[..., CcxtVenue]
ORDER = OrderRequest(
    client_order_id=build_client_order_id("1"), symbol="BTCUSDT", is_buy=True, quantity=Decimal("0.01"), leverage=None
)


def refused(venue: CcxtVenue, misbehave: Misbehave, body: str, status: int = 400, **more: Any) -> SparkyError:
    """What an order comes to that the venue answers so."""
    fault = {"kind": "status", "status": status, "path": "/order", "method": "POST", "body": body, "times": None}
    misbehave(fault | more)
    with pytest.raises(SparkyError) as caught:
        venue.place_market_order(ORDER)
    return caught.value


def body_of(code: int, msg: str = "no") -> str:
    return json.dumps({"code": code, "msg": msg})


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (-2019, "funds"),
        (-2018, "funds"),
        (-2022, "reduce_only"),
        (-2024, "reduce_only"),
        (-4118, "reduce_only"),
        (-2021, "would_trigger"),
        (-2027, "leverage"),
        (-2028, "leverage"),
        (-4003, "filter"),
        (-4005, "filter"),
        (-4164, "filter"),
        (-1111, "filter"),
        (-4131, "filter"),
        (-4140, "filter"),
        (-1122, "filter"),
        (-4045, "rejected"),
        (-4060, "account"),
        (-4061, "account"),
        (-4168, "account"),
        (-4087, "account"),
        (-4088, "account"),
        (-4400, "account"),
        (-4401, "account"),
        (-2023, "account"),
    ],
)
def test_a_refusal_is_of_the_kind_that_its_code_says(
    open_venue: OpenVenue, misbehave: Misbehave, code: int, kind: str
) -> None:
    error = refused(open_venue(), misbehave, body_of(code, "in its words"))
    assert isinstance(error, OrderRejected), error
    assert error.kind == kind
    assert f"in its words ({code})" in str(error)


@pytest.mark.parametrize("code", [-1002, -1022, -2014, -2015, -2017])
def test_keys_that_are_not_accepted_are_the_accounts_trouble(
    open_venue: OpenVenue, misbehave: Misbehave, code: int
) -> None:
    error = refused(open_venue(), misbehave, body_of(code, "in its words"), 401)
    assert isinstance(error, CredentialsError), error
    assert f"in its words ({code})" in str(error)


@pytest.mark.parametrize("code", [-1003, -1008, -1015, -1016, -4188, -5028])
def test_what_surely_was_not_accepted_may_be_sent_again_and_says_why(
    open_venue: OpenVenue, misbehave: Misbehave, code: int
) -> None:
    error = refused(open_venue(), misbehave, body_of(code, "in its words"))
    assert isinstance(error, UpstreamUnavailable), error
    assert f"in its words ({code})" in str(error)


def test_every_refusal_for_a_setting_money_leverage_or_a_status_says_what_to_do() -> None:
    kinds = {"account", "funds", "leverage"}
    told = {code for code, kind in error_codes.REFUSAL_KINDS.items() if kind in kinds} | set(error_codes.NOT_TRADED)
    assert told - error_codes.ADVICE.keys() == set()


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (-4140, "positions can be closed"),
        (-4061, "one-way mode"),
        (-2015, "address"),
        (-4087, "reduce"),
        (-4045, "cancel"),
    ],
)
def test_a_code_that_a_person_can_do_something_about_says_what(
    open_venue: OpenVenue, misbehave: Misbehave, code: int, advice: str
) -> None:
    """Some venues write in another language: the code is what is understood."""
    error = refused(open_venue(), misbehave, body_of(code, "持仓方向与用户设置不匹配"))
    assert advice in str(error)
    assert "持仓方向" in str(error)


@pytest.mark.parametrize(
    "body",
    [
        body_of(-2010, "x" * 100_000),
        body_of(-2010, "two\nlines\r\nand \x1b[31mred\x1b[0m \u202egnihton"),
        "<html><head><title>403 Forbidden\n | a firewall</title></head><body>" + "<p>x</p>" * 9_000,
        "\x00\x01\x02" * 1_000,
        '{"code":' * 5_000,
        '{"code": {"a": [1, 2]}, "msg": {"b": "c"}}',
        '{"code": -2010}',
        '{"code": -2010, "msg": null}',
        '{"code": 9' + "9" * 5_000 + "}",
    ],
    ids=["long", "control", "page", "binary", "nested", "objects", "no words", "null", "digits"],
)
def test_whatever_it_says_is_one_printable_line(open_venue: OpenVenue, misbehave: Misbehave, body: str) -> None:
    for status in (400, 403, 503):
        told = str(refused(open_venue(), misbehave, body, status))
        assert len(told) <= 500
        assert told.isprintable()
        assert "<" not in told


def test_the_title_of_a_page_in_place_of_an_answer_is_told(open_venue: OpenVenue, misbehave: Misbehave) -> None:
    page = "<!DOCTYPE html><html><head><title>Access denied | a firewall</title></head><body>no</body></html>"
    for status in (403, 503):
        assert "Access denied | a firewall" in str(refused(open_venue(), misbehave, page, status))


def test_a_venue_that_repeats_a_secret_or_a_signed_address_tells_nobody(
    open_venue: OpenVenue, misbehave: Misbehave
) -> None:
    keys = keys_of(7)
    assert keys.private_key is not None
    secret = keys.private_key.get_secret_value()
    said = f"bad key {secret} in /fapi/v3/order?nonce=1&signature=0x{'ab' * 65}"
    for status in (400, 503):
        told = str(refused(open_venue(keys), misbehave, body_of(-2014, said), status))
        assert secret not in told
        assert "ab" * 20 not in told


def test_no_need_to_change_is_no_refusal(open_venue: OpenVenue, misbehave: Misbehave) -> None:
    misbehave({"kind": "status", "status": 400, "path": "/leverage", "method": "POST", "body": body_of(-4046)})
    assert open_venue().place_market_order(ORDER.model_copy(update={"leverage": 20})).quantity == Decimal("0.01")
