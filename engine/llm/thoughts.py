"""Separates a model's answer from its thoughts (reasoning text), in the marks of every family. Pure.

Providers return thoughts in a field of their own, unless they fail to: then marks and drafts stand in the content. A
draft inside a thought may be perfect JSON, so nothing inside a thought is read, whether it ends or not; only the text
after the last one is. What may stand around the answer is a closed list: a mark of an unknown family is refused, since
that costs one more request, while a draft that is traded costs money.

Sources: the harmony response format of gpt-oss (OpenAI), and the chat templates of Qwen, DeepSeek, Mistral, Kimi,
GLM, MiniMax, Seed, Command, Gemma, Llama, Phi and OpenThinker models.
"""

import re
from typing import Final, NamedTuple

MAX_TEXT: Final = 65_536  # characters, thoughts included: twice the largest allowance at four characters a token
MAX_PREAMBLE: Final = 200  # characters


class NoAnswer(ValueError):
    """A text that holds no finished answer; the message says why."""


def strip_thoughts(text: str) -> str:
    """The part of `text` after its last thought, including the marks of the answer itself.

    `text` has at most MAX_TEXT characters. Raises NoAnswer when it ends in a thought.
    """
    answer = _strip_tagged_thoughts(_strip_plain_channels(_extract_final_channel(text)))
    if text.strip() and not answer.strip():
        raise NoAnswer("nothing follows the model's thoughts")
    return answer


def check_surroundings(before: str, after: str) -> None:
    """Raises NoAnswer unless the JSON between `before` and `after` is certainly the answer.

    Before it there may be a short sentence that names no action, and marks that open an answer; after it only marks
    that end one, since other words could revoke it.
    """
    preamble = _OPENS_ANSWER.sub(" ", before)
    mark = _MARK.search(preamble)
    if mark is not None:
        raise NoAnswer(f"a thought that does not end ({mark[0]})")
    if not _PREAMBLE.fullmatch(preamble) or _NO_PREAMBLE.search(preamble):
        raise NoAnswer("other words before the answer, which may be a thought")
    remainder = _CLOSES_ANSWER.sub("", after).strip()
    if remainder:
        mark = _MARK.search(remainder)
        raise NoAnswer(f"a thought after the answer ({mark[0]})" if mark else "words after the answer")


_STEM: Final = r"(?:think|thought|reason|reflect|analys|scratch|monolog|ponder|deliberat|muse|musing)"
_ANSWER: Final = (
    r"(?:final_?answer|final_?response|final_?decision|trading_?decision|json_?output|answer|final|response|output|result"
    r"|decision|json|solution)"
)
_OPENS_ANSWER: Final = re.compile(
    rf"<\|?{_ANSWER}\|?>|<\|begin_of_(?:solution|box|text)\|>|<\|start_response\|>|<\|im_start\|>assistant\b"
    r"|<\|start_header_id\|>assistant<\|end_header_id\|>|<\|header_start\|>assistant<\|header_end\|>"
    r"|<start_of_turn>model\b|(?:```|~~~)(?:json)?\s{0,9}$",
    re.IGNORECASE,
)
_CLOSES_ANSWER: Final = re.compile(
    rf"</\|?{_ANSWER}\|?>|<\|end_of_(?:solution|box|text|turn)\|>|<\|end_response\|>|<\|end_of_turn_token\|>"
    r"|<\|(?:im_end|eot|eot_id|eom_id|endoftext|endofturn|return|end|user|observation)\|>|<end_of_turn>|</s>|<eos>|<pad>"
    r"|<[|\uff5c]end[_\u2581]of[_\u2581]sentence[|\uff5c]>|```|~~~",
    re.IGNORECASE,
)
_PREAMBLE: Final = re.compile(rf"[\w\s.,:;!'\u2019\"()*\uff0c\u3002\uff1a\uff01-]{{0,{MAX_PREAMBLE}}}")
_NO_PREAMBLE: Final = re.compile(
    rf"\b(?:{_STEM}|commentary|draft|candidate|alternative|reject|instead|wrong|not\b|no\b|never\b|long\b|short\b|buy\b"
    r"|sell\b|hold\b|close\b)|n['\u2019]t\b",
    re.IGNORECASE,
)

# A mark of any family, known or not: <x>, </x>, <|x|>, Kimi's triangles, full-width and escaped angle brackets, and
# square brackets of thoughts alone, since prose has them too. Bounded, so that a search is linear in the text.
_OPEN: Final = r"(?:<|\uff1c|&lt;|\u25c1)"
_CLOSE: Final = r"(?:>|\uff1e|&gt;|\u25b7)"
_MARK: Final = re.compile(
    rf"{_OPEN}\s{{0,9}}/?\s{{0,9}}{_STEM}[^<>]{{0,60}}?{_CLOSE}"
    rf"|{_OPEN}[^\s<>\uff1c\uff1e\u25b7][^<>\uff1c\uff1e\u25b7\n]{{0,60}}?{_CLOSE}"
    rf"|\[/?\s{{0,9}}{_STEM}\w{{0,20}}\s{{0,9}}\]",
    re.IGNORECASE,
)
_THOUGHT: Final = re.compile(rf"{_STEM}|^(?:channel\||\|channel>thought|unused9[45]|\|inner_)", re.IGNORECASE)
_ENDS_THOUGHT: Final = re.compile(
    r"^\W{0,3}/|^\W{0,3}end[_\u2581]|_end\W{0,3}$|^channel\|$|^unused95$|_suffix\W{0,3}$", re.IGNORECASE
)
_BRACKETS: Final = re.compile(rf"^(?:{_OPEN}|\[)\s*|\s*(?:{_CLOSE}|\])$")
_FENCED_THOUGHT: Final = re.compile(rf"(?:```|~~~)[ \t]{{0,9}}{_STEM}", re.IGNORECASE)


def _strip_tagged_thoughts(text: str) -> str:
    """The text after the last mark that ends a thought, without a whole block of an unknown family at its beginning.

    Raises NoAnswer when more thoughts begin than end: the text after the last end is then still thought.
    """
    begin_count, end_count, end = 0, 0, 0
    for mark in _MARK.finditer(text):
        inside = _BRACKETS.sub("", mark[0])
        if not _THOUGHT.search(inside) or inside.endswith("/"):
            continue
        if _ENDS_THOUGHT.search(inside):
            end_count, end = end_count + 1, mark.end()
        else:
            begin_count += 1
    if begin_count > end_count:
        raise NoAnswer("a thought that does not end")
    return _strip_first_block(_strip_empty_thought(text[end:]))


def _strip_empty_thought(text: str) -> str:
    """`text` without an empty thought (``<think/>``) at its beginning."""
    return re.sub(rf"^\s*<{_STEM}\w{{0,20}}\s?/>", "", text, flags=re.IGNORECASE)


def _strip_first_block(text: str) -> str:
    """`text` without ``<x>…</x>`` or a fenced thought at its beginning, where that is complete and the only one."""
    opened = re.match(r"\s*<([A-Za-z][\w:.-]{0,40})>", text)
    if opened is not None and not re.fullmatch(_ANSWER, opened[1], re.IGNORECASE):
        closing = f"</{opened[1]}>"
        if text.count(opened[0].strip()) == 1 and text.count(closing) == 1:
            return text.partition(closing)[2]
    fenced = _FENCED_THOUGHT.match(text.lstrip())
    if fenced is not None:
        end_of_fence = re.compile(rf"{fenced[0][:3]}(?!\w)").search(text.lstrip(), fenced.end())
        if end_of_fence is not None:
            return text.lstrip()[end_of_fence.end() :]
    return text


class _Message(NamedTuple):
    channel: str
    body: str


_ENDS: Final = ("<|end|>", "<|return|>", "<|call|>")
_HARMONY: Final = re.compile(r"(<\|(?:start|channel|message|constrain|end|return|call)\|>)")


def _extract_final_channel(text: str) -> str:
    """The body of the last harmony message, which must be in the final channel; `text` itself when it is not harmony.

    Raises NoAnswer when the last message is in another channel, or more than one follows the last thought.
    """
    if "<|channel|>" not in text:
        return text
    messages = _split_messages(text)
    if not messages or messages[-1].channel != "final":
        raise NoAnswer("a thought that no answer follows (harmony's final channel is missing)")
    if len(messages) > 1 and messages[-2].channel == "final":
        raise NoAnswer("more than one answer in harmony's final channel")
    return messages[-1].body


def _split_messages(text: str) -> list[_Message]:
    """All messages in order, an unfinished last one included; text outside of messages has an empty channel."""
    first, *others = _HARMONY.split(text)
    messages, channel, body, is_body = [_Message("", first)], "", "", True
    for mark, piece in zip(others[::2], others[1::2], strict=True):
        if mark == "<|message|>":
            body, is_body = body + piece, True
        elif mark == "<|constrain|>":
            body += mark + piece if is_body else ""
        else:
            messages.append(_Message(channel, body))
            channel = " ".join(piece.split()) if mark == "<|channel|>" else ""
            is_body = mark in _ENDS
            body = piece if is_body else ""
    messages.append(_Message(channel, body))
    return [message for message in messages if message.channel or message.body.strip()]


_PLAIN_CHANNEL: Final = re.compile(r"assistant(final|analysis|commentary)")
_PLAIN_THOUGHT: Final = re.compile(r"\s*(?:assistant)?(?:analysis|commentary)")


def _strip_plain_channels(text: str) -> str:
    """The final part of harmony whose marks were removed but not its words: ``analysisWe need …assistantfinal{…}``."""
    channels = list(_PLAIN_CHANNEL.finditer(text))
    if channels:
        last = channels[-1]
        if last[1] != "final":
            raise NoAnswer("a thought that no answer follows")
        return text[last.end() :]
    if _PLAIN_THOUGHT.match(text):
        raise NoAnswer("a thought that no answer follows")
    return text
