"""Checks of unattended positions, and of open differences between books and venues."""

import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urljoin

import requests

from cli import output, running_instance
from cli.doctor.check_result import CheckResult, fault, ok
from cli.reconcile import adoption_text
from cli.run import process_plan
from cli.status import status_model
from cli.status.status_model import find_unattended
from cli.streams import output_encoding
from cli.warning_texts import MAX_NAMED, build_close_command, build_unattended_warnings
from engine.domain.decimals import format_plain
from engine.platform.plain_text import one_line
from engine.platform.settings.settings import Settings
from engine.risk.strategy_state import is_running
from engine.store.store import Store

WEBHOOK_TIMEOUT_S: Final = 3.0
START_REMEDY: Final = "start Sparky: `sparky up`, or its unit (`sparky supervise`)"

Rows = list[dict[str, Any]]


def check_positions(settings: Settings, store: Store) -> CheckResult:
    """An unattended position is a fault: a person has to close it, or to start its strategy or Sparky."""
    unattended_rows: Rows = output.to_json_data(store.list_unattended_positions())
    monitor, now = running_instance.fetch_monitor_status(settings), time.time()
    strategies = (
        status_model.build_status(monitor, output.to_json_data(store.list_strategy_overviews()), now)["strategies"]
        or []
    )
    is_engine_here = monitor is not None and bool((monitor.get("engine") or {}).get("is_held"))
    unattended_rows += find_unattended(strategies, now, is_engine_here=is_engine_here)
    held = _list_positions_of_running(strategies) if monitor is None and _has_no_running_engine(settings, store) else []
    idle = list(_find_ineffective_stops(output.to_json_data(store.list_held_positions())))
    if not unattended_rows and not held:
        return ok("positions", "; ".join(("each position of a strategy is steered by a running one", *idle)))
    found, remedies = (
        build_unattended_warnings(unattended_rows, output_encoding()),
        [_build_closing_remedy(unattended_rows)] if unattended_rows else [],
    )
    if held:
        found, remedies = [_describe_without_engine(settings, held), *found], [START_REMEDY, *remedies]
    return fault("positions", "; ".join((*found, *idle)), "; ".join(remedies))


def _find_ineffective_stops(rows: Rows) -> Iterator[str]:
    """Notes about stops beyond the liquidation price, which will not be reached before."""
    for row in rows:
        stop, level = (output.to_decimal(row[name]) for name in ("stop_loss_price", "liquidation_price"))
        if stop is not None and level is not None and ((stop <= level) if row["side"] == "LONG" else (stop >= level)):
            what = one_line(f"{row['side']} {format_plain(Decimal(row['quantity']))} {row['symbol']}")
            yield (
                f"the stop of {what} at {format_plain(stop)} cannot act: "
                f"it is liquidated at {format_plain(level)} before, so set "
                "a nearer stop or close it"
            )


def check_differences(store: Store) -> CheckResult:
    """An open difference between books and a venue is a fault: a person has to settle it."""
    found: Rows = output.to_json_data(store.list_open_differences())
    if not found:
        return ok("books and venues", "no open difference")
    encoding = output_encoding()
    commands = list(dict.fromkeys(adoption_text.build_reconcile_command(row, found, encoding) for row in found))
    listed = ", ".join(f"`{command}`" for command in commands[: adoption_text.MAX_WARNINGS])
    named = "; ".join(adoption_text.build_difference_warnings(found, encoding, names_commands=False))
    return fault("books and venues", named, f"look at it and settle it: {listed}")


def _has_no_running_engine(settings: Settings, store: Store) -> bool:
    """Whether no engine runs: none on this home, and none with the database's lease."""
    if running_instance.find_supervisor_pid(settings) is not None or running_instance.is_lock_hidden(settings):
        return False
    lease_holder = store.get_engine_lease_holder()
    return lease_holder is None or lease_holder.left_s <= 0


def _list_positions_of_running(strategies: Rows) -> Rows:
    return [position for row in strategies if is_running(row["status"]) for position in row["positions"] or ()]


def _describe_without_engine(settings: Settings, held: Rows) -> str:
    count = "1 position" if len(held) == 1 else f"{len(held)} positions"
    listed = f"{count} of running strategies: nobody steers {'it' if len(held) == 1 else 'them'}"
    is_watched = not any(position["is_paper"] for position in held) or _is_webhook_reachable(settings)
    return listed if is_watched else f"{listed}, and no stops of paper positions are watched"


def _is_webhook_reachable(settings: Settings) -> bool:
    """Whether a webhook server answers, because that watches the stops of paper positions."""
    url = process_plan.resolve_endpoints(settings).webhook_url
    try:
        requests.get(urljoin(url or "", "/health"), timeout=WEBHOOK_TIMEOUT_S)
    except requests.RequestException:
        return False
    return True


def _build_closing_remedy(rows: Rows) -> str:
    encoding = output_encoding()
    commands = list(dict.fromkeys(filter(None, (build_close_command(row, encoding) for row in rows))))
    more = "" if len(commands) <= MAX_NAMED else " (and more)"
    listed = ", ".join(f"`{command}`" for command in commands[:MAX_NAMED])
    return (
        f"let it run again (`sparky strategy start`), or close it: {listed}{more}" if listed else "close it by webhook"
    )
