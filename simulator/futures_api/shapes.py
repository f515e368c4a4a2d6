"""Our values as JSON of the futures API: numbers as strings, times in ms."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from engine.domain.market import Candle
from simulator.market.candles import MINUTE_MS
from simulator.market.market import Market
from simulator.venue import margin
from simulator.venue.instrument_rules import QUOTES, InstrumentRules, LotRule
from simulator.venue.trading_account import DEFAULT_LEVERAGE, Account, Fill, Holding, Income, Order

ASSET: Final = "USDT"


def format_float(number: float, decimals: int) -> str:
    return f"{number:.{decimals}f}"


def format_decimal(number: Decimal) -> str:
    return f"{number.normalize():f}" if number else "0"


def split_symbol(symbol: str) -> tuple[str, str]:
    quote = next(quote for quote in QUOTES if symbol.endswith(quote))
    return symbol.removesuffix(quote), quote


def _build_lot_filter(name: str, rule: LotRule) -> dict[str, str]:
    return {
        "filterType": name,
        "minQty": format_decimal(rule.min_quantity),
        "maxQty": format_decimal(rule.max_quantity),
        "stepSize": format_decimal(rule.step),
    }


def _build_filters(rules: InstrumentRules) -> list[dict[str, Any]]:
    tick = format_decimal(rules.tick)
    filters: list[dict[str, Any]] = [
        {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "10000000", "tickSize": tick},
        _build_lot_filter("LOT_SIZE", rules.lot),
        _build_lot_filter("MARKET_LOT_SIZE", rules.market_lot),
        {"filterType": "MAX_NUM_ORDERS", "limit": 200},
        {"filterType": "MIN_NOTIONAL", "notional": format_decimal(rules.min_notional)},
    ]
    if rules.max_stops is not None:
        filters.append({"filterType": "MAX_NUM_ALGO_ORDERS", "limit": rules.max_stops})
    if rules.multiplier_up is not None or rules.multiplier_down is not None:
        up, down = (
            format_decimal(rules.multiplier_up or Decimal(1000)),
            format_decimal(rules.multiplier_down or Decimal(0)),
        )
        band = {"multiplierUp": up, "multiplierDown": down, "multiplierDecimal": "4"}
        filters.append({"filterType": "PERCENT_PRICE", **band})
    return filters


def build_symbol_info(symbol: str, rules: InstrumentRules) -> dict[str, Any]:
    base, quote = split_symbol(rules.pair)
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
        "filters": _build_filters(rules),
    }


def build_exchange_info(rules: Mapping[str, InstrumentRules], now_ms: int, weight_per_minute: int) -> dict[str, Any]:
    weight = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": weight_per_minute}
    return {
        "timezone": "UTC",
        "serverTime": now_ms,
        "futuresType": "U_MARGINED",
        "rateLimits": [weight] if weight_per_minute else [],
        "exchangeFilters": [],
        "assets": [{"asset": ASSET, "marginAvailable": True, "autoAssetExchange": "-10000"}],
        "symbols": [build_symbol_info(symbol, listed) for symbol, listed in rules.items()],
    }


def build_kline(candle: Candle, minutes: int, decimals: int) -> list[Any]:
    quote_volume = candle.volume * (candle.high + candle.low + candle.close) / 3
    return [
        candle.open_time_ms,
        *(format_float(price, decimals) for price in candle[1:5]),
        format_decimal(Decimal(str(candle.volume))),
        candle.open_time_ms + minutes * MINUTE_MS - 1,
        format_float(quote_volume, 8),
        max(1, int(candle.volume)) if candle.volume else 0,
        format_float(candle.volume / 2, 8),
        format_float(quote_volume / 2, 8),
        "0",
    ]


def build_ticker_24h(symbol: str, market: Market, now_ms: int) -> dict[str, Any]:
    day, price = market.merge_last_24h(now_ms), market.get_price(now_ms)
    change = price - day.open
    return {
        "symbol": symbol,
        "priceChange": format_float(change, market.decimals),
        "priceChangePercent": format_float(change / day.open * 100, 3),
        "weightedAvgPrice": format_float((day.high + day.low + price) / 3, market.decimals),
        "lastPrice": format_float(price, market.decimals),
        "lastQty": format_float(10.0**-market.lot_decimals, market.lot_decimals),
        "openPrice": format_float(day.open, market.decimals),
        "highPrice": format_float(day.high, market.decimals),
        "lowPrice": format_float(day.low, market.decimals),
        "volume": format_float(day.volume, 3),
        "quoteVolume": format_float(day.volume * (day.high + day.low + price) / 3, 2),
        "openTime": day.open_time_ms,
        "closeTime": market.get_last_trade_ms(now_ms),
        "firstId": 1,
        "lastId": 2,
        "count": 2,
    }


def build_ticker_price(symbol: str, market: Market, now_ms: int) -> dict[str, Any]:
    return {
        "symbol": symbol,
        "price": format_float(market.get_price(now_ms), market.decimals),
        "time": market.get_last_trade_ms(now_ms),
    }


def build_premium_index(symbol: str, market: Market, now_ms: int) -> dict[str, Any]:
    price = format_float(market.get_price(now_ms), market.decimals)
    prices = {"markPrice": price, "indexPrice": price, "estimatedSettlePrice": price}
    rates = {"lastFundingRate": "0.00000000", "interestRate": "0.00000000", "nextFundingTime": 0}
    return {"symbol": symbol, **prices, **rates, "time": now_ms}


def build_order(order: Order) -> dict[str, Any]:
    return {
        "orderId": order.order_id,
        "clientOrderId": order.client_order_id,
        "symbol": order.symbol,
        "status": order.status,
        "type": order.kind,
        "origType": order.kind,
        "side": "BUY" if order.is_buy else "SELL",
        "positionSide": "BOTH",
        "price": format_decimal(order.price),
        "avgPrice": format_decimal(order.average),
        "stopPrice": format_decimal(order.stop_price),
        "origQty": format_decimal(order.quantity),
        "executedQty": format_decimal(order.filled),
        "cumQty": format_decimal(order.filled),
        "cumQuote": format_decimal(order.filled * order.average),
        "reduceOnly": order.reduce_only,
        "closePosition": order.close_position,
        "priceProtect": False,
        "workingType": "CONTRACT_PRICE",
        "timeInForce": "GTC" if order.rests else "IOC",
        "time": order.created_ms,
        "updateTime": order.updated_ms,
    }


def build_user_trade(fill: Fill) -> dict[str, Any]:
    return {
        "id": fill.trade_id,
        "orderId": fill.order.order_id,
        "symbol": fill.order.symbol,
        "side": "BUY" if fill.order.is_buy else "SELL",
        "positionSide": "BOTH",
        "price": format_decimal(fill.price),
        "qty": format_decimal(fill.quantity),
        "quoteQty": format_decimal(fill.price * fill.quantity),
        "commission": format_decimal(fill.commission),
        "commissionAsset": fill.asset,
        "realizedPnl": format_decimal(fill.realized),
        "marginAsset": ASSET,
        "maker": fill.is_maker,
        "buyer": fill.order.is_buy,
        "time": fill.at_ms,
    }


def build_income(row: Income) -> dict[str, Any]:
    return {
        "symbol": row.symbol,
        "incomeType": row.kind,
        "income": format_decimal(row.amount),
        "asset": row.asset,
        "info": row.kind,
        "time": row.at_ms,
        "tranId": row.income_id,
        "tradeId": "" if row.trade_id is None else str(row.trade_id),
    }


def build_position(symbol: str, holding: Holding, price: Decimal) -> dict[str, Any]:
    notional = holding.amount * price
    return {
        "symbol": symbol,
        "positionAmt": format_decimal(holding.amount),
        "entryPrice": format_decimal(holding.entry_price),
        "markPrice": format_decimal(price),
        "unRealizedProfit": format_decimal(holding.amount * (price - holding.entry_price)),
        "liquidationPrice": "0",
        "leverage": str(holding.leverage),
        "maxNotionalValue": "100000000",
        "marginType": holding.margin_type,
        "isolatedMargin": "0",
        "isAutoAddMargin": "false",
        "positionSide": "BOTH",
        "notional": format_decimal(notional),
        "isolatedWallet": "0",
        "updateTime": holding.changed_ms,
    }


def build_balance(account: Account, price: margin.Price, now_ms: int) -> dict[str, Any]:
    unrealized = margin.calculate_cross_unrealized_pnl(
        account, price
    )  # without isolated positions, whose profit is not available
    available = max(Decimal(0), account.balance + unrealized - account.calculate_initial_margin())
    return {
        "accountAlias": "simulator",
        "asset": ASSET,
        "balance": format_decimal(account.balance),
        "crossWalletBalance": format_decimal(margin.calculate_cross_wallet(account)),
        "crossUnPnl": format_decimal(unrealized),
        "availableBalance": format_decimal(available),
        "maxWithdrawAmount": format_decimal(available),
        "marginAvailable": True,
        "updateTime": now_ms,
    }
