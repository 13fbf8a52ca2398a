from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.errors import UserError
from groundup.model.decoder import Decoder
from groundup.serve.batch import Answer, sample
from groundup.serve.generate import generate_ids
from groundup.serve.sampling import Sampling

from .conftest import CONTEXT

FAMILIES = ["gpt2", "llama", "qwen3", "qwen3_moe"]
MakeRandom = Callable[[str], Decoder]
NOTHING: frozenset[int] = frozenset()
# From one token to one less than the context.
PROMPTS = [[5], [1, 2, 3, 4], list(range(100, 110)), [7, 7], list(range(CONTEXT - 1)), [200, 3, 9]]


def _write(model: Decoder, prompts: list[list[int]], **options: object) -> list[Answer]:
    given: dict[str, object] = {"max_tokens": 5, "temperature": 1.0, "stop": NOTHING, "seeds": range(len(prompts))}
    return sample(model, prompts, **(given | options))  # type: ignore[arg-type]


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_answers_are_those_of_one_after_the_other(family: str, make_random: MakeRandom) -> None:
    model = make_random(family)
    for prompt, answer in zip(PROMPTS, _write(model, PROMPTS, temperature=0.0), strict=True):
        room = min(5, CONTEXT - len(prompt))
        assert answer.ids == list(generate_ids(model, prompt, room, Sampling(temperature=0), seed=1))
        assert not answer.ended


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("temperature", [0.7, 1.0, 3.0])
def test_tokens_are_those_of_the_chances_of_a_whole_pass(
    family: str, temperature: float, make_random: MakeRandom
) -> None:
    """Each draws by its row's own numbers, and stands where these lie among the added-up probabilities."""
    model = make_random(family)
    for seed, (prompt, answer) in enumerate(
        zip(PROMPTS, _write(model, PROMPTS, temperature=temperature), strict=True)
    ):
        with torch.no_grad():
            logits_TV = model(torch.tensor([[*prompt, *answer.ids]]))[0, len(prompt) - 1 : -1]
        up_to_TV = (logits_TV.double() / temperature).softmax(-1).cumsum(-1)
        drawn_T = torch.rand(5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        for up_to_V, drawn, id in zip(up_to_TV, drawn_T.tolist(), answer.ids, strict=False):
            assert (up_to_V[id - 1] if id else 0.0) - 1e-5 <= drawn <= up_to_V[id] + 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_an_answer_does_not_depend_on_its_batch(family: str, make_random: MakeRandom) -> None:
    model = make_random(family)
    together = _write(model, PROMPTS, seeds=range(10, 16))
    for place, prompt in enumerate(PROMPTS):
        (alone,) = _write(model, [prompt], seeds=[10 + place])
        assert alone.ids == together[place].ids
    assert [answer.ids for answer in _write(model, PROMPTS[::-1], seeds=range(15, 9, -1))] == [
        answer.ids for answer in together[::-1]
    ]


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_answers_end_with_the_first_stop(data: st.DataObject, make_random: MakeRandom) -> None:
    """Rows that end leave the batch, and the others go on as if those had never been there."""
    model = make_random("qwen3")
    prompts = data.draw(
        st.lists(st.lists(st.integers(0, 256), min_size=1, max_size=CONTEXT - 1), min_size=1, max_size=7)
    )
    whole = _write(model, prompts, max_tokens=CONTEXT)
    stop = frozenset(data.draw(st.sets(st.sampled_from([id for answer in whole for id in answer.ids]))))
    for full, cut in zip(whole, _write(model, prompts, max_tokens=CONTEXT, stop=stop), strict=True):
        ends = [place for place, id in enumerate(full.ids) if id in stop]
        assert cut.ended == bool(ends)
        assert cut.ids == (full.ids[: ends[0] + 1] if ends else full.ids)


def test_answers_fill_the_context_and_no_more(make_random: MakeRandom) -> None:
    answers = _write(make_random("gpt2"), PROMPTS, max_tokens=100)
    assert [len(answer.ids) for answer in answers] == [CONTEXT - len(prompt) for prompt in PROMPTS]
    assert _write(make_random("gpt2"), []) == []


@pytest.mark.parametrize("prompt", [[], list(range(CONTEXT))])
def test_a_prompt_without_room_is_refused(prompt: list[int], make_random: MakeRandom) -> None:
    with pytest.raises(UserError, match=rf"prompt 2 has {len(prompt)} tokens.*1 to 15") as error:
        _write(make_random("qwen3"), [[1], prompt])
    assert "\n" not in str(error.value)


def test_tokens_are_drawn_as_often_as_they_are_likely(make_random: MakeRandom) -> None:
    """Total variation of 4,000 draws from the distribution of the model; of chance alone it is well below 0.1."""
    model, count = make_random("llama"), 4000
    with torch.no_grad():
        logits_V = model(torch.tensor([[1, 2]]))[0, -1].double() / 0.5
    expected_V = logits_V.softmax(-1)
    answers = _write(model, [[1, 2]] * count, max_tokens=1, temperature=0.5, seeds=range(count))
    drawn_V = torch.bincount(torch.tensor([answer.ids[0] for answer in answers]), minlength=257) / count
    assert float((drawn_V - expected_V).abs().sum() / 2) < 0.1


def test_the_model_is_left_as_it_was(make_random: MakeRandom) -> None:
    model = make_random("qwen3").train()
    state = torch.get_rng_state()
    _write(model, PROMPTS)
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
