"""How a real account is set up at its venue, and whether it can trade so. Pure; `account_reading` reads it."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Final, NamedTuple

from engine.platform.values import Frozen

OTHER_ASSETS_NOTE: Final = "it has other assets, which may be margin at this venue: the venue itself will say"


class AccountSetup(Frozen):
    """What the venue tells of an account; None is what is not known, and `unknown` says why, by part.

    `available_usd` is the most that is free in one of its dollars; `has_other_assets`, whether it has other coins or
    credits, which may be margin; `margin` has ``isolated`` or ``cross`` by symbol;
    `refusal` is set where the venue accepts none of the account's requests.
    """

    refusal: str | None = None
    hedge_mode: bool | None = None
    multi_assets: bool | None = None
    can_trade: bool | None = None
    available_usd: Decimal | None = None
    has_other_assets: bool = False
    margin: Mapping[str, str] = {}
    unknown: Mapping[str, str] = {}


class Fault(NamedTuple):
    """Why an account cannot trade, and what a person can do about it."""

    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.problem}: {self.remedy}"


def find_faults(state: AccountSetup) -> tuple[Fault, ...]:
    """What lets every entry on the account fail. What is not known is no fault."""
    if state.refusal is not None:
        return (Fault(state.refusal.removesuffix("."), "mend the key at the venue, or set it again"),)
    found = []
    if state.hedge_mode:
        found.append(
            Fault("the account is in hedge mode, which refuses every order", "set it to one-way mode at the venue")
        )
    if state.can_trade is False:
        found.append(Fault("the account may not trade", "ask the venue why, and let its key trade futures"))
    if _has_no_usd(state) and not state.multi_assets and not state.has_other_assets:
        found.append(
            Fault("the account has no money to trade with, 0 USD are available", "transfer some to its futures wallet")
        )
    return tuple(found)


def build_notes(state: AccountSetup, symbols: Iterable[str]) -> tuple[str, ...]:
    """What a person should know of an account that trades `symbols`, and what is not known of it."""
    mode = {True: "hedge mode", False: "one-way mode", None: None}[state.hedge_mode]
    money = None if state.available_usd is None else f"{state.available_usd:,.2f} USD available"
    assets = "multi-assets mode: all its coins are margin for each other" if state.multi_assets else None
    told = (
        mode,
        money,
        OTHER_ASSETS_NOTE if _has_no_usd(state) and state.has_other_assets else None,
        _build_margin_note(state.margin, frozenset(symbols)),
        assets,
    )
    return (*(each for each in told if each is not None), *_build_unknown_notes(state.unknown))


def build_margin_notes(
    margin: Mapping[str, str],
    wanted: Mapping[str, Collection[str]],
    held: Collection[str] = (),
    *,
    multi_assets: bool | None = None,
) -> Iterator[str]:
    """Where the account's margin modes are others than its strategies want (`wanted`, by symbol), or those differ; in
    the symbols that are `held`, and isolated in multi-assets mode, none can be set."""
    for symbol, modes in sorted(wanted.items()):
        told = margin.get(symbol)
        if len(modes) > 1:
            yield f"strategies want isolated and cross margin in {symbol}: while one holds it, the other is refused"
        elif told is not None and told not in modes:
            mode = next(iter(modes))
            what = f"{told} margin in {symbol}, and {mode} is wanted"
            yield f"{what}: {_describe_margin_outcome(mode, is_held=symbol in held, multi_assets=multi_assets)}"


def _describe_margin_outcome(mode: str, *, is_held: bool, multi_assets: bool | None) -> str:
    """Of a margin mode that is wanted and not set."""
    if multi_assets and mode == "isolated":
        return "entries are refused until the account leaves multi-assets mode"
    if is_held:
        return "entries are refused until what is held there is closed"
    return "it is set before the next entry, unless something is held or an order waits there"


def _has_no_usd(state: AccountSetup) -> bool:
    return state.available_usd is not None and state.available_usd <= 0


def _build_unknown_notes(unknown: Mapping[str, str]) -> Iterator[str]:
    """One sentence for all parts that one reason hides."""
    for reason in dict.fromkeys(unknown.values()):
        *parts, last = [part for part, why in unknown.items() if why == reason]
        named = f"{', '.join(parts)} and {last} are" if parts else f"{last} is"
        yield f"{named} not known ({reason})"


def _build_margin_note(margin: Mapping[str, str], symbols: frozenset[str]) -> str | None:
    isolated = sorted(symbol for symbol in symbols if margin.get(symbol) == "isolated")
    cross = [symbol for symbol in symbols if margin.get(symbol) == "cross"]
    if isolated:
        return f"isolated margin in {', '.join(isolated)}" + (", cross margin in the others" if cross else "")
    return "cross margin" if cross else None
