"""How an account is set up: read part by part from what venues answer, and judged."""

import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import pytest
from pydantic import SecretStr

from engine.venues.account_setup import AccountSetup, build_margin_notes, build_notes, find_faults
from engine.venues.ccxt_client.request_weight import RequestWeightLimiter
from engine.venues.live.ccxt_venue import CcxtVenue
from tests.engine.venues.conftest import Misbehave
from tests.support.servers.simulated import Keys

CONFIG = {"canTrade": True, "dualSidePosition": False, "multiAssetsMargin": False}
ACCOUNT = {"assets": [{"asset": "BNB", "availableBalance": "9"}, {"asset": "USDT", "availableBalance": "12.5"}]}
SYMBOLS = [{"symbol": "BTCUSDT", "marginType": "ISOLATED"}, {"symbol": "ETHUSDT", "marginType": "CROSSED"}]
GOOD = AccountSetup(hedge_mode=False, multi_assets=False, can_trade=True, available_usd=Decimal(5))


@pytest.fixture
def binance(venue_url: str, backoff: RequestWeightLimiter) -> Iterator[CcxtVenue]:
    """An account at Binance whose answers a test decides."""
    keys = Keys(api_key=SecretStr("key-of-a-test"), api_secret=SecretStr("secret-of-a-test"))
    venue = CcxtVenue("binance", keys, venue_url, limiter=backoff)
    yield venue
    venue.close()


def answers(bodies: Mapping[str, object]) -> list[dict[str, Any]]:
    """Faults that answer with these bodies, by path."""
    return [
        {"kind": "status", "status": 200, "path": path, "body": json.dumps(body), "times": None}
        for path, body in bodies.items()
    ]


def test_an_account_at_binance_is_read_from_three_answers(binance: CcxtVenue, misbehave: Misbehave) -> None:
    misbehave(
        *answers(
            {
                "/v1/accountConfig": CONFIG | {"dualSidePosition": True},
                "/v3/account": ACCOUNT,
                "/v1/symbolConfig": SYMBOLS,
            }
        )
    )
    state = binance.fetch_setup()
    assert state.unknown == {}
    assert (state.hedge_mode, state.multi_assets, state.can_trade) == (True, False, True)
    assert state.available_usd == Decimal("12.5")
    assert state.margin == {"BTCUSDT": "isolated", "ETHUSDT": "cross"}


def test_what_a_newer_answer_does_not_tell_is_read_from_an_older_one(binance: CcxtVenue, misbehave: Misbehave) -> None:
    older = ACCOUNT | {"canTrade": False, "positions": [{"symbol": "BTCUSDT", "isolated": True}]}
    misbehave(
        *answers(
            {
                "/v1/positionSide/dual": {"dualSidePosition": "true"},
                "/v1/multiAssetsMargin": {"multiAssetsMargin": "false"},
                "/v2/account": older,
                "/v3/account": {"assets": []},
            }
        )
    )
    state = binance.fetch_setup()
    assert state.unknown == {}
    assert (state.hedge_mode, state.multi_assets, state.can_trade) == (True, False, False)
    assert (state.available_usd, state.margin) == (Decimal("12.5"), {"BTCUSDT": "isolated"})


@pytest.mark.parametrize("body", [{}, [], None, "yes", {"canTrade": "perhaps", "dualSidePosition": None}, [[1]]])
def test_an_answer_of_another_shape_is_not_known_and_no_fault(
    binance: CcxtVenue, misbehave: Misbehave, body: object
) -> None:
    misbehave(*answers({"/v1/accountConfig": body, "/v3/account": body, "/v1/symbolConfig": body}))
    state = binance.fetch_setup()
    assert find_faults(state) == ()
    assert "the position mode" in state.unknown


def test_keys_without_the_right_to_futures_are_the_one_fault(binance: CcxtVenue, misbehave: Misbehave) -> None:
    words = "Invalid API-key, IP, or permissions for action, request ip: 203.0.113.7"
    body = json.dumps({"code": -2015, "msg": words})
    misbehave({"kind": "status", "status": 401, "path": "/fapi/", "body": body, "times": None})
    (fault,) = find_faults(binance.fetch_setup())
    assert words in fault.problem
    assert "key-of-a-test" not in str(fault)


def test_keys_that_are_refused_later_than_at_first_are_no_overload(binance: CcxtVenue, misbehave: Misbehave) -> None:
    good = answers({"/v1/accountConfig": CONFIG, "/v3/account": ACCOUNT, "/v1/symbolConfig": SYMBOLS})
    misbehave(*good)
    assert find_faults(binance.fetch_setup()) == ()
    body = json.dumps({"code": -2015, "msg": "Invalid API-key, IP, or permissions for action."})
    misbehave({"kind": "status", "status": 401, "path": "/fapi/", "body": body, "times": None})
    assert "-2015" in str(find_faults(binance.fetch_setup())[0])


def test_a_venue_of_another_shape_is_not_known_and_no_fault(venue_url: str, backoff: RequestWeightLimiter) -> None:
    venue = CcxtVenue("okx", Keys(), venue_url, limiter=backoff)
    state = venue.fetch_setup()
    assert find_faults(state) == ()
    assert "okx" in " ".join(build_notes(state, ()))
    venue.close()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, ()),
        ({"hedge_mode": True}, ("hedge mode",)),
        ({"can_trade": False, "available_usd": Decimal(0)}, ("may not trade", "no money")),
        ({"available_usd": Decimal(-1)}, ("no money",)),
        ({"available_usd": Decimal(0), "multi_assets": True}, ()),  # other coins are margin
        ({"hedge_mode": None, "can_trade": None, "available_usd": None}, ()),
        ({"multi_assets": True}, ()),
    ],
)
def test_what_lets_every_entry_fail_is_a_fault_and_what_is_not_known_is_none(
    change: dict[str, Any], words: tuple[str, ...]
) -> None:
    faults = find_faults(GOOD.model_copy(update=change))
    assert len(faults) == len(words)
    assert all(word in fault.problem and fault.remedy for word, fault in zip(words, faults, strict=True))


def test_notes_name_what_one_reason_hides_once() -> None:
    unknown = {"the balance": "gone", "the margin type": "gone", "the position mode": "slow"}
    notes = build_notes(AccountSetup(unknown=unknown), ("BTCUSDT",))
    assert notes == ("the balance and the margin type are not known (gone)", "the position mode is not known (slow)")


def test_notes_tell_margin_only_of_symbols_that_are_traded() -> None:
    margin = {"BTCUSDT": "isolated", "ETHUSDT": "cross", "SOLUSDT": "cross"}
    assert "isolated margin in BTCUSDT, cross margin in the others" in build_notes(
        GOOD.model_copy(update={"margin": margin}), ("BTCUSDT", "ETHUSDT")
    )
    assert "cross margin" in build_notes(GOOD.model_copy(update={"margin": margin}), ("ETHUSDT",))


def test_notes_tell_where_strategies_want_another_margin_mode_than_the_account_has_or_than_each_other() -> None:
    margin = {"BTCUSDT": "cross", "ETHUSDT": "cross"}
    (differs,) = build_margin_notes(margin, {"BTCUSDT": {"isolated"}, "ETHUSDT": {"cross"}, "SOLUSDT": {"isolated"}})
    assert differs.startswith("cross margin in BTCUSDT, and isolated is wanted: it is set before the next entry")
    (disagree,) = build_margin_notes(margin, {"BTCUSDT": {"isolated", "cross"}})
    assert "strategies want isolated and cross margin in BTCUSDT" in disagree


def test_a_margin_mode_that_cannot_be_set_is_not_promised() -> None:
    margin, wanted = {"BTCUSDT": "cross"}, {"BTCUSDT": {"isolated"}}
    (held,) = build_margin_notes(margin, wanted, held={"BTCUSDT"})
    (mixed,) = build_margin_notes(margin, wanted, multi_assets=True)
    assert "is set before" not in held + mixed
    assert held.endswith("entries are refused until what is held there is closed")
    assert mixed.endswith("entries are refused until the account leaves multi-assets mode")
    (other,) = build_margin_notes({"BTCUSDT": "isolated"}, {"BTCUSDT": {"cross"}}, multi_assets=True)
    assert "is set before the next entry" in other


@pytest.mark.parametrize(
    "account",
    [
        {"assets": [{"asset": "USDT", "availableBalance": "0"}, {"asset": "BNFCR", "availableBalance": "250"}]},
        {"assets": [{"asset": "BNFCR", "availableBalance": "0", "walletBalance": "250"}]},
        {"assets": [{"asset": "USDT", "availableBalance": "0"}], "availableBalance": "250"},
    ],
    ids=["another asset", "no dollar row", "the total alone"],
)
def test_an_account_whose_money_is_in_no_dollar_of_ours_is_noted_and_no_fault(
    binance: CcxtVenue, misbehave: Misbehave, account: object
) -> None:
    misbehave(*answers({"/v1/accountConfig": CONFIG, "/v3/account": account, "/v1/symbolConfig": SYMBOLS}))
    state = binance.fetch_setup()
    assert state.unknown == {}
    assert find_faults(state) == ()
    assert any("other assets" in note for note in build_notes(state, ()))


def test_an_account_without_any_money_is_a_fault(binance: CcxtVenue, misbehave: Misbehave) -> None:
    rows = [{"asset": asset, "availableBalance": "0", "walletBalance": "0"} for asset in ("USDT", "BNB")]
    account = {"assets": rows, "availableBalance": "0.00000000"}
    misbehave(*answers({"/v1/accountConfig": CONFIG, "/v3/account": account, "/v1/symbolConfig": SYMBOLS}))
    assert [fault.problem for fault in find_faults(binance.fetch_setup())] == [
        "the account has no money to trade with, 0 USD are available"
    ]
