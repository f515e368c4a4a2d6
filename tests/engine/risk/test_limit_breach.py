"""What a refusal says where no limit has a figure, and that costs are no refusal by themselves."""

from decimal import Decimal

from engine.risk.limit_breach import LimitBreach, LimitType, build_unreadable_breach, skip_cost_check


def test_a_limit_that_cannot_be_read_refuses_with_its_reason_and_without_figures() -> None:
    breach = build_unreadable_breach("max_daily_loss_usd: must be 0 or more")
    assert breach == LimitBreach(
        LimitType.UNREADABLE,
        "A limit cannot be read, so no entry is made: max_daily_loss_usd: must be 0 or more",
        None,
        None,
    )


def test_an_entry_whose_costs_are_judged_later_is_refused_at_no_size() -> None:
    assert [skip_cost_check(Decimal(size)) for size in ("0", "0.01", "1E+19")] == [None, None, None]
