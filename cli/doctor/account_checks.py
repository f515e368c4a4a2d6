"""What `sparky doctor` finds of people's accounts at their venues: whether each could trade now."""

import contextlib
import socket
from collections.abc import Mapping
from typing import Final, NamedTuple
from uuid import UUID

from cli.commands.venue_names import command_for_keys
from cli.context import store_of
from cli.doctor.check_result import Check, fault, ok, skipped
from cli.run import process_plan
from engine.domain.strategy import StrategyStatus
from engine.platform.errors import SparkyError
from engine.platform.settings.settings import Settings
from engine.store.credentials import WEBHOOK
from engine.store.embedded import embedded_postgres
from engine.store.store import Store
from engine.venues.account_setup import AccountState, Fault, faults_of, margin_notes, notes_of
from engine.venues.ccxt_client.venue_clock import told
from engine.venues.live.ccxt_venue import CcxtVenue
from engine.venues.venue import Credentials

TIMEOUT_S: Final = 5.0
CLOCK_FAULT_S: Final = 5.0  # half of what Aster's nonces and our window at Binance allow
CLOCK_NOTE_S: Final = 1.0  # Binance allows no more where this host is ahead
_SYNCHRONISE: Final = "switch time synchronisation on: timedatectl set-ntp true"
_NOTHING_LIVE: Final = "no live strategy or position is on it"

Key = tuple[UUID, str]  # person and exchange


class Used(NamedTuple):
    """An account, its keys (None: there are none, or `unreadable` says why), and the symbols that are live on it."""

    name: str
    exchange: str
    symbols: frozenset[str]
    keys: Credentials | None
    storing: str  # the command
    margin: Mapping[str, frozenset[str]]  # the modes that its live strategies want, by symbol
    held: frozenset[str]  # symbols in which the books have a live position
    unreadable: str | None = None


def accounts(settings: Settings) -> list[Check]:
    """One line per account, or one per fault of it; something is a fault only where the account is used live."""
    if settings.embeds_database and not embedded_postgres.data_dir(settings.sparky_home).exists():
        return []
    used: list[Used] = []
    with contextlib.suppress(SparkyError), store_of(settings) as store:  # what is wrong with it, its own check says
        used = _used(store)
    return [check for one in used for check in _checked(one, settings)]


def _used(store: Store) -> list[Used]:
    rows = store.list_credentials()
    held, margin = _held_symbols(store), _wanted_margin(store)
    live = _live_symbols(store, held)
    with_keys = dict.fromkeys((row.user_id, row.exchange) for row in rows if row.exchange != WEBHOOK)
    return [
        _with_keys(store, key, frozenset(live.get(key, ())), margin.get(key, {}), frozenset(held.get(key, ())))
        for key in with_keys | dict.fromkeys(live)
    ]


def _live_symbols(store: Store, held: Mapping[Key, set[str]]) -> dict[Key, set[str]]:
    live = {key: set(symbols) for key, symbols in held.items()}
    for row in store.list_strategies():
        if row.status == StrategyStatus.RUNNING and not row.is_paper_trading:
            live.setdefault((row.user_id, row.exchange), set()).update(row.target_assets)
    return live


def _held_symbols(store: Store) -> dict[Key, set[str]]:
    """Of live positions."""
    held: dict[Key, set[str]] = {}
    for each in store.held_positions():
        if not each.is_paper:
            held.setdefault((each.user_id, each.exchange), set()).add(each.symbol)
    return held


def _wanted_margin(store: Store) -> dict[Key, dict[str, frozenset[str]]]:
    wanted: dict[Key, dict[str, frozenset[str]]] = {}
    for row in store.list_strategies():
        if row.status == StrategyStatus.RUNNING and not row.is_paper_trading and row.margin_mode is not None:
            modes = wanted.setdefault((row.user_id, row.exchange), {})
            for symbol in row.target_assets:
                modes[symbol] = modes.get(symbol, frozenset()) | {row.margin_mode}
    return wanted


def _with_keys(
    store: Store, key: Key, symbols: frozenset[str], margin: Mapping[str, frozenset[str]], held: frozenset[str]
) -> Used:
    email = store.email_of(key[0])
    name, remedy = f"account of {email or key[0]} at {key[1]}", command_for_keys(key[1], email)
    try:
        return Used(name, key[1], symbols, store.venue_credentials(*key), remedy, margin, held)
    except SparkyError as error:
        return Used(name, key[1], symbols, None, remedy, margin, held, str(error))


def _checked(used: Used, settings: Settings) -> list[Check]:
    if used.keys is not None and _is_off(used.exchange, settings):
        return [skipped(used.name, "simulated, and not asked while Sparky does not run")]
    if used.keys is None:
        return _found(used, [Fault(used.unreadable or "there are no credentials for it", used.storing)])
    try:
        state, clock_s = _looked_at(used.exchange, used.keys, settings)
    except SparkyError as error:
        return _found(used, [Fault(f"cannot be looked at: {error}", "correct the exchange or its credentials")])
    faults = [*_nothing_known(state), *faults_of(state), *_clock_faults(clock_s)]
    if faults:
        return _found(used, faults)
    clock = [] if _is_simulated(used.exchange, settings) else _clock_notes(clock_s)
    margin = margin_notes(state.margin, used.margin, used.held, multi_assets=state.multi_assets)
    return [ok(used.name, "; ".join((*notes_of(state, used.symbols), *margin, *clock)))]


def _is_simulated(exchange: str, settings: Settings) -> bool:
    return settings.simulates_market and exchange == settings.exchange


def _is_off(exchange: str, settings: Settings) -> bool:
    """Whether it is a simulated venue that no Sparky runs now."""
    if not _is_simulated(exchange, settings):
        return False
    port = settings.sparky_sim_aster_port
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), TIMEOUT_S):
        return False
    return True


def _looked_at(exchange: str, keys: Credentials, settings: Settings) -> tuple[AccountState, float | None]:
    """What the venue tells, and how far its clock is ahead; None where that is not known."""
    resolved = process_plan.resolve(settings)
    address = resolved.sparky_market_url if exchange == resolved.sparky_market else None
    with contextlib.closing(CcxtVenue(exchange, keys, address, TIMEOUT_S)) as account:
        state = account.state()
        if _is_simulated(exchange, settings):
            return state, None  # its market has a time of its own
        try:
            return state, account.clock_offset_s()
        except SparkyError:
            return state, None


def _found(used: Used, faults: list[Fault]) -> list[Check]:
    if used.symbols:
        return [fault(used.name, found, remedy) for found, remedy in faults]
    return [skipped(used.name, "; ".join((*(found for found, _ in faults), _NOTHING_LIVE)))]


def _nothing_known(state: AccountState) -> list[Fault]:
    if state != AccountState(unknown=state.unknown) or not state.unknown:
        return []
    reasons = "; ".join(dict.fromkeys(state.unknown.values()))
    return [Fault(f"cannot be looked at: {reasons}", "check the network, and whether the venue is under maintenance")]


def _clock_faults(ahead_s: float | None) -> list[Fault]:
    if ahead_s is None or abs(ahead_s) <= CLOCK_FAULT_S:
        return []
    return [Fault(told(ahead_s), _SYNCHRONISE)]


def _clock_notes(ahead_s: float | None) -> list[str]:
    if ahead_s is None:
        return ["the venue's time is not known"]
    return [told(ahead_s)] if abs(ahead_s) > CLOCK_NOTE_S else []
