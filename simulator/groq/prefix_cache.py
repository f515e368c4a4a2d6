"""A provider's prefix cache, as far as it affects usage figures: which beginnings of prompts have been seen."""

import hashlib
from collections import OrderedDict
from typing import Final

BYTES_PER_TOKEN: Final = 4
BLOCK_TOKENS: Final = 128
MAX_BLOCKS: Final = 20_000


def count_tokens(text: str) -> int:
    """Four bytes of UTF-8 a token, rounded up. Rough: real tokenizers spend more on numbers."""
    return -(-len(text.encode()) // BYTES_PER_TOKEN)


class PrefixCache:
    """Remembers the last 20,000 blocks by a hash chained from the prompt's first byte."""

    def __init__(self) -> None:
        self._blocks: OrderedDict[bytes, None] = OrderedDict()

    def match_prefix(self, model: str, prompt: str) -> int:
        """Tokens of the longest beginning seen before, in whole blocks; remembers all of `prompt`."""
        size, raw = BLOCK_TOKENS * BYTES_PER_TOKEN, prompt.encode()
        chain = hashlib.blake2b(model.encode(), digest_size=16)
        cached, unbroken = 0, True
        for start in range(0, len(raw) - size + 1, size):
            chain.update(raw[start : start + size])
            unbroken = self._touch(chain.digest()) and unbroken
            cached += BLOCK_TOKENS if unbroken else 0
        return cached

    def _touch(self, block: bytes) -> bool:
        is_cached = block in self._blocks
        self._blocks[block] = None
        self._blocks.move_to_end(block)
        if len(self._blocks) > MAX_BLOCKS:
            self._blocks.popitem(last=False)
        return is_cached
