"""Tells what a model answered from what it thought, in every family's marks. Pure.

Providers put a model's thinking into a field of its own, unless they fail to: then its marks and drafts stand in the
content. A draft inside a thought may be perfect JSON, so nothing inside one is read, whether it ends or not; what
follows the end of the last one is. What may stand around the answer is a closed list: a mark of an unknown family is
refused, since that costs one more request, and a draft that is traded costs money.

Sources: the harmony response format of gpt-oss (OpenAI), and the chat templates of Qwen, DeepSeek, Mistral, Kimi,
GLM, MiniMax, Seed, Command, Gemma, Llama, Phi and OpenThinker models.
"""

import re
from typing import Final, NamedTuple

MAX_TEXT: Final = 65_536  # characters, thoughts included: twice what the largest allowance comes to
MAX_PREAMBLE: Final = 200  # characters


class NoAnswer(ValueError):
    """A text that holds no finished answer; the message says why."""


def strip_thoughts(text: str) -> str:
    """What follows the end of the last thought in `text`, marks of the answer itself included.

    `text` has at most LONGEST_TEXT characters. Raises NoAnswer when it ends in a thought.
    """
    rest = _after_tags(_after_plain_channels(_final_channel(text)))
    if text.strip() and not rest.strip():
        raise NoAnswer("nothing follows the model's thoughts")
    return rest


def check_surroundings(before: str, after: str) -> None:
    """Whether the JSON between `before` and `after` is the answer. Raises NoAnswer when it is not, or may not be.

    Before it a short sentence may stand that names no action, and what opens an answer; after it only what ends one:
    other words could take it back.
    """
    preamble = _OPENS_ANSWER.sub(" ", before)
    mark = _MARK.search(preamble)
    if mark is not None:
        raise NoAnswer(f"a thought that does not end ({mark[0]})")
    if not _PREAMBLE.fullmatch(preamble) or _NO_PREAMBLE.search(preamble):
        raise NoAnswer("other words before the answer, which may be a thought")
    left = _CLOSES_ANSWER.sub("", after).strip()
    if left:
        mark = _MARK.search(left)
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


def _after_tags(text: str) -> str:
    """Behind the last mark that ends a thought, and behind a whole block of an unknown family at the beginning.

    Raises NoAnswer when more thoughts begin than end: what follows the last end is then still thought.
    """
    begun, ended, end = 0, 0, 0
    for found in _MARK.finditer(text):
        inside = _BRACKETS.sub("", found[0])
        if not _THOUGHT.search(inside) or inside.endswith("/"):
            continue
        if _ENDS_THOUGHT.search(inside):
            ended, end = ended + 1, found.end()
        else:
            begun += 1
    if begun > ended:
        raise NoAnswer("a thought that does not end")
    return _after_first_block(_without_empty(text[end:]))


def _without_empty(text: str) -> str:
    """``<think/>`` thinks nothing."""
    return re.sub(rf"^\s*<{_STEM}\w{{0,20}}\s?/>", "", text, flags=re.IGNORECASE)


def _after_first_block(text: str) -> str:
    """Behind ``<x>…</x>`` or a fenced thought at the beginning, where that is whole and there is just one."""
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


def _final_channel(text: str) -> str:
    """The body of harmony's last message when that is in the final channel; `text` itself when it is not harmony.

    Raises NoAnswer when the last message is in another channel, or more than one follows the last thought.
    """
    if "<|channel|>" not in text:
        return text
    messages = _messages(text)
    if not messages or messages[-1].channel != "final":
        raise NoAnswer("a thought that no answer follows (harmony's final channel is missing)")
    if len(messages) > 1 and messages[-2].channel == "final":
        raise NoAnswer("more than one answer in harmony's final channel")
    return messages[-1].body


def _messages(text: str) -> list[_Message]:
    """Every message in order, one that has only begun too; text outside of any belongs to a channel without a name."""
    first, *others = _HARMONY.split(text)
    found, channel, body, is_body = [_Message("", first)], "", "", True
    for mark, piece in zip(others[::2], others[1::2], strict=True):
        if mark == "<|message|>":
            body, is_body = body + piece, True
        elif mark == "<|constrain|>":
            body += mark + piece if is_body else ""
        else:
            found.append(_Message(channel, body))
            channel = " ".join(piece.split()) if mark == "<|channel|>" else ""
            is_body = mark in _ENDS
            body = piece if is_body else ""
    found.append(_Message(channel, body))
    return [message for message in found if message.channel or message.body.strip()]


_PLAIN_CHANNEL: Final = re.compile(r"assistant(final|analysis|commentary)")
_PLAIN_THOUGHT: Final = re.compile(r"\s*(?:assistant)?(?:analysis|commentary)")


def _after_plain_channels(text: str) -> str:
    """Harmony whose marks were stripped and whose words were left: ``analysisWe need …assistantfinal{…}``."""
    marks = list(_PLAIN_CHANNEL.finditer(text))
    if marks:
        last = marks[-1]
        if last[1] != "final":
            raise NoAnswer("a thought that no answer follows")
        return text[last.end() :]
    if _PLAIN_THOUGHT.match(text):
        raise NoAnswer("a thought that no answer follows")
    return text
