"""Who is let in by the stand-in for Aster: signatures, nonces and agents."""

import time

import httpx
import pytest
from eth_account import Account

from simulator.aster.aster_auth import SignatureVerifier
from simulator.venue.api_error import VenueApiError
from tests.support.factories.signing import USER, refused, signed


def get(url: str, path: str, query: str) -> httpx.Response:
    return httpx.get(f"{url}/fapi/v3{path}?{query}", timeout=30)


def test_a_request_signed_by_hand_is_let_in(aster_url: str) -> None:
    answer = get(aster_url, "/balance", signed({}))
    assert answer.status_code == 200
    assert answer.json()[0]["balance"] == "10000"


def test_a_wrong_key_a_changed_parameter_and_a_missing_signature_are_refused(aster_url: str) -> None:
    other = f"{8:064x}"
    forged = signed({"symbol": "BTCUSDT"}, other).replace(str(Account.from_key(other).address), str(USER))
    assert refused(get(aster_url, "/balance", forged)) == (400, -1022)
    changed = signed({"symbol": "BTCUSDT"}).replace("BTCUSDT", "ETHUSDT")
    assert refused(get(aster_url, "/openOrders", changed)) == (400, -1022)
    assert refused(get(aster_url, "/balance", signed({}).replace("signature=0x", "signature=0xzz"))) == (400, -1022)
    assert refused(get(aster_url, "/balance", "")) == (400, -1102)


def test_a_nonce_is_good_once_and_for_ten_seconds(aster_url: str) -> None:
    query = signed({})
    assert get(aster_url, "/balance", query).status_code == 200
    assert refused(get(aster_url, "/balance", query)) == (400, -1021)
    old = time.time_ns() // 1_000 - 60_000_000
    assert refused(get(aster_url, "/balance", signed({}, nonce=old))) == (400, -1021)


def test_nonces_are_remembered_a_hundred_deep() -> None:
    door = SignatureVerifier()
    for nonce in range(100, 210):
        door.verify(signed({}, nonce=nonce), 100)
    with pytest.raises(VenueApiError, match="older than the last 100"):
        door.verify(signed({}, nonce=99), 100)
    with pytest.raises(VenueApiError, match="used"):
        door.verify(signed({}, nonce=150), 100)


def test_one_agent_may_sign_for_a_user_and_no_second_one(aster_url: str) -> None:
    first, second = f"{8:064x}", f"{9:064x}"
    assert get(aster_url, "/balance", signed({}, first)).status_code == 200
    assert refused(get(aster_url, "/balance", signed({}, second))) == (401, -2015)
