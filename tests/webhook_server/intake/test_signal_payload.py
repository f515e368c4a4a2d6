"""Every signal that Sparky's own parts can build is accepted by the webhook server, and means the same there."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from engine.deciding import decision_parser
from engine.domain import symbol_names
from engine.domain.decision import Action
from engine.domain.signal import SignalAction
from engine.domain.signal_payload import (
    SignalPayload,
    SignalSource,
    build_decision_payload,
    build_exit_payload,
    write_json,
)
from engine.store.transport.json_numbers import read_json
from tests.engine.deciding.examples import a_context, a_position, a_strategy
from webhook_server.intake.field_errors import FieldError
from webhook_server.intake.json_body import parse_object
from webhook_server.intake.schemas import AiSignal, WebhookSignal
from webhook_server.intake.signal_parser import list_unknown_names, parse_signal

SPELLINGS = ("BTCUSDT", "btc/usdt:usdt", "BTC-USDT-SWAP", "1000PEPEUSDT", "币安人生USDT", "BTCUSDT_260327", " T/USD ")
VENUE_NAMES = ("BTC_USDT", "PF_XBTUSD", "BTCUSD_PERP", "USDT", "XPERP")
NO_SYMBOLS = ("", "B", "BTC USDT", "BTC/USDT-251226", "\u0412\u0422\u0421USDT", "x" * 40)
ENTRY_TERMS = {"position_size_usd", "stop_loss_percent", "take_profit_percent"}
ENTRY: dict[str, Any] = {
    "user_id": UUID(int=1),
    "signal_id": UUID(int=2),
    "source": SignalSource.AI_ENGINE,
    "action": SignalAction.BUY,
    "exchange": "aster",
    "symbol": "BTCUSDT",
    "position_size_usd": Decimal(100),
}
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

moments = st.datetimes(datetime(1971, 1, 1), datetime(9000, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - in UTC
percents = st.decimals(Decimal("1E-8"), Decimal("99.99"), places=20) | st.decimals(1, 99, places=2)
EDGES = [
    Decimal(text)
    for text in ("0", "9E-9", "1E-8", "1", "99.99999999999999999999", "100", "1000", "1000.00001", "1E+9", "1000000001")
]
numbers = st.decimals(0, 2_000_000_000, places=20) | st.decimals(0, 2_000, places=4)

usual_fields = st.fixed_dictionaries(
    {
        "user_id": st.uuids(),
        "signal_id": st.uuids(),
        "source": st.sampled_from(SignalSource),
        "action": st.sampled_from(SignalAction),
        "exchange": st.sampled_from(("aster", "Binance", "okx\n")),
        "symbol": st.sampled_from(SPELLINGS),
        "position_size_usd": st.decimals(Decimal("0.01"), 1_000_000_000, places=20),
    },
    optional={
        "strategy_id": st.uuids(),
        "environment": st.sampled_from(("production", "paper")),
        "stop_loss_percent": percents,
        "take_profit_percent": percents,
        "ai_confidence": st.floats(0, 1),
        "ai_reasoning": st.text(max_size=100),
        "expires_at": moments,
    },
)
# One field at a time, or what is wrong with one would hide what is wrong with another.
odd_fields: st.SearchStrategy[dict[str, Any]] = st.one_of(
    *(
        st.fixed_dictionaries({name: values})
        for name, values in {
            "exchange": st.sampled_from(("x", "a-b", "", "binance" * 5)) | st.text("abzé19", max_size=31),
            "symbol": st.sampled_from(VENUE_NAMES + NO_SYMBOLS) | st.text(LETTERS, min_size=1, max_size=31),
            "position_size_usd": numbers,
            "stop_loss_percent": numbers,
            "take_profit_percent": numbers,
            "ai_confidence": st.floats(-0.1, 1.1),
        }.items()
    )
)


def read(text: str) -> WebhookSignal:
    """What the webhook server makes of the body `text`. Raises FieldError."""
    body = parse_object(text.encode())
    assert list_unknown_names(body) == []
    return parse_signal(body, AiSignal)


def as_delivered(text: str) -> str:
    """`text` once it was stored as jsonb, which keeps every digit and forgets the order, and sent by the dispatcher."""
    return write_json(dict(reversed(read_json(text).items())))


def check_same_meaning(payload: SignalPayload) -> None:
    signal = read(payload.to_json())
    assert read(as_delivered(payload.to_json())) == signal
    copied = {"user_id", "action", "strategy_id", "environment", "source", "ai_confidence", "ai_reasoning"}
    assert signal.model_dump(include=copied) == payload.model_dump(include=copied)
    assert signal.signal_id == str(payload.signal_id)
    assert signal.exchange == payload.exchange.lower()
    assert signal.is_ai_signal
    if payload.action is SignalAction.CLOSE:
        assert signal.is_whole_exit
        # an exit of another spelling is looked for under the very name as well (`exits_of_nothing.resolve_held_symbol`)
        written = symbol_names.to_upper(payload.symbol)
        assert signal.symbol == written or signal.symbol == symbol_names.normalize_symbol(written)
        return
    assert signal.symbol == symbol_names.normalize_symbol(payload.symbol)
    terms = ENTRY_TERMS | {"expires_at"}
    assert signal.model_dump(include=terms) == payload.model_dump(include=terms)
    assert (signal.leverage, signal.order_type, signal.price, signal.timestamp) == (1, "MARKET", None, None)


def check_that_both_agree(fields: dict[str, Any]) -> None:
    """Either it can be built and is read with its meaning, or the webhook server would refuse it."""
    try:
        payload = SignalPayload(**fields)
    except ValidationError as error:
        faults = {str(fault["loc"][0]) for fault in error.errors()}
        try:
            read(SignalPayload.model_construct(**fields).to_json())
        except FieldError:
            return
        is_exit = fields["action"] is SignalAction.CLOSE
        assert (is_exit, faults) == (True, {"ai_confidence"})  # what only informs stops no exit
    else:
        check_same_meaning(payload)


@given(usual_fields, st.just({}) | odd_fields)
@settings(max_examples=500)
def test_what_can_be_built_is_accepted_with_its_meaning_and_what_cannot_would_be_refused(
    usual: dict[str, Any], odd: dict[str, Any]
) -> None:
    left_out = ENTRY_TERMS if usual["action"] is SignalAction.CLOSE else set()
    check_that_both_agree({name: value for name, value in (usual | odd).items() if name not in left_out})


@pytest.mark.parametrize("name", sorted(ENTRY_TERMS))
@pytest.mark.parametrize("action", [SignalAction.BUY, SignalAction.SELL])
def test_the_bounds_of_both_are_the_same(name: str, action: SignalAction) -> None:
    for edge in EDGES:
        check_that_both_agree({**ENTRY, "action": action, name: edge})


def test_an_exit_cannot_hold_the_terms_of_an_entry_and_an_entry_needs_a_size() -> None:
    for wrong in (
        {name: value for name, value in ENTRY.items() if name != "position_size_usd"},
        ENTRY | {"action": SignalAction.CLOSE},
    ):
        with pytest.raises(ValidationError) as caught:
            SignalPayload.model_validate(wrong)
        assert [fault["loc"] for fault in caught.value.errors()] == [("position_size_usd",)]


answers = st.fixed_dictionaries(
    {
        "action": st.sampled_from([action.value for action in Action]),
        "symbol": st.sampled_from(("BTCUSDT", "ETHUSDT")),
        "size_usd": st.floats(0, 1e12) | st.integers(0, 10**12),
        "confidence": st.floats(0, 1),
        "reasoning": st.text(max_size=200),
        "stop_loss_percent": st.floats(0, 100) | st.none(),
        "take_profit_percent": st.floats(0, 100) | st.none(),
    }
)


@given(answers)
def test_whatever_a_model_answers_becomes_a_signal_that_is_accepted_or_no_signal(answer: dict[str, Any]) -> None:
    strategy = a_strategy(target_assets=("BTCUSDT", "ETHUSDT"), max_position_usd=Decimal(1_000_000_000))
    limits = decision_parser.build_decision_limits(a_context(strategy))
    decision = decision_parser.parse_decision(write_json(answer), limits)
    payload = build_decision_payload(decision, strategy, UUID(int=9))
    assert (payload is None) == (decision.action is Action.HOLD)
    if payload is not None:
        assert (payload.user_id, payload.strategy_id, payload.signal_id) == (
            strategy.user_id,
            strategy.id,
            UUID(int=9),
        )
        assert payload.position_size_usd == (None if decision.action is Action.CLOSE else decision.size_usd)
        check_same_meaning(payload)


@given(st.sampled_from(("BTCUSDT", "TUSD", *VENUE_NAMES)), st.none() | st.uuids(), st.booleans())
def test_every_position_can_be_closed_in_its_own_book(symbol: str, strategy_id: UUID | None, is_paper: bool) -> None:  # noqa: FBT001 - an example
    position = a_position(symbol=symbol, strategy_id=strategy_id, is_paper=is_paper)
    payload = build_exit_payload(position, UUID(int=9), SignalSource.KILL_SWITCH)
    check_same_meaning(payload)
    assert (payload.symbol, payload.environment) == (symbol, "paper" if is_paper else "production")
