import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.errors import UserError
from groundup.interop.config import from_config, to_config
from groundup.interop.formats import format_of
from groundup.interop.huggingface import from_tensors
from groundup.model import folder as model_folder
from groundup.model.registry import assemble
from groundup.objective.causal import CAUSAL
from groundup.shape import FAMILIES, Shape
from groundup.tokenizer import Tokenizer

from ..shapes import experts
from .conftest import END_OF_TEXT, Pair, as_stored


def _largest_difference(left: torch.Tensor, right: torch.Tensor) -> float:
    assert left.shape == right.shape
    return float((left - right).abs().max())


@torch.no_grad()
def _logits(model: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    answer = model(ids)
    return getattr(answer, "logits", answer)


def test_logits_are_those_of_transformers(pair: Pair, ids: torch.Tensor) -> None:
    theirs = _logits(pair.theirs, ids)
    assert theirs.std() > 0.1  # a model that says something
    assert _largest_difference(_logits(pair.ours, ids), theirs) < 1e-5


def test_gradients_of_every_parameter_are_those_of_transformers(pair: Pair, ids: torch.Tensor) -> None:
    for model in (pair.ours, pair.theirs):
        answer = model(ids)
        logits = getattr(answer, "logits", answer)
        F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
    ours = format_of(pair.shape.family).to_tensors(
        pair.shape, {name: value.grad for name, value in pair.ours.named_parameters()}
    )
    theirs = as_stored({name: value.grad for name, value in pair.theirs.named_parameters()})
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        assert gradient.any() or ".experts." in name, name  # an expert may get no token
        assert _largest_difference(ours[name], gradient) < 1e-5 * max(1.0, float(gradient.abs().max())), name


@pytest.mark.parametrize("shape", ["qwen3_moe", "qwen3_moe-untied"], indirect=True)
def test_the_loss_that_balances_experts_is_that_of_transformers(pair: Pair, ids: torch.Tensor) -> None:
    """Where it trains, the surprise and the coefficient's share of the balance; with the gradients of both."""
    windows, coefficient = ids.numpy(), pair.shape.router_aux_loss_coef
    ours = CAUSAL.loss(pair.ours.train(), CAUSAL.collate(windows)).mean
    answer = pair.theirs(ids[:, :-1], output_router_logits=True)
    surprise = F.cross_entropy(answer.logits.flatten(0, 1), ids[:, 1:].flatten())
    theirs = surprise + coefficient * answer.aux_loss
    assert abs(float(ours - theirs)) < 1e-5
    assert float(CAUSAL.loss(pair.ours.eval(), CAUSAL.collate(windows)).mean - surprise) < 1e-5
    ours.backward()
    theirs.backward()
    gradients = format_of(pair.shape.family).to_tensors(
        pair.shape, {name: value.grad for name, value in pair.ours.named_parameters()}
    )
    for name, gradient in as_stored({name: value.grad for name, value in pair.theirs.named_parameters()}).items():
        assert (gradients[name] - gradient).norm() <= 1e-4 * gradient.norm(), name


@pytest.mark.parametrize("max_shard_size", ["10GB", "20KB"])
def test_a_folder_written_by_transformers_loads(
    pair: Pair, ids: torch.Tensor, tokenizer: Tokenizer, tmp_path: Path, max_shard_size: str
) -> None:
    """Whole, and cut into several files with an index."""
    pair.theirs.save_pretrained(tmp_path, max_shard_size=max_shard_size)
    tokenizer.save(tmp_path)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (max_shard_size == "20KB")
    loaded = model_folder.load(tmp_path)
    assert loaded.model.shape == pair.shape
    assert not loaded.model.training
    assert _largest_difference(_logits(loaded.model, ids), _logits(pair.theirs, ids)) < 1e-5


def test_half_precision_weights_load_as_float32(
    pair: Pair, ids: torch.Tensor, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    pair.theirs.to(torch.bfloat16).save_pretrained(tmp_path)
    tokenizer.save(tmp_path)
    loaded = model_folder.load(tmp_path).model
    assert {weight.dtype for weight in loaded.parameters()} == {torch.float32}
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert _largest_difference(_logits(loaded, ids), _logits(theirs.eval(), ids)) < 1e-5


def test_transformers_loads_our_folder(
    pair: Pair, ids: torch.Tensor, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    model_folder.save(tmp_path / "model", pair.ours, tokenizer, "# a card\n", {"temperature": 0.8, "top_k": 50})
    opened, information = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "model", output_loading_info=True
    )
    assert type(opened) is type(pair.theirs)
    assert not any(information.values()), information
    assert _largest_difference(_logits(opened.eval(), ids), _logits(pair.ours, ids)) < 1e-5
    assert opened.config.eos_token_id == tokenizer.end_of_text
    generation = opened.generation_config
    assert (generation.do_sample, generation.temperature, generation.top_k) == (True, 0.8, 50)
    assert generation.eos_token_id == tokenizer.end_of_text
    opened_tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    text = "not to be 可 🙂\n"
    assert opened_tokenizer(text)["input_ids"] == tokenizer.encode_ordinary(text)
    assert opened_tokenizer.model_max_length == pair.shape.context


@pytest.mark.parametrize("shape", ["gpt2"], indirect=True)
def test_the_hubs_own_gpt2_file_loads(pair: Pair) -> None:
    """It has no prefix, and the causal masks of every layer among the weights."""
    tensors = {name.removeprefix("transformer."): value for name, value in pair.theirs.state_dict().items()}
    for layer in range(pair.shape.num_layers):
        tensors[f"h.{layer}.attn.bias"] = torch.ones(1, 1, 20, 20).tril()
        tensors[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    state = from_tensors(pair.shape, tensors)
    assert state.keys() == pair.ours.state_dict().keys()
    assert all(torch.equal(state[name], value) for name, value in pair.ours.state_dict().items())


_GROUPS = st.integers(1, 4)


@st.composite
def _shapes(draw: st.DrawFn) -> Shape:
    family = draw(st.sampled_from(["gpt1", "gpt2", "llama", "qwen3", "qwen3_moe"]))
    grouped = FAMILIES[family].grouped_query
    kv_heads, group = draw(_GROUPS), draw(_GROUPS) if grouped else 1
    heads, head_width = kv_heads * group, 2 * draw(st.integers(1, 6))
    numbers: dict[str, Any] = {
        "width": draw(st.integers(1, 40)) if grouped else heads * head_width,
        "num_layers": draw(st.integers(1, 12)),  # two digits in a tensor's name
        "feedforward_width": draw(st.integers(1, 50)),
        "vocabulary_size": draw(st.integers(1, 60)),
        "context": draw(st.integers(1, 30)),
        "tied": draw(st.booleans()),
        "norm_epsilon": draw(st.floats(1e-8, 0.1)),
    }
    if grouped:
        numbers["rope_theta"] = draw(st.floats(1.5, 1e7))
    if family == "qwen3_moe":
        per_token = draw(st.integers(1, 4))
        numbers |= {"experts_per_token": per_token, "num_experts": per_token + draw(st.integers(0, 9))}
        numbers |= {"feedforward_width": per_token * numbers["feedforward_width"]}
        numbers |= {"norm_topk_prob": draw(st.booleans()), "router_aux_loss_coef": draw(st.floats(0, 1))}
    return Shape(family=family, num_heads=heads, num_kv_heads=kv_heads, head_width=head_width, **numbers)


@settings(max_examples=60, deadline=None)
@given(_shapes())
def test_config_and_tensors_go_there_and_back(shape: Shape) -> None:
    written = format_of(shape.family)
    assert written.from_config(json.loads(json.dumps(written.to_config(shape, {END_OF_TEXT: 3})))) == shape
    state = {name: torch.randn(value.shape) for name, value in assemble(shape).state_dict().items()}
    there = written.to_tensors(shape, state)
    back = written.from_tensors(shape, there)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], value) for name, value in state.items())
    assert all(value.is_contiguous() for value in there.values())


def _config(family: str, **changes: Any) -> dict[str, Any]:
    shape = Shape(
        family=family,
        **experts(family),
        num_layers=1,
        width=16,
        num_heads=2,
        num_kv_heads=2,
        head_width=8,
        feedforward_width=32,
        vocabulary_size=10,
        context=16,
    )
    return to_config(shape, end_of_text=0) | changes


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"model_type": "mamba"}, "'mamba'"),
        ({}, "None"),
        (_config("gpt2", activation_function="relu"), "'relu'"),
        (_config("llama", hidden_act="gelu"), "'gelu'"),
        (_config("llama", attention_bias=True), "attention_bias=True"),
        (_config("qwen3_moe", mlp_only_layers=[0]), r"mlp_only_layers=\[0\]"),
        (_config("qwen3_moe", decoder_sparse_step=2), "decoder_sparse_step=2"),
        (_config("qwen3", rope_parameters={"rope_type": "yarn", "factor": 4.0}), "'yarn'"),
        (_config("llama", rope_parameters=None, rope_scaling={"rope_type": "llama3"}), "'llama3'"),
    ],
)
def test_what_we_cannot_compute_is_refused_by_name(config: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        from_config(config)


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(
            # How Llama 2 models with longer contexts wrote it before transformers 4.43.
            _config("llama", rope_parameters=None, rope_scaling={"type": "linear", "factor": 8.0}),
            id="linear-rope",
        ),
        pytest.param(_config("gpt2", scale_attn_weights=False), id="unscaled"),
        pytest.param(_config("gpt2", scale_attn_by_inverse_layer_idx=True), id="scaled-by-layer"),
        pytest.param(
            _config("qwen3", use_sliding_window=True, sliding_window=4, max_window_layers=0),
            id="sliding-window",
        ),
    ],
)
def test_settings_that_change_the_result_are_not_passed_over(config: dict[str, Any]) -> None:
    """transformers computes something else with each of these than without it (see the next test)."""
    with pytest.raises(UserError):
        from_config(config)


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e4}}),
        ("gpt2", {"scale_attn_weights": False}),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}),
        ("qwen3", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 0}),
    ],
)
def test_those_settings_do_change_the_result(family: str, changes: dict[str, Any]) -> None:
    ids = torch.arange(10)[None]
    found = []
    for extra in ({}, changes):
        config = transformers.AutoConfig.for_model(**_config(family, n_layer=3, num_hidden_layers=3) | extra)
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        found.append(_logits(model, ids))
    assert _largest_difference(*found) > 0.01
