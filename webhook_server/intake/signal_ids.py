"""The id of a signal: the sender's own, or one derived from the body, so that a repetition is known without an id."""

import uuid
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from engine.store.store import Store
from webhook_server.execution.execution_context import Request
from webhook_server.intake import fields
from webhook_server.intake.field_errors import FieldError
from webhook_server.intake.field_reasons import ID_FORM
from webhook_server.intake.request_body import Envelope
from webhook_server.intake.schemas import REQUEST_ID, Order

DERIVED: Final = "body/"  # no sender's id has a slash; `repeated_request` in the database knows the prefix too
LATEST_REPETITION: Final = timedelta(days=1)
SHORTEST_RETRY_S: Final = 1.0  # equal bodies that come closer together are a crowd of alerts, not one that is repeated

UnderWay = MutableMapping[tuple[UUID, str], Request]  # by person and fingerprint

_MOMENT: Final[TypeAdapter[datetime]] = TypeAdapter(fields.Moment)


@dataclass(frozen=True)
class SignalId:
    """`is_repetition` says that a signal of this id came before, as far as its body tells."""

    name: str
    is_repetition: bool = False


def signal_id(
    envelope: Envelope, order: Order, user_id: UUID, store: Store, now: datetime, under_way: UnderWay
) -> SignalId:
    """The id under which the signal is executed once.

    A body without an id is one signal for ever when its `timestamp` is of the last day. Otherwise it repeats an equal
    one that has not been answered yet: it is under way, its sender was told to come back, or hung up. Only a CLOSE of
    the whole position is new each time: to make it twice does no harm, and to take it for a repetition would leave open
    what was entered in between.

    Raises FieldError and UpstreamUnavailable.
    """
    given = given_id(envelope.headers, order)
    if given is not None:
        return SignalId(given)
    if order.is_whole_exit:
        return SignalId(str(uuid.uuid4()))
    first = under_way.get((user_id, envelope.fingerprint))  # it may wait for its turn, and has no row before that
    if first is not None and (now - first.asked_at).total_seconds() > SHORTEST_RETRY_S:
        return SignalId(first.id, is_repetition=True)
    derived, has_moment = derived_id(envelope.fingerprint), "timestamp" in envelope.body
    known = store.repeated_request(user_id, envelope.fingerprint, derived if has_moment else None, SHORTEST_RETRY_S)
    if known is not None:
        return SignalId(known, is_repetition=True)
    if _is_of_today(envelope.body.get("timestamp"), now):
        return SignalId(derived)
    return SignalId(f"{derived}/{now.timestamp():.3f}-{uuid.uuid4().hex[:8]}")


def is_known_by_its_answer(name: str) -> bool:
    """Whether the id was derived from a body that tells no moment: once answered, an equal body is another signal."""
    return name.startswith(DERIVED) and name.count("/") > 1


def given_id(headers: Mapping[str, str], order: Order) -> str | None:
    """The sender's id of the signal, None if it gave none: `webhook-id` and `signal_id` are the same thing.

    Raises FieldError for an entry that has two different ones, or one that cannot be kept.
    """
    header = headers.get("webhook-id", "").strip()
    if header and not REQUEST_ID.fullmatch(header):
        if order.is_entry:
            raise FieldError("webhook-id", ID_FORM)
        header = ""
    if header and order.signal_id and header != order.signal_id and order.is_entry:
        raise FieldError("signal_id", "differs from the webhook-id header")
    return order.signal_id or header or None


def _is_of_today(timestamp: object, now: datetime) -> bool:
    """One of long ago was copied with its example, or is the same in every message."""
    try:
        moment = _MOMENT.validate_python(timestamp)
    except ValidationError:
        return False
    return abs(now - moment) < LATEST_REPETITION


def derived_id(fingerprint: str) -> str:
    """`fingerprint` is a SHA-256 in hex; 160 bits of it tell any two bodies apart."""
    return f"{DERIVED}{fingerprint[:40]}"
