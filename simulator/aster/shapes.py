"""Our values in Aster's JSON: numbers as strings, times in ms, names as in Binance's futures API (as Aster's are)."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from engine.domain.market import Candle
from simulator.market.candles import MINUTE_MS
from simulator.market.market import Market
from simulator.venue import margin
from simulator.venue.instrument_rules import InstrumentRules, LotRule
from simulator.venue.trading_account import DEFAULT_LEVERAGE, Account, Fill, Holding, Income, Order

ASSET: Final = "USDT"
MOST_LEVERAGE: Final = 125
QUOTES: Final = ("USDT", "USDC", "USD")


def text(number: float, decimals: int) -> str:
    return f"{number:.{decimals}f}"


def plain(number: Decimal) -> str:
    return f"{number.normalize():f}" if number else "0"


def assets(symbol: str) -> tuple[str, str]:
    quote = next(quote for quote in QUOTES if symbol.endswith(quote))
    return symbol.removesuffix(quote), quote


def _lot(name: str, rule: LotRule) -> dict[str, str]:
    return {"filterType": name, "minQty": plain(rule.least), "maxQty": plain(rule.most), "stepSize": plain(rule.step)}


def _filters(rules: InstrumentRules) -> list[dict[str, Any]]:
    tick = plain(rules.tick)
    told: list[dict[str, Any]] = [
        {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "10000000", "tickSize": tick},
        _lot("LOT_SIZE", rules.lot),
        _lot("MARKET_LOT_SIZE", rules.market_lot),
        {"filterType": "MAX_NUM_ORDERS", "limit": 200},
        {"filterType": "MIN_NOTIONAL", "notional": plain(rules.min_notional)},
    ]
    if rules.most_stops is not None:
        told.append({"filterType": "MAX_NUM_ALGO_ORDERS", "limit": rules.most_stops})
    if rules.multiplier_up is not None or rules.multiplier_down is not None:
        up, down = plain(rules.multiplier_up or Decimal(1000)), plain(rules.multiplier_down or Decimal(0))
        band = {"multiplierUp": up, "multiplierDown": down, "multiplierDecimal": "4"}
        told.append({"filterType": "PERCENT_PRICE", **band})
    return told


def symbol_info(symbol: str, rules: InstrumentRules) -> dict[str, Any]:
    base, quote = assets(rules.pair)
    contract = {} if rules.contract_type is None else {"contractType": rules.contract_type}
    return {
        "symbol": symbol,
        "pair": rules.pair,
        **contract,
        "deliveryDate": 4133404800000,
        "onboardDate": 1569398400000,
        "status": rules.status,
        "maintMarginPercent": f"{rules.maintenance_percent:.4f}",
        "requiredMarginPercent": f"{100 / DEFAULT_LEVERAGE:.4f}",
        "baseAsset": base,
        "quoteAsset": quote,
        "marginAsset": quote,
        "pricePrecision": rules.price_decimals,
        "quantityPrecision": rules.lot_decimals,
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN",
        "underlyingSubType": [],
        "orderTypes": ["LIMIT", "MARKET", "STOP_MARKET", "TAKE_PROFIT_MARKET"],
        "timeInForce": ["GTC", "IOC"],
        "filters": _filters(rules),
    }


def exchange_info(rules: Mapping[str, InstrumentRules], now_ms: int, weight_per_minute: int) -> dict[str, Any]:
    weight = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": weight_per_minute}
    return {
        "timezone": "UTC",
        "serverTime": now_ms,
        "futuresType": "U_MARGINED",
        "rateLimits": [weight] if weight_per_minute else [],
        "exchangeFilters": [],
        "assets": [{"asset": ASSET, "marginAvailable": True, "autoAssetExchange": "-10000"}],
        "symbols": [symbol_info(symbol, listed) for symbol, listed in rules.items()],
    }


def kline(candle: Candle, minutes: int, decimals: int) -> list[Any]:
    quote_volume = candle.volume * (candle.high + candle.low + candle.close) / 3
    return [
        candle.open_time_ms,
        *(text(price, decimals) for price in candle[1:5]),
        plain(Decimal(str(candle.volume))),
        candle.open_time_ms + minutes * MINUTE_MS - 1,
        text(quote_volume, 8),
        max(1, int(candle.volume)) if candle.volume else 0,
        text(candle.volume / 2, 8),
        text(quote_volume / 2, 8),
        "0",
    ]


def ticker_24h(symbol: str, market: Market, now_ms: int) -> dict[str, Any]:
    day, price = market.day(now_ms), market.price(now_ms)
    change = price - day.open
    return {
        "symbol": symbol,
        "priceChange": text(change, market.decimals),
        "priceChangePercent": text(change / day.open * 100, 3),
        "weightedAvgPrice": text((day.high + day.low + price) / 3, market.decimals),
        "lastPrice": text(price, market.decimals),
        "lastQty": text(10.0**-market.lot_decimals, market.lot_decimals),
        "openPrice": text(day.open, market.decimals),
        "highPrice": text(day.high, market.decimals),
        "lowPrice": text(day.low, market.decimals),
        "volume": text(day.volume, 3),
        "quoteVolume": text(day.volume * (day.high + day.low + price) / 3, 2),
        "openTime": day.open_time_ms,
        "closeTime": market.traded_ms(now_ms),
        "firstId": 1,
        "lastId": 2,
        "count": 2,
    }


def ticker_price(symbol: str, market: Market, now_ms: int) -> dict[str, Any]:
    return {"symbol": symbol, "price": text(market.price(now_ms), market.decimals), "time": market.traded_ms(now_ms)}


def premium_index(symbol: str, market: Market, now_ms: int) -> dict[str, Any]:
    price = text(market.price(now_ms), market.decimals)
    prices = {"markPrice": price, "indexPrice": price, "estimatedSettlePrice": price}
    rates = {"lastFundingRate": "0.00000000", "interestRate": "0.00000000", "nextFundingTime": 0}
    return {"symbol": symbol, **prices, **rates, "time": now_ms}


def order(held: Order) -> dict[str, Any]:
    return {
        "orderId": held.order_id,
        "clientOrderId": held.client_order_id,
        "symbol": held.symbol,
        "status": held.status,
        "type": held.kind,
        "origType": held.kind,
        "side": "BUY" if held.is_buy else "SELL",
        "positionSide": "BOTH",
        "price": plain(held.price),
        "avgPrice": plain(held.average),
        "stopPrice": plain(held.stop_price),
        "origQty": plain(held.quantity),
        "executedQty": plain(held.filled),
        "cumQty": plain(held.filled),
        "cumQuote": plain(held.filled * held.average),
        "reduceOnly": held.reduce_only,
        "closePosition": held.close_position,
        "priceProtect": False,
        "workingType": "CONTRACT_PRICE",
        "timeInForce": "GTC" if held.rests else "IOC",
        "time": held.created_ms,
        "updateTime": held.updated_ms,
    }


def user_trade(fill: Fill) -> dict[str, Any]:
    return {
        "id": fill.trade_id,
        "orderId": fill.order.order_id,
        "symbol": fill.order.symbol,
        "side": "BUY" if fill.order.is_buy else "SELL",
        "positionSide": "BOTH",
        "price": plain(fill.price),
        "qty": plain(fill.quantity),
        "quoteQty": plain(fill.price * fill.quantity),
        "commission": plain(fill.commission),
        "commissionAsset": fill.asset,
        "realizedPnl": plain(fill.realized),
        "marginAsset": ASSET,
        "maker": fill.is_maker,
        "buyer": fill.order.is_buy,
        "time": fill.at_ms,
    }


def income(row: Income) -> dict[str, Any]:
    return {
        "symbol": row.symbol,
        "incomeType": row.kind,
        "income": plain(row.amount),
        "asset": row.asset,
        "info": row.kind,
        "time": row.at_ms,
        "tranId": row.income_id,
        "tradeId": "" if row.trade_id is None else str(row.trade_id),
    }


def position(symbol: str, holding: Holding, price: Decimal) -> dict[str, Any]:
    notional = holding.amount * price
    return {
        "symbol": symbol,
        "positionAmt": plain(holding.amount),
        "entryPrice": plain(holding.entry_price),
        "markPrice": plain(price),
        "unRealizedProfit": plain(holding.amount * (price - holding.entry_price)),
        "liquidationPrice": "0",
        "leverage": str(holding.leverage),
        "maxNotionalValue": "100000000",
        "marginType": holding.margin_type,
        "isolatedMargin": "0",
        "isAutoAddMargin": "false",
        "positionSide": "BOTH",
        "notional": plain(notional),
        "isolatedWallet": "0",
        "updateTime": holding.changed_ms,
    }


def balance(account: Account, price: margin.Price, now_ms: int) -> dict[str, Any]:
    unrealized = margin.cross_unrealized(account, price)  # what isolated positions gain is not free
    available = max(Decimal(0), account.balance + unrealized - account.margin())
    return {
        "accountAlias": "simulator",
        "asset": ASSET,
        "balance": plain(account.balance),
        "crossWalletBalance": plain(margin.cross_wallet(account)),
        "crossUnPnl": plain(unrealized),
        "availableBalance": plain(available),
        "maxWithdrawAmount": plain(available),
        "marginAvailable": True,
        "updateTime": now_ms,
    }
