from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers

from groundup.model import folder as model_folder
from groundup.model.decoder import Decoder
from groundup.serve.generate import generate_ids, generate_text
from groundup.serve.sampling import Sampling
from groundup.tokenizer import Tokenizer

from .conftest import CONTEXT

GREEDY = Sampling(temperature=0)
FAMILIES = ["gpt1", "gpt2", "llama", "qwen3", "qwen3_moe"]
MakeRandom = Callable[[str], Decoder]
MakeReciting = Callable[[list[int]], Decoder]


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_ids_are_those_of_transformers(
    family: str, make_random: MakeRandom, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    model = make_random(family)
    model_folder.save(tmp_path / "model", model, tokenizer, "card", {})
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    for prompt in ([5], [1, 2, 3, 4], list(range(100, 110))):
        room = CONTEXT - len(prompt)
        expected = theirs.generate(
            torch.tensor([prompt]), max_new_tokens=room, do_sample=False, eos_token_id=-1, pad_token_id=0
        )[0, len(prompt) :].tolist()
        assert list(generate_ids(model, prompt, room, GREEDY, seed=1)) == expected
        assert len(set(expected)) > 1


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("num_prompt", [1, CONTEXT - 1, CONTEXT, CONTEXT + 1, 3 * CONTEXT])
def test_generation_goes_on_beyond_the_context(family: str, num_prompt: int, make_random: MakeRandom) -> None:
    """Without a cache: what is read grows to the context, then falls back to its later half."""
    model = make_random(family)
    prompt = torch.randint(0, 257, (num_prompt,), generator=torch.Generator().manual_seed(num_prompt)).tolist()
    visible, expected = prompt[-CONTEXT:], []
    with torch.no_grad():
        for _ in range(3 * CONTEXT):
            if len(visible) > CONTEXT:
                visible = visible[-(CONTEXT // 2) :]
            token = int(model(torch.tensor([visible]))[0, -1].argmax())
            visible = [*visible, token]
            expected.append(token)
    assert list(generate_ids(model, prompt, 3 * CONTEXT, GREEDY, seed=1)) == expected


def test_the_seed_decides_the_ids(make_random: MakeRandom) -> None:
    model, sampling = make_random("qwen3"), Sampling(temperature=1.5, top_k=0)
    first, again, other = (list(generate_ids(model, [1], 20, sampling, seed)) for seed in (1, 1, 2))
    assert first == again != other


def test_generation_uses_no_global_randomness(make_random: MakeRandom) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    list(generate_ids(make_random("qwen3"), [1], 20, Sampling(), seed=1))
    assert torch.equal(torch.rand(3), expected)


def test_generation_ends_before_the_stop(make_random: MakeRandom) -> None:
    model = make_random("qwen3")
    ids = list(generate_ids(model, [1], 12, GREEDY, seed=1))
    stop = ids[5]
    assert list(generate_ids(model, [1], 12, GREEDY, seed=1, stop={stop})) == ids[: ids.index(stop)]
    assert list(generate_ids(model, [1], 0, GREEDY, seed=1)) == []


def test_gradients_are_as_before_while_generating(make_random: MakeRandom) -> None:
    """The generator pauses in the middle of a torch.no_grad block, which must not reach its caller."""
    generating = generate_ids(make_random("qwen3"), [1], 5, GREEDY, seed=1)
    next(generating)
    assert torch.is_grad_enabled()
    assert (torch.ones(1, requires_grad=True) * 2).requires_grad


TEXT = "a ß 中 🙂 𝔊!"


def test_text_comes_in_whole_characters(tokenizer: Tokenizer, make_reciting: MakeReciting) -> None:
    ids = tokenizer.encode_ordinary(TEXT)
    assert len(ids) == len(TEXT.encode())
    model = make_reciting(ids)
    pieces = list(generate_text(model, tokenizer, "", len(ids), GREEDY, seed=1))
    assert "".join(pieces) == TEXT
    assert pieces == list(TEXT)  # each as soon as its last byte is there, and not before


def test_a_character_cut_by_the_end_is_marked(tokenizer: Tokenizer, make_reciting: MakeReciting) -> None:
    ids = tokenizer.encode_ordinary("ab🙂")
    pieces = list(generate_text(make_reciting(ids), tokenizer, "", len(ids) - 1, GREEDY, seed=1))
    assert pieces == ["a", "b", "\ufffd"]


def test_text_ends_with_the_document(tokenizer: Tokenizer, make_reciting: MakeReciting) -> None:
    ids = [*tokenizer.encode_ordinary("the end"), tokenizer.end_of_text, *tokenizer.encode_ordinary("more")]
    pieces = generate_text(make_reciting(ids), tokenizer, "", len(ids), GREEDY, seed=1)
    assert "".join(pieces) == "the end"


def test_a_prompt_stands_behind_the_end_of_another_document(
    tokenizer: Tokenizer, make_reciting: MakeReciting
) -> None:
    """The reciting model goes by position: behind the mark and three letters comes its fourth."""
    model = make_reciting(tokenizer.encode_ordinary("abcdefgh"))
    assert "".join(generate_text(model, tokenizer, "xyz", 5, GREEDY, seed=1)) == "defgh"


def test_a_prompt_may_hold_anything(tokenizer: Tokenizer, make_random: MakeRandom) -> None:
    """The name of a special token in a prompt is text."""
    pieces = generate_text(make_random("qwen3"), tokenizer, "<|endoftext|> 中", 4, GREEDY, seed=1)
    ids = [tokenizer.end_of_text, *tokenizer.encode_ordinary("<|endoftext|> 中")]
    found = generate_ids(make_random("qwen3"), ids, 4, GREEDY, seed=1)
    assert "".join(pieces) == tokenizer.decode(found)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was(training: bool, make_random: MakeRandom, tokenizer: Tokenizer) -> None:
    """Even when the text is not read to its end."""
    model = make_random("qwen3").train(training)
    list(generate_text(model, tokenizer, "a", 4, GREEDY, seed=1))
    assert model.training == training
    generating = generate_text(model, tokenizer, "a", 40, Sampling(), seed=1)
    next(generating)
    generating.close()
    assert model.training == training
