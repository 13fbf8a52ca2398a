"""Rollouts: a policy answers questions, and a judge says how good the answers are."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn

from groundup.data.conversations import Prompt
from groundup.data.permutation import endless
from groundup.errors import UserError
from groundup.model.decoder import Decoder
from groundup.objective.base import IGNORED, Batch
from groundup.seeds import derive
from groundup.serve.batch import Answer, sample
from groundup.tokenizer import Tokenizer
from groundup.tokenizer.turns import encode_prompt, stop_ids
from groundup.train.compile import eager
from groundup.tune.rewards import ModelReward, Reward


@dataclass(frozen=True)
class Question:
    """A prompt and its ids, which end with the header of the assistant's turn."""

    prompt: Prompt
    ids: list[int]


def questions_of(prompts: Sequence[Prompt], tokenizer: Tokenizer, most_tokens: int) -> list[Question]:
    """The prompts of up to `most_tokens` tokens; UserError where there is none."""
    encoded = [_question(prompt, tokenizer) for prompt in prompts]
    fitting = [question for question in encoded if len(question.ids) <= most_tokens]
    if not fitting:
        shortest = min((len(question.ids) for question in encoded), default=0)
        raise UserError(
            f"no prompt leaves room for an answer: the shortest of {len(encoded)} has {shortest} tokens, but may "
            f"have {most_tokens}; shorten the prompts, or the answers (tokens)"
        )
    return fitting


def _question(prompt: Prompt, tokenizer: Tokenizer) -> Question:
    try:
        return Question(prompt, encode_prompt(tokenizer, prompt.messages))
    except UserError as error:
        raise UserError(f"{prompt.where}: {error}") from None


@dataclass(frozen=True)
class Manner:
    """How answers are written: at most so many tokens, at this temperature; a missing end costs so much reward."""

    tokens: int
    temperature: float
    missing_end: float


class Rollout(NamedTuple):
    """A question, an answer, its text without special tokens, and what the judge said of it."""

    question: Question
    answer: Answer
    text: str
    score: float


@dataclass(frozen=True)
class Rollouts:
    """Answers that were judged; one that does not end has its reward reduced by `missing_end`."""

    items: list[Rollout]
    missing_end: float

    @cached_property
    def rewards(self) -> Tensor:
        """What is learnt from (N,) float32: the scores, less something where an answer did not end."""
        ended_N = torch.tensor([item.answer.ended for item in self.items])
        return torch.tensor([item.score for item in self.items]) - self.missing_end * (~ended_N).float()

    @cached_property
    def batch(self) -> Batch:
        """Prompts and answers as inputs and targets (N, T), of which the answers' tokens count."""
        rows = [[*item.question.ids, *item.answer.ids] for item in self.items]
        ids_NT = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
        targets_NT = torch.full_like(ids_NT, IGNORED)
        for number, (row, item) in enumerate(zip(rows, self.items, strict=True)):
            ids_NT[number, : len(row)] = torch.tensor(row)
            targets_NT[number, len(item.question.ids) : len(row)] = torch.tensor(item.answer.ids)
        return Batch(ids_NT[:, :-1].contiguous(), targets_NT[:, 1:].contiguous())

    @property
    def figures(self) -> dict[str, float]:
        """The mean score and its standard deviation, tokens an answer, and the share that ended."""
        scores = [item.score for item in self.items]
        return {
            "reward": float(np.mean(scores)),
            "reward_std": float(np.std(scores)),
            "length": float(np.mean([len(item.answer.ids) for item in self.items])),
            "ended": float(np.mean([item.answer.ended for item in self.items])),
        }

    def best(self, group: int) -> Self:
        """That with the highest reward of each `group` in a row; of equals the first."""
        places = self.rewards.unflatten(0, (-1, group)).argmax(1).tolist()
        items = [self.items[number * group + place] for number, place in enumerate(places)]
        return type(self)(items, self.missing_end)


@dataclass
class Writer:
    """Who answers and who judges."""

    model: Decoder
    tokenizer: Tokenizer
    reward: Reward
    manner: Manner

    def write(self, questions: Sequence[Question], seeds: Sequence[int]) -> Rollouts:
        """An answer to each question, by its own seed, and its score."""
        manner, asked = self.manner, list(questions)
        with eager():
            answers = sample(
                self.model,
                [question.ids for question in asked],
                max_tokens=manner.tokens,
                temperature=manner.temperature,
                stop=stop_ids(self.tokenizer),
                seeds=seeds,
            )
        texts = [self._text(answer) for answer in answers]
        scores = self._scores(asked, answers, texts)
        items = [Rollout(*parts) for parts in zip(asked, answers, texts, scores, strict=True)]
        return Rollouts(items, manner.missing_end)

    def copies(self, model: nn.Module) -> list[nn.Module]:
        """`model`, which writes or holds who writes, and what else has its weights."""
        return [model]

    def _scores(self, asked: Sequence[Question], answers: Sequence[Answer], texts: Sequence[str]) -> list[float]:
        """What the judge says; one that knows the policy's own ids reads these, as they were written."""
        prompts = [question.prompt for question in asked]
        if not isinstance(self.reward, ModelReward) or not self.reward.reads(self.tokenizer):
            return self.reward.score(prompts, texts)
        both = zip(asked, answers, strict=True)
        rows = [np.array([*question.ids, *answer.ids], np.int64) for question, answer in both]
        return self.reward.score_ids(prompts, rows)

    def _text(self, answer: Answer) -> str:
        """As `transformers` decodes it where it skips special tokens, without what stands before the first word.

        Some templates end the assistant's header with no space, so that the answer begins with one.
        """
        spoken, special = self.tokenizer.usage.spoken_tokens, self.tokenizer.special_tokens
        unspoken = {id for name, id in special.items() if name not in spoken}
        return self.tokenizer.decode([id for id in answer.ids if id not in unspoken]).lstrip()


def best_of_n(writer: Writer, questions: Sequence[Question], n: int, seed: int) -> Rollouts:
    """The best of `n` answers to each question; the one that was written first, where several are."""
    return writer.write(*repeated(questions, n, seed)).best(n)


def repeated(questions: Sequence[Question], times: int, seed: int) -> tuple[list[Question], list[int]]:
    """Each question so many times in a row, and a seed for each answer."""
    asked = [question for question in questions for _ in range(times)]
    return asked, [derive(seed, f"answer {number}") for number in range(len(asked))]


def drawn(questions: Sequence[Question], round_number: int, count: int, seed: int) -> list[Question]:
    """Those of a round: `count` in a row of an endless order in which each comes as often as any other."""
    first = round_number * count
    return [questions[place] for place in endless(np.arange(first, first + count), len(questions), seed).tolist()]
