"""What GPT's folder has of its own; that it computes what transformers computes is in test_huggingface.py."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from groundup.errors import UserError
from groundup.interop.gpt1 import from_config, from_tensors, to_config
from groundup.model import folder as model_folder
from groundup.model.registry import build
from groundup.objective import CAUSAL
from groundup.shape import Shape
from groundup.tokenizer import Tokenizer

from .conftest import END_OF_TEXT, SHAPES, Pair


@pytest.mark.parametrize("shape", ["gpt1"], indirect=True)
def test_the_hubs_own_file_loads(pair: Pair) -> None:
    """It has no prefix, and the causal masks of every layer among the weights."""
    tensors = {name.removeprefix("transformer."): value for name, value in pair.theirs.state_dict().items()}
    del tensors["lm_head.weight"]
    for layer in range(pair.shape.num_layers):
        tensors[f"h.{layer}.attn.bias"] = torch.ones(1, 1, 20, 20).tril()
    state = from_tensors(pair.shape, tensors)
    assert state.keys() == pair.ours.state_dict().keys()
    assert all(torch.equal(state[name], value) for name, value in pair.ours.state_dict().items())


@pytest.mark.parametrize("shape", ["gpt1", "gpt1-untied"], indirect=True)
def test_the_loss_is_that_of_transformers(pair: Pair, ids: torch.Tensor) -> None:
    ours = CAUSAL.loss(pair.ours, CAUSAL.collate(ids.numpy())).mean
    assert abs(float(ours - pair.theirs(ids, labels=ids).loss)) < 1e-5


def _config(**changes: Any) -> dict[str, Any]:
    return to_config(Shape(**SHAPES["gpt1"]), {END_OF_TEXT: 0}) | changes


def test_another_activation_is_refused_since_it_changes_the_result() -> None:
    with pytest.raises(UserError, match="afn='relu'"):
        from_config(_config(afn="relu"))
    logits = []
    for activation in ("gelu", "relu"):
        config = transformers.OpenAIGPTConfig.from_dict(_config(afn=activation, initializer_range=0.5))
        transformers.set_seed(0)
        with torch.no_grad():
            logits.append(transformers.OpenAIGPTLMHeadModel(config).eval()(torch.arange(8)[None]).logits)
    assert (logits[0] - logits[1]).abs().max() > 0.01


def test_another_feedforward_width_is_ours_alone(tokenizer: Tokenizer, tmp_path: Path) -> None:
    shape = Shape(**SHAPES["gpt1"] | {"feedforward_width": 72, "vocabulary_size": 257})
    model = build(shape).eval()
    model_folder.save(tmp_path / "model", model, tokenizer, "card", {})
    assert model_folder.load(tmp_path / "model").model.shape == shape
    with pytest.raises(RuntimeError, match="ismatch"):
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model")
