"""Conversations: a model's answer to what was said, piece by piece, reading again only what is new."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from groundup.errors import UserError
from groundup.model.decoder import Decoder
from groundup.serve.generate import Reading, generate_ids
from groundup.serve.sampling import Sampling
from groundup.tokenizer import Tokenizer
from groundup.tokenizer.turns import encode_prompt, stop_ids

Message = Mapping[str, Any]

_PROBE = "groundup"


@dataclass(frozen=True)
class AnswerSettings:
    """How to answer: the seed decides what is drawn."""

    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int = 512
    seed: int = 1

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise UserError(f"--max-tokens {self.max_tokens} is below 1; an answer needs at least one token")


class Answer:
    """The text of one answer, which comes while one iterates over it, once.

    Without the white space that the template puts before an answer: so the text, rendered in the conversation,
    gives the ids that the model wrote. `left_out` counts the oldest messages that had to be left out to have room;
    `ended` says afterwards whether the model ended the answer itself.
    """

    def __init__(
        self,
        chat: "Chat",
        ids: list[int],
        space: str,
        left_out: int,
        settings: AnswerSettings,
        reading: Reading,
    ):
        self.left_out, self.ended = left_out, False
        self._chat, self._prompt, self._space, self._settings, self._reading = chat, ids, space, settings, reading

    def __iter__(self) -> Iterator[str]:
        return _without(self._space, self._chat.tokenizer.decode_stream(self._ids()))

    def _ids(self) -> Iterator[int]:
        model, settings = self._chat.model, self._settings
        most, count = min(settings.max_tokens, model.shape.context - len(self._prompt)), 0
        for token in generate_ids(
            model, self._prompt, most, settings.sampling, settings.seed, self._chat.stop, reading=self._reading
        ):
            yield token
            count += 1
        self.ended = count < most


class Chat:
    """A model that answers. It may be used for many conversations, one answer at a time in each.

    UserError where the tokenizer has no chat template.
    """

    def __init__(self, model: Decoder, tokenizer: Tokenizer, name: str):
        if tokenizer.chat_template is None:
            raise UserError(
                f"{name} has no chat template: it goes on with a text, as `groundup generate` shows, and does not "
                f"answer; teach it to with `groundup sft {name} DATA`"
            )
        self.model, self.tokenizer, self.name = model.eval(), tokenizer, name
        self.stop = stop_ids(tokenizer)

    def new_reading(self) -> Reading:
        """The memory of one conversation: what was read of it is not read again with the next turn."""
        return Reading(self.model)

    def answer(
        self, messages: Sequence[Message], settings: AnswerSettings, reading: Reading | None = None
    ) -> Answer:
        """The answer to the last of the messages.

        Where they are too long, the oldest after the system's are left out. UserError where not even the last one
        leaves room for an answer.
        """
        ids, left_out = self._fitting(list(messages), settings.max_tokens)
        space = _space_before_answer(self.tokenizer, messages)
        return Answer(self, ids, space, left_out, settings, reading or self.new_reading())

    def _fitting(self, messages: list[Message], max_tokens: int) -> tuple[list[int], int]:
        """The prompt's ids, and how many messages were left out so that an answer has room beside it.

        An answer of `max_tokens` is given room for, but at most half of the context.
        """
        context = self.model.shape.context
        room = context - min(max_tokens, context // 2)
        system = [message for message in messages[:1] if message["role"] == "system"]
        turns = messages[len(system) :]
        # Each conversation begins with a turn of the user.
        asked = [place for place, message in enumerate(turns) if message["role"] == "user"] or [0]
        for first in [0, *(place for place in asked if place)]:
            ids = encode_prompt(self.tokenizer, [*system, *turns[first:]])
            if len(ids) <= room:
                return ids, first
        raise UserError(
            f"the message has {len(ids)} tokens with what stands around it, but there is room for {room} of the "
            f"context's {context} beside an answer; shorten it, or the system's message, or ask for fewer tokens"
        )


def _space_before_answer(tokenizer: Tokenizer, messages: Sequence[Message]) -> str:
    """The white space that the template renders between the header of the assistant's turn and its words.

    In `plain` it is a space, which a model therefore writes itself: "Assistant:" is followed by " yes".
    """
    header = tokenizer.apply_chat_template(messages, True)
    answered = tokenizer.apply_chat_template([*messages, {"role": "assistant", "content": _PROBE}])
    between = answered.removeprefix(header).partition(_PROBE)[0]
    return between if answered.startswith(header) and between.isspace() else ""


def _without(space: str, pieces: Iterator[str]) -> Iterator[str]:
    """The pieces without `space`, if they begin with it."""
    begun = ""
    for piece in pieces:
        begun += piece
        if begun.startswith(space) or not space.startswith(begun):
            break
    if rest := begun.removeprefix(space):
        yield rest
    yield from pieces
