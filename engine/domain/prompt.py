"""The prompt of one cycle as a value, and how an unusable answer is shown to the model again."""

from typing import Final, NamedTuple

CANDLES: Final = 10
MAX_REJECTED: Final = 600


class RejectedAnswer(NamedTuple):
    """An answer that could not be used, as much of it as is worth showing again, and why."""

    text: str
    reason: str


class Prompt(NamedTuple):
    """`system` is the same bytes in every cycle of a profile; `user` ends with the market block.

    With `rejected` the model is shown its own unusable answer and asked once more.
    """

    system: str
    user: str
    candles: int = CANDLES  # how many of each symbol are shown
    rejected: RejectedAnswer | None = None

    @property
    def correction(self) -> str:
        """What is said to a rejected answer."""
        reason = self.rejected.reason if self.rejected else ""
        return f"That answer cannot be used: {reason}. Answer again with exactly one JSON object as described."


def with_correction(prompt: Prompt, answer: str, reason: str) -> Prompt:
    """The same prompt with the answer that it got, and the request for one that can be used."""
    text = answer[:MAX_REJECTED].encode("ascii", "replace").decode()
    return prompt._replace(rejected=RejectedAnswer(text, reason))
