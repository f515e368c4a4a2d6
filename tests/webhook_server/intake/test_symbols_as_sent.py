"""Spellings of one perpetual are one symbol; what names another contract is refused, for entries and exits alike."""

from typing import Any

import pytest

from tests.webhook_server.conftest import Site
from webhook_server.intake.field_errors import FieldError
from webhook_server.intake.schemas import WebhookSignal
from webhook_server.intake.signal_parser import parse_signal

ENTRY: dict[str, Any] = {"exchange": "aster", "action": "BUY", "position_size_usd": 100}
SPELLINGS = (
    *("BTCUSDT", "btcusdt", " BTCUSDT ", "BTC/USDT:USDT", "btc/usdt:usdt", "BTC/USDT", "BTC-USDT", "BTC_USDT"),
    *("BTCUSDTPERP", "BTCUSDT.P", "BINANCE:BTCUSDT", "BINANCE:BTCUSDT.P", "BYBIT:btcusdt.p", "BTC-USDT-SWAP"),
    *("BTC-USDT-PERP", "BTCUSDT_PERP", "BTC_USDT_PERP", "BTCUSDT-PERP", "BINANCE:BTCUSDTPERP", "BINANCE:BTC/USDT:USDT"),
)
OTHERS = (
    *(
        "BTC/USDT:USDT-251226",
        "BTC/USDT:BTC",
        "BTC/USD:BTC",
        "BTC/USDT:USDC",
        "BTC/USDT:",
        "BTC/:USDT",
        "/USDT",
        "BTC/",
    ),
    *(
        "BTC-PERP",
        "BTC:USDT",
        "BTCUSDT:USDT",
        "BTCUSDT:ETHUSDT",
        "A:B:BTCUSDT",
        ":BTCUSDT",
        "BINANCE:",
        "BINANCE::BTCUSDT",
    ),
    *("BTCUSDT.S", "BTCUSDT.PP", "BTCUSDT.P.P", ".P", "BTCUSDT.", "BTC-USDT-260327", "BTC-USDT-260327-90000-C"),
    *(
        "BTCUSDT-26DEC25",
        "BTCUSD_PERP",
        "BTC-USD-SWAP",
        "BTCUSDPERP",
        "BINANCE:BTCUSD.P",
        "BTC_260327",
        "BTC-USDT-",
        "-USDT",
    ),
    *("BTC/USDT/USDT", "BTC--USDT", "BTC USDT", "BTCUSDT*2", "BINANCE:BTCUSDT/BINANCE:ETHUSDT", "USDT"),
    *(
        "BTCU\u017fDT",
        "\uff22TCUSDT",
        "BTC\u2215USDT",
        "BTCUSDT\x00",
        "_USDT",
        "PERP",
        "USDTPERP",
        "USDT.P",
        "BTC_USDT_260327",
    ),
)


@pytest.mark.parametrize("written", SPELLINGS)
def test_a_position_is_closed_under_every_spelling_of_its_symbol(site: Site, written: str) -> None:
    assert site.sender.post().json()["action"] == "opened"
    body = site.sender.post(action="close", symbol=written).json()
    assert (body["action"], body["symbol"], site.store.list_open_positions()) == ("closed", "BTCUSDT", ())


@pytest.mark.parametrize("written", OTHERS)
def test_another_contract_or_none_is_refused(written: str) -> None:
    with pytest.raises(FieldError) as refusal:
        parse_signal(ENTRY | {"symbol": written}, WebhookSignal)
    assert refusal.value.field_name == "symbol"
    assert "BTC/USDT:USDT" in str(refusal.value)


def test_an_exit_of_another_contract_or_none_is_refused_unless_it_is_held(site: Site) -> None:
    site.sender.post()
    for written in OTHERS:
        answer = site.sender.post(action="close", symbol=written)
        assert (answer.status_code, answer.json()["field"]) == (400, "symbol"), written
    assert len(site.store.list_open_positions()) == 1


@pytest.mark.parametrize("written", ["BTCUSDT_260327", "1000PEPEUSDT", "PERPUSDT", "SWAPUSDT", "BTCUSD1", "XPUSDT"])
def test_a_plain_symbol_stays_as_it_is(written: str) -> None:
    assert parse_signal(ENTRY | {"symbol": written}, WebhookSignal).symbol == written
