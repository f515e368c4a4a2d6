"""The prompt of one cycle as a value, with the correction that asks the model to repair an unusable answer."""

from typing import Final, NamedTuple

CANDLES: Final = 10
MAX_REJECTED: Final = 600  # characters of a rejected answer that are sent again, because tokens cost


class RejectedAnswer(NamedTuple):
    """The beginning of an unusable answer, and why it is unusable."""

    text: str
    reason: str


class Prompt(NamedTuple):
    """`system` has the same bytes in every cycle of a profile, for the provider's prefix cache; `user` ends with the
    market block.

    With `rejected` the model gets its own unusable answer and is asked once more.
    """

    system: str
    user: str
    candles: int = CANDLES  # per symbol
    rejected: RejectedAnswer | None = None

    @property
    def correction(self) -> str:
        """The message that follows a rejected answer."""
        reason = self.rejected.reason if self.rejected else ""
        return f"That answer cannot be used: {reason}. Answer again with exactly one JSON object as described."


def with_correction(prompt: Prompt, answer: str, reason: str) -> Prompt:
    """The same prompt with the rejected `answer` and the `reason`; a `Prompt` whose `correction` asks again."""
    text = answer[:MAX_REJECTED].encode("ascii", "replace").decode()
    return prompt._replace(rejected=RejectedAnswer(text, reason))
