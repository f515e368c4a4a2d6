"""How an account is set up at its venue, and what in that setup keeps it from trading.

Pure values and rules; `engine.venues.live.account_setup_query` reads the setup.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Final, NamedTuple

from engine.platform.values import Frozen

OTHER_ASSETS_NOTE: Final = "it has other assets, which may be margin at this venue: the venue itself will say"


class AccountSetup(Frozen):
    """What the venue publishes about an account. None is unknown; `unknown` gives the reason by part.

    `available_usd` is the largest free amount in one dollar asset; `has_other_assets` is true for coins or credits
    that may serve as margin; `margin` maps symbols to ``isolated`` or ``cross``; `refusal` is set when the venue
    rejects all requests of the account.
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
    """Faults with which every entry on the account fails. Unknown parts are not faults."""
    if state.refusal is not None:
        return (Fault(state.refusal.removesuffix("."), "mend the key at the venue, or set it again"),)
    faults = []
    if state.hedge_mode:
        faults.append(
            Fault("the account is in hedge mode, which refuses every order", "set it to one-way mode at the venue")
        )
    if state.can_trade is False:
        faults.append(Fault("the account may not trade", "ask the venue why, and let its key trade futures"))
    # Other assets may be margin, depending on the venue's settings: then only the venue can tell.
    if _has_no_usd(state) and not state.multi_assets and not state.has_other_assets:
        faults.append(
            Fault("the account has no money to trade with, 0 USD are available", "transfer some to its futures wallet")
        )
    return tuple(faults)


def build_notes(state: AccountSetup, symbols: Iterable[str]) -> tuple[str, ...]:
    """Notes for people about an account that trades `symbols`, and which parts are unknown."""
    mode = {True: "hedge mode", False: "one-way mode", None: None}[state.hedge_mode]
    money = None if state.available_usd is None else f"{state.available_usd:,.2f} USD available"
    assets = "multi-assets mode: all its coins are margin for each other" if state.multi_assets else None
    notes = (
        mode,
        money,
        OTHER_ASSETS_NOTE if _has_no_usd(state) and state.has_other_assets else None,
        _build_margin_note(state.margin, frozenset(symbols)),
        assets,
    )
    return (*(note for note in notes if note is not None), *_build_unknown_notes(state.unknown))


def build_margin_notes(
    margin: Mapping[str, str],
    wanted: Mapping[str, Collection[str]],
    held: Collection[str] = (),
    *,
    multi_assets: bool | None = None,
) -> Iterator[str]:
    """One note for each symbol whose margin mode differs from the `wanted` ones (by symbol), or whose strategies want
    different modes. The mode cannot be changed in `held` symbols, nor to isolated in multi-assets mode."""
    for symbol, modes in sorted(wanted.items()):
        actual = margin.get(symbol)
        if len(modes) > 1:
            yield f"strategies want isolated and cross margin in {symbol}: while one holds it, the other is refused"
        elif actual is not None and actual not in modes:
            mode = next(iter(modes))
            what = f"{actual} margin in {symbol}, and {mode} is wanted"
            yield f"{what}: {_describe_margin_outcome(mode, is_held=symbol in held, multi_assets=multi_assets)}"


def _describe_margin_outcome(mode: str, *, is_held: bool, multi_assets: bool | None) -> str:
    """What happens with entries while the symbol's margin mode is not `mode`."""
    if multi_assets and mode == "isolated":
        return "entries are refused until the account leaves multi-assets mode"
    if is_held:
        return "entries are refused until what is held there is closed"
    return "it is set before the next entry, unless something is held or an order waits there"


def _has_no_usd(state: AccountSetup) -> bool:
    return state.available_usd is not None and state.available_usd <= 0


def _build_unknown_notes(unknown: Mapping[str, str]) -> Iterator[str]:
    """One sentence for each reason, with all parts that it makes unknown."""
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
