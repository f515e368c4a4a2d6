"""Which accounts are not asked again within one round."""

from uuid import UUID

from webhook_server.reconciliation.unavailable_accounts import UnavailableAccounts

ONE, TWO, THREE = UUID(int=1), UUID(int=2), UUID(int=3)


def test_an_account_that_failed_is_skipped_and_the_next_one_of_its_venue_is_tried() -> None:
    accounts = UnavailableAccounts()
    assert not accounts.should_skip(ONE, "aster")
    accounts.add(ONE, "aster")
    accounts.add(ONE, "aster")
    assert accounts.should_skip(ONE, "aster")
    assert not accounts.should_skip(TWO, "aster")
    assert not accounts.should_skip(ONE, "binance")


def test_a_venue_that_failed_two_accounts_is_asked_for_nobody_and_others_are_still_asked() -> None:
    accounts = UnavailableAccounts()
    accounts.add(ONE, "aster")
    accounts.add(TWO, "aster")
    accounts.add(ONE, "binance")
    assert accounts.should_skip(THREE, "aster")
    assert not accounts.should_skip(THREE, "binance")
    assert [accounts.has(user, "aster") for user in (ONE, TWO, THREE)] == [True, True, False]
