"""A year of funding on real books: entries, additions and partial closes of two strategies on one account, and the same
on paper. What is booked is what the venue paid, to the last digit, whenever it was looked at."""

import itertools
import random
from decimal import Decimal
from uuid import UUID, uuid4

from engine.admin.strategy_checks import NewStrategy
from engine.domain.decimals import product, total
from engine.domain.positions import Side
from engine.store.store import Store
from engine.store.webhook_rows import Fill
from engine.venues.account_record import Income
from engine.venues.market_data.funding import FundingRate, FundingState
from tests.support.clients.sql import Sql
from tests.support.factories.keys import aster_keys
from webhook_server.background.funding import FundingJob
from webhook_server.background.funding_allocation import HOUR_MS
from webhook_server.clock import SystemClock
from webhook_server.metrics import Metrics

START_MS = 472_000 * HOUR_MS
YEAR_H = 365 * 24
LOT, TICK = Decimal("0.001"), Decimal("0.1")
ZERO = Decimal(0)


class Year:
    """A venue with one symbol and one account: it pays every eight hours on the account's net, and now and then twice.

    It is also the market that paper is paid by. `late_ms` is how much later income is shown than it was paid.
    """

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.now_ms = START_MS
        self.nets = {True: dict[UUID, Decimal](), False: dict[UUID, Decimal]()}
        self.paid: list[Income] = []
        self.rates: list[FundingRate] = []
        self.late_ms = 0

    def live(self, *_: object) -> "Year":
        return self

    def funding(self, _: str) -> "Year":
        return self

    def pass_hours(self, hours: int) -> None:
        """All payments that become due."""
        for _ in range(hours):
            self.now_ms += HOUR_MS
            if self.now_ms // HOUR_MS % 8 == 0 or self.dice.random() < 0.01:
                self._pay()

    def _pay(self) -> None:
        rate, price = Decimal(self.dice.randint(-75, 90)).scaleb(-8 + self.dice.randint(0, 3)), self.price()
        self.rates.append(FundingRate(rate=rate, mark_price=price, at_ms=self.now_ms))
        amount = product(product(total(self.nets[False].values()), price), rate).copy_negate().quantize(Decimal("1e-8"))
        if amount:
            at_ms = self.now_ms + self.dice.choice((0, 1_000, 7_000))
            name = f"FUNDING_FEE:{len(self.paid)}::USDT"
            self.paid.append(
                Income(
                    income_id=name,
                    kind="FUNDING_FEE",
                    symbol="BTCUSDT",
                    amount=amount,
                    asset="USDT",
                    trade_id=None,
                    at_ms=at_ms,
                )
            )

    def price(self) -> Decimal:
        return TICK * self.dice.randint(200_000, 700_000)

    def fetch_income(self, _: object, since_ms: int, kind: str) -> tuple[Income, ...]:
        return tuple(each for each in self.paid if since_ms <= each.at_ms <= self.now_ms - self.late_ms and kind)

    def fetch_state(self, _: str) -> FundingState:
        return FundingState(rate=None, next_ms=self.now_ms - self.now_ms % HOUR_MS + HOUR_MS, at_ms=self.now_ms)

    def fetch_history(self, _: str, since_ms: int) -> tuple[FundingRate, ...]:
        return tuple(each for each in self.rates if each.at_ms >= since_ms)


class Books:
    """Two strategies, live and on paper at once, that trade the same."""

    def __init__(self, store: Store, sql: Sql, year: Year) -> None:
        self.store, self.sql, self.year = store, sql, year
        self.user_id = store.ensure_user("trader@example.org")
        store.put_credentials(self.user_id, "aster", aster_keys())
        self.strategies = [
            store.create_strategy(
                NewStrategy.from_input({"user_id": self.user_id, "name": uuid4().hex, "exchange": "aster"})
            ).id
            for _ in range(2)
        ]
        self.cash = {True: ZERO, False: ZERO}
        self._numbers = itertools.count()

    def trade(self, number: int, change: Decimal) -> None:
        """`change` of the size of strategy `number`; the first is long, the second short."""
        side = (Side.LONG, Side.SHORT)[number]
        strategy, price = self.strategies[number], self.year.price()
        sign = 1 if side is Side.LONG else -1
        for is_paper in (True, False):
            fee = product(product(abs(change), price), Decimal("0.0004"))
            fill = Fill(
                kind="open" if change > 0 else "close",
                exchange="aster",
                symbol="BTCUSDT",
                side=side,
                quantity=abs(change),
                price=price,
                fee_usd=fee,
                is_paper=is_paper,
                strategy_id=strategy,
                market_time_ms=self.year.now_ms + 10_000,
            )
            name = f"r{next(self._numbers)}"
            self.sql(
                "insert into webhook_requests (user_id, request_id, status) values (%s, %s, 'submitted')",
                self.user_id,
                name,
            )
            self.store.book_fill(name, self.user_id, fill, 200, {"success": True})
            self.cash[is_paper] += -sign * product(change, price) - fee
            nets = self.year.nets[is_paper]
            nets[strategy] = nets.get(strategy, ZERO) + sign * change

    def size(self, number: int) -> Decimal:
        return abs(self.year.nets[True].get(self.strategies[number], ZERO))

    def funding(self, is_paper: bool) -> Decimal:  # noqa: FBT001 - a column
        query = "select coalesce(sum(funding_usd), 0) from {} where is_paper = %s"
        held, ended = (self.sql(query.format(table), is_paper)[0][0] for table in ("positions", "trades"))
        return Decimal(held) + Decimal(ended)


def on_paper(year: Year, moves: list[tuple[int, int, Decimal]]) -> Decimal:
    """The model: every payment on what each strategy held at its moment."""
    found = ZERO
    for rate in year.rates:
        for number, sign in ((0, 1), (1, -1)):
            held = sum((change for at_ms, who, change in moves if who == number and at_ms <= rate.at_ms), ZERO)
            found += product(product(held * sign, rate.mark_price or ZERO), rate.rate).copy_negate()
    return found


class Story:
    """What happens in the year, at the dice's word, and the servers that look at it now and then."""

    def __init__(self, year: Year, store: Store, sql: Sql) -> None:
        self.year, self.store = year, store
        self.books = Books(store, sql, year)
        self.moves: list[tuple[int, int, Decimal]] = []
        self.start()

    def start(self) -> None:
        """As after a kill: nothing is remembered but the books."""
        self.job = FundingJob(self.store, self.year, SystemClock(), Metrics())  # type: ignore[arg-type] # all that it asks

    def move(self, number: int, change: Decimal) -> None:
        self.moves.append((self.year.now_ms + 10_000, number, change))
        self.books.trade(number, change)

    def trade(self) -> None:
        dice = self.year.dice
        number = dice.randint(0, 1)
        size = self.books.size(number)
        if size and dice.random() < 0.5:
            part = max(LOT, (size * dice.randint(1, 100) / 100).quantize(LOT))
            self.move(number, -min(size, part))
        else:
            self.move(number, LOT * dice.randint(1, 900))

    def pass_time(self) -> None:
        dice = self.year.dice
        self.year.pass_hours(dice.randint(1, 200))
        self.year.late_ms = dice.choice((0, 60_000, 5 * HOUR_MS))
        if dice.random() < 0.3:
            self.start()
        if dice.random() < 0.7:
            self.job.run()

    def end(self) -> None:
        for number in (0, 1):
            if self.books.size(number):
                self.move(number, -self.books.size(number))
        self.year.late_ms = 0
        self.year.pass_hours(1)
        self.start()
        self.job.run()
        self.job.run()


def test_a_year_of_funding_is_in_the_books_to_the_last_digit(store: Store, sql: Sql) -> None:
    year = Year(random.Random(1))
    story = Story(year, store, sql)
    while year.now_ms < START_MS + YEAR_H * HOUR_MS:
        story.trade()
        for _ in range(year.dice.randint(1, 3)):
            story.pass_time()
    story.end()
    books = story.books
    assert len(year.paid) > 1_000
    assert books.funding(is_paper=False) == total(each.amount for each in year.paid)
    assert sql("select count(*) from funding_payments where reason is not null") == [(0,)]
    assert books.funding(is_paper=True) == on_paper(year, story.moves)
    for is_paper in (True, False):
        (earned,) = sql("select sum(pnl_usd), sum(funding_usd) from trades where is_paper = %s", is_paper)
        assert earned[0] == books.cash[is_paper] + earned[1]
        realized = sql("select sum(realized_pnl_usd) from strategy_ledger where is_paper = %s", is_paper)
        assert realized == [(earned[0],)]
    assert store.list_open_positions() == ()
