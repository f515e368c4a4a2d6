"""The id of a signal: the sender's, or one derived from the body, by which a repetition is recognized without one."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from engine.store.store import Store
from webhook_server.intake import fields
from webhook_server.intake.field_errors import FieldError
from webhook_server.intake.field_reasons import ID_FORM
from webhook_server.intake.request_body import Envelope
from webhook_server.intake.schemas import REQUEST_ID, WebhookSignal

DERIVED_PREFIX: Final = "body/"  # a sender's id has no slash; the SQL function `repeated_request` has the same prefix
MAX_REPETITION_AGE: Final = timedelta(days=1)
MIN_RETRY_S: Final = 1.0  # no sender retries sooner: equal bodies within it are separate alerts


class ReceivedRequest(Protocol):
    """A request that is executed or queued; `received_at` is in UTC."""

    @property
    def id(self) -> str: ...

    @property
    def received_at(self) -> datetime: ...


_MOMENT: Final[TypeAdapter[datetime]] = TypeAdapter(fields.Timestamp)


@dataclass(frozen=True)
class SignalId:
    """`is_repetition` is whether the body is equal to that of an earlier signal, whose id this is."""

    name: str
    is_repetition: bool = False


def resolve_signal_id(
    envelope: Envelope,
    signal: WebhookSignal,
    user_id: UUID,
    store: Store,
    now: datetime,
    in_progress: Mapping[tuple[UUID, str], ReceivedRequest],
) -> SignalId:
    """The id under which the signal is executed once. `in_progress` is by user and fingerprint of the body.

    A body without an id but with a `timestamp` of the last day is one signal for ever. Without such a timestamp it
    repeats an equal one that was not answered yet: that one is in progress, got a 5xx, or its sender hung up. A CLOSE
    of the whole position is always new: executing it twice does no harm, while taking it for a repetition would leave
    open what was entered in between.

    Raises FieldError and UpstreamUnavailable.
    """
    given = read_sender_id(envelope.headers, signal)
    if given is not None:
        return SignalId(given)
    if signal.is_whole_exit:
        return SignalId(str(uuid.uuid4()))
    first = in_progress.get((user_id, envelope.fingerprint))  # one that is queued has no row in the database yet
    if first is not None and (now - first.received_at).total_seconds() > MIN_RETRY_S:
        return SignalId(first.id, is_repetition=True)
    derived, has_moment = derive_id(envelope.fingerprint), "timestamp" in envelope.body
    known = store.find_repeated_request(user_id, envelope.fingerprint, derived if has_moment else None, MIN_RETRY_S)
    if known is not None:
        return SignalId(known, is_repetition=True)
    if _is_recent(envelope.body.get("timestamp"), now):
        return SignalId(derived)
    return SignalId(f"{derived}/{now.timestamp():.3f}-{uuid.uuid4().hex[:8]}")


def is_new_once_answered(name: str) -> bool:
    """Whether the id was derived from a body without a timestamp: after its response an equal body is a new signal."""
    return name.startswith(DERIVED_PREFIX) and name.count("/") > 1


def read_sender_id(headers: Mapping[str, str], signal: WebhookSignal) -> str | None:
    """The sender's id of the signal, from the header `webhook-id` or the field `signal_id`; None without either.

    Raises FieldError for an entry with two different ids or with one that has a wrong form. An exit is executed without
    such an id.
    """
    header = headers.get("webhook-id", "").strip()
    if header and not REQUEST_ID.fullmatch(header):
        if signal.is_entry:
            raise FieldError("webhook-id", ID_FORM)
        header = ""
    if header and signal.signal_id and header != signal.signal_id and signal.is_entry:
        raise FieldError("signal_id", "differs from the webhook-id header")
    return signal.signal_id or header or None


def _is_recent(timestamp: object, now: datetime) -> bool:
    # An old timestamp was copied with an example, or is the same in every message: it identifies nothing.
    try:
        moment = _MOMENT.validate_python(timestamp)
    except ValidationError:
        return False
    return abs(now - moment) < MAX_REPETITION_AGE


def derive_id(fingerprint: str) -> str:
    """The id of a body with this `fingerprint` (SHA-256 in hex); 160 bits of it make a collision infeasible."""
    return f"{DERIVED_PREFIX}{fingerprint[:40]}"
