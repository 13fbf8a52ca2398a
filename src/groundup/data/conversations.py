"""Conversations, preferences and prompts, read from data sets in any of the common shapes.

What is no example at all (not JSON, no known shape, an unknown role) is refused with its place. What is one, but
teaches nothing, is left out and counted: data sets of thousands of lines have a few of these.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Generic, Self, TypeVar, overload

import numpy as np

from groundup.data.demo import PREFIX
from groundup.data.dialogue_shapes import ANSWERS, EXAMPLE, Dialogue, Message, Skip, recognise
from groundup.data.permutation import permuted
from groundup.data.records import read_records
from groundup.errors import UserError

__all__ = [
    "Conversation",
    "Examples",
    "Judged",
    "Message",
    "Preference",
    "Prompt",
    "read_conversations",
    "read_judged",
    "read_preferences",
    "read_prompts",
]


@dataclass(frozen=True)
class Conversation:
    """What was said, with at least one turn of the assistant; `tools` are functions that it may call."""

    messages: list[Message]
    where: str
    tools: list[Any] | None = None


@dataclass(frozen=True)
class Preference:
    """A prompt and how it goes on: as people chose, and as they rejected."""

    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]
    where: str
    tools: list[Any] | None = None


@dataclass(frozen=True)
class Judged:
    """A prompt, an answer, and whether people liked it."""

    prompt: list[Message]
    answer: list[Message]
    desirable: bool
    where: str
    tools: list[Any] | None = None


@dataclass(frozen=True)
class Prompt:
    """What is asked; `fields` is what else the record holds, such as the right answer."""

    messages: list[Message]
    fields: dict[str, Any]
    where: str


Example = TypeVar("Example", Conversation, Preference, Judged, Prompt)


@dataclass(frozen=True)
class Examples(Sequence[Example], Generic[Example]):
    """Examples in the order in which they were read.

    `groups` names the question of each: examples with the same one stay together when they are divided. `skipped`
    holds the places of what was left out, by the reason.
    """

    items: list[Example]
    groups: list[str]
    skipped: Mapping[Skip, list[str]]

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        return self.items[index]

    def divided(self, holdout: float, seed: int, least: int = 1) -> tuple[Self, Self]:
        """Two parts: the second has about the share `holdout` of the examples, chosen by the seed.

        It has at least `least` of them where there are questions enough. What answers the same question, or of a
        demonstration is about the same topic, is on one side: what is held out was never seen. UserError if there
        are not two questions.
        """
        names = list(dict.fromkeys(self.groups))
        if len(names) < 2:
            raise UserError(
                f"{len(self)} examples with {len(names)} different questions are too few to hold one out; "
                "give more, or name others to validate with"
            )
        sizes = Counter(self.groups)
        order = permuted(np.arange(len(names)), len(names), (seed,))
        behind = np.cumsum([sizes[names[place]] for place in order])
        count = min(int(np.searchsorted(behind, max(least, holdout * len(self)))) + 1, len(names) - 1)
        held_out = {names[place] for place in order[:count]}
        return self._part(lambda group: group not in held_out), self._part(lambda group: group in held_out)

    def told_skipped(self) -> str | None:
        """A line on what was left out, None if nothing was."""
        parts = [f"{len(places):,} {reason} (first: {places[0]})" for reason, places in self.skipped.items()]
        return f"left out: {', '.join(parts)}" if parts else None

    def _part(self, belongs: Callable[[str], bool]) -> Self:
        chosen = [place for place, group in enumerate(self.groups) if belongs(group)]
        return type(self)([self.items[place] for place in chosen], [self.groups[place] for place in chosen], {})


def read_conversations(sources: Sequence[str], limit: int | None = None) -> Examples[Conversation]:
    """Conversations to imitate, the first `limit` of them.

    Of preferences the chosen answer is taken; answers that people disliked are left out, as are conversations
    without a word of the assistant. For sources and errors see `records.read_records`,
    `dialogue_shapes.recognise`; UserError too if nothing is left.
    """
    return _read(sources, limit, _conversation)


def read_preferences(sources: Sequence[str], limit: int | None = None) -> Examples[Preference]:
    """Pairs of answers. Pairs with an empty or twice the same answer are left out; else as `read_conversations`.

    UserError for a record that is no pair.
    """
    return _read(sources, limit, _preference)


def read_judged(sources: Sequence[str], limit: int | None = None) -> Examples[Judged]:
    """Answers that were liked or not; of a pair one of each. Else as `read_preferences`."""
    return _read(sources, limit, _judged)


def read_prompts(sources: Sequence[str], limit: int | None = None) -> Examples[Prompt]:
    """What is asked, without the answer that a record may have, whatever that is; lines of .txt files, too.

    Else as `read_conversations`.
    """
    return _read(sources, limit, _prompt, asking=True)


def _read(
    sources: Sequence[str],
    limit: int | None,
    examples_of: Callable[[Dialogue], Iterator[Example | Skip]],
    asking: bool = False,
) -> Examples[Example]:
    items: list[Example] = []
    groups: list[str] = []
    skipped: dict[Skip, list[str]] = {}
    for where, record in read_records(sources, EXAMPLE, "prompt" if asking else None):
        for dialogue in recognise(record, where, asking):
            for made in examples_of(dialogue):
                if isinstance(made, str):
                    skipped.setdefault(made, []).append(where)
                else:
                    items.append(made)
                    groups.append(_question(dialogue))
        if limit is not None and len(items) >= limit:
            break
    if not items:
        examples = Examples[Example](items, groups, skipped)
        raise UserError(
            f"{', '.join(sources)}: nothing to learn from; {examples.told_skipped() or 'it is empty'}; give lines "
            f"such as {EXAMPLE}, or with an answer under {', '.join(ANSWERS)}"
        )
    return Examples(items[:limit], groups[:limit], skipped)


def _conversation(dialogue: Dialogue) -> Iterator[Conversation | Skip]:
    if dialogue.desirable is False:
        yield "disliked"
    else:
        why = dialogue.says_nothing
        yield why or Conversation([*dialogue.prompt, *dialogue.answer], dialogue.where, dialogue.tools)


def _preference(dialogue: Dialogue) -> Iterator[Preference | Skip]:
    if dialogue.rejected is None:
        raise UserError(
            f"{dialogue.where}: no preference but {dialogue.shape}; give lines with prompt, chosen and rejected"
        )
    why = dialogue.compares_nothing
    yield why or Preference(dialogue.prompt, dialogue.answer, dialogue.rejected, dialogue.where, dialogue.tools)


def _judged(dialogue: Dialogue) -> Iterator[Judged | Skip]:
    if dialogue.rejected is not None:
        if why := dialogue.compares_nothing:
            yield why
            return
        yield Judged(dialogue.prompt, dialogue.answer, True, dialogue.where, dialogue.tools)
        yield Judged(dialogue.prompt, dialogue.rejected, False, dialogue.where, dialogue.tools)
    elif dialogue.desirable is not None:
        why = dialogue.says_nothing
        yield why or Judged(dialogue.prompt, dialogue.answer, dialogue.desirable, dialogue.where, dialogue.tools)
    else:
        raise UserError(
            f"{dialogue.where}: nobody judged this answer; give lines with a label of true or false, or with "
            "chosen and rejected"
        )


def _prompt(dialogue: Dialogue) -> Iterator[Prompt | Skip]:
    yield dialogue.asks_nothing or Prompt(dialogue.prompt, dialogue.fields, dialogue.where)


def _question(dialogue: Dialogue) -> str:
    """What names the question: of a demonstration its topic, else all that was said before the first answer."""
    if dialogue.where.startswith(PREFIX):
        return str(dialogue.fields["topic"])
    asked = takewhile(lambda message: message["role"] != "assistant", dialogue.prompt)
    return json.dumps([message["content"] for message in asked])
