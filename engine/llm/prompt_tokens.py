"""Estimates a text's tokens without a tokenizer, so that a strategy's process need not load a vocabulary.

The weights beyond ASCII were measured with the vocabularies of gpt-oss (o200k) and of qwen3; they follow the larger
count. For Greek and the scripts of India that is qwen3's, two to four times that of o200k.
"""

import math
import re
from bisect import bisect
from collections import Counter
from functools import lru_cache
from itertools import product
from typing import Final

from engine.domain.prompt import Prompt

# How tokenizers of this family cut ASCII: a word with its space, up to three digits, punctuation by ones and twos,
# spaces by fours. English words are mostly one token up to eight letters.
_PIECES: Final = re.compile(r" ?_?[A-Za-z]{1,8}| ?[0-9]{1,3}|\n{1,8}| ?[!-/:-@\[-`{-~]{1,2}| {1,4}|[\x00-\x1f\x7f]")
# For a text with letters beyond ASCII: its Latin words are hardly English, and the vocabularies cut those finer.
_FINER_PIECES: Final = re.compile(
    r" ?_?[A-Za-z\u00c0-\u024f\u1e00-\u1eff]{1,3}| ?[0-9]{1,3}|\n{1,8}| ?[!-/:-@\[-`{-~]{1,2}| {1,4}|[\x00-\x1f\x7f]"
)
_LETTER_BEYOND_ASCII: Final = re.compile(r"[^\W\x00-\x7f]|[\u0300-\u036f]")  # or an accent of its own

_BYTES: Final = 0.0  # as many tokens as UTF-8 bytes, which no vocabulary of this family exceeds
# From each code point on, tokens for each character.
_WEIGHTS: Final = (
    (0x0080, _BYTES),
    (0x00A0, 1.2),  # Latin-1: more than what its letters count in words, because they cut these
    (0x0100, 1.3),  # Latin Extended-A
    (0x0180, _BYTES),
    (0x01A0, 1.0),  # Vietnamese horns
    (0x01B1, _BYTES),
    (0x0386, 1.1),  # Greek
    (0x03CF, _BYTES),
    (0x0400, 1.0),  # Cyrillic capitals
    (0x0430, 0.6),  # small Cyrillic letters of the Slavic languages
    (0x0460, _BYTES),
    (0x05D0, 0.7),  # Hebrew letters
    (0x05EB, _BYTES),
    (0x060C, 0.6),  # Arabic
    (0x064B, _BYTES),  # Arabic vowel marks
    (0x0660, 1.0),  # digits, and letters of Persian and Urdu
    (0x06D5, _BYTES),
    (0x0900, 1.5),  # Devanagari, Bengali
    (0x0A00, 2.0),  # Gurmukhi to Malayalam
    (0x0B80, 1.6),  # Tamil
    (0x0C00, 2.0),
    (0x0D80, _BYTES),
    (0x0E00, 1.0),  # Thai
    (0x0E80, _BYTES),
    (0x1E00, 2.0),  # Latin Extended Additional
    (0x1EA0, 0.8),  # Vietnamese
    (0x1EFA, _BYTES),
    (0x2010, 2.0),  # punctuation
    (0x2028, _BYTES),
    (0x2030, 2.0),  # punctuation, superscripts, currencies, numerals, arrows, operators
    (0x2300, _BYTES),
    (0x2460, 2.0),  # enclosed numbers, boxes, shapes
    (0x2600, _BYTES),
    (0x3000, 1.0),  # CJK punctuation
    (0x3004, 2.0),
    (0x3041, 0.9),  # hiragana
    (0x30A0, 1.1),  # katakana
    (0x3100, _BYTES),
    (0x4E00, 2.1),  # ideographs beyond the common ones
    (0xA000, _BYTES),
    (0xFF01, 1.2),  # full-width punctuation
    (0xFF10, 2.0),
    (0xFFF0, _BYTES),
    (0x1F1E6, 2.0),  # halves of flags
    (0x1F200, _BYTES),
    (0x1F300, 3.0),  # emoji
    (0x1FB00, _BYTES),
)
_STARTS: Final = tuple(start for start, _ in _WEIGHTS)


def _list_double_byte_characters(charset: str, leads: range) -> frozenset[str]:
    trails = range(0xA1, 0xFF)
    return frozenset(b"".join(map(bytes, product(leads, trails))).decode(charset, "ignore"))


# The 3,755 ideographs that GB 2312 puts first because they are the frequent ones, and the 2,350 syllables of KS X 1001.
_COMMON: Final = dict.fromkeys(_list_double_byte_characters("gb2312", range(0xB0, 0xD8)), 1.5) | dict.fromkeys(
    _list_double_byte_characters("euc_kr", range(0xB0, 0xC9)), 1.35
)


@lru_cache(maxsize=8)
def estimate_text_tokens(text: str) -> int:
    """Tokens of `text`, an upper estimate for prose and for our own prompts.

    Notes of ordinary prose beyond ASCII, with typographic signs and emoji: 1.1 to 2 times the larger count of the two
    vocabularies; Latin languages with long words and few accents (Latvian, Czech, Finnish): 1.0 to 1.1 times.
    Scripts that are not listed, rare Hangul syllables and the ideographs of extensions count as their UTF-8 bytes, of
    which there are never fewer than tokens.

    It may fall short, to about half, for random letters of a listed alphabet (Arabic, Cyrillic, Thai, kana), and for
    texts made only of those ideographs and common Hangul syllables that are two or three tokens each.

    ASCII is measured against o200k only, as English, JSON and numbers. Short there: random letters (a fifth), base64,
    tickers and hexadecimal digits, words of other languages without accents and in capitals (half to three quarters),
    runs of unlike punctuation or of separate digits.

    Vocabularies with one token for each digit, as qwen3's, need `count_extra_digit_tokens` more.
    """
    if text.isascii():
        return len(_PIECES.findall(text))
    pieces = _FINER_PIECES if _LETTER_BEYOND_ASCII.search(text) else _PIECES
    # Counted by distinct character, of which even long notes have only a few hundred.
    beyond = sum(count * _get_weight(char) for char, count in Counter(text).items() if char > "\x7f")
    return len(pieces.findall(text)) + math.ceil(beyond)


_DIGIT: Final = re.compile(r"[0-9]")
_DIGIT_GROUP: Final = re.compile(r"[0-9]{1,3}")


@lru_cache(maxsize=8)
def count_extra_digit_tokens(text: str) -> int:
    """How many more tokens `text` has in a vocabulary with a token for each digit, instead of for up to three."""
    return len(_DIGIT.findall(text)) - len(_DIGIT_GROUP.findall(text))


def _get_weight(char: str) -> float:
    weight = _COMMON.get(char) or _WEIGHTS[bisect(_STARTS, ord(char)) - 1][1]
    return weight or len(char.encode("utf-8", "replace"))


def estimate_tokens(prompt: Prompt, *, has_digit_tokens: bool = False) -> int:
    """An upper estimate of the prompt's tokens by `estimate_text_tokens`, with 16 for the frame of its two messages.

    `has_digit_tokens`: the vocabulary has one token for each digit.
    """
    texts = [prompt.system, prompt.user]
    if prompt.rejected is not None:
        texts += [prompt.rejected.text, prompt.correction]
    more = sum(map(count_extra_digit_tokens, texts)) if has_digit_tokens else 0
    return 16 + 4 * (len(texts) - 2) + sum(map(estimate_text_tokens, texts)) + more
