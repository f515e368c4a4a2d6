"""What the model was paid for and no record tells: kept until the next record carries it, so that budgets see it."""

from dataclasses import dataclass
from decimal import Decimal


@dataclass
class Unrecorded:
    """One strategy's spending since its last record, in USD; lost with its process, which is one cycle's worth."""

    usd: Decimal = Decimal(0)
