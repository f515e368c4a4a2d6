"""A position that no strategy steers, as the engine counts it and people are shown it."""

from decimal import Decimal
from uuid import UUID

from engine.store.values import Moment, ShownRow


class UnattendedPosition(ShownRow):
    """Right or wrong, as the table has it: one that cannot be read must be seen too.

    `why` is the status of its strategy, or gone, other book, other exchange, other symbols; `since` is when that
    strategy was paused or ended. `strategy_id` is None where the row of a strategy took it along when it was deleted.
    """

    id: UUID
    user_id: UUID
    strategy_id: UUID | None
    strategy_name: str | None
    why: str
    since: Moment | None
    exchange: str
    symbol: str
    side: str | None
    quantity: Decimal
    entry_price: Decimal
    entry_time: Moment | None
    stop_loss_price: Decimal | None
    take_profit_price: Decimal | None
    is_paper: bool
