"""`sparky strategy …`: create, list, show and start strategies."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import output
from cli.arguments import (
    AsJson,
    StrategyArgument,
    build_credentials_command,
    find_strategy,
    get_or_create_user,
    has_credentials,
)
from cli.context import load_settings, open_store_for
from cli.output import Column
from cli.streams import read_stdin
from engine.admin import strategy_checks
from engine.admin.demo_data import DEMO_USER
from engine.admin.strategy_checks import NewStrategy
from engine.domain.decimals import format_plain
from engine.domain.errors import StrategyFault
from engine.domain.positions import MarginMode
from engine.domain.strategy import Adding, EntryRules, RiskProfile, StrategyStatus
from engine.platform.errors import ConfigurationError, SparkyError
from engine.platform.text_encoding import decode_text, is_unicode
from engine.risk.strategy_state import is_running
from engine.store.admin_rows import StrategyRow
from engine.store.store import Store

app = typer.Typer(no_args_is_help=True, help="Create, look at, start, pause and end strategies.")

COLUMNS = (
    Column("id", output.short_id_cell("id")),
    Column("name", "name"),
    Column("status", "status"),
    Column("profile", "risk_profile"),
    Column("symbols", "target_assets", wraps=True),
    Column("every s", output.decimal_cell("cadence_seconds"), is_number=True),
    Column("paper", "is_paper_trading"),
    Column("capital USD", output.usd_cell("capital_usd"), is_number=True),
    Column("paused because", "paused_reason", wraps=True),
)


@app.command("list")
def list_all(as_json: AsJson = False) -> None:
    """List all strategies."""
    with open_store_for(load_settings()) as store:
        rows = store.list_strategies()
    output.print_rows(
        rows, COLUMNS, as_json=as_json, empty="There are no strategies; `sparky strategy create` makes one."
    )


@app.command()
def show(which: StrategyArgument, as_json: AsJson = False) -> None:
    """Show everything about one strategy; `rules` are the entry rules in force, `costs` what an entry may cost."""
    with open_store_for(load_settings()) as store:
        row = find_strategy(store, which)
        shown = output.to_json_data(row) | {
            "rules": output.to_json_data(_load_entry_rules(store, row)),
            "costs": _load_cost_limits(store, row),
        }
    output.print_row(shown, as_json=as_json)


@app.command()
def create(  # noqa: PLR0913, PLR0917 - typer reads the options from the parameters
    name: Annotated[str | None, typer.Option(help="What people call it.")] = None,
    symbols: Annotated[str | None, typer.Option(help="Comma-separated, as in BTCUSDT,ETHUSDT.")] = None,
    risk: Annotated[
        RiskProfile | None, typer.Option(help="Decides the prompt, and the entry rules that are not given.")
    ] = None,
    cadence: Annotated[float | None, typer.Option(help="Seconds from tick to tick.")] = None,
    capital: Annotated[str | None, typer.Option(help="USD that P&L and drawdown are counted from.")] = None,
    max_position: Annotated[str | None, typer.Option(help="Largest position in USD.")] = None,
    min_confidence: Annotated[float | None, typer.Option(help="Below it, LONG and SHORT become HOLD; 0 to 1.")] = None,
    max_drawdown: Annotated[float | None, typer.Option(help="Percent; beyond it the strategy may only close.")] = None,
    leverage: Annotated[int | None, typer.Option(help="Largest leverage.")] = None,
    budget: Annotated[str | None, typer.Option(help="USD that the model may cost per day (UTC).")] = None,
    model: Annotated[str | None, typer.Option(help="Model, if not the first of GROQ_MODEL.")] = None,
    exchange: Annotated[str | None, typer.Option(help="Venue to trade on, if not SPARKY_MARKET.")] = None,
    prompt: Annotated[str | None, typer.Option(help="Own instructions, added to those of the profile.")] = None,
    context: Annotated[str | None, typer.Option(help="Longer candles to show as well: 15m, 1h or 15m,1h.")] = None,
    stop_required: Annotated[
        bool | None, typer.Option("--stop-required/--no-stop-required", help="Whether an entry needs a stop.")
    ] = None,
    max_entry: Annotated[
        str | None, typer.Option(metavar="PERCENT", help="Share of --max-position that one entry may have.")
    ] = None,
    adding: Annotated[Adding | None, typer.Option(help="Whether entries may add to a position.")] = None,
    min_stop: Annotated[
        str | None, typer.Option(metavar="PERCENT", help="Least distance of a stop from the entry.")
    ] = None,
    max_spread: Annotated[
        str | None, typer.Option(metavar="PERCENT", help="No entry while the ask is so far above the bid.")
    ] = None,
    max_slippage: Annotated[
        str | None, typer.Option(metavar="PERCENT", help="No entry that fills so much worse than the best price.")
    ] = None,
    margin_mode: Annotated[
        MarginMode | None, typer.Option(help="Set before live entries; else as the account has it, on paper isolated.")
    ] = None,
    paper: Annotated[bool | None, typer.Option("--paper/--live", help="Paper is the default.")] = None,
    user: Annotated[str, typer.Option(metavar="EMAIL", help="Whose strategy it is.")] = DEMO_USER,
    from_json: Annotated[
        str | None, typer.Option(metavar="FILE", help="Read the fields from a JSON object; - is stdin.")
    ] = None,
    start: Annotated[bool, typer.Option("--start", help="Start it at once.")] = False,
    as_json: AsJson = False,
) -> None:
    """Create a strategy; it is paused until it is started. Options win over the fields of --from-json."""
    fields: dict[str, Any] = read_fields(from_json) if from_json is not None else {}
    options: dict[str, Any] = {
        "name": name,
        "target_assets": None if symbols is None else _split_list(symbols),
        "risk_profile": risk,
        "cadence_seconds": cadence,
        "capital_usd": capital,
        "max_position_usd": max_position,
        "min_confidence": min_confidence,
        "max_drawdown_percent": max_drawdown,
        "leverage_max": leverage,
        "daily_llm_budget_usd": budget,
        "model": model,
        "exchange": exchange,
        "custom_prompt": prompt,
        "context_intervals": None if context is None else _split_list(context),
        "stop_loss_required": stop_required,
        "max_entry_percent": max_entry,
        "adding": adding,
        "min_stop_loss_percent": min_stop,
        "max_spread_percent": max_spread,
        "max_slippage_percent": max_slippage,
        "margin_mode": margin_mode,
        "is_paper_trading": paper,
    }
    fields |= {field: value for field, value in options.items() if value is not None}
    if start:
        fields["status"] = StrategyStatus.RUNNING
    fields.setdefault("exchange", load_settings().exchange)
    strategy_checks.check_fields(fields)
    with open_store_for(load_settings()) as store:
        if "user_id" not in fields:
            fields["user_id"] = get_or_create_user(store, user)
        new = NewStrategy.from_input(fields)
        check_budget(new.model, new.daily_llm_budget_usd)
        exchange_fault = strategy_checks.find_exchange_fault(new.exchange, is_paper_trading=new.is_paper_trading)
        if exchange_fault is not None:
            raise SparkyError(exchange_fault)
        row = store.create_strategy(new)
        email = store.find_user_email(row.user_id)
        is_keyless = not (new.is_paper_trading or has_credentials(store, row.user_id, row.exchange))
    if is_keyless:
        output.say(
            f"Its person has no keys for {row.exchange}, without which every entry is refused: "
            f"{build_credentials_command(row.exchange, email)} stores them.",
            err=True,
        )
    if as_json:
        output.print_row(row, as_json=True)
    else:
        output.say(f"Created {row.name} ({row.id}), {row.status}.")


@app.command()
def start(which: StrategyArgument, as_json: AsJson = False) -> None:
    """Let a strategy run; a running Sparky follows within 5 s."""
    _set_status(which, StrategyStatus.RUNNING, as_json=as_json)


def _load_entry_rules(store: Store, row: StrategyRow) -> EntryRules | None:
    """The entry rules in force; None for a row that is invalid, which enters nothing."""
    try:
        context = store.get_strategy_context(row.id)
    except StrategyFault:
        return None
    return context.strategy.rules if context else None


def _load_cost_limits(store: Store, row: StrategyRow) -> dict[str, str] | None:
    """The limits of spread and slippage in force; None if they cannot be read, so that entries are refused."""
    from engine.risk.entry_costs import CostLimits  # imported here, because other commands do not need it

    try:
        portfolio = store.get_portfolio(row.user_id, row.exchange, row.id, is_paper=row.is_paper_trading)
    except ConfigurationError:
        return None
    limits = CostLimits.from_portfolio(portfolio)
    return {
        "max_spread_percent": format_plain(limits.max_spread_percent),
        "max_slippage_percent": format_plain(limits.max_slippage_percent),
    }


def _split_list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def check_budget(model: str | None, budget_usd: Decimal | None) -> None:
    """Raises ConfigurationError for a budget that cannot be kept, because a model that may be used has no price."""
    budget_fault = strategy_checks.find_budget_fault(budget_usd, load_settings().model_without_price(model))
    if budget_fault is not None:
        raise ConfigurationError(f"{budget_fault}.")


def _set_status(which: str, status: StrategyStatus, *, as_json: bool) -> None:
    with open_store_for(load_settings()) as store:
        row = find_strategy(store, which)
        if status is StrategyStatus.RUNNING:
            check_budget(row.model, row.daily_llm_budget_usd)
        row = store.set_strategy_status(row.id, status)
    _print_status(row, as_json=as_json)


def _print_status(row: StrategyRow, *, as_json: bool) -> None:
    if as_json:
        output.print_row(row, as_json=True)
    else:
        output.say(f"{row.name} is {row.status}.")


def read_fields(source: str) -> dict[str, Any]:
    """The JSON object in a file, or on stdin for ``-``. Raises SparkyError with one sentence."""
    try:
        text = decode_text(read_stdin() if source == "-" else Path(source).read_bytes())
    except OSError as error:
        raise SparkyError(f"{source} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError:
        raise SparkyError(f"{source} is no UTF-8 text: save it as UTF-8.") from None
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SparkyError(f"{source} is not JSON: {error}.") from error
    if not is_unicode(json.dumps(data, ensure_ascii=False)):
        raise SparkyError(f"{source} holds half a character, which is no text.")
    if not isinstance(data, dict):
        raise SparkyError(f"{source} must hold one JSON object with a strategy's fields.")
    return data


def find_running(which: str) -> StrategyRow:
    """The strategy that `which` names. Raises SparkyError if its status is not running."""
    with open_store_for(load_settings()) as store:
        row = find_strategy(store, which)
    if not is_running(row.status):
        raise SparkyError(f"{row.name} is {row.status} and has no process; `sparky strategy start` lets it run.")
    return row


def list_running() -> list[StrategyRow]:
    """Every strategy with status running."""
    with open_store_for(load_settings()) as store:
        return [row for row in store.list_strategies() if is_running(row.status)]
