"""A person's positions are shown with every field of theirs, but for the owner and what the server keeps for itself."""

from engine.domain.positions import Position
from tests.webhook_server.http.test_response_models import POSITION
from webhook_server.http.read_models import PositionBody


def test_every_field_of_a_position_is_shown_but_its_owner_and_internal_ones() -> None:
    internal = {name for name, field in Position.model_fields.items() if field.exclude}
    assert set(PositionBody.model_fields) == set(Position.model_fields) - internal - {"user_id"}


def test_the_shown_fields_are_in_the_order_of_the_position() -> None:
    shown = PositionBody.model_validate(POSITION).to_json()
    assert list(shown) == [name for name in Position.model_fields if name in shown]
