"""The rules of an entry: what they allow is never more than was asked for, and never against one of them."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from engine.domain.positions import Position, Side
from engine.domain.strategy import Adding, EntryRules
from engine.risk.entry_rules import UNRESTRICTED, BrokenRule, Entry, apply_entry_rules, calculate_max_entry_usd
from tests.engine.deciding.examples import a_position

money = st.decimals("0.01", 1_000_000, places=2)
entries = st.builds(
    Entry,
    side=st.sampled_from(Side),
    size_usd=money,
    stop_loss_percent=st.none() | st.decimals("0.0001", "99.9999", places=4),
)
any_rules = st.builds(
    EntryRules,
    stop_loss_required=st.booleans(),
    max_entry_percent=st.decimals("0.01", 100, places=2),
    adding=st.sampled_from(Adding),
    min_stop_loss_percent=st.decimals(0, "49.9999", places=4),
)
positions = st.none() | st.builds(
    a_position, side=st.sampled_from(Side), unrealized_pnl_usd=st.none() | st.decimals(-1000, 1000, places=2)
)


@given(entries, any_rules, money, positions)
def test_an_allowed_entry_is_within_every_rule(
    entry: Entry, rules: EntryRules, most: Decimal, held: Position | None
) -> None:
    allowed = apply_entry_rules(entry, rules, most, held)
    if isinstance(allowed, BrokenRule):
        assert allowed.reason
        assert allowed.rule in EntryRules.model_fields
        return
    assert 0 <= allowed <= entry.size_usd
    assert allowed * 100 <= most * rules.max_entry_percent
    assert entry.stop_loss_percent is not None or not rules.stop_loss_required
    assert entry.stop_loss_percent is None or entry.stop_loss_percent >= rules.min_stop_loss_percent
    if held is not None and held.side is entry.side:
        assert rules.adding is not Adding.NEVER
        assert rules.adding is Adding.ALWAYS or (held.unrealized_pnl_usd or 0) > 0


@given(entries, any_rules, money)
def test_the_size_alone_is_never_a_reason_to_refuse(entry: Entry, rules: EntryRules, most: Decimal) -> None:
    small = Entry(entry.side, Decimal("0.01"), entry.stop_loss_percent)
    refused = [isinstance(apply_entry_rules(each, rules, most, None), BrokenRule) for each in (entry, small)]
    assert refused[0] == refused[1]


@given(entries, any_rules, money, positions)
def test_a_reversal_is_judged_as_an_entry_into_nothing(
    entry: Entry, rules: EntryRules, most: Decimal, held: Position | None
) -> None:
    if held is not None and held.side is not entry.side:
        assert apply_entry_rules(entry, rules, most, held) == apply_entry_rules(entry, rules, most, None)


@given(entries, money, positions)
def test_rules_that_restrict_nothing_leave_all_but_the_limit(
    entry: Entry, most: Decimal, held: Position | None
) -> None:
    assert apply_entry_rules(entry, UNRESTRICTED, most, held) == min(entry.size_usd, most)


def test_a_share_is_rounded_down_to_cents() -> None:
    assert calculate_max_entry_usd(EntryRules(max_entry_percent=Decimal("33.33")), Decimal("100.01")) == Decimal(
        "33.33"
    )
