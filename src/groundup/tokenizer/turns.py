"""Conversations as tokens, and which of them are the assistant's: the ones to be learnt.

A template is a program, and does not say where a turn begins. But the text before an answer is what the template
renders for the messages before it, with the header of the assistant's turn, and the text up to its end what it
renders for the messages up to it. At these borders the text is cut, and each part is encoded on its own, as when
the model writes: no token is partly prompt, partly answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundup.errors import UserError
from groundup.tokenizer.definition import end_of_text
from groundup.tokenizer.tokenizer import Tokenizer

Messages = Sequence[Mapping[str, Any]]
"""Each with `role` and `content`, and what else the template reads."""
Tools = Sequence[Mapping[str, Any]] | None

_ASSISTANT, _SYSTEM = "assistant", "system"


@dataclass(frozen=True)
class Turns:
    """A conversation's tokens: ids, int64 (T,), and whether each is to be learnt, bool (T,)."""

    ids: NDArray[np.int64]
    counts: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ids)


def encode_conversation(tokenizer: Tokenizer, messages: Messages, tools: Tools = None) -> Turns:
    """A conversation, of which each turn of the assistant counts from its first word to its end-of-turn token.

    It ends there: what stands behind the last answer is left out. A turn that nothing was said before does not
    count. Where the template renders earlier turns otherwise once others follow (Qwen3 removes their reasoning),
    only the last answer counts. UserError where even that one cannot be found.
    """
    return _encode(tokenizer, messages, tools, first_learnt=0)


def encode_answer(tokenizer: Tokenizer, prompt: Messages, answer: Messages, tools: Tools = None) -> Turns:
    """A prompt and an answer, of which the assistant's turns in `answer` count; else as `encode_conversation`."""
    return _encode(tokenizer, [*prompt, *answer], tools, first_learnt=len(prompt))


def encode_prompt(tokenizer: Tokenizer, messages: Messages, tools: Tools = None) -> list[int]:
    """A conversation and the header of the assistant's turn: what a model goes on from.

    `encode_answer` of the same messages begins with the same ids.
    """
    template = _Template(tokenizer, messages, tools)
    texts = template.spans([*template.answers, len(messages)]) or template.spans([len(messages)])
    assert texts is not None, "one text is its own beginning"
    return [number for text in texts for number in _ids(tokenizer, text)]


def stop_ids(tokenizer: Tokenizer) -> frozenset[int]:
    """The ids that end an answer: the end of the turn, and the end of the text."""
    roles, known = tokenizer.usage.roles, tokenizer.special_tokens
    names = (roles.get("eos_token"), end_of_text(known, roles))
    return frozenset(known[name] for name in names if name in known)


@dataclass(frozen=True)
class _Template:
    """What a template makes of a conversation and of its beginnings."""

    tokenizer: Tokenizer
    messages: Messages
    tools: Tools

    @cached_property
    def answers(self) -> list[int]:
        """The places of the assistant's turns that something was said before."""
        roles = [message["role"] for message in self.messages]
        asked = next((place for place, role in enumerate(roles) if role not in (_ASSISTANT, _SYSTEM)), len(roles))
        return [place for place, role in enumerate(roles) if place > asked and role == _ASSISTANT]

    def spans(self, answers: Sequence[int]) -> list[str] | None:
        """The text up to the first of `answers`, that answer, the text between it and the next, and so on.

        A place behind the last message stands for the header of an answer to come. None where the template is
        not stable: where what it renders for a beginning is not how it goes on.
        """
        beginnings = [""]
        for place in answers:
            beginnings.append(self._render(place, header=True))
            if place < len(self.messages):
                beginnings.append(self._render(place + 1))
        if not all(after.startswith(before) for before, after in pairwise(beginnings)):
            return None
        return [after[len(before) :] for before, after in pairwise(beginnings)]

    def _render(self, count: int, header: bool = False) -> str:
        return self.tokenizer.apply_chat_template(self.messages[:count], header, tools=self.tools)


def _encode(tokenizer: Tokenizer, messages: Messages, tools: Tools, first_learnt: int) -> Turns:
    template = _Template(tokenizer, messages, tools)
    answers = template.answers
    if not answers:
        ids = _ids(tokenizer, tokenizer.apply_chat_template(messages, tools=tools))
        return Turns(np.array(ids, np.int64), np.zeros(len(ids), bool))
    texts = template.spans(answers)
    if texts is None:
        answers = answers[-1:]
        texts = template.spans(answers)
    if texts is None:
        raise UserError(
            "the chat template renders the last answer otherwise than its header announces it, so that the "
            "assistant's words cannot be found; give another template, such as chatml"
        )
    ids, counts = [], []
    for number, text in enumerate(texts):
        part = _ids(tokenizer, text)
        # Prompts and answers take turns.
        is_learnt = number % 2 == 1 and answers[number // 2] >= first_learnt
        num_learnt = _length_of_turn(part, tokenizer) if is_learnt else 0
        ids += part
        counts += [True] * num_learnt + [False] * (len(part) - num_learnt)
    length = max((place + 1 for place, is_counted in enumerate(counts) if is_counted), default=len(ids))
    return Turns(np.array(ids[:length], np.int64), np.array(counts[:length], bool))


def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, allowed_special="all")


def _length_of_turn(ids: list[int], tokenizer: Tokenizer) -> int:
    """How many tokens the turn has with the one that ends it; behind it may stand a line's end."""
    end = tokenizer.definition.special_tokens.get(tokenizer.usage.roles.get("eos_token", ""))
    return len(ids) - ids[::-1].index(end) if end in ids else len(ids)
