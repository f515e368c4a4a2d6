"""Tells what a model answered from what it thought, in every family's marks. Pure.

Providers put a model's thinking into a field of its own, unless they fail to: then its marks and drafts stand in the
content. A draft inside a thought may be perfect JSON, so nothing inside one is read, whether it ends or not; what
follows the end of the last one is. A mark of an unknown family counts as a thought, since a refusal costs one more
request, and a draft that is traded costs money.

Sources: the harmony response format of gpt-oss (OpenAI), and the chat templates of Qwen, DeepSeek, Mistral, Kimi,
GLM, MiniMax, Seed, Command, Gemma and OpenThinker models.
"""

import re
from typing import Final, NamedTuple

LONGEST_TEXT: Final = 65_536  # characters, thoughts included: twice what the largest allowance comes to


class NoAnswer(ValueError):
    """A text that holds no finished answer; the message says why."""


def after_thoughts(text: str) -> str:
    """What follows the end of the last thought in `text`, marks of the answer itself included.

    `text` has at most LONGEST_TEXT characters. Raises NoAnswer when it ends in a thought.
    """
    rest = _THOUGHT_FENCE.sub("", _after_tags(_after_plain_channels(_final_channel(text))))
    if text.strip() and not rest.strip():
        raise NoAnswer("nothing follows the model's thoughts")
    return rest


def check_surroundings(before: str, after: str) -> None:
    """Whether the JSON between `before` and `after` is the answer. Raises NoAnswer when it is not, or may not be.

    Before it a sentence may stand, but no mark of a thought that has not ended. After it only what ends an answer may
    stand: words there could take it back.
    """
    for mark in _MARK.findall(before):
        if _name(mark) not in _OPENS_ANSWER:
            raise NoAnswer(f"a thought that does not end ({mark})")
    if _OPEN_THOUGHT_FENCE.search(before):
        raise NoAnswer("a thought that does not end")
    left = _MARK.sub(lambda found: "" if _name(found[0]) in _CLOSES_ANSWER else found[0], after)
    if left.replace("`", "").strip():
        mark = _MARK.search(left)
        raise NoAnswer(f"a thought after the answer ({mark[0]})" if mark else "words after the answer")


# Names of marks, as `_name` gives them.
_OPENS_ANSWER: Final = frozenset(
    {"answer", "final", "final_answer", "response", "output", "result", "decision", "json", "solution", "box"}
    | {"s", "bos", "im", "text"}
)
_CLOSES_ANSWER: Final = frozenset(
    {"answer", "final", "final_answer", "response", "output", "result", "decision", "json", "solution", "box"}
    | {"s", "eos", "im", "eot_id", "eom_id", "endoftext", "text", "turn", "sentence", "return"}
)

# A mark: <x>, </x>, <|x|>, [x] for thoughts alone (prose has square brackets), Kimi's triangles, full-width and escaped
# angle brackets. Bounded, so that a search is linear in the text.
_STEM: Final = r"(?:think|thought|reason|reflect|analys|scratch|monolog|ponder|deliberat|plan|cot\b)"
_MARK: Final = re.compile(
    rf"(?:<|\uff1c|&lt;)\s{{0,9}}/?\s{{0,9}}{_STEM}[^<>]{{0,60}}?(?:>|\uff1e|&gt;)"
    r"|(?:<|\uff1c|&lt;)[^\s<>\uff1c\uff1e][^<>\uff1c\uff1e\n]{0,60}?(?:>|\uff1e|&gt;)"
    r"|\u25c1[^\u25b7\n]{1,60}\u25b7"
    rf"|\[/?\s{{0,9}}{_STEM}\w{{0,20}}\s{{0,9}}\]",
    re.IGNORECASE,
)
_BRACKETS: Final = re.compile(r"^(?:<|\uff1c|&lt;|\[|\u25c1)|(?:>|\uff1e|&gt;|\]|\u25b7)$")
_AFFIXES: Final = re.compile(r"^(?:begin_of_|end_of_|start_of_|begin_|end_|start_)|(?:_start|_begin|_end)$")
_CLOSES: Final = re.compile(r"^\W*/|^\W*end(?:_of)?_|_end\W*$|_suffix\W*$")
_ODD_CLOSERS: Final = ("<channel|>", "<unused95>")  # Gemma's
_THOUGHT_FENCE: Final = re.compile(rf"```\s{{0,9}}{_STEM}.*?```", re.IGNORECASE | re.DOTALL)
_OPEN_THOUGHT_FENCE: Final = re.compile(rf"```\s{{0,9}}{_STEM}", re.IGNORECASE)


def _inside(mark: str) -> str:
    return _BRACKETS.sub("", mark).replace("\u2581", "_").lower()


def _name(mark: str) -> str:
    """`think` of ``</think>``, ``<|begin_of_think|>``, ``<think level="2">`` and the like."""
    words = re.findall(r"\w+(?::\w+)?", _inside(mark))
    return _AFFIXES.sub("", words[0]) if words else ""


def _after_tags(text: str) -> str:
    """Behind the last mark that closes something which is not an answer."""
    end = 0
    for found in _MARK.finditer(text):
        mark = found[0]
        if mark.lower() in _ODD_CLOSERS or (_CLOSES.search(_inside(mark)) and _name(mark) not in _CLOSES_ANSWER):
            end = found.end()
    return text[end:]


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
    """Every message that is not blank, in order; text outside of any belongs to a channel without a name."""
    first, *others = _HARMONY.split(text)
    found, channel, body = [_Message("", first)], "", ""
    for mark, piece in zip(others[::2], others[1::2], strict=True):
        if mark == "<|message|>":
            body += piece
        elif mark != "<|constrain|>":
            found.append(_Message(channel, body))
            channel = (piece.split() or [""])[0] if mark == "<|channel|>" else ""
            body = piece if mark in _ENDS else ""
    found.append(_Message(channel, body))
    return [message for message in found if message.body.strip()]


_PLAIN_CHANNEL: Final = re.compile(r"assistant(final|analysis|commentary)")
_PLAIN_THOUGHT: Final = re.compile(r"\s*(?:assistant)?(?:analysis|commentary)(?![a-z])")


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
