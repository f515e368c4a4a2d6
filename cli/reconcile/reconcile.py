"""`sparky reconcile`: what books and venue differ in, and how a person settles it."""

import contextlib
import sys
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any
from uuid import UUID

import typer

from cli import output
from cli.commands.strategies import AsJson, find
from cli.context import settings_here, store_of
from cli.reconcile import adoption_execution
from cli.reconcile.adoption_plan import Place, Plan, Seen, Wishes, plan_of
from cli.reconcile.adoption_text import as_json as seen_as_json
from cli.reconcile.adoption_text import (
    as_row,
    listed,
    looked_at,
    not_noted,
    note,
    of_note,
    of_place,
    planned,
    ways_on,
)
from cli.streams import encoding_of_answers
from engine.platform.errors import SparkyError
from engine.platform.settings.settings import Settings
from engine.store.adoption import OpenDifference, OutsideNote
from engine.store.store import Store
from webhook_server.intake.symbols import canonical

MOST_USD = Decimal(1_000_000_000_000)
LONGEST_NUMBER = 40


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
    _check_choice(
        symbol,
        adopt=adopt,
        outside=outside,
        has_word=noted or any(each is not None for each in (price, fee, strategy)),
    )
    if symbol is None:
        _list(email, exchange, as_json=as_json)
        return
    settings, wishes = settings_here(), _wishes(price, fee, takes_note=noted)
    with store_of(settings) as store:
        place = _place(store, symbol, email, exchange)
        given = {
            "named": _named(user=email, exchange=exchange),
            "given": (*_named(price=price, fee=fee, strategy=strategy), *(["--noted"] if noted else [])),
        }
        wishes = _for_strategy(store, place, wishes.model_copy(update=given), strategy)
        seen = adoption_execution.look(store, adoption_execution.account_of(settings, store, place), place)
    if seen.is_unknown:
        raise SparkyError(f"{place.exchange} lists no {place.symbol}.")
    plan = plan_of(seen, wishes)
    if not (adopt or outside):
        _show(seen, plan, wishes, as_json=as_json)
        raise typer.Exit(int(not _agrees(seen, plan)))
    if adopt:
        _check_prices(seen, plan)
    elif seen.difference != 0 and not seen.can_be_noted:
        raise SparkyError(not_noted(seen, wishes))
    if not (yes or _agrees(seen, plan)):
        _confirm(seen, plan, wishes, outside=outside)
    failures = _settle(settings, seen, wishes, outside=outside)
    _tell_settled(seen, plan, outside=outside, as_json=as_json)
    for failure in failures:
        output.say(f"Not protected as before, until the webhook server has mended it: {failure}", err=True)


def _check_choice(symbol: str | None, *, adopt: bool, outside: bool, has_word: bool) -> None:
    if symbol is not None and not symbol.strip():
        raise SparkyError("Name the symbol to look at, as in BTCUSDT; without one, `sparky reconcile` lists all.")
    if symbol is None and (adopt or outside or has_word):
        raise SparkyError("Name the symbol to settle, as `sparky reconcile` lists it.")
    if adopt and outside:
        raise SparkyError("Choose --adopt or --outside.")
    if outside and has_word:
        raise SparkyError("--outside books nothing: --price, --fee, --strategy and --noted go with --adopt.")


def _wishes(price: str | None, fee: str | None, *, takes_note: bool) -> Wishes:
    wishes = Wishes(price=_number(price, "--price"), fee_usd=_number(fee, "--fee"), takes_note=takes_note)
    if wishes.price is not None and wishes.price <= 0:
        raise SparkyError("--price must be above 0.")
    return wishes


def _named(**options: str | None) -> tuple[str, ...]:
    """Options as they were given, to be given again."""
    given = options.items()
    return tuple(word for option, value in given if value is not None for word in (f"--{option}", value))


def _agrees(seen: Seen, plan: Plan) -> bool:
    return plan.is_empty and seen.difference == 0


def _list(email: str | None, exchange: str | None, *, as_json: bool) -> None:
    with store_of(settings_here()) as store:
        user_id = None if email is None else _person(store, email)

        def is_meant(row: OpenDifference | OutsideNote) -> bool:
            return user_id in {None, row.user_id} and (exchange is None or row.exchange == exchange.strip().lower())

        found = [as_row(each) for each in store.open_differences() if is_meant(each)]
        notes = [note(each) for each in store.outside_notes() if is_meant(each)]
        last = store.last_difference_at()
    if as_json:
        output.print_json(found)
        raise typer.Exit(int(bool(found)))
    encoding = encoding_of_answers()
    if not found:
        known = "" if last is None else f" The last one was seen or settled at {output.utc(last)} UTC."
        output.say(f"There is no open difference between books and venues.{known}")
    output.say_hanging([*(line for row in found for line in listed(row, found, encoding)), *notes])
    raise typer.Exit(int(bool(found)))


def _show(seen: Seen, plan: Plan, wishes: Wishes, *, as_json: bool) -> None:
    if as_json:
        output.print_json(seen_as_json(seen, plan))
        return
    ways = of_note(seen, wishes) if _agrees(seen, plan) else ways_on(seen, plan, wishes)
    output.say_hanging([*looked_at(seen), *planned(seen, plan, wishes), *ways])


def _check_prices(seen: Seen, plan: Plan) -> None:
    if plan.lacks_a_price:
        why = "does not list it any more" if not seen.is_listed else "tells no price"
        raise SparkyError(
            f"{seen.place.exchange} {why}: `--price P` says at which price {seen.place.symbol} is booked."
        )


def _confirm(seen: Seen, plan: Plan, wishes: Wishes, *, outside: bool) -> None:
    """Asks outside of any connection. Raises SparkyError where nobody can be asked."""
    if not sys.stdin.isatty():
        raise SparkyError(f"Settling {of_place(seen.place)} must be confirmed: at a terminal, or with --yes.")
    output.say_hanging([*looked_at(seen), *([] if outside else planned(seen, plan, wishes))], err=True)
    question = f"Note {seen.beyond:f} as held outside Sparky?" if outside else "Book this?"
    typer.confirm(question, abort=True, err=True)


def _settle(settings: Settings, confirmed: Seen, wishes: Wishes, *, outside: bool) -> tuple[str, ...]:
    """Looks again, since a person may have taken long to answer, and does what was confirmed; what of the protection
    could not be placed anew."""
    place = confirmed.place
    with store_of(settings) as store:
        account = adoption_execution.account_of(settings, store, place)
        seen = adoption_execution.look(store, account, place)
        if not seen.is_as(confirmed):
            raise SparkyError(
                f"{of_place(place)} has changed since it was looked at, and nothing was booked: look again."
            )
        if outside:
            books = (place.user_id, place.exchange, place.symbol, seen.quantities)
            store.note_outside(*books, seen.beyond, seen.record)
            return ()
        return adoption_execution.carry_out(store, account, seen, plan_of(confirmed, wishes))


def _tell_settled(seen: Seen, plan: Plan, *, outside: bool, as_json: bool) -> None:
    done = "noted outside" if outside else "adopted"
    if as_json:
        output.print_json(seen_as_json(seen, plan) | {"settled": done})
    elif outside:
        output.say(f"{seen.beyond:f} of {of_place(seen.place)} is noted as held outside Sparky; nothing was booked.")
    elif plan.is_empty:
        output.say(f"Books and venue agree in {of_place(seen.place)}; there was nothing to book.")
    elif not plan.books:
        output.say(f"Of {of_place(seen.place)} {plan.outside:f} is noted as held outside Sparky; nothing was booked.")
    else:
        exits, opened = len(plan.exits), int(plan.opening is not None)
        output.say(f"Adopted {of_place(seen.place)}: exits booked: {exits}, positions opened or added to: {opened}.")


def _place(store: Store, symbol: str, email: str | None, exchange: str | None) -> Place:
    """The one account that is meant. Raises SparkyError that says what to name."""
    user_id = None if email is None else _person(store, email)
    venue = None if exchange is None else exchange.strip().lower()
    names = _names(symbol)
    for name in names:
        rows: list[Any] = [
            each
            for each in store.accounts_in_symbol(name)
            if user_id in {None, each.user_id} and venue in {None, each.exchange}
        ]
        rows = [each for each in rows if each.is_open] or rows
        if len(rows) == 1:
            (row,) = rows
            return Place(user_id=row.user_id, email=row.email, exchange=row.exchange, symbol=name)
        if rows:
            known = ", ".join(f"{each.email or each.user_id} at {each.exchange}" for each in rows[:5])
            raise SparkyError(f"{name} is held in several accounts ({known}): name one by --user and --exchange.")
    accounts = [
        each for each in store.live_accounts() if user_id in {None, each.user_id} and venue in {None, each.exchange}
    ]
    if len(accounts) != 1:
        raise SparkyError(f"Nothing is known of {symbol.strip()}: name the account by --user and --exchange.")
    (account,) = accounts
    whose = store.email_of(account.user_id)
    return Place(user_id=account.user_id, email=whose, exchange=account.exchange, symbol=_listed_as(symbol))


def _names(symbol: str) -> tuple[str, ...]:
    """What `symbol` may be in the books: as it was written, and as webhooks understand it."""
    written = symbol.strip()
    with contextlib.suppress(ValueError):
        return tuple(dict.fromkeys((written, written.upper(), canonical(written))))
    return tuple(dict.fromkeys((written, written.upper())))


def _listed_as(symbol: str) -> str:
    """What a venue calls it. Raises SparkyError for what is no symbol."""
    try:
        return canonical(symbol)
    except ValueError as error:
        raise SparkyError(f"{symbol.strip()} {error}.") from None


def _person(store: Store, email: str) -> UUID:
    """By e-mail address, or by id for one whose address cannot be typed."""
    user_id = store.user_of(email.strip())
    if user_id is not None:
        return user_id
    try:
        return UUID(email.strip())
    except ValueError:
        raise SparkyError(f"There is no person {email}.") from None


def _for_strategy(store: Store, place: Place, wishes: Wishes, strategy: str | None) -> Wishes:
    if strategy is None:
        return wishes
    row = find(store, strategy)
    if row.user_id != place.user_id:
        raise SparkyError(f"{row.name} is not a strategy of {place.person}.")
    if row.is_paper_trading:
        raise SparkyError(f"{row.name} trades on paper, and nothing at a venue is its own.")
    if row.exchange.lower() != place.exchange:
        raise SparkyError(f"{row.name} trades on {row.exchange}, not on {place.exchange}.")
    return wishes.model_copy(update={"strategy_id": row.id, "strategy_name": row.name})


def _number(text: str | None, option: str) -> Decimal | None:
    if text is None:
        return None
    try:
        number = Decimal(text.strip()) if len(text) <= LONGEST_NUMBER else Decimal("NaN")
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or abs(number) >= MOST_USD:
        raise SparkyError(f"{option} must be a number, such as 27998.6.")
    return number
