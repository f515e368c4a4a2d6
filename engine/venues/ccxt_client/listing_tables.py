"""ccxt's tables of markets as one client has read them, with vanished instruments and missing steps added."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ccxt.base.decimal_to_precision import TICK_SIZE

from engine.domain.decimals import to_decimal

VANISHED_KEY: Final = (
    "vanished"  # in ccxt's market: it was listed by the venue, and how many lists in a row lacked it since
)
GONE_AFTER_MISSES: Final = 2  # such lists: one may err, and until the next the symbol is asked for and traded as before
_DECIMALS_FIELDS: Final = {"price": "pricePrecision", "amount": "quantityPrecision"}  # by ccxt's names of steps


CCXT_TABLES: Final = (
    "markets",
    "markets_by_id",
    "symbols",
    "ids",
    "currencies",
    "currencies_by_id",
    "baseCurrencies",
    "quoteCurrencies",
    "codes",
)
HELPERS_OPTION: Final = "marketHelperProps"  # ccxt's option: names of more options that come with the markets


@dataclass(frozen=True)
class ListingTables:
    """ccxt's markets and currencies as one client has read them; never changed in place."""

    values: Mapping[str, Any]
    options: Mapping[str, Any]

    @classmethod
    def from_exchange(cls, exchange: Any) -> "ListingTables":
        helpers = {name: exchange.options.get(name) for name in exchange.options.get(HELPERS_OPTION) or ()}
        return cls({name: getattr(exchange, name) for name in CCXT_TABLES}, helpers)

    def apply_to(self, exchange: Any) -> None:
        for name, value in self.values.items():
            setattr(exchange, name, value)
        exchange.options.update(self.options)

    def get_listed_ids(self) -> set[str]:
        """Ids of what is listed now."""
        return {market["id"] for market in self.values["markets"].values() if not market.get(VANISHED_KEY)}

    def with_steps(self, exchange: Any, before: "ListingTables | None") -> "ListingTables":
        """With tick and quantity step for every market, from `before` where this list has none."""
        earlier = {} if before is None else before.values["markets"]

        def add_steps(market: dict[str, Any]) -> dict[str, Any]:
            return add_missing_steps(exchange, market, earlier.get(market["symbol"]))

        markets = {name: add_steps(market) for name, market in self.values["markets"].items()}
        by_id = {
            name: [add_steps(market) for market in same_id] for name, same_id in self.values["markets_by_id"].items()
        }
        return ListingTables({**self.values, "markets": markets, "markets_by_id": by_id}, self.options)

    def with_vanished(self, before: "ListingTables", doubted: Collection[str]) -> "ListingTables":
        """With the instruments of `before` that this list lacks, marked as vanished.

        A rejected list in between lacked the `doubted` ones already, so these count as missed twice."""
        by_id, markets = dict(self.values["markets_by_id"]), dict(self.values["markets"])
        for market in before.values["markets"].values():
            if market["id"] not in by_id:
                times = (
                    GONE_AFTER_MISSES
                    if market["id"] in doubted
                    else min(market.get(VANISHED_KEY, 0) + 1, GONE_AFTER_MISSES)
                )
                vanished = {**market, VANISHED_KEY: times}
                if times == GONE_AFTER_MISSES:
                    vanished["active"] = False
                by_id[market["id"]] = [vanished]
                markets.setdefault(market["symbol"], vanished)
        return ListingTables({**self.values, "markets": markets, "markets_by_id": by_id}, self.options)


def add_missing_steps(exchange: Any, market: dict[str, Any], before: Mapping[str, Any] | None) -> dict[str, Any]:
    """`market` with tick and quantity step also where the venue states 0: from `before`, else from the decimals it
    allows.

    ccxt sends no order without them."""
    raw = market.get("precision")
    if not raw or exchange.precisionMode != TICK_SIZE:
        return market
    lacking = {name: key for name, key in _DECIMALS_FIELDS.items() if to_decimal(raw.get(name) or 0) <= 0}
    earlier = {} if before is None else before["precision"]
    steps = {
        name: earlier.get(name) or _build_step_from_decimals(exchange, market, key) for name, key in lacking.items()
    }
    return {**market, "precision": {**raw, **steps}} if steps else market


def is_gone(market: Mapping[str, Any]) -> bool:
    return int(market.get(VANISHED_KEY) or 0) >= GONE_AFTER_MISSES


def _build_step_from_decimals(exchange: Any, market: Mapping[str, Any], name: str) -> Any:
    """In ccxt's form; None where the venue does not state it."""
    raw = str(get_info(market).get(name))
    return exchange.parse_number(exchange.parse_precision(raw)) if raw.isdecimal() else None


def get_info(market: Mapping[str, Any]) -> Mapping[str, Any]:
    raw = market.get("info")
    return raw if isinstance(raw, dict) else {}
