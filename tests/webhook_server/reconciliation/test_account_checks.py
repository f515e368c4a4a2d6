"""How often an account is looked at before entries: seldom while it is well, soon again when it is not."""

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from engine.domain.errors import OrderRejected
from engine.platform.errors import CredentialsError
from engine.venues.account_setup import AccountSetup
from engine.venues.venue import LiveVenue
from webhook_server.reconciliation.account_checks import (
    FAULTY_TTL_S,
    HEALTHY_TTL_S,
    UNKNOWN_TTL_S,
    AccountChecks,
    AccountFault,
)

GOOD = AccountSetup(hedge_mode=False)
HEDGED = AccountSetup(hedge_mode=True)
UNREAD = AccountSetup(unknown={"the balance": "gone"})


@dataclass
class Time:
    seconds: float = 1.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


@dataclass
class Looked:
    """An account that counts how often it was looked at."""

    tells: AccountSetup = GOOD
    times: int = 0
    gate: threading.Event = field(default_factory=threading.Event)

    def fetch_setup(self) -> AccountSetup:
        self.gate.wait(30)
        self.times += 1
        return self.tells


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def checks(time: Time) -> AccountChecks:
    return AccountChecks(time)


def account(tells: AccountSetup = GOOD) -> Any:
    made = Looked(tells)
    made.gate.set()
    return made


def enter(checks: AccountChecks, account: object, failure: Exception | None = None) -> None:
    with checks.guard_entry(cast("LiveVenue", account)):
        if failure is not None:
            raise failure


@pytest.mark.parametrize(
    ("tells", "kept_s"),
    [(GOOD, HEALTHY_TTL_S), (UNREAD, UNKNOWN_TTL_S), (HEDGED, FAULTY_TTL_S)],
    ids=["good", "?", "bad"],
)
def test_what_was_seen_is_believed_for_a_time(
    checks: AccountChecks, time: Time, tells: AccountSetup, kept_s: float
) -> None:
    looked = account(tells)
    for _ in range(3):
        if tells is HEDGED:
            with pytest.raises(AccountFault, match="hedge mode"):
                enter(checks, looked)
        else:
            enter(checks, looked)
    assert looked.times == 1
    time.seconds += kept_s
    looked.tells = GOOD
    enter(checks, looked)
    assert looked.times == 2


def test_each_account_is_looked_at_for_itself(checks: AccountChecks) -> None:
    one, other = account(), account(HEDGED)
    enter(checks, one)
    with pytest.raises(AccountFault):
        enter(checks, other)
    enter(checks, one)


@pytest.mark.parametrize(
    ("failure", "looks"),
    [
        (OrderRejected("position side", "account"), 2),
        (CredentialsError("-2015"), 2),
        (OrderRejected("margin", "funds"), 1),
        (OrderRejected("price", "filter"), 1),
    ],
)
def test_a_refusal_for_what_was_looked_at_lets_the_next_entry_look_again(
    checks: AccountChecks, failure: Exception, looks: int
) -> None:
    looked = account()
    with pytest.raises(type(failure)):
        enter(checks, looked, failure)
    enter(checks, looked)
    assert looked.times == looks


def test_many_entries_at_once_wait_for_one_look(checks: AccountChecks) -> None:
    looked = Looked()
    threads = [threading.Thread(target=enter, args=(checks, looked)) for _ in range(8)]
    for thread in threads:
        thread.start()
    looked.gate.set()
    for thread in threads:
        thread.join(30)
    assert looked.times == 1
