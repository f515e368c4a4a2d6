"""What `sparky doctor` says of positions that nobody steers, or that nobody steers now."""

import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urljoin

import requests

from cli import output, running_instance
from cli.doctor.check_result import Check, fault, ok
from cli.reconcile import adoption_text
from cli.run import process_plan
from cli.status import status_model, unattended
from cli.streams import encoding_of_answers
from engine.domain.decimals import digits
from engine.platform.plain_text import one_line
from engine.platform.settings.settings import Settings
from engine.store.store import Store

WEBHOOK_S: Final = 3.0
START: Final = "start Sparky: `sparky up`, or its unit (`sparky supervise`)"

Rows = list[dict[str, Any]]


def positions(settings: Settings, store: Store) -> Check:
    """A position that nobody steers is a fault: a person has to close it, or to start what steers it."""
    alone: Rows = output.plain(store.unattended_positions())
    monitor, now = running_instance.monitor_status(settings), time.time()
    strategies = status_model.joined(monitor, output.plain(store.strategy_overview()), now)["strategies"] or []
    is_engine_here = monitor is not None and bool((monitor.get("engine") or {}).get("is_held"))
    alone += unattended.unsteered(strategies, now, is_engine_here=is_engine_here)
    held = _held(strategies) if monitor is None and _runs_nowhere(settings, store) else []
    idle = list(_idle_stops(output.plain(store.held_positions())))
    if not alone and not held:
        return ok("positions", "; ".join(("a running strategy steers each that is a strategy's", *idle)))
    found, remedies = unattended.warnings(alone, encoding_of_answers()), [_closing(alone)] if alone else []
    if held:
        found, remedies = [_nobody(settings, held), *found], [START, *remedies]
    return fault("positions", "; ".join((*found, *idle)), "; ".join(remedies))


def _idle_stops(rows: Rows) -> Iterator[str]:
    """Stops that a liquidation comes before: a remark, as such a position is protected by its margin alone."""
    for row in rows:
        stop, level = (output.number(row[name]) for name in ("stop_loss_price", "liquidation_price"))
        if stop is not None and level is not None and ((stop <= level) if row["side"] == "LONG" else (stop >= level)):
            what = one_line(f"{row['side']} {digits(Decimal(row['quantity']))} {row['symbol']}")
            yield (
                f"the stop of {what} at {digits(stop)} cannot act: it is liquidated at {digits(level)} before, so set "
                "a nearer stop or close it"
            )


def differences(store: Store) -> Check:
    """An open difference between books and a venue is a fault: a person has to say what it is."""
    found: Rows = output.plain(store.open_differences())
    if not found:
        return ok("books and venues", "no open difference")
    encoding = encoding_of_answers()
    commands = list(dict.fromkeys(adoption_text.command(row, found, encoding) for row in found))
    told = ", ".join(f"`{command}`" for command in commands[: adoption_text.MOST_WARNINGS])
    named = "; ".join(adoption_text.warnings(found, encoding, names_commands=False))
    return fault("books and venues", named, f"look at it and settle it: {told}")


def _runs_nowhere(settings: Settings, store: Store) -> bool:
    """Whether no engine is at work: none of this home, and none that holds the database's lease."""
    if running_instance.supervisor_pid(settings) is not None or running_instance.is_hidden(settings):
        return False
    tenure = store.engine_tenure()
    return tenure is None or tenure.left_s <= 0


def _held(strategies: Rows) -> Rows:
    return [each for row in strategies if row["status"] == "running" for each in row["positions"] or ()]


def _nobody(settings: Settings, held: Rows) -> str:
    count = "1 position" if len(held) == 1 else f"{len(held)} positions"
    told = f"{count} of running strategies: nobody steers {'it' if len(held) == 1 else 'them'}"
    is_watched = not any(each["is_paper"] for each in held) or _webhook_answers(settings)
    return told if is_watched else f"{told}, and no stops of paper positions are watched"


def _webhook_answers(settings: Settings) -> bool:
    """Whether a webhook server is there, which watches the stops of paper positions whatever else runs."""
    url = process_plan.resolve(settings).webhook_url
    try:
        requests.get(urljoin(url or "", "/health"), timeout=WEBHOOK_S)
    except requests.RequestException:
        return False
    return True


def _closing(alone: Rows) -> str:
    encoding = encoding_of_answers()
    commands = list(dict.fromkeys(filter(None, (unattended.remedy(row, encoding) for row in alone))))
    more = "" if len(commands) <= unattended.MOST_NAMED else " (and more)"
    told = ", ".join(f"`{command}`" for command in commands[: unattended.MOST_NAMED])
    return f"let it run again (`sparky strategy start`), or close it: {told}{more}" if told else "close it by webhook"
