"""Looks at an account before entries are made on it: what lets every order fail is told without sending any."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import structlog

from engine.domain.errors import VenueRefused
from engine.platform.errors import CredentialsRefused, SparkyError
from engine.venues.account_setup import AccountSetup, find_faults
from engine.venues.venue import LiveVenue
from webhook_server.clock import Clock

logger = structlog.get_logger()

GOOD_FOR_S: Final = 600.0
UNKNOWN_FOR_S: Final = 60.0  # where a part could not be read
FAULTY_FOR_S: Final = 15.0  # a person may have mended it


class AccountFault(SparkyError):
    """Every order on the account would fail; the sentence says why, and what to do about it."""


@dataclass
class _Looked:
    """What was seen of `account`, until when it is believed; `lock` lets one thread look for all that wait."""

    account: LiveVenue
    lock: threading.Lock = field(default_factory=threading.Lock)
    faults: tuple[str, ...] = ()
    until: float = 0.0


class AccountChecks:
    """One for all requests of a process. An exit never asks it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._looked: dict[int, _Looked] = {}  # by identity: an account is one object for good

    @contextmanager
    def entering(self, account: LiveVenue) -> Iterator[None]:
        """Around an entry that has not been sent. Raises AccountFault; a part that cannot be read refuses nothing.

        When the venue refuses the entry itself for what was looked at, the next entry looks again.
        """
        faults = self._faults(account)
        if faults:
            raise AccountFault("; ".join(faults))
        try:
            yield
        except CredentialsRefused:
            self._forget(account)
            raise
        except VenueRefused as refusal:
            if refusal.kind == "account":
                self._forget(account)
            raise

    def look(self, account: LiveVenue) -> None:
        """Looks if it is time, so that `entering`, in a turn that exits wait for, need not."""
        self._faults(account)

    def forget_all(self) -> None:
        """The next entry on any account looks again."""
        with self._lock:
            self._looked.clear()

    def _faults(self, account: LiveVenue) -> tuple[str, ...]:
        with self._lock:
            looked = self._looked.setdefault(id(account), _Looked(account))
        with looked.lock:
            if self._clock.monotonic() >= looked.until:
                state = account.fetch_setup()
                faults = tuple(str(fault) for fault in find_faults(state))
                _log(looked.faults, faults)
                looked.faults, looked.until = faults, self._clock.monotonic() + _good_for_s(state)
            return looked.faults

    def _forget(self, account: LiveVenue) -> None:
        with self._lock:
            self._looked.pop(id(account), None)


def _good_for_s(state: AccountSetup) -> float:
    if find_faults(state):
        return FAULTY_FOR_S
    return UNKNOWN_FOR_S if state.unknown else GOOD_FOR_S


def _log(before: tuple[str, ...], faults: tuple[str, ...]) -> None:
    if faults and faults != before:
        logger.warning("account_cannot_trade", reason="; ".join(faults))
    if before and not faults:
        logger.info("account_can_trade_again")
