"""The shapes in which conversations and judgements of answers are written down, recognised by their fields.

Messages (`messages`: role and content), ShareGPT (`conversations`: from and value), Alpaca (instruction, input,
output, system, history), Self-Instruct (instruction, instances), prompt and completion, question and answer, and
the text of Anthropic's HH-RLHF ("\\n\\nHuman: ...\\n\\nAssistant: ..."). With `chosen` and `rejected` a record is
a preference, with a `label` of true or false an answer that was judged.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from groundup.data.text import encode_text
from groundup.errors import UserError, nearest

Message: TypeAlias = dict[str, Any]
"""`role` and `content`, and what else the record says of a turn: name, tool_calls, reasoning_content, ..."""

ROLES: Mapping[str, str] = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bing", "bard", "model", "bot"), "assistant"),
    **dict.fromkeys(("tool", "function", "observation", "ipython"), "tool"),
}
"""What a turn's author is called, and which role that is."""
QUESTIONS = ("prompt", "instruction", "question", "query")
ANSWERS = ("completion", "output", "response", "answer")
_CONVERSATIONS = ("messages", "conversations", "conversation")
_INPUTS = ("input", "context")
_PAIR = {"chosen", "rejected"}
_MARKS = {*_CONVERSATIONS, *QUESTIONS, *_PAIR}
_HH_TURN = re.compile(r"(?:\A|\n\n)\s*(Human|Assistant):")
_HH_ROLES = {"Human": "user", "Assistant": "assistant"}
Skip: TypeAlias = str
"""Why a dialogue teaches nothing."""
EXAMPLE = '{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}'


@dataclass(frozen=True)
class Dialogue:
    """What a record says, whatever its shape.

    Attributes:
        shape: its name.
        prompt: the messages up to the last that is not the assistant's.
        answer: what the assistant says then; of a preference what was chosen. Empty where there is none.
        rejected: of a preference, what was not chosen.
        desirable: whether the answer was liked, where that is said.
        tools: functions that the assistant may call.
        fields: what the record holds beside the prompt, such as the answer.
    """

    where: str
    shape: str
    prompt: list[Message]
    answer: list[Message]
    rejected: list[Message] | None = None
    desirable: bool | None = None
    tools: list[Any] | None = None
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def asks_nothing(self) -> Skip | None:
        """Why it is no prompt."""
        return None if any(map(_has_words, self.prompt)) else "without a question"

    @property
    def says_nothing(self) -> Skip | None:
        """Why there is nothing to imitate in it."""
        said = [message for message in (*self.prompt, *self.answer) if not _is_asked(message)]
        return self.asks_nothing or (None if any(map(_has_words, said)) else "without an answer")

    @property
    def compares_nothing(self) -> Skip | None:
        """Why it is no preference."""
        if not (any(map(_has_words, self.answer)) and any(map(_has_words, self.rejected or []))):
            return self.asks_nothing or "with an empty answer"
        return self.asks_nothing or ("with twice the same answer" if self.answer == self.rejected else None)

    @property
    def teaches_nothing(self) -> Skip | None:
        """Why there is nothing to learn from it, a preference or not."""
        return self.says_nothing if self.rejected is None else self.compares_nothing


def is_dialogue(record: Mapping[str, Any]) -> bool:
    """Whether its fields are those of a dialogue, rather than a text's."""
    text = record.get("text")
    return _is_hh(text) if isinstance(text, str) else not record.keys().isdisjoint(_MARKS)


def recognise(record: Mapping[str, Any], where: str, asking: bool = False) -> Iterator[Dialogue]:
    """What a record says: one dialogue, of Self-Instruct as many as it has instances.

    With `asking` it is read for its prompt: an answer in a field of its own, which may be no text but a number or
    a list, stays as it is among `fields`.

    UserError, naming `where`, for a record of no known shape and for a turn without text or of an unknown role.
    """
    present = {name: value for name, value in record.items() if value is not None}
    if isinstance(instances := present.get("instances"), list) and "instruction" in present:
        whole = {name: value for name, value in present.items() if name != "instances"}
        for instance in instances:
            if not isinstance(instance, Mapping):
                raise UserError(
                    f"{where}: an instance is {_kind(instance)}, not an object; mend or remove the line"
                )
            yield from recognise({**whole, **instance}, where, asking)
        return
    reader = _Reader(present, where)
    yield reader.preference() if present.keys() >= _PAIR else reader.conversation(asking)


class _Reader:
    """One record; the fields that make the prompt are remembered."""

    def __init__(self, record: Mapping[str, Any], where: str) -> None:
        self._record, self._where = record, where
        self._used: set[str] = set()

    def conversation(self, asking: bool) -> Dialogue:
        found = self._beginning()
        if found is None:
            there = ", ".join(map(str, self._record)) or "none"
            raise UserError(
                f"{self._where}: no conversation in the fields {there}; give lines such as {EXAMPLE}, or with "
                "instruction and output, prompt and completion, or chosen and rejected"
            )
        shape, messages = found
        name = None if asking or shape in ("messages", "sharegpt", "hh") else self._first(ANSWERS)
        if name is not None:
            messages += self._answer(name)
        place = _end_of_prompt(messages)
        label = self._record.get("label")
        desirable = label if isinstance(label, bool) else None
        if desirable is not None:
            shape += ", judged"
        return self._dialogue(shape, messages[:place], messages[place:], desirable=desirable)

    def preference(self) -> Dialogue:
        chosen, rejected = self._answer("chosen"), self._answer("rejected")
        found = self._beginning()
        shape, prompt = found or ("whole conversations", [])
        if chosen and rejected and _is_asked(chosen[0]) and _is_asked(rejected[0]):
            # Both are whole conversations; a prompt beside them says their beginning once more.
            prompt, chosen, rejected = _without_common_beginning(chosen, rejected)
        if not prompt:
            raise UserError(
                f"{self._where}: chosen and rejected answer nothing; give a prompt beside them, or whole "
                "conversations with the same beginning"
            )
        prompt = prompt[: _end_of_prompt(prompt)]
        return self._dialogue(f"preferences ({shape})", prompt, chosen, rejected=rejected)

    def _dialogue(self, shape: str, prompt: list[Message], answer: list[Message], **more: Any) -> Dialogue:
        tools = self._record.get("tools")
        more["tools"] = tools if isinstance(tools, list) else None
        fields = {name: value for name, value in self._record.items() if name not in self._used}
        return Dialogue(self._where, shape, prompt, answer, fields=fields, **more)

    def _beginning(self) -> tuple[str, list[Message]] | None:
        """The shape, and all messages but an answer that has a field of its own."""
        record = self._record
        system = self._system()
        name = next((name for name in _CONVERSATIONS if isinstance(record.get(name), list)), None)
        if name is not None:
            self._used.add(name)
            turns = self._messages(record[name], name)
            return ("messages" if name == "messages" else "sharegpt"), [*system, *turns]
        name = self._first(QUESTIONS)
        if name is not None:
            self._used.add(name)
            shape = {"prompt": "prompt and completion", "instruction": "alpaca"}.get(name, "question and answer")
            return shape, [*system, *self._history(), *self._question(name)]
        text = record.get("text")
        if isinstance(text, str) and _is_hh(text):
            self._used.add("text")
            return "hh", _hh_messages(text)
        return None

    def _system(self) -> list[Message]:
        text = self._record.get("system")
        if not isinstance(text, str) or not text.strip():
            return []
        self._used.add("system")
        return [{"role": "system", "content": _clean(text)}]

    def _history(self) -> list[Message]:
        """Alpaca's earlier turns: pairs of a question and an answer."""
        messages: list[Message] = []
        for pair in self._record.get("history") or []:
            if not isinstance(pair, list | tuple) or len(pair) != 2:
                raise UserError(
                    f"{self._where}: history is not made of pairs of a question and an answer; mend it"
                )
            for role, text in zip(("user", "assistant"), pair, strict=True):
                messages.append({"role": role, "content": self._text(text, "history")})
        self._used.add("history")
        return messages

    def _question(self, name: str) -> list[Message]:
        value = self._record[name]
        if isinstance(value, list):
            return self._messages(value, name)
        text = self._text(value, name)
        if _is_hh(text):
            messages = _hh_messages(text)
            return messages if messages[-1]["content"] or _is_asked(messages[-1]) else messages[:-1]
        if name == "instruction" and (more := self._first(_INPUTS)) is not None:
            self._used.add(more)
            text = "\n\n".join(part for part in (text, self._text(self._record[more], more)) if part.strip())
        return [{"role": "user", "content": text}]

    def _answer(self, name: str) -> list[Message]:
        """The assistant's messages under a field; whole conversations too."""
        value = self._record[name]
        if isinstance(value, list):
            return self._messages(value, name)
        if isinstance(value, Mapping):
            return [self._message(value, name)]
        text = self._text(value, name)
        return _hh_messages(text) if _is_hh(text) else [{"role": "assistant", "content": text}]

    def _messages(self, values: list[Any], name: str) -> list[Message]:
        return [self._message(value, f"{name}, turn {number}") for number, value in enumerate(values, start=1)]

    def _message(self, value: Any, name: str) -> Message:
        if not isinstance(value, Mapping):
            raise UserError(
                f"{self._where}: {name} is {_kind(value)}, not an object with role and content; mend it"
            )
        role = value.get("role", value.get("from"))
        if not isinstance(role, str) or role not in ROLES:
            raise UserError(f"{self._where}: {name} has the unknown role {role!r}{nearest(str(role), ROLES)}")
        content = value.get("content", value.get("value"))
        more = {
            key: entry
            for key, entry in value.items()
            if key not in ("role", "from", "content", "value") and entry is not None
        }
        if content is None and "tool_calls" in more:
            content = ""
        return {"role": ROLES[role], "content": self._text(content, name), **more}

    def _text(self, value: Any, name: str) -> str:
        """A text, or one in parts as multimodal data has it."""
        if isinstance(value, list) and all(map(_is_text, value)):
            value = "".join(part["text"] for part in value)
        if not isinstance(value, str):
            raise UserError(f"{self._where}: {name} is {_kind(value)}, not text; mend or remove the line")
        return _clean(value)

    def _first(self, names: tuple[str, ...]) -> str | None:
        return next((name for name in names if name in self._record), None)


def _has_words(message: Message) -> bool:
    return bool(message["content"].strip() or message.get("tool_calls"))


def _is_asked(message: Message) -> bool:
    """Whether a conversation may begin with it; an answer begins with the assistant's words."""
    return message["role"] != "assistant"


def _is_text(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str)


def _end_of_prompt(messages: list[Message]) -> int:
    """How many messages stand before the assistant's last words."""
    return next((place + 1 for place in reversed(range(len(messages))) if _is_asked(messages[place])), 0)


def _without_common_beginning(
    chosen: list[Message], rejected: list[Message]
) -> tuple[list[Message], list[Message], list[Message]]:
    """What both begin with, up to a turn that is not the assistant's, and how each goes on."""
    pairs = enumerate(zip(chosen, rejected, strict=False))
    differ = next((place for place, (one, other) in pairs if one != other), min(len(chosen), len(rejected)))
    place = _end_of_prompt(chosen[:differ])
    return chosen[:place], chosen[place:], rejected[place:]


def _is_hh(text: str) -> bool:
    return text.lstrip().startswith("Human:")


def _hh_messages(text: str) -> list[Message]:
    _, *parts = _HH_TURN.split(_clean(text).rstrip())
    return [
        {"role": _HH_ROLES[speaker], "content": words.strip()}
        for speaker, words in zip(parts[::2], parts[1::2], strict=True)
    ]


def _clean(text: str) -> str:
    """Without halves of characters, which cannot be written."""
    return text if text.isascii() else encode_text(text).decode("utf-8", "replace")


def _kind(value: Any) -> str:
    return "missing" if value is None else type(value).__name__
