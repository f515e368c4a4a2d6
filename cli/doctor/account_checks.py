"""Checks of people's accounts at their venues: whether each could trade now."""

import contextlib
import socket
from collections.abc import Mapping
from typing import Final, NamedTuple
from uuid import UUID

from cli.arguments import build_credentials_command
from cli.context import open_store_for
from cli.doctor.check_result import CheckResult, fault, ok, skip
from cli.run import process_plan
from engine.platform.errors import SparkyError
from engine.platform.settings.settings import Settings
from engine.risk.strategy_state import is_running
from engine.store.credentials import WEBHOOK
from engine.store.embedded import embedded_postgres
from engine.store.store import Store
from engine.venues.account_setup import AccountSetup, Fault, build_margin_notes, build_notes, find_faults
from engine.venues.ccxt_client.venue_clock import describe_offset
from engine.venues.live.ccxt_venue import CcxtVenue
from engine.venues.venue import Credentials

TIMEOUT_S: Final = 5.0
CLOCK_FAULT_S: Final = 5.0  # half of what Aster's nonces and our window at Binance allow
CLOCK_NOTE_S: Final = 1.0  # Binance allows no more where this host is ahead
_CLOCK_REMEDY: Final = "switch time synchronisation on: timedatectl set-ntp true"
_NOTHING_LIVE: Final = "no live strategy or position is on it"

AccountKey = tuple[UUID, str]  # user id and venue


class UsedAccount(NamedTuple):
    """An account, its keys (None: there are none, or see `unreadable_reason`), and the symbols that are live on it."""

    name: str
    exchange: str
    symbols: frozenset[str]
    keys: Credentials | None
    store_command: str  # stores its keys
    margin_modes: Mapping[str, frozenset[str]]  # required by its live strategies, by symbol
    held_symbols: frozenset[str]  # symbols in which the books have a live position
    unreadable_reason: str | None = None


def check_accounts(settings: Settings) -> list[CheckResult]:
    """One result per account, or one per fault; faults count only for accounts that are used live."""
    if settings.embeds_database and not embedded_postgres.get_data_dir(settings.sparky_home).exists():
        return []
    used: list[UsedAccount] = []
    with (
        contextlib.suppress(SparkyError),
        open_store_for(settings) as store,
    ):  # the check of the database reports the error
        used = _list_used_accounts(store)
    return [check for one in used for check in _check_account(one, settings)]


def _list_used_accounts(store: Store) -> list[UsedAccount]:
    rows = store.list_credentials()
    held, margin = _list_held_symbols(store), _list_required_margin_modes(store)
    live = _list_live_symbols(store, held)
    with_keys = dict.fromkeys((row.user_id, row.exchange) for row in rows if row.exchange != WEBHOOK)
    return [
        _load_account(store, key, frozenset(live.get(key, ())), margin.get(key, {}), frozenset(held.get(key, ())))
        for key in with_keys | dict.fromkeys(live)
    ]


def _list_live_symbols(store: Store, held: Mapping[AccountKey, set[str]]) -> dict[AccountKey, set[str]]:
    live = {key: set(symbols) for key, symbols in held.items()}
    for row in store.list_strategies():
        if is_running(row.status) and not row.is_paper_trading:
            live.setdefault((row.user_id, row.exchange), set()).update(row.target_assets)
    return live


def _list_held_symbols(store: Store) -> dict[AccountKey, set[str]]:
    """Symbols of live positions, by account."""
    held: dict[AccountKey, set[str]] = {}
    for position in store.list_held_positions():
        if not position.is_paper:
            held.setdefault((position.user_id, position.exchange), set()).add(position.symbol)
    return held


def _list_required_margin_modes(store: Store) -> dict[AccountKey, dict[str, frozenset[str]]]:
    wanted: dict[AccountKey, dict[str, frozenset[str]]] = {}
    for row in store.list_strategies():
        if is_running(row.status) and not row.is_paper_trading and row.margin_mode is not None:
            modes = wanted.setdefault((row.user_id, row.exchange), {})
            for symbol in row.target_assets:
                modes[symbol] = modes.get(symbol, frozenset()) | {row.margin_mode}
    return wanted


def _load_account(
    store: Store, key: AccountKey, symbols: frozenset[str], margin: Mapping[str, frozenset[str]], held: frozenset[str]
) -> UsedAccount:
    email = store.find_user_email(key[0])
    name, remedy = f"account of {email or key[0]} at {key[1]}", build_credentials_command(key[1], email)
    try:
        return UsedAccount(name, key[1], symbols, store.get_venue_credentials(*key), remedy, margin, held)
    except SparkyError as error:
        return UsedAccount(name, key[1], symbols, None, remedy, margin, held, str(error))


def _check_account(used: UsedAccount, settings: Settings) -> list[CheckResult]:
    if used.keys is not None and _is_simulator_down(used.exchange, settings):
        return [skip(used.name, "simulated, and not asked while Sparky does not run")]
    if used.keys is None:
        return _report_faults(
            used, [Fault(used.unreadable_reason or "there are no credentials for it", used.store_command)]
        )
    try:
        state, clock_s = _fetch_account_state(used.exchange, used.keys, settings)
    except SparkyError as error:
        return _report_faults(used, [Fault(f"cannot be looked at: {error}", "correct the exchange or its credentials")])
    faults = [*_find_unreachable_faults(state), *find_faults(state), *_find_clock_faults(clock_s)]
    if faults:
        return _report_faults(used, faults)
    clock = [] if _is_simulated(used.exchange, settings) else _build_clock_notes(clock_s)
    margin = build_margin_notes(state.margin, used.margin_modes, used.held_symbols, multi_assets=state.multi_assets)
    return [ok(used.name, "; ".join((*build_notes(state, used.symbols), *margin, *clock)))]


def _is_simulated(exchange: str, settings: Settings) -> bool:
    return settings.simulates_market and exchange == settings.exchange


def _is_simulator_down(exchange: str, settings: Settings) -> bool:
    """Whether it is the simulated venue, which is not running now."""
    if not _is_simulated(exchange, settings):
        return False
    port = settings.sparky_sim_aster_port
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), TIMEOUT_S):
        return False
    return True


def _fetch_account_state(exchange: str, keys: Credentials, settings: Settings) -> tuple[AccountSetup, float | None]:
    """The account's setup, and how many seconds the venue's clock is ahead (None if unknown)."""
    resolved = process_plan.resolve_endpoints(settings)
    address = resolved.sparky_market_url if exchange == resolved.sparky_market else None
    with contextlib.closing(CcxtVenue(exchange, keys, address, TIMEOUT_S)) as account:
        state = account.fetch_setup()
        if _is_simulated(exchange, settings):
            return state, None  # market time is not real time
        try:
            return state, account.measure_clock_offset_s()
        except SparkyError:
            return state, None


def _report_faults(used: UsedAccount, faults: list[Fault]) -> list[CheckResult]:
    if used.symbols:
        return [fault(used.name, found, remedy) for found, remedy in faults]
    return [skip(used.name, "; ".join((*(found for found, _ in faults), _NOTHING_LIVE)))]


def _find_unreachable_faults(state: AccountSetup) -> list[Fault]:
    if state != AccountSetup(unknown=state.unknown) or not state.unknown:
        return []
    reasons = "; ".join(dict.fromkeys(state.unknown.values()))
    return [Fault(f"cannot be looked at: {reasons}", "check the network, and whether the venue is under maintenance")]


def _find_clock_faults(ahead_s: float | None) -> list[Fault]:
    if ahead_s is None or abs(ahead_s) <= CLOCK_FAULT_S:
        return []
    return [Fault(describe_offset(ahead_s), _CLOCK_REMEDY)]


def _build_clock_notes(ahead_s: float | None) -> list[str]:
    if ahead_s is None:
        return ["the venue's time is not known"]
    return [describe_offset(ahead_s)] if abs(ahead_s) > CLOCK_NOTE_S else []
