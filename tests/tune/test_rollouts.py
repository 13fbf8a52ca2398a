import dataclasses
from collections.abc import Sequence

import pytest
import torch

from groundup.data.conversations import Prompt
from groundup.errors import UserError
from groundup.model.decoder import Decoder
from groundup.model.registry import build
from groundup.model.reward import RewardModel
from groundup.objective.base import IGNORED
from groundup.serve.batch import Answer
from groundup.shape import Shape
from groundup.tokenizer import Tokenizer
from groundup.tokenizer.templates import with_template
from groundup.tokenizer.turns import encode_answer, encode_prompt, stop_ids
from groundup.tune.reference import log_probs_in_parts
from groundup.tune.reward_folder import LoadedReward
from groundup.tune.rewards import ModelReward
from groundup.tune.rollouts import (
    Manner,
    Question,
    Rollout,
    Rollouts,
    Writer,
    best_of_n,
    drawn,
    questions_of,
    repeated,
)

SHAPE = Shape(
    family="qwen3", num_layers=1, width=16, num_heads=2, num_kv_heads=2, head_width=8, feedforward_width=32,
    vocabulary_size=259, context=128, tied=True,
)  # fmt: skip


def question(text: str, ids: list[int] | None = None) -> Question:
    return Question(Prompt([{"role": "user", "content": text}], {}, f"line {text}"), ids or [1])


def rollouts(rows: Sequence[tuple[list[int], list[int], bool, float]]) -> Rollouts:
    return Rollouts(
        [
            Rollout(question("?", prompt), Answer(answer, ended), "", score)
            for prompt, answer, ended, score in rows
        ],
        missing_end=2.0,
    )


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return with_template(Tokenizer.train(["a"], vocabulary_size=257), "chatml")


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> Decoder:
    assert SHAPE.vocabulary_size == tokenizer.vocabulary_size
    return build(SHAPE, seed=1).eval()


class Length:
    """A judge who likes long texts, and notes what it has seen."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def score(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[float]:
        self.seen += answers
        return [float(len(answer)) for answer in answers]


def test_targets_are_the_answers_and_nothing_else() -> None:
    batch = rollouts([([5, 6, 7], [8, 9], True, 0.0), ([1], [2], False, 0.0)]).batch
    assert batch.inputs_BT.tolist() == [[5, 6, 7, 8], [1, 2, 0, 0]]
    assert batch.targets_BT.tolist() == [[IGNORED, IGNORED, 8, 9], [2, IGNORED, IGNORED, IGNORED]]


def test_an_answer_without_an_end_has_less_of_its_reward() -> None:
    found = rollouts([([1], [2, 3], True, 1.0), ([1], [2], False, 4.0)])
    assert found.rewards.tolist() == [1.0, 2.0]
    assert found.figures == {"reward": 2.5, "reward_std": 1.5, "length": 1.5, "ended": 0.5}


def test_the_best_of_each_group_is_kept_and_of_equals_the_first() -> None:
    scores = [(1.0, True), (3.0, True), (3.0, True), (9.0, False), (8.0, True), (8.0, False)]
    kept = rollouts([([number], [1], ended, score) for number, (score, ended) in enumerate(scores)]).best(3)
    assert [item.question.ids for item in kept.items] == [[1], [4]]


def test_the_text_of_an_answer_is_without_special_tokens(model: Decoder, tokenizer: Tokenizer) -> None:
    judge = Length()
    writer = Writer(model, tokenizer, judge, Manner(40, 1.0, 0.0))
    asked = [question("x", encode_prompt(tokenizer, [{"role": "user", "content": "x"}]))] * 60
    written = writer.write(asked, range(60))
    special = set(tokenizer.special_tokens.values())
    assert any(special & set(item.answer.ids) for item in written.items)
    for item in written.items:
        assert item.text == tokenizer.decode([id for id in item.answer.ids if id not in special]).lstrip()
        assert item.answer.ended == (item.answer.ids[-1] in stop_ids(tokenizer))
    assert judge.seen == [item.text for item in written.items]


def test_best_of_n_is_the_best_of_the_answers_written(model: Decoder, tokenizer: Tokenizer) -> None:
    writer = Writer(model, tokenizer, Length(), Manner(12, 1.0, 0.0))
    asked = [question(text, encode_prompt(tokenizer, [{"role": "user", "content": text}])) for text in "abc"]
    every = writer.write(*repeated(asked, 5, seed=9)).items
    best = best_of_n(writer, asked, 5, seed=9).items
    assert [item.score for item in best] == [max(item.score for item in every[i : i + 5]) for i in (0, 5, 10)]
    assert best_of_n(writer, asked, 5, seed=10).items != best
    assert best_of_n(writer, asked, 1, seed=9).items == writer.write(*repeated(asked, 1, 9)).items


def test_rounds_ask_every_question_as_often_as_any_other() -> None:
    questions = [question(str(number)) for number in range(7)]
    asked = [one.prompt.where for number in range(7) for one in drawn(questions, number, 3, seed=2)]
    assert all(asked.count(f"line {number}") == 3 for number in range(7))
    assert sorted(asked[:7]) == sorted(asked[7:14]) != asked[:7]


def test_prompts_without_room_for_an_answer_are_left_out(tokenizer: Tokenizer) -> None:
    prompts = [question("a" * length).prompt for length in (3, 50, 4)]
    most = len(encode_prompt(tokenizer, prompts[2].messages))
    assert [one.prompt for one in questions_of(prompts, tokenizer, most)] == [prompts[0], prompts[2]]
    with pytest.raises(UserError, match=f"the shortest of 3 has {most - 1} tokens, but may have {most - 2}"):
        questions_of(prompts, tokenizer, most - 2)
    odd = Prompt([{"role": "user", "content": None}], {}, "p.jsonl:7")
    with pytest.raises(UserError, match=r"p\.jsonl:7: the chat template refuses"):
        questions_of([odd], tokenizer, most)


@pytest.mark.parametrize("template", ["chatml", "plain"])
def test_a_reward_model_reads_the_ids_that_were_written(template: str) -> None:
    """With special tokens in mid-answer, and without an end where there is none."""
    tokenizer = with_template(Tokenizer.train(["a"], vocabulary_size=257), template)
    shape = SHAPE.model_copy(update={"vocabulary_size": tokenizer.vocabulary_size})
    judge = ModelReward(LoadedReward(RewardModel(build(shape, seed=2), seed=3), tokenizer, {}))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in judge.model.parameters():  # every token shall count
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    asked = [question("x", encode_prompt(tokenizer, [{"role": "user", "content": "x"}]))] * 60
    written = Writer(build(shape, seed=1), tokenizer, judge, Manner(40, 1.0, 0.0)).write(asked, range(60))
    assert len({item.answer.ended for item in written.items}) == 2
    for item in written.items:
        ids = torch.tensor([[*item.question.ids, *item.answer.ids]])
        with torch.no_grad():
            score = judge.model(ids, torch.tensor([ids.shape[1] - 1]))
        assert item.score == pytest.approx(float(score), abs=1e-5)


def test_a_judge_with_another_tokenizer_or_template_reads_text(model: Decoder, tokenizer: Tokenizer) -> None:
    loaded = LoadedReward(RewardModel(build(SHAPE, seed=2)), tokenizer, {})
    plain = with_template(Tokenizer.train(["a"], vocabulary_size=257), "plain")
    other = dataclasses.replace(tokenizer.usage, chat_templates={"default": "{{ messages[0].content }}"})
    assert ModelReward(loaded).reads(tokenizer)
    assert not ModelReward(loaded).reads(plain)
    assert not ModelReward(loaded).reads(Tokenizer(dataclasses.replace(tokenizer.definition, usage=other)))


def test_what_stands_before_the_first_word_is_not_part_of_the_text(model: Decoder) -> None:
    plain = with_template(Tokenizer.train(["a"], vocabulary_size=257), "plain")
    turns = encode_answer(plain, [{"role": "user", "content": "x"}], [{"role": "assistant", "content": "yes"}])
    ids = turns.ids[turns.counts].tolist()
    assert plain.decode(ids).startswith(" yes")
    assert Writer(model, plain, Length(), Manner(5, 1.0, 0.0))._text(Answer(ids, True)) == "yes"


def test_answers_and_their_chances_are_found_by_blocks_as_they_are_written(tokenizer: Tokenizer) -> None:
    """Compiled ones are for the step's shape: each other length would be compiled anew."""
    model, compiled = build(SHAPE, seed=1), []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> object:
        compiled.append(inputs)
        return graph.forward

    for block in model.blocks:
        block.compile(backend=backend, dynamic=False)
    asked = [question("x", encode_prompt(tokenizer, [{"role": "user", "content": "x"}]))] * 2
    written = Writer(model, tokenizer, Length(), Manner(3, 1.0, 0.0)).write(asked, range(2))
    log_probs_in_parts(model, written.batch, 1.0, 2, "cpu")
    assert compiled == []
    model(written.batch.inputs_BT)
    assert compiled
