"""`sparky reconcile`: lists differences between books and venues, and settles one."""

import contextlib
import sys
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

import typer

from cli import output
from cli.arguments import AsJson, find_strategy, find_user
from cli.context import load_settings, open_store_for
from cli.reconcile import adoption_execution
from cli.reconcile.adoption_json import build_difference_row, build_observation_json
from cli.reconcile.adoption_plan import AccountSymbol, AdoptionOptions, AdoptionPlan, Observation, plan_adoption
from cli.reconcile.adoption_text import (
    describe_difference,
    describe_note,
    describe_observation,
    describe_plan,
    explain_outside_refusal,
    format_account_symbol,
    suggest_commands,
    suggest_note_commands,
)
from cli.streams import output_encoding
from engine.domain.symbol_names import ACCEPTED_FORMS, normalize_symbol
from engine.platform.errors import SparkyError
from engine.platform.settings.settings import Settings
from engine.store.adoption import OpenDifference, OutsideHolding
from engine.store.store import Store

MAX_USD = Decimal(1_000_000_000_000)
MAX_NUMBER_LENGTH = 40


def reconcile(  # noqa: PLR0913, PLR0917 - its options
    symbol: Annotated[
        str | None, typer.Argument(help="Look at this one: the plan is shown, nothing is changed.", show_default=False)
    ] = None,
    email: Annotated[str | None, typer.Option("--user", help="Only this person's (e-mail address or id).")] = None,
    exchange: Annotated[str | None, typer.Option(help="Only at this venue.")] = None,
    adopt: Annotated[bool, typer.Option("--adopt", help="Book the venue's state, as the plan says.")] = False,
    outside: Annotated[
        bool, typer.Option("--outside", help="Book nothing: what differs is the person's own, outside Sparky.")
    ] = False,
    strategy: Annotated[
        str | None, typer.Option("--strategy", "-s", help="Whose what the venue holds more becomes (name or id).")
    ] = None,
    price: Annotated[str | None, typer.Option(help="At this price, whatever the record says.")] = None,
    fee: Annotated[str | None, typer.Option(help="For this fee in USD in all, whatever the record says.")] = None,
    noted: Annotated[
        bool, typer.Option("--noted", help="With --adopt: book what was noted as held outside Sparky, too.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """List what books and venue differ in and no rule explains, or settle it; exit code 1 while something differs."""
    _check_options(
        symbol,
        adopt=adopt,
        outside=outside,
        has_word=noted or any(option is not None for option in (price, fee, strategy)),
    )
    if symbol is None:
        _list_differences(email, exchange, as_json=as_json)
        return
    settings, options = load_settings(), _parse_options(price, fee, takes_note=noted)
    with open_store_for(settings) as store:
        account_symbol = _find_account(store, symbol, email, exchange)
        given = {
            "named": _format_flags(user=email, exchange=exchange),
            "given": (*_format_flags(price=price, fee=fee, strategy=strategy), *(["--noted"] if noted else [])),
        }
        options = _apply_strategy(store, account_symbol, options.model_copy(update=given), strategy)
        observation = adoption_execution.observe(
            store, adoption_execution.open_account(settings, store, account_symbol), account_symbol
        )
    if observation.is_unknown:
        raise SparkyError(f"{account_symbol.exchange} lists no {account_symbol.symbol}.")
    plan = plan_adoption(observation, options)
    if not (adopt or outside):
        _print_plan(observation, plan, options, as_json=as_json)
        raise typer.Exit(int(not _is_settled(observation, plan)))
    if adopt:
        _check_prices(observation, plan)
    elif observation.difference != 0 and not observation.can_be_noted:
        raise SparkyError(explain_outside_refusal(observation, options))
    if not (yes or _is_settled(observation, plan)):
        _confirm(observation, plan, options, outside=outside)
    failures = _settle(settings, observation, options, outside=outside)
    _print_result(observation, plan, outside=outside, as_json=as_json)
    for failure in failures:
        output.say(f"Not protected as before, until the webhook server has mended it: {failure}", err=True)


def _check_options(symbol: str | None, *, adopt: bool, outside: bool, has_word: bool) -> None:
    if symbol is not None and not symbol.strip():
        raise SparkyError("Name the symbol to look at, as in BTCUSDT; without one, `sparky reconcile` lists all.")
    if symbol is None and (adopt or outside or has_word):
        raise SparkyError("Name the symbol to settle, as `sparky reconcile` lists it.")
    if adopt and outside:
        raise SparkyError("Choose --adopt or --outside.")
    if outside and has_word:
        raise SparkyError("--outside books nothing: --price, --fee, --strategy and --noted go with --adopt.")


def _parse_options(price: str | None, fee: str | None, *, takes_note: bool) -> AdoptionOptions:
    options = AdoptionOptions(
        price=_parse_number(price, "--price"), fee_usd=_parse_number(fee, "--fee"), takes_note=takes_note
    )
    if options.price is not None and options.price <= 0:
        raise SparkyError("--price must be above 0.")
    return options


def _format_flags(**options: str | None) -> tuple[str, ...]:
    """Options as they were given, to be given again."""
    given = options.items()
    return tuple(word for option, value in given if value is not None for word in (f"--{option}", value))


def _is_settled(observation: Observation, plan: AdoptionPlan) -> bool:
    return plan.is_empty and observation.difference == 0


def _list_differences(email: str | None, exchange: str | None, *, as_json: bool) -> None:
    with open_store_for(load_settings()) as store:
        user_id = None if email is None else find_user(store, email)

        def is_meant(row: OpenDifference | OutsideHolding) -> bool:
            return user_id in {None, row.user_id} and (exchange is None or row.exchange == exchange.strip().lower())

        differences = [build_difference_row(row) for row in store.list_open_differences() if is_meant(row)]
        notes = [describe_note(row) for row in store.list_outside_holdings() if is_meant(row)]
        last = store.get_last_difference_time()
    if as_json:
        output.print_json(differences)
        raise typer.Exit(int(bool(differences)))
    encoding = output_encoding()
    if not differences:
        since = "" if last is None else f" The last one was seen or settled at {output.format_utc(last)} UTC."
        output.say(f"There is no open difference between books and venues.{since}")
    output.say_indented(
        [*(line for row in differences for line in describe_difference(row, differences, encoding)), *notes]
    )
    raise typer.Exit(int(bool(differences)))


def _print_plan(observation: Observation, plan: AdoptionPlan, options: AdoptionOptions, *, as_json: bool) -> None:
    if as_json:
        output.print_json(build_observation_json(observation, plan))
        return
    ways = (
        suggest_note_commands(observation, options)
        if _is_settled(observation, plan)
        else suggest_commands(observation, plan, options)
    )
    output.say_indented([*describe_observation(observation), *describe_plan(observation, plan, options), *ways])


def _check_prices(observation: Observation, plan: AdoptionPlan) -> None:
    if plan.lacks_price:
        key = observation.account_symbol
        why = "does not list it any more" if not observation.is_listed else "tells no price"
        raise SparkyError(f"{key.exchange} {why}: `--price P` says at which price {key.symbol} is booked.")


def _confirm(observation: Observation, plan: AdoptionPlan, options: AdoptionOptions, *, outside: bool) -> None:
    """Asks for confirmation, outside of the store. Raises SparkyError without a terminal."""
    if not sys.stdin.isatty():
        where = format_account_symbol(observation.account_symbol)
        raise SparkyError(f"Settling {where} must be confirmed: at a terminal, or with --yes.")
    output.say_indented(
        [*describe_observation(observation), *([] if outside else describe_plan(observation, plan, options))], err=True
    )
    question = f"Note {observation.unbooked_net:f} as held outside Sparky?" if outside else "Book this?"
    typer.confirm(question, abort=True, err=True)


def _settle(settings: Settings, confirmed: Observation, options: AdoptionOptions, *, outside: bool) -> tuple[str, ...]:
    """Observes again, because the answer may have taken long, and executes what was confirmed. Returns an error message
    for each protective order that could not be placed again. Raises SparkyError if anything has changed."""
    account_symbol = confirmed.account_symbol
    with open_store_for(settings) as store:
        account = adoption_execution.open_account(settings, store, account_symbol)
        observation = adoption_execution.observe(store, account, account_symbol)
        if not observation.is_same_as(confirmed):
            raise SparkyError(
                f"{format_account_symbol(account_symbol)} has changed since it was looked at, and nothing was booked: "
                "look again."
            )
        if outside:
            books = (account_symbol.user_id, account_symbol.exchange, account_symbol.symbol, observation.quantities)
            store.set_outside_holding(*books, observation.unbooked_net, observation.record_mark)
            return ()
        return adoption_execution.execute_adoption(store, account, observation, plan_adoption(confirmed, options))


def _print_result(observation: Observation, plan: AdoptionPlan, *, outside: bool, as_json: bool) -> None:
    done, where = "noted outside" if outside else "adopted", format_account_symbol(observation.account_symbol)
    if as_json:
        output.print_json(build_observation_json(observation, plan) | {"settled": done})
    elif outside:
        output.say(f"{observation.unbooked_net:f} of {where} is noted as held outside Sparky; nothing was booked.")
    elif plan.is_empty:
        output.say(f"Books and venue agree in {where}; there was nothing to book.")
    elif not plan.has_bookings:
        output.say(f"Of {where} {plan.outside:f} is noted as held outside Sparky; nothing was booked.")
    else:
        exits, opened = len(plan.exits), int(plan.opening is not None)
        output.say(f"Adopted {where}: exits booked: {exits}, positions opened or added to: {opened}.")


def _find_account(store: Store, symbol: str, email: str | None, exchange: str | None) -> AccountSymbol:
    """The one account that the options name. Raises SparkyError if there are several or none."""
    user_id = None if email is None else find_user(store, email)
    venue = None if exchange is None else exchange.strip().lower()
    names = _list_candidate_symbols(symbol)
    for name in names:
        rows: list[Any] = [
            row
            for row in store.list_symbol_accounts(name)
            if user_id in {None, row.user_id} and venue in {None, row.exchange}
        ]
        rows = [row for row in rows if row.is_open] or rows
        if len(rows) == 1:
            (row,) = rows
            return AccountSymbol(user_id=row.user_id, email=row.email, exchange=row.exchange, symbol=name)
        if rows:
            owners = ", ".join(f"{row.email or row.user_id} at {row.exchange}" for row in rows[:5])
            raise SparkyError(f"{name} is held in several accounts ({owners}): name one by --user and --exchange.")
    accounts = [
        row for row in store.list_live_accounts() if user_id in {None, row.user_id} and venue in {None, row.exchange}
    ]
    if len(accounts) != 1:
        raise SparkyError(f"Nothing is known of {symbol.strip()}: name the account by --user and --exchange.")
    (account,) = accounts
    whose = store.find_user_email(account.user_id)
    return AccountSymbol(
        user_id=account.user_id, email=whose, exchange=account.exchange, symbol=_parse_venue_symbol(symbol)
    )


def _list_candidate_symbols(symbol: str) -> tuple[str, ...]:
    """The forms in which the books may have `symbol`: as given, and normalised as webhooks do."""
    written = symbol.strip()
    with contextlib.suppress(ValueError):
        return tuple(dict.fromkeys((written, written.upper(), normalize_symbol(written))))
    return tuple(dict.fromkeys((written, written.upper())))


def _parse_venue_symbol(symbol: str) -> str:
    """The normalised symbol. Raises SparkyError if it is not a symbol."""
    try:
        return normalize_symbol(symbol)
    except ValueError as error:
        raise SparkyError(f"{symbol.strip()} {error}; {ACCEPTED_FORMS}.") from None


def _apply_strategy(
    store: Store, account_symbol: AccountSymbol, options: AdoptionOptions, strategy: str | None
) -> AdoptionOptions:
    if strategy is None:
        return options
    row = find_strategy(store, strategy)
    if row.user_id != account_symbol.user_id:
        raise SparkyError(f"{row.name} is not a strategy of {account_symbol.person}.")
    if row.is_paper_trading:
        raise SparkyError(f"{row.name} trades on paper, and nothing at a venue is its own.")
    if row.exchange.lower() != account_symbol.exchange:
        raise SparkyError(f"{row.name} trades on {row.exchange}, not on {account_symbol.exchange}.")
    return options.model_copy(update={"strategy_id": row.id, "strategy_name": row.name})


def _parse_number(text: str | None, option: str) -> Decimal | None:
    if text is None:
        return None
    try:
        number = Decimal(text.strip()) if len(text) <= MAX_NUMBER_LENGTH else Decimal("NaN")
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or abs(number) >= MAX_USD:
        raise SparkyError(f"{option} must be a number, such as 27998.6.")
    return number
