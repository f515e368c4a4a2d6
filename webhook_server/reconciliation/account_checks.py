"""Checks an account's settings before an entry: a fault that would fail every order is reported without sending one."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import structlog

from engine.domain.errors import OrderRejected
from engine.platform.errors import CredentialsError, SparkyError
from engine.venues.account_setup import AccountSetup, find_faults
from engine.venues.venue import LiveVenue
from webhook_server.clock import Clock

logger = structlog.get_logger()

HEALTHY_TTL_S: Final = 600.0
UNKNOWN_TTL_S: Final = 60.0  # where a part could not be read
FAULTY_TTL_S: Final = 15.0  # short, since a person may be repairing it now


class AccountFault(SparkyError):
    """Every order on the account would fail; its text says why, and what to do about it."""


@dataclass
class _CachedCheck:
    """The `faults` of `account`, valid until the monotonic `expires_at`; under `lock` one thread reads for all."""

    account: LiveVenue
    lock: threading.Lock = field(default_factory=threading.Lock)
    faults: tuple[str, ...] = ()
    expires_at: float = 0.0


class AccountChecks:
    """A cache of account checks, shared by all requests of a process. Exits never use it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._cache: dict[int, _CachedCheck] = {}  # by identity: an account is one object for good

    @contextmanager
    def guard_entry(self, account: LiveVenue) -> Iterator[None]:
        """Wraps the sending of an entry. Raises AccountFault before it where the account has a fault.

        A part that cannot be read refuses nothing: the venue refuses the order itself, and nothing is traded. When the
        venue refuses the entry for a reason that this check covers, the next entry reads the account again.
        """
        faults = self._get_faults(account)
        if faults:
            raise AccountFault("; ".join(faults))
        try:
            yield
        except CredentialsError:
            self._invalidate(account)
            raise
        except OrderRejected as refusal:
            if refusal.kind == "account":
                self._invalidate(account)
            raise

    def refresh(self, account: LiveVenue) -> None:
        """Reads the account if the cached check has expired, so that `guard_entry` need not while it holds the lock of
        a strategy whose exits wait."""
        self._get_faults(account)

    def invalidate_all(self) -> None:
        """Has the next entry on any account read it again."""
        with self._lock:
            self._cache.clear()

    def _get_faults(self, account: LiveVenue) -> tuple[str, ...]:
        with self._lock:
            check = self._cache.setdefault(id(account), _CachedCheck(account))
        with check.lock:
            if self._clock.monotonic() >= check.expires_at:
                state = account.fetch_setup()
                faults = tuple(str(fault) for fault in find_faults(state))
                _log_change(check.faults, faults)
                check.faults, check.expires_at = faults, self._clock.monotonic() + _choose_ttl_s(state)
            return check.faults

    def _invalidate(self, account: LiveVenue) -> None:
        with self._lock:
            self._cache.pop(id(account), None)


def _choose_ttl_s(state: AccountSetup) -> float:
    if find_faults(state):
        return FAULTY_TTL_S
    return UNKNOWN_TTL_S if state.unknown else HEALTHY_TTL_S


def _log_change(before: tuple[str, ...], faults: tuple[str, ...]) -> None:
    if faults and faults != before:
        logger.warning("account_cannot_trade", reason="; ".join(faults))
    if before and not faults:
        logger.info("account_can_trade_again")
