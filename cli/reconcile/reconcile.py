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
from cli.reconcile.adoption_plan import AccountSymbol, AdoptionOptions, AdoptionPlan, Observation, plan_adoption
from cli.reconcile.adoption_text import (
    describe_difference,
    describe_note,
    describe_observation,
    describe_plan,
    difference_row,
    format_place,
    observation_json,
    outside_refusal,
    suggest_commands,
    suggest_note_commands,
)
from cli.streams import output_encoding
from engine.domain.symbol_names import normalize_symbol
from engine.platform.errors import SparkyError
from engine.platform.settings.settings import Settings
from engine.store.adoption import OpenDifference, OutsideHolding
from engine.store.store import Store
from webhook_server.intake.symbols import ACCEPTED_FORMS

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
        has_word=noted or any(each is not None for each in (price, fee, strategy)),
    )
    if symbol is None:
        _list_differences(email, exchange, as_json=as_json)
        return
    settings, options = load_settings(), _parse_options(price, fee, takes_note=noted)
    with open_store_for(settings) as store:
        place = _find_account(store, symbol, email, exchange)
        given = {
            "named": _format_flags(user=email, exchange=exchange),
            "given": (*_format_flags(price=price, fee=fee, strategy=strategy), *(["--noted"] if noted else [])),
        }
        options = _apply_strategy(store, place, options.model_copy(update=given), strategy)
        seen = adoption_execution.observe(store, adoption_execution.open_account(settings, store, place), place)
    if seen.is_unknown:
        raise SparkyError(f"{place.exchange} lists no {place.symbol}.")
    plan = plan_adoption(seen, options)
    if not (adopt or outside):
        _print_plan(seen, plan, options, as_json=as_json)
        raise typer.Exit(int(not _is_settled(seen, plan)))
    if adopt:
        _check_prices(seen, plan)
    elif seen.difference != 0 and not seen.can_be_noted:
        raise SparkyError(outside_refusal(seen, options))
    if not (yes or _is_settled(seen, plan)):
        _confirm(seen, plan, options, outside=outside)
    failures = _settle(settings, seen, options, outside=outside)
    _print_result(seen, plan, outside=outside, as_json=as_json)
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


def _is_settled(seen: Observation, plan: AdoptionPlan) -> bool:
    return plan.is_empty and seen.difference == 0


def _list_differences(email: str | None, exchange: str | None, *, as_json: bool) -> None:
    with open_store_for(load_settings()) as store:
        user_id = None if email is None else find_user(store, email)

        def is_meant(row: OpenDifference | OutsideHolding) -> bool:
            return user_id in {None, row.user_id} and (exchange is None or row.exchange == exchange.strip().lower())

        found = [difference_row(each) for each in store.list_open_differences() if is_meant(each)]
        notes = [describe_note(each) for each in store.list_outside_holdings() if is_meant(each)]
        last = store.get_last_difference_time()
    if as_json:
        output.print_json(found)
        raise typer.Exit(int(bool(found)))
    encoding = output_encoding()
    if not found:
        known = "" if last is None else f" The last one was seen or settled at {output.format_utc(last)} UTC."
        output.say(f"There is no open difference between books and venues.{known}")
    output.say_indented([*(line for row in found for line in describe_difference(row, found, encoding)), *notes])
    raise typer.Exit(int(bool(found)))


def _print_plan(seen: Observation, plan: AdoptionPlan, options: AdoptionOptions, *, as_json: bool) -> None:
    if as_json:
        output.print_json(observation_json(seen, plan))
        return
    ways = suggest_note_commands(seen, options) if _is_settled(seen, plan) else suggest_commands(seen, plan, options)
    output.say_indented([*describe_observation(seen), *describe_plan(seen, plan, options), *ways])


def _check_prices(seen: Observation, plan: AdoptionPlan) -> None:
    if plan.lacks_price:
        why = "does not list it any more" if not seen.is_listed else "tells no price"
        raise SparkyError(
            f"{seen.place.exchange} {why}: `--price P` says at which price {seen.place.symbol} is booked."
        )


def _confirm(seen: Observation, plan: AdoptionPlan, options: AdoptionOptions, *, outside: bool) -> None:
    """Asks for confirmation, outside of the store. Raises SparkyError without a terminal."""
    if not sys.stdin.isatty():
        raise SparkyError(f"Settling {format_place(seen.place)} must be confirmed: at a terminal, or with --yes.")
    output.say_indented(
        [*describe_observation(seen), *([] if outside else describe_plan(seen, plan, options))], err=True
    )
    question = f"Note {seen.unbooked_net:f} as held outside Sparky?" if outside else "Book this?"
    typer.confirm(question, abort=True, err=True)


def _settle(settings: Settings, confirmed: Observation, options: AdoptionOptions, *, outside: bool) -> tuple[str, ...]:
    """Observes again, because the answer may have taken long, and executes what was confirmed. Returns an error message
    for each protective order that could not be placed again. Raises SparkyError if anything has changed."""
    place = confirmed.place
    with open_store_for(settings) as store:
        account = adoption_execution.open_account(settings, store, place)
        seen = adoption_execution.observe(store, account, place)
        if not seen.is_same_as(confirmed):
            raise SparkyError(
                f"{format_place(place)} has changed since it was looked at, and nothing was booked: look again."
            )
        if outside:
            books = (place.user_id, place.exchange, place.symbol, seen.quantities)
            store.set_outside_holding(*books, seen.unbooked_net, seen.record_mark)
            return ()
        return adoption_execution.execute_adoption(store, account, seen, plan_adoption(confirmed, options))


def _print_result(seen: Observation, plan: AdoptionPlan, *, outside: bool, as_json: bool) -> None:
    done = "noted outside" if outside else "adopted"
    if as_json:
        output.print_json(observation_json(seen, plan) | {"settled": done})
    elif outside:
        output.say(
            f"{seen.unbooked_net:f} of {format_place(seen.place)} is noted as held outside Sparky; nothing was booked."
        )
    elif plan.is_empty:
        output.say(f"Books and venue agree in {format_place(seen.place)}; there was nothing to book.")
    elif not plan.has_bookings:
        output.say(
            f"Of {format_place(seen.place)} {plan.outside:f} is noted as held outside Sparky; nothing was booked."
        )
    else:
        exits, opened = len(plan.exits), int(plan.opening is not None)
        output.say(
            f"Adopted {format_place(seen.place)}: exits booked: {exits}, positions opened or added to: {opened}."
        )


def _find_account(store: Store, symbol: str, email: str | None, exchange: str | None) -> AccountSymbol:
    """The one account that the options name. Raises SparkyError if there are several or none."""
    user_id = None if email is None else find_user(store, email)
    venue = None if exchange is None else exchange.strip().lower()
    names = _candidate_symbols(symbol)
    for name in names:
        rows: list[Any] = [
            each
            for each in store.list_symbol_accounts(name)
            if user_id in {None, each.user_id} and venue in {None, each.exchange}
        ]
        rows = [each for each in rows if each.is_open] or rows
        if len(rows) == 1:
            (row,) = rows
            return AccountSymbol(user_id=row.user_id, email=row.email, exchange=row.exchange, symbol=name)
        if rows:
            known = ", ".join(f"{each.email or each.user_id} at {each.exchange}" for each in rows[:5])
            raise SparkyError(f"{name} is held in several accounts ({known}): name one by --user and --exchange.")
    accounts = [
        each
        for each in store.list_live_accounts()
        if user_id in {None, each.user_id} and venue in {None, each.exchange}
    ]
    if len(accounts) != 1:
        raise SparkyError(f"Nothing is known of {symbol.strip()}: name the account by --user and --exchange.")
    (account,) = accounts
    whose = store.find_user_email(account.user_id)
    return AccountSymbol(user_id=account.user_id, email=whose, exchange=account.exchange, symbol=_venue_symbol(symbol))


def _candidate_symbols(symbol: str) -> tuple[str, ...]:
    """The forms in which the books may have `symbol`: as given, and normalised as webhooks do."""
    written = symbol.strip()
    with contextlib.suppress(ValueError):
        return tuple(dict.fromkeys((written, written.upper(), normalize_symbol(written))))
    return tuple(dict.fromkeys((written, written.upper())))


def _venue_symbol(symbol: str) -> str:
    """The normalised symbol. Raises SparkyError if it is not a symbol."""
    try:
        return normalize_symbol(symbol)
    except ValueError as error:
        raise SparkyError(f"{symbol.strip()} {error}; {ACCEPTED_FORMS}.") from None


def _apply_strategy(
    store: Store, place: AccountSymbol, options: AdoptionOptions, strategy: str | None
) -> AdoptionOptions:
    if strategy is None:
        return options
    row = find_strategy(store, strategy)
    if row.user_id != place.user_id:
        raise SparkyError(f"{row.name} is not a strategy of {place.person}.")
    if row.is_paper_trading:
        raise SparkyError(f"{row.name} trades on paper, and nothing at a venue is its own.")
    if row.exchange.lower() != place.exchange:
        raise SparkyError(f"{row.name} trades on {row.exchange}, not on {place.exchange}.")
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
