"""How senders are told to write a symbol; `engine.domain.symbol_names` reads it."""

from typing import Final

ACCEPTED_FORMS: Final = (
    "send BTCUSDT, BTC/USDT:USDT, BTC/USDT, BTC-USDT, BTC_USDT, BTCUSDT.P, BTCUSDTPERP, BTCUSDT_PERP, BTCUSDT-PERP, "
    "BTC-USDT-SWAP, BTC-USDT-PERP, BTC_USDT_PERP or BINANCE:BTCUSDT"
)
