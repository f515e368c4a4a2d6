"""The books against what happened: every fill, position, trade and dollar, as the venue's own record has them too."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg

from engine.domain import decimals
from engine.domain.positions import Side
from engine.store.embedded.embedded_postgres import build_dsn
from engine.store.store import Store
from engine.venues.live.ccxt_venue import CcxtVenue
from tests.support.clients.account_checks import Traded
from tests.support.clients.trading import SYMBOLS
from tests.support.factories.bookkeeping import Book
from tests.support.processes.sparky import Sparky

CAPITAL = Decimal(10_000)

BookKey = tuple[UUID, str, bool]


def check_books(product: Sparky, store: Store, least: int) -> int:
    """The books hold what happened, once and to the last digit: paper and live, and live as the venue itself has it.

    Returns how many live fills there are, more than `least`.
    """
    (account,) = store.list_live_accounts()
    credentials = store.get_venue_credentials(account.user_id, "aster")
    assert credentials is not None
    with (
        psycopg.connect(build_dsn(product.home)) as connection,
        closing(CcxtVenue("aster", credentials, product.url("sim_aster"))) as venue,
    ):
        product.wait_for(
            lambda: are_protected(store, venue), "each exposed position having its stop, and no other waiting"
        )
        orders = booked_orders(connection)
        check_orders(orders, venue_orders(venue))
        check_effects(connection)
        books = replayed(connection)
        check_positions(connection, books)
        check_trades(connection, books)
        check_account(venue, books)
    assert len(orders) > least
    return len(orders)


def are_protected(store: Store, venue: CcxtVenue) -> bool:
    """Whether the stops at the venue are those of the books; where others' opposite positions cover a position, the
    account has nothing that its stop could reduce."""
    nets = {each.symbol: each.net for each in venue.fetch_positions()}
    held = [each for each in store.list_open_positions() if not each.is_paper and each.stop_loss_client_order_id]
    exposed = {
        each.stop_loss_client_order_id
        for each in held
        if nets.get(each.symbol, Decimal(0)) * (1 if each.side is Side.LONG else -1) > 0
    }
    waiting = Counter(order.client_order_id for order in venue.fetch_open_orders())
    known = {each.stop_loss_client_order_id for each in held}
    return exposed <= waiting.keys() <= known and waiting.total() == len(waiting)


def booked_orders(connection: psycopg.Connection[Any]) -> dict[frozenset[str], tuple[Decimal, Decimal, Decimal]]:
    """Quantity, price and fee of each fill, by the venue's ids of the orders that made it: most often one, and several
    where an exit had to be sent in parts. Raises when an order was booked twice."""
    made_by_orders = """
      select public.order_ids_of_fill(f), quantity, price, fee_usd from fills f
      where not is_paper and kind <> 'dust'"""
    rows = connection.execute(made_by_orders).fetchall()
    times = Counter(order_id for order_ids, *_ in rows for order_id in order_ids)
    assert times.total() == len(times), "an order was booked twice"
    return {frozenset(order_ids): (quantity, price, fee) for order_ids, quantity, price, fee in rows}


def venue_orders(venue: CcxtVenue) -> dict[str, Traded]:
    """What each order traded, from the venue's own record of the account as our client reads it."""
    orders: dict[str, Traded] = defaultdict(Traded)
    for symbol in SYMBOLS:
        for fill in venue._exchange.fetch_my_trades(f"{symbol[:-4]}/USDT:USDT", None, 1_000):
            told = fill["info"]
            orders[str(fill["order"])].add(Decimal(told["qty"]), Decimal(told["price"]), Decimal(told["commission"]))
    return orders


def check_orders(booked: dict[frozenset[str], tuple[Decimal, Decimal, Decimal]], there: dict[str, Traded]) -> None:
    """Every order that traded is in the books, no other is, and each fill is what its orders made, digit by digit."""
    assert {order_id for order_ids in booked for order_id in order_ids} == there.keys()
    for order_ids, fill in booked.items():
        made = Traded()
        for order_id in order_ids:
            made.include(there[order_id])
        assert fill == (made.quantity, decimals.quotient(made.value, made.quantity), made.fee_usd), order_ids


def check_effects(connection: psycopg.Connection[Any]) -> None:
    """Every request has ended, every delivered signal is one request, and each has the fills that its answer tells."""
    unfinished = "select request_id, status from webhook_requests where status <> all (%s)"
    assert connection.execute(unfinished, [["booked", "refused", "failed", "skipped"]]).fetchall() == []
    lost = """
      select id from signal_outbox where status = 'delivered'
      and (select count(*) from webhook_requests where request_id = signal_outbox.id::text) <> 1"""
    assert connection.execute(lost).fetchall() == []
    rows = connection.execute("""
      select request_id, answer ->> 'action', coalesce(answer ? 'closed', false), coalesce(answer ? 'undone', false),
        array(
          select case kind when 'rest' then 'close' else kind end from fills -- a rest is the second order of an exit
          where fills.request_id = webhook_requests.request_id order by kind
        )
      from webhook_requests""").fetchall()
    for request_id, action, has_closed, was_undone, kinds in rows:
        told = {"close"} if has_closed or action == "closed" else set[str]()
        told |= {"open"} if was_undone or action == "opened" else set()
        told |= {"undo"} if was_undone else set()
        half_done = {"close"} if action in {"opened", "rejected"} else set()  # a reversal whose exit was booked before
        assert told <= set(kinds) <= told | half_done, (request_id, action, kinds)


def replayed(connection: psycopg.Connection[Any]) -> dict[BookKey, Book]:
    """Each strategy's book in each symbol as its fills make it."""
    books: dict[BookKey, Book] = {}
    fills = connection.execute(
        "select strategy_id, symbol, is_paper, kind, side, quantity, price, fee_usd from fills order by id"
    ).fetchall()
    for strategy_id, symbol, is_paper, kind, side, *traded in fills:
        book = books.setdefault((strategy_id, symbol, is_paper), Book())
        if kind == "open":
            book.open(1 if side == "LONG" else -1, *traded)
        else:
            book.close(*traded)
    return books


def check_positions(connection: psycopg.Connection[Any], books: dict[BookKey, Book]) -> None:
    """Held is what was bought less what was sold, at the cost and the fees that were paid."""
    rows = connection.execute(
        "select strategy_id, symbol, is_paper, side, quantity, cost_usd, fees_usd from positions"
    ).fetchall()
    held = {key: book for key, book in books.items() if book.quantity}
    assert {(row[0], row[1], row[2]) for row in rows} == held.keys()
    assert len(rows) == len(held)
    for *key, side, quantity, cost, fees in rows:
        book = held[key[0], key[1], key[2]]
        assert (quantity if side == "LONG" else -quantity) == book.quantity
        assert (cost, fees) == (book.cost, book.entry_fees)


def check_trades(connection: psycopg.Connection[Any], books: dict[BookKey, Book]) -> None:
    """Profit after fees of each trade is that of its fills."""
    rows = connection.execute(
        "select strategy_id, symbol, is_paper, fees_usd, pnl_usd from trades order by exit_time, id"
    ).fetchall()
    booked: dict[BookKey, list[tuple[Decimal, Decimal]]] = {}
    for strategy_id, symbol, is_paper, fees, profit in rows:
        booked.setdefault((strategy_id, symbol, is_paper), []).append((fees, profit))
    made = {key: book.trades for key, book in books.items() if book.trades}
    assert booked.keys() == made.keys()
    for key, trades in made.items():
        assert sorted(booked[key]) == sorted(trades), key


def check_account(venue: CcxtVenue, books: dict[BookKey, Book]) -> None:
    """What the venue says of the account as a whole: nets, and its wallet to the cent.

    The venue knows one position of a symbol where the books have one of each strategy, so entry prices differ; wallet
    less what is still bound in positions is the same on both sides.
    """
    live = [(symbol, book) for (_, symbol, is_paper), book in books.items() if not is_paper]
    nets: dict[str, Decimal] = {}
    for symbol, book in live:
        nets[symbol] = nets.get(symbol, Decimal(0)) + book.quantity
    there = venue.fetch_positions()
    assert {symbol: net for symbol, net in nets.items() if net} == {each.symbol: each.net for each in there}
    at_venue = venue.fetch_balance().wallet_usd - sum((each.net * each.entry_price for each in there), Decimal(0))
    assert abs(at_venue - CAPITAL - sum(earned(book for _, book in live), Decimal(0))) < Decimal("0.01")


def earned(books: Iterator[Book]) -> Iterator[Decimal]:
    """Profit taken, less what positions have cost so far."""
    for book in books:
        yield sum((profit for _, profit in book.trades), -book.entry_fees) - book.cost.copy_sign(book.quantity)
